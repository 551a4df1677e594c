"""Formation energy of a vacancy, atoms relaxed at constant volume."""

from __future__ import annotations

from ase.calculators.calculator import BaseCalculator
from ase.optimize import BFGS

from alpot.errors import PotentialError
from alpot.validation.crystals import build_supercell
from alpot.validation.lattice import Equilibrium
from alpot.validation.properties import PropertyValue, attached, energy_voices, from_voices

#: Smallest supercell: 108 atoms for fcc. EMT's Al and Cu then lie within 1 % of their limit of large cells.
_MINIMUM_ATOMS = 100
#: Forces in eV/Å left on the atoms: the energy then is 1 meV from its minimum.
_MAX_FORCE = 0.02
_MAX_STEPS = 60


def vacancy_formation_energy(
    calculator: BaseCalculator, crystal: Equilibrium, *, minimum_atoms: int = _MINIMUM_ATOMS
) -> PropertyValue:
    """E(N − 1 atoms, relaxed) − (N − 1)/N E(N atoms) in eV, in the cell of the perfect crystal at equilibrium.

    Args:
        calculator: any ASE calculator.
        crystal: from :func:`alpot.validation.lattice.equilibrium` with the same calculator.
        minimum_atoms: the supercell has at least so many.

    Raises:
        PotentialError: the atoms do not relax.
    """
    perfect = attached(
        calculator,
        build_supercell(crystal.element, crystal.structure, crystal.volume, minimum_atoms, crystal.c_over_a),
    )
    perfect_energy = energy_voices(perfect)
    defective = attached(calculator, perfect)
    del defective[0]
    if not BFGS(defective, logfile=None).run(fmax=_MAX_FORCE, steps=_MAX_STEPS):
        raise PotentialError(
            f"the atoms around a vacancy in {crystal.structure} {crystal.element} ({len(defective)} atoms) did not"
            f" relax to {_MAX_FORCE} eV/Å within {_MAX_STEPS} steps: the crystal may be unstable"
        )
    share = len(defective) / len(perfect)
    return from_voices("vacancy formation energy", energy_voices(defective) - share * perfect_energy, "eV")
