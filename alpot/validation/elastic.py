"""Elastic constants of cubic and hexagonal crystals, from stresses under small strains, and elastic stability."""

from __future__ import annotations

import numpy as np
from ase.calculators.calculator import BaseCalculator
from ase.units import GPa
from numpy.typing import NDArray

from alpot.errors import NonFiniteError, PotentialError
from alpot.validation.lattice import Equilibrium
from alpot.validation.properties import Measured, PropertyValue, attached
from alpot.validation.prototypes import PROTOTYPES
from alpot.validation.relaxation import relax

#: Central differences at this strain: errors of order strain², 1e-4 relative, far below what is asked of a potential.
_STRAIN = 0.005
#: Forces below which the atoms of a strained cell count as relaxed, over B V^(2/3) × strain: what a strain causes in a
#: crystal of that stiffness. 1.5e-4 eV/Å in aluminum, 1e-5 in argon; what is left is a percent of the relaxation.
_MAX_FORCE = 0.01


def elastic_constants(calculator: BaseCalculator, crystal: Equilibrium) -> Measured:
    """Elastic constants in GPa of a crystal at equilibrium, atoms relaxed within the strained cell.

    Cubic: C11, C12, C44, bulk modulus, tetragonal shear C′ = (C11 − C12)/2 and Zener's anisotropy C44/C′.
    Hexagonal: C11, C12, C13, C33, C44 and bulk modulus (with c/a free to follow the pressure).

    Args:
        calculator: any ASE calculator with stress.
        crystal: from :func:`alpot.validation.lattice.equilibrium` with the same calculator.

    Raises:
        PotentialError: the crystal is neither cubic nor hexagonal, or its atoms do not relax.
        NonFiniteError: a stress is NaN or infinite.
    """
    family = PROTOTYPES[crystal.structure].family
    if family == "tetragonal":
        raise PotentialError(
            f"elastic constants are computed for cubic and hexagonal crystals; {crystal.element} is examined as"
            f" {PROTOTYPES[crystal.structure].label}"
        )
    constants = _cubic(calculator, crystal) if family == "cubic" else _hexagonal(calculator, crystal)
    matrix = _matrix(constants)
    constants["bulk modulus from elastic constants"] = float(1 / np.linalg.inv(matrix)[:3, :3].sum())
    values = [PropertyValue(name=name, value=value, unit="GPa") for name, value in constants.items()]
    if family == "cubic":
        tetragonal = (constants["C11"] - constants["C12"]) / 2
        values.append(PropertyValue(name="tetragonal shear C′", value=tetragonal, unit="GPa"))
        values.append(PropertyValue(name="Zener anisotropy", value=constants["C44"] / tetragonal, unit=""))
    return Measured(values=tuple(values), remarks=_instability(crystal, matrix))


def _cubic(calculator: BaseCalculator, crystal: Equilibrium) -> dict[str, float]:
    along_x = _stress_slope(calculator, crystal, 0)
    return {
        "C11": along_x[0],
        "C12": (along_x[1] + along_x[2]) / 2,
        "C44": _stress_slope(calculator, crystal, 3)[3],
    }


def _hexagonal(calculator: BaseCalculator, crystal: Equilibrium) -> dict[str, float]:
    along_x, along_c = (_stress_slope(calculator, crystal, component) for component in (0, 2))
    return {
        "C11": along_x[0],
        "C12": along_x[1],
        "C13": (along_x[2] + along_c[0] + along_c[1]) / 3,
        "C33": along_c[2],
        "C44": _stress_slope(calculator, crystal, 3)[3],
    }


def _stress_slope(calculator: BaseCalculator, crystal: Equilibrium, component: int) -> list[float]:
    """(6,) GPa: derivative of the stress by one of Voigt's strains xx, yy, zz, yz, xz, xy."""
    strain = np.zeros((3, 3))
    if component < 3:
        strain[component, component] = _STRAIN
    else:  # Voigt's shear is twice the component of the tensor
        first, second = ((1, 2), (0, 2), (0, 1))[component - 3]
        strain[first, second] = strain[second, first] = _STRAIN / 2
    plus, minus = (_relaxed_stress(calculator, crystal, sign * strain) for sign in (1, -1))
    return ((plus - minus) / (2 * _STRAIN) / GPa).tolist()


def _relaxed_stress(
    calculator: BaseCalculator, crystal: Equilibrium, strain: NDArray[np.float64]
) -> NDArray[np.float64]:
    """(6,) eV/Å³ in Voigt's order, of the strained cell with relaxed atoms."""
    atoms = attached(calculator, crystal.primitive)
    atoms.set_cell(atoms.cell @ (np.eye(3) + strain), scale_atoms=True)
    what = f"strained {PROTOTYPES[crystal.structure].label} {crystal.element}"
    if len(atoms) > 1:  # a single atom is held in place by symmetry
        scale = crystal.bulk_modulus * GPa * crystal.volume ** (2 / 3) * _STRAIN
        relax(atoms, what, max_force=_MAX_FORCE * scale)
    stress = atoms.get_stress()
    if not np.isfinite(stress).all():
        raise NonFiniteError(f"the stress of {what} is {stress} eV/Å³")
    return stress


def _matrix(constants: dict[str, float]) -> NDArray[np.float64]:
    """(6, 6) GPa: Voigt's matrix of a cubic or hexagonal crystal."""
    c11, c12, c44 = constants["C11"], constants["C12"], constants["C44"]
    c13, c33 = constants.get("C13", c12), constants.get("C33", c11)
    c66 = (c11 - c12) / 2 if "C33" in constants else c44
    matrix = np.diag([c11, c11, c33, c44, c44, c66])
    matrix[0, 1] = matrix[1, 0] = c12
    matrix[[0, 1, 2, 2], [2, 2, 0, 1]] = c13
    return matrix


def _instability(crystal: Equilibrium, matrix: NDArray[np.float64]) -> tuple[str, ...]:
    """Born's criterion in its general form: Mouhat and Coudert, Phys. Rev. B 90, 224104 (2014), section II."""
    lowest = float(np.linalg.eigvalsh(matrix)[0])
    if lowest > 0:
        return ()
    return (
        f"{PROTOTYPES[crystal.structure].label} {crystal.element} is elastically unstable: its matrix of elastic"
        f" constants has the eigenvalue {lowest:.1f} GPa, and Born's criterion asks for positive ones.",
    )
