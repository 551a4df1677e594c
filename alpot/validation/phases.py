"""Energy differences between crystal structures, each at its own equilibrium, and their order of stability.

What β-Sn, simple hexagonal and simple cubic are worth is asked of metals too, which have no such minimum: a potential
has to know that they are high, or a simulation under shear, in a melt or at a surface finds them. So a structure whose
c/a does not settle near its prototype's is taken at the prototype's, where potential and reference answer the same
question, and a remark says so.
"""

from __future__ import annotations

from collections.abc import Callable

from ase.calculators.calculator import BaseCalculator

from alpot.validation.crystals import preferred_structure
from alpot.validation.lattice import Equilibrium, equilibrium
from alpot.validation.properties import Measured, PropertyValue
from alpot.validation.prototypes import PROTOTYPES, Structure


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
            found, remark = _relaxed_or_ideal(calculator, own, structure, crystal_of)
        except Exception as error:  # noqa: BLE001 - whatever a calculator raises is the finding; the others are measured
            remarks.append(f"{PROTOTYPES[structure].label} {element} has no energy: {error}.")
            continue
        above[structure] = 1000 * (found.energy - own.energy)
        remarks += remark
    order = " < ".join(PROTOTYPES[structure].label for structure in sorted(above, key=above.__getitem__))
    values = (
        PropertyValue(name=phase_name(structure, first), value=above[structure], unit="meV/atom")
        for structure in others
        if structure in above
    )
    return Measured(values=tuple(values), remarks=(f"The order of stability is {order}.", *remarks))


def _relaxed_or_ideal(
    calculator: BaseCalculator,
    own: Equilibrium,
    structure: Structure,
    crystal_of: Callable[[Structure], Equilibrium],
) -> tuple[Equilibrium, list[str]]:
    """A crystal, if need be at the prototype's c/a and with a remark."""
    prototype = PROTOTYPES[structure]
    try:
        return crystal_of(structure), []
    except Exception as error:
        if prototype.family == "cubic":
            raise
        crystal = equilibrium(calculator, own.element, structure, volume=own.volume, relax_shape=False)
        return crystal, [
            f"{prototype.label} {own.element} is taken at its ideal c/a of {prototype.c_over_a:.3f}: {error}."
        ]
