"""Energy differences between crystal structures, each at its own equilibrium, and their order of stability.

What β-Sn, simple hexagonal and simple cubic are worth is asked of metals too, which have no such minimum: a potential
has to know that they are high, or a simulation under shear, in a melt or at a surface finds them. So β-Sn and simple
hexagonal have their prototype's c/a, whether or not the calculator has a minimum near it: potential and reference then
answer the same question.
"""

from __future__ import annotations

from collections.abc import Callable

from ase.calculators.calculator import BaseCalculator

from alpot.validation.crystals import preferred_structure
from alpot.validation.lattice import Equilibrium, equilibrium
from alpot.validation.outcome import FINDINGS
from alpot.validation.properties import Measured, PropertyValue
from alpot.validation.prototypes import PROTOTYPES, Structure

#: Relaxed in volume only.
_OF_IDEAL_SHAPE: tuple[Structure, ...] = ("beta_Sn", "sh")


def compared_structures(element: str) -> tuple[Structure, ...]:
    """The structures compared for an element; the first is the one that the others are measured against.

    That one is fixed by the element, not by the calculator, so that a potential and its reference answer the same
    question even where they disagree on the ground state.
    """
    first = preferred_structure(element)
    return first, *(structure for structure in PROTOTYPES if structure != first)


def phase_name(structure: Structure, first: Structure) -> str:
    """How the difference is called in tables."""
    return f"E({PROTOTYPES[structure].label}) − E({PROTOTYPES[first].label})"


def phase_differences(
    calculator: BaseCalculator, element: str, crystal_of: Callable[[Structure], Equilibrium]
) -> Measured:
    """Energies in meV/atom above the element's own structure; one that fails becomes a remark.

    Args:
        calculator: any ASE calculator.
        element: chemical symbol.
        crystal_of: gives a structure of the element at the calculator's equilibrium, or raises.

    Raises:
        PotentialError: the element's own structure has no equilibrium.
        NonFiniteError: an energy of it is NaN or infinite.
    """
    first, *others = compared_structures(element)
    own = crystal_of(first)
    above = {first: 0.0}
    remarks = []
    for structure in others:
        try:
            if structure in _OF_IDEAL_SHAPE:
                found = equilibrium(calculator, element, structure, volume=own.volume, relax_shape=False)
            else:
                found = crystal_of(structure)
        except FINDINGS as error:
            remarks.append(f"{PROTOTYPES[structure].label} {element} has no energy: {error}.")
            continue
        above[structure] = 1000 * (found.energy - own.energy)
    order = " < ".join(PROTOTYPES[structure].label for structure in sorted(above, key=above.__getitem__))
    values = (
        PropertyValue(name=phase_name(structure, first), value=above[structure], unit="meV/atom")
        for structure in others
        if structure in above
    )
    return Measured(values=tuple(values), remarks=(f"The order of stability is {order}.", *remarks))
