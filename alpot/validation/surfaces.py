"""Energies of low-index surfaces, atoms relaxed."""

from __future__ import annotations

import numpy as np
from ase.calculators.calculator import BaseCalculator
from ase.units import J, m

from alpot.errors import PotentialError
from alpot.validation.lattice import Equilibrium
from alpot.validation.lattice_planes import LatticePlanes, basal_planes, cubic_planes
from alpot.validation.properties import Measured, PropertyValue, attached, energy_of
from alpot.validation.relaxation import relax

#: Å. Both sides of the slab are then several cutoffs of a learned potential apart.
_THICKNESS = 24.0
#: Å, beyond the cutoff of a learned potential, and enough for the tails of electrons.
_VACUUM = 12.0


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
        surfaces = {f"({h}{k}{l})": cubic_planes(crystal, (h, k, l)) for h, k, l in [(1, 0, 0), (1, 1, 0), (1, 1, 1)]}
    return Measured(
        values=tuple(
            PropertyValue(
                name=f"surface energy {name}",
                value=_surface_energy(
                    calculator,
                    planes,
                    f"the {name} surface of {crystal.structure} {crystal.element}",
                    thickness,
                    vacuum,
                ),
                unit="J/m²",
            )
            for name, planes in surfaces.items()
        )
    )


def _surface_energy(
    calculator: BaseCalculator, planes: LatticePlanes, what: str, thickness: float, vacuum: float
) -> float:
    """J/m²."""
    steps = planes.sequence(thickness)
    bulk = attached(calculator, planes.stack(steps))
    steps[-1] += np.array([0, 0, vacuum])
    slab = attached(calculator, planes.stack(steps))
    return (relax(slab, what) - energy_of(bulk)) / (2 * planes.area) / (J / m**2)
