"""Energy differences between crystal structures, each at its own equilibrium."""

from __future__ import annotations

from collections.abc import Sequence

from alpot.validation.crystals import Structure, preferred_structure
from alpot.validation.lattice import Equilibrium
from alpot.validation.properties import Measured, PropertyValue

_COMMON: tuple[Structure, ...] = ("fcc", "hcp", "bcc")


def compared_structures(element: str) -> tuple[Structure, ...]:
    """The structures compared for an element; the first is the one that the others are measured against.

    That one is fixed by the element, not by the calculator, so that a potential and its reference answer the same
    question even where they disagree on the ground state.
    """
    first = preferred_structure(element)
    return first, *(structure for structure in _COMMON if structure != first)


def phase_name(structure: Structure, first: Structure) -> str:
    """How the difference is called in tables."""
    return f"E({structure}) − E({first})"


def phase_differences(crystals: Sequence[Equilibrium]) -> Measured:
    """Energies in meV/atom above the first of these crystals."""
    first = crystals[0]
    return Measured(
        values=tuple(
            PropertyValue(
                name=phase_name(other.structure, first.structure),
                value=1000 * (other.energy - first.energy),
                unit="meV/atom",
            )
            for other in crystals[1:]
        )
    )
