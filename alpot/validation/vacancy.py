"""Formation energy of a vacancy, atoms relaxed at constant volume."""

from __future__ import annotations

from ase.calculators.calculator import BaseCalculator

from alpot.validation.lattice import Equilibrium
from alpot.validation.properties import Measured, PropertyValue, attached, energy_of
from alpot.validation.relaxation import relax

#: Smallest supercell: 108 atoms for fcc. EMT's Al and Cu then lie within 1 % of their limit of large cells.
_MINIMUM_ATOMS = 100
#: Forces in eV/Å left on the atoms: the energy then is 1 meV from its minimum.
_MAX_FORCE = 0.02


def vacancy_formation_energy(
    calculator: BaseCalculator, crystal: Equilibrium, *, minimum_atoms: int = _MINIMUM_ATOMS
) -> Measured:
    """E(N − 1 atoms, relaxed) − (N − 1)/N E(N atoms) in eV, in the cell of the perfect crystal at equilibrium.

    Args:
        calculator: any ASE calculator.
        crystal: from :func:`alpot.validation.lattice.equilibrium` with the same calculator.
        minimum_atoms: the supercell has at least so many.

    Raises:
        PotentialError: the atoms do not relax.
    """
    perfect = attached(calculator, crystal.supercell(minimum_atoms))
    perfect_energy = energy_of(perfect)
    defective = attached(calculator, perfect)
    del defective[0]
    energy = relax(defective, f"a vacancy in {crystal.structure} {crystal.element}", max_force=_MAX_FORCE)
    formation = energy - len(defective) / len(perfect) * perfect_energy
    return Measured(values=(PropertyValue(name="vacancy formation energy", value=formation, unit="eV"),))
