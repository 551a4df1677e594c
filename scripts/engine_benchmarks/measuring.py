"""How two things are timed against each other, and the row of the table that comes of it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from statistics import median
from typing import Any, Self

#: Shortest time in s that one side is measured before it is the other's turn.
_TURN_S = 0.1


@dataclass(frozen=True)
class Timings:
    """Repeated measurements of one thing: processor time of all threads, and wall time, in s."""

    cpu: list[float] = field(default_factory=list)
    wall: list[float] = field(default_factory=list)

    @contextmanager
    def running(self) -> Iterator[None]:
        """Adds what the body takes."""
        wall, cpu = time.perf_counter(), time.process_time()
        yield
        self.add(cpu=time.process_time() - cpu, wall=time.perf_counter() - wall)

    def add(self, *, cpu: float, wall: float) -> None:
        """Add one measurement."""
        self.cpu.append(cpu)
        self.wall.append(wall)


def interleave(calls: Mapping[str, Callable[[], object]], *, repeats: int, budget_s: float) -> dict[str, Timings]:
    """Time several things in turn (A, B, A, B, ...), so that a busy machine is busy for all of them.

    Each is called once before, which compiles and allocates. A turn lasts ``_TURN_S`` at least and counts with its
    mean: in dynamics a step finds in the caches what the step before left there, not what another program left.

    Args:
        calls: what to time, by name.
        repeats: rounds; fewer, but three at least, where ``budget_s`` is spent before.
        budget_s: wall time in s.
    """
    for call in calls.values():
        call()
    timings = {name: Timings() for name in calls}
    begin = time.perf_counter()
    for done in range(repeats):
        if done >= 3 and time.perf_counter() - begin > budget_s:
            break
        for name, call in calls.items():
            n_calls, wall, cpu = 0, time.perf_counter(), time.process_time()
            while n_calls == 0 or time.perf_counter() - wall < _TURN_S:
                call()
                n_calls += 1
            spent_cpu, spent_wall = time.process_time() - cpu, time.perf_counter() - wall
            timings[name].add(cpu=spent_cpu / n_calls, wall=spent_wall / n_calls)
    return timings


@dataclass(frozen=True, kw_only=True)
class Ratio:
    """How many times faster: ratio of the medians; the spread is that of the ratios of neighboring measurements."""

    cpu: float
    cpu_low: float
    cpu_high: float
    wall: float

    @classmethod
    def of(cls, ours: Timings, other: Timings, scale: float = 1.0) -> Self:
        """Other's time, multiplied by ``scale``, over ours."""
        pairs = [scale * b / a for a, b in zip(ours.cpu, other.cpu, strict=True)]
        return cls(
            cpu=scale * median(other.cpu) / median(ours.cpu),
            cpu_low=min(pairs),
            cpu_high=max(pairs),
            wall=scale * median(other.wall) / median(ours.wall),
        )


@dataclass(frozen=True, kw_only=True)
class Row:
    """One line of the table.

    Attributes:
        what: what was measured, on what.
        malloc: ``default`` or ``tuned``.
        unit: of ``ours`` and ``other``.
        ours: alpot's figure.
        other: that of what it is compared with.
        ratio: how many times faster alpot is; the verdict is on its processor time, or on wall time if ``by_wall``.
        must, aim: what is asked for; of ``ours`` (an upper bound) where there is no ratio.
        reason: why there is no figure.
    """

    what: str
    malloc: str = ""
    unit: str = ""
    ours: float | None = None
    other: float | None = None
    ratio: Ratio | None = None
    must: float | None = None
    aim: float | None = None
    by_wall: bool = False
    reason: str = ""

    @property
    def verdict(self) -> str:
        """``aim``, ``must`` or ``no``, whichever is met; empty where nothing is asked for."""
        if self.must is None or self.ours is None:
            return ""
        # A bound on a size is met from below, one on a ratio from above.
        if self.ratio is None:
            value, sign = self.ours, -1.0
        else:
            value, sign = (self.ratio.wall if self.by_wall else self.ratio.cpu), 1.0
        if self.aim is not None and sign * value >= sign * self.aim:
            return "aim"
        return "must" if sign * value >= sign * self.must else "no"

    def to_json(self) -> dict[str, Any]:
        """As plain types; ``from_json`` reads them."""
        return {**asdict(self), "verdict": self.verdict}

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> Self:
        """Of what ``to_json`` gives."""
        known = {name: value for name, value in content.items() if name != "verdict"}
        if known["ratio"] is not None:
            known["ratio"] = Ratio(**known["ratio"])
        return cls(**known)
