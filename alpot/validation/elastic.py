"""Elastic constants C11, C12, C44 of cubic crystals, from stresses under small strains."""

from __future__ import annotations

import numpy as np
from ase.calculators.calculator import BaseCalculator
from ase.units import GPa
from numpy.typing import NDArray

from alpot.errors import NonFiniteError, PotentialError
from alpot.validation.lattice import Equilibrium
from alpot.validation.properties import Measured, PropertyValue, attached
from alpot.validation.relaxation import relax

#: Central differences at this strain: errors of order strain², 1e-4 relative, far below what is asked of a potential.
_STRAIN = 0.005
#: Forces in eV/Å below which the atoms of a strained cell count as relaxed.
_MAX_FORCE = 1e-3


def elastic_constants(calculator: BaseCalculator, crystal: Equilibrium) -> Measured:
    """C11, C12 and C44 in GPa of a cubic crystal at equilibrium, atoms relaxed within the strained cell.

    Args:
        calculator: any ASE calculator with stress.
        crystal: from :func:`alpot.validation.lattice.equilibrium` with the same calculator.

    Raises:
        PotentialError: the crystal is not cubic, or its atoms do not relax.
        NonFiniteError: a stress is NaN or infinite.
    """
    if crystal.structure == "hcp":
        raise PotentialError(
            f"C11, C12 and C44 are computed for cubic crystals only; {crystal.element} is examined as hcp"
        )
    uniaxial = np.zeros((3, 3))
    uniaxial[0, 0] = _STRAIN
    shear = np.zeros((3, 3))
    shear[1, 2] = shear[2, 1] = _STRAIN / 2  # Voigt's e4 is twice the tensor component
    by_uniaxial = _stress_slope(calculator, crystal, uniaxial)
    by_shear = _stress_slope(calculator, crystal, shear)
    constants = {"C11": by_uniaxial[0], "C12": (by_uniaxial[1] + by_uniaxial[2]) / 2, "C44": by_shear[3]}
    return Measured(
        values=tuple(
            PropertyValue(name=name, value=float(value / GPa), unit="GPa") for name, value in constants.items()
        )
    )


def _stress_slope(calculator: BaseCalculator, crystal: Equilibrium, strain: NDArray[np.float64]) -> NDArray[np.float64]:
    """(6,) eV/Å³: derivative of the stress along a strain (3, 3) whose Voigt component is ``_STRAIN``."""
    plus, minus = (_relaxed_stress(calculator, crystal, sign * strain) for sign in (1, -1))
    return (plus - minus) / (2 * _STRAIN)


def _relaxed_stress(
    calculator: BaseCalculator, crystal: Equilibrium, strain: NDArray[np.float64]
) -> NDArray[np.float64]:
    """(6,) eV/Å³ in ASE's order (xx, yy, zz, yz, xz, xy), of the strained cell with relaxed atoms."""
    atoms = attached(calculator, crystal.primitive)
    atoms.set_cell(atoms.cell @ (np.eye(3) + strain), scale_atoms=True)
    if len(atoms) > 1:  # a single atom is held in place by symmetry
        relax(atoms, f"strained {crystal.structure} {crystal.element}", max_force=_MAX_FORCE)
    stress = atoms.get_stress()
    if not np.isfinite(stress).all():
        raise NonFiniteError(f"the stress of strained {crystal.structure} {crystal.element} is {stress} eV/Å³")
    return stress
