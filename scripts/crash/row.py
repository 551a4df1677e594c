"""One line of the table: a promise, how it was tried, and whether it held."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass
class Row:
    """What was seen of one promise.

    Attributes:
        promise: what alpot promises.
        test: how it was tried.
        target: what must be seen.
        seen: what was seen.
        holds: whether it meets the target; None if it could not be tried.
        complaints: what went wrong, in sentences.
        figures: everything that was counted.
    """

    promise: str
    test: str
    target: str
    seen: str = ""
    holds: bool | None = False
    complaints: list[str] = field(default_factory=list)
    figures: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0

    @property
    def verdict(self) -> str:
        """One word."""
        return {True: "holds", False: "FAILS", None: "skipped"}[self.holds]

    def dump(self) -> dict[str, Any]:
        """As JSON-able content."""
        return asdict(self) | {"verdict": self.verdict}

    @classmethod
    def load(cls, content: dict[str, Any]) -> Row:
        """The inverse of ``dump``."""
        return cls(**{name: value for name, value in content.items() if name != "verdict"})
