"""What to change when a code fails: a ladder of retries per code, as data in ``ladders/<code>.toml``.

A symptom is what a code says when something goes wrong, and never when all is well; it has a class of failure. A rung
says for which symptoms it helps, and what it changes: only keys that do not touch the converged result
(``DftCode.free``), so that the label is at the declared level of theory, whichever rung it came from. What would touch
it (more smearing, say) may be changed for a preparatory run (``before``), whose density the declared calculation starts
from.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from alpot.errors import FailureClass
from alpot.reference.failures import INFRASTRUCTURE, PROGRAMS, of_exit_status

#: What boxes and rulers are drawn with.
_DRAWN = " \t*%|\\/_=~-+^"
_LONGEST_SAYING = 300


class Symptom(BaseModel):
    """What a code says when something goes wrong.

    Attributes:
        name: by which rungs refer to it.
        failure: its class.
        says: regular expressions, looked for in single lines of the output, whatever their case; none where only the
            code's reader can tell.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    failure: FailureClass
    says: tuple[str, ...]


class Rung(BaseModel):
    """One way of trying again.

    Attributes:
        on: symptoms for which it helps; names of symptoms or of classes of failure.
        why: a sentence for people.
        change: to ``arguments``; kept on later rungs.
        before: to ``arguments`` in a preparatory run, on top of ``change``.
        before_bands: times the number of bands of the rung in the preparatory run: hotter electrons fill more.
        bands: times the usual number of bands, from here on.
        ranks: share of the MPI ranks that are used from here on: fewer of them need less memory.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    on: tuple[str, ...] = Field(min_length=1)
    why: str
    change: dict[str, Any] = Field(default_factory=dict)
    before: dict[str, Any] = Field(default_factory=dict)
    before_bands: float = Field(1.0, ge=1)
    bands: float = Field(1.0, ge=1)
    ranks: float = Field(1.0, gt=0, le=1)

    def record(self) -> dict[str, Any]:
        """What it does, as kept with the label."""
        return self.model_dump(exclude={"on"}, exclude_defaults=True)


@dataclass(frozen=True)
class Trouble:
    """What went wrong.

    Attributes:
        symptom: its name, or the class of failure where no symptom is known.
        failure: its class.
        said: the line that tells, with those around it.
    """

    symptom: str
    failure: FailureClass
    said: str = field(default="", compare=False)


class Ladder(BaseModel):
    """Symptoms in the order in which they are looked for, and rungs in the order in which they are tried."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    symptom: tuple[Symptom, ...] = ()
    rung: tuple[Rung, ...] = ()

    @classmethod
    def of(cls, code: str) -> Ladder:
        """The ladder of a code; one without rungs if it has none."""
        file = files("alpot.reference").joinpath("ladders", f"{code}.toml")
        return cls.model_validate(tomllib.loads(file.read_text("utf-8"))) if file.is_file() else cls()

    def diagnose(self, lines: Sequence[str], *, status: int = 0, told: str | None = None) -> Trouble | None:
        """What went wrong in a run; None if nothing tells.

        What ends a program from outside counts before all that it has said itself: it may have warned of what it got
        over. So first come kernels and batch systems, then signals, then the symptoms of the code, then shells and
        launchers that cannot start it.

        Args:
            lines: what the code and its launcher have written.
            status: exit status; −n if signal n ended it.
            told: name of a symptom that the code's reader has recognised.
        """
        symptoms = (
            Trouble(symptom.name, symptom.failure, _around(symptom.says, lines))
            for symptom in self.symptom
            if symptom.name == told or _is_said(symptom.says, lines)
        )
        return (
            _first_said(INFRASTRUCTURE, lines)
            or _of_signal(status, lines)
            or next(symptoms, None)
            or _first_said(PROGRAMS, lines)
        )

    def next_rung(self, trouble: Trouble, after: int, *, ranks: int) -> int | None:
        """Number of the next rung beyond ``after`` (−1: none yet) that may help; ``ranks``: of the run that failed."""
        for number in range(after + 1, len(self.rung)):
            rung = self.rung[number]
            is_the_same_again = ranks == 1 and set(rung.record()) <= {"why", "ranks"}
            if {trouble.symptom, trouble.failure.value} & set(rung.on) and not is_the_same_again:
                return number
        return None


def _first_said(sayings: Iterable[tuple[str, FailureClass]], lines: Sequence[str]) -> Trouble | None:
    for pattern, failure in sayings:
        if _is_said((pattern,), lines):
            return Trouble(failure.value, failure, _around((pattern,), lines))
    return None


def _of_signal(status: int, lines: Sequence[str]) -> Trouble | None:
    """Why somebody has killed the program, or one of its ranks, as the launcher then tells with 128 + n.

    Where a rank gives up by itself, launchers kill the others, and some (srun) tell of these.
    """
    is_killed = status < 0 or (status > 128 and not _is_said(("MPI_Abort",), lines))
    failure = of_exit_status(status) if is_killed else FailureClass.UNKNOWN
    return None if failure is FailureClass.UNKNOWN else Trouble(failure.value, failure)


def _around(patterns: Iterable[str], lines: Sequence[str]) -> str:
    """The last line that matches, and its neighbors, without what codes draw around them."""
    for number, line in reversed([*enumerate(lines)]):
        if _is_said(patterns, [line]):
            words = (text.strip(_DRAWN) for text in lines[max(0, number - 1) : number + 2])
            return " ".join(" ".join(words).split())[:_LONGEST_SAYING]
    return ""


def _is_said(patterns: Iterable[str], lines: Sequence[str]) -> bool:
    return any(re.search(pattern, line, re.IGNORECASE) for pattern in patterns for line in lines)


def merged(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """``base`` with ``changes`` laid over it, table by table; neither is changed."""
    result = dict(base)
    for key, value in changes.items():
        below = result.get(key)
        is_table = isinstance(value, Mapping)
        result[key] = merged(below if isinstance(below, Mapping) else {}, value) if is_table else value
    return result


def dotted_keys(table: Mapping[str, Any], prefix: str = "") -> list[str]:
    """The keys of a nested table, ``electrons.mixing_beta`` for instance."""
    keys: list[str] = []
    for key, value in table.items():
        is_table = isinstance(value, Mapping) and bool(value)
        keys += dotted_keys(value, f"{prefix}{key}.") if is_table else [f"{prefix}{key}"]
    return keys


def is_below(key: str, keys: Iterable[str]) -> bool:
    """Whether a dotted key is one of ``keys``, or lies below one."""
    return any(key == other or key.startswith(f"{other}.") for other in keys)


def without(table: Mapping[str, Any], keys: Iterable[str], prefix: str = "") -> dict[str, Any]:
    """A nested table without some dotted keys, what lies below them, and tables that have nothing else."""
    keys, kept = tuple(keys), {}
    for key, value in table.items():
        if is_below(f"{prefix}{key}", keys):
            continue
        rest = without(value, keys, f"{prefix}{key}.") if isinstance(value, Mapping) else value
        if rest or not isinstance(value, Mapping):
            kept[key] = rest
    return kept
