"""Energies of low-index surfaces, atoms relaxed."""

from __future__ import annotations

import numpy as np
from ase.calculators.calculator import BaseCalculator
from ase.units import J, m

from alpot.errors import PotentialError
from alpot.validation.lattice import Equilibrium
from alpot.validation.lattice_planes import LatticePlanes, Miller, basal_planes, cubic_planes
from alpot.validation.properties import Measured, PropertyValue, attached, energy_of
from alpot.validation.relaxation import relax

#: Å. The sides of the slab are then three cutoffs of a learned potential apart.
_THICKNESS = 24.0
#: Å, beyond the cutoff of a learned potential, and enough for the tails of electrons.
_VACUUM = 12.0

_CUBIC_SURFACES: dict[str, Miller] = {"(100)": (1, 0, 0), "(110)": (1, 1, 0), "(111)": (1, 1, 1)}


def surface_energies(
    calculator: BaseCalculator, crystal: Equilibrium, *, thickness: float = _THICKNESS, vacuum: float = _VACUUM
) -> Measured:
    """γ = (E(slab) − E(bulk)) / 2 A in J/m² of (100), (110) and (111) of cubic crystals, or of (0001) of hcp.

    Slab and bulk have the same atoms in the same cell but for the vacuum, so that errors of a mesh of k-points cancel.
    The slab has one atom per plane: it relaxes, but does not reconstruct.

    Args:
        calculator: any ASE calculator.
        crystal: from :func:`alpot.validation.lattice.equilibrium` with the same calculator.
        thickness: of the slab, Å, at least.
        vacuum: between slabs, Å, more than in the crystal.

    Raises:
        PotentialError: the crystal is diamond, whose surfaces reconstruct, or a slab does not relax.
    """
    if crystal.structure == "diamond":
        raise PotentialError(
            "surface energies are defined for fcc, bcc, sc and hcp crystals, whose surfaces need not reconstruct;"
            f" {crystal.element} is examined as diamond"
        )
    if crystal.structure == "hcp":
        surfaces = {"(0001)": basal_planes(crystal)}
    else:
        surfaces = {name: cubic_planes(crystal, miller) for name, miller in _CUBIC_SURFACES.items()}
    values = []
    for name, planes in surfaces.items():
        what = f"the {name} surface of {crystal.structure} {crystal.element}"
        energy = _surface_energy(calculator, planes, what, thickness, vacuum)
        values.append(PropertyValue(name=f"surface energy {name}", value=energy, unit="J/m²"))
    return Measured(values=tuple(values))


def _surface_energy(
    calculator: BaseCalculator, planes: LatticePlanes, what: str, thickness: float, vacuum: float
) -> float:
    """J/m²."""
    steps = planes.sequence(thickness)
    bulk = attached(calculator, planes.stack(steps))
    steps[-1] += np.array([0, 0, vacuum])
    slab = attached(calculator, planes.stack(steps))
    return (relax(slab, what) - energy_of(bulk)) / (2 * planes.area) / (J / m**2)
