"""How good is good enough: the accepted deviation of each property, as this project promises it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from alpot.config import PropertyName
from alpot.validation.phases import compared_structures, phase_name


@dataclass(frozen=True)
class Tolerance:
    """A bound on a property.

    Attributes:
        kind: ``relative`` or ``absolute`` to the reference's value, or ``at_most`` / ``at_least`` whatever it is.
        limit: a fraction for ``relative``, else in the property's unit.
    """

    kind: Literal["relative", "absolute", "at_most", "at_least"]
    limit: float

    def judge(self, value: float, reference: float | None) -> bool | None:
        """Whether a value is good enough; None where that takes a reference and there is none."""
        if self.kind == "at_most":
            return value <= self.limit
        if self.kind == "at_least":
            return value >= self.limit
        if reference is None:
            return None
        scale = abs(reference) if self.kind == "relative" else 1.0
        return abs(value - reference) <= self.limit * scale

    def __str__(self) -> str:
        if self.kind == "relative":
            return f"±{100 * self.limit:g} %"
        return f"{ {'absolute': '±', 'at_most': '≤ ', 'at_least': '≥ '}[self.kind] }{self.limit:g}"


@dataclass(frozen=True)
class Expected:
    """A row that a property will give."""

    name: str
    unit: str
    tolerance: Tolerance | None = None


#: Length of the runs in ps.
NVE_TIME, LANGEVIN_TIME = 10.0, 20.0

_FIXED: dict[PropertyName, tuple[Expected, ...]] = {
    "lattice": (
        Expected("lattice constant", "Å", Tolerance("relative", 0.003)),
        Expected("bulk modulus", "GPa", Tolerance("relative", 0.05)),
        Expected("energy per atom", "eV"),
    ),
    "elastic": tuple(Expected(name, "GPa", Tolerance("relative", 0.10)) for name in ("C11", "C12", "C44")),
    "vacancy": (Expected("vacancy formation energy", "eV", Tolerance("relative", 0.10)),),
    "fresh_frames": (
        Expected("force RMSE, fresh frames", "meV/Å", Tolerance("at_most", 40.0)),
        Expected("force RMSE, far frames", "meV/Å"),
        Expected("rank correlation of mean σ_F and error", "", Tolerance("at_least", 0.6)),
        Expected("rank correlation of largest σ_F and error", ""),
    ),
    "nve": (Expected("NVE energy drift", "meV/atom", Tolerance("at_most", 1.0)),),
    "langevin": (
        Expected("Langevin run survived", "ps", Tolerance("at_least", LANGEVIN_TIME)),
        Expected("Langevin mean temperature", "K"),
    ),
}


def expected_rows(name: PropertyName, element: str) -> tuple[Expected, ...]:
    """The rows that a property gives for an element (whichever, where the rows do not depend on it)."""
    if name == "phases":
        first, *others = compared_structures(element)
        limit = Tolerance("absolute", 5.0)
        return tuple(Expected(phase_name(other, first), "meV/atom", limit) for other in others)
    return _FIXED[name]
