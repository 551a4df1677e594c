"""Whether two vacancies attract each other, as nearest and as second-nearest neighbors."""

from __future__ import annotations

from ase.calculators.calculator import BaseCalculator

from alpot.validation.lattice import Equilibrium
from alpot.validation.point_defects import MINIMUM_ATOMS, formation_energy, refuse_others, relax_vacancies, shells
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

    def of_vacancies(sites: list[int], what: str) -> float:
        defective = attached(calculator, perfect)
        del defective[sites]
        return formation_energy(relax_vacancies(defective, what), len(defective), per_atom, what)

    single = of_vacancies([0], f"a vacancy in {name}")
    values = []
    for shell, (_, neighbors) in zip(_SHELLS, shells(perfect), strict=False):
        double = of_vacancies([0, int(neighbors[0])], f"two vacancies in {name}, {shell} neighbors,")
        values.append(
            PropertyValue(name=f"divacancy binding energy, {shell} neighbors", value=2 * single - double, unit="eV")
        )
    return Measured(values=tuple(values))
