"""Formation energy of a vacancy, atoms relaxed at constant volume."""

from __future__ import annotations

from ase.calculators.calculator import BaseCalculator

from alpot.validation.lattice import Equilibrium
from alpot.validation.point_defects import MINIMUM_ATOMS, formation_energy, relax_vacancies
from alpot.validation.properties import Measured, PropertyValue, attached, energy_of


def vacancy_formation_energy(
    calculator: BaseCalculator, crystal: Equilibrium, *, minimum_atoms: int = MINIMUM_ATOMS
) -> Measured:
    """E(N − 1 atoms, relaxed) − (N − 1)/N E(N atoms) in eV, in the cell of the perfect crystal at equilibrium.

    Args:
        calculator: any ASE calculator.
        crystal: from :func:`alpot.validation.lattice.equilibrium` with the same calculator.
        minimum_atoms: the supercell has at least so many.

    Raises:
        PotentialError: the atoms do not relax, or leave their sites.
    """
    perfect = attached(calculator, crystal.supercell(minimum_atoms))
    per_atom = energy_of(perfect) / len(perfect)
    defective = attached(calculator, perfect)
    del defective[0]
    what = f"a vacancy in {crystal.structure} {crystal.element}"
    formation = formation_energy(relax_vacancies(defective, what), len(defective), per_atom, what)
    return Measured(values=(PropertyValue(name="vacancy formation energy", value=formation, unit="eV"),))
