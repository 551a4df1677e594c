"""Whether two vacancies attract each other, as nearest and as second-nearest neighbors."""

from __future__ import annotations

from ase.calculators.calculator import BaseCalculator

from alpot.validation.lattice import Equilibrium
from alpot.validation.point_defects import MINIMUM_ATOMS, refuse_others, relax_vacancies, shells
from alpot.validation.properties import Measured, PropertyValue, attached, energy_of

_SHELLS = ("first", "second")


def divacancy_binding_energy(
    calculator: BaseCalculator, crystal: Equilibrium, *, minimum_atoms: int = MINIMUM_ATOMS
) -> Measured:
    """E_b = 2 E_f(vacancy) − E_f(two vacancies) in eV: positive where vacancies attract each other.

    Atoms are relaxed at constant cell.

    Args:
        calculator: any ASE calculator.
        crystal: fcc or bcc, at its equilibrium by the same calculator.
        minimum_atoms: the supercell has at least so many sites.

    Raises:
        PotentialError: the crystal is another one, or the atoms do not relax, or leave their sites.
    """
    refuse_others("the binding of two vacancies", crystal, ("fcc", "bcc"))
    perfect = attached(calculator, crystal.supercell(minimum_atoms))
    per_atom = energy_of(perfect) / len(perfect)
    name = f"{crystal.structure} {crystal.element}"
    single = attached(calculator, perfect)
    del single[0]
    of_one = relax_vacancies(single, f"a vacancy in {name}") - len(single) * per_atom
    values = []
    for shell, (_, neighbors) in zip(_SHELLS, shells(perfect), strict=False):
        double = attached(calculator, perfect)
        del double[[0, int(neighbors[0])]]
        of_two = relax_vacancies(double, f"two vacancies in {name}, {shell} neighbors") - len(double) * per_atom
        values.append(
            PropertyValue(name=f"divacancy binding energy, {shell} neighbors", value=2 * of_one - of_two, unit="eV")
        )
    return Measured(values=tuple(values))
