"""Energies of symmetric tilt grain boundaries, the best of many translations of one grain along the other.

Two grains that are mirror images in a lattice plane (hkl) share all translations within it: the coincidence-site
lattice is the plane's own, and its smallest cell has one atom per plane. So a boundary is known by its plane and by
where the first atom of the image lies over the last atom of the crystal; to remove a plane at the boundary is nothing
but another such translation.
"""

from __future__ import annotations

from itertools import product

import numpy as np
from ase import Atoms
from ase.calculators.calculator import BaseCalculator
from ase.units import J, m
from numpy.typing import NDArray

from alpot.errors import NonFiniteError, PotentialError
from alpot.validation.lattice import Equilibrium
from alpot.validation.lattice_planes import (
    LatticePlanes,
    Miller,
    cubic_planes,
    relax_along_normal,
    relaxation_along_normal,
    reversed_in_plane,
)
from alpot.validation.properties import Measured, PropertyValue, attached, energy_of

#: Å, least thickness of a grain: energies are then within 1 % of their limit. At 12 Å two Σ3 (112) boundaries of Al,
#: which strain the crystal farther away than the others do, gain 2 % from each other.
_THICKNESS = 16.0
#: Å between the translations that are tried. Most of them end in the best boundary when they relax.
_TRANSLATION_STEP = 1.5
#: No atoms are closer at the start, in units of the cube root of the volume per atom: 0.85 of the nearest distance.
_CONTACT = 0.95
#: Steps after which boundaries are compared, and how many of the best then relax to the end.
_SCREENING_STEPS = 25
_FINALISTS = 3
#: Forces in eV/Å left in the end: the energy then is 1 mJ/m² from its minimum.
_MAX_FORCE = 0.01
#: J/m²: what a boundary that is none may seem to gain.
_ROUNDING = 0.005

#: The coherent twin, Σ3 (111) of fcc, is among the stacking faults.
_BOUNDARIES: dict[str, Miller] = {"Σ5 (310)": (3, 1, 0), "Σ5 (210)": (2, 1, 0), "Σ3 (112)": (1, 1, 2)}


def grain_boundary_energies(
    calculator: BaseCalculator,
    crystal: Equilibrium,
    *,
    thickness: float = _THICKNESS,
    translation_step: float = _TRANSLATION_STEP,
) -> Measured:
    """γ = (E(two boundaries) − E(crystal)) / 2 A in J/m² of Σ5 (310)[001], Σ5 (210)[001] and Σ3 (112)[110].

    A cell has one period of the plane and two equal boundaries: some 40 to 60 atoms of a metal. The translations of a
    grid over half the cell of the plane (the other half is its mirror image), 5 to 10, relax for a few steps, and the
    best of them to the end; the cell is free along the normal. Boundaries with longer periods, or from which atoms but
    no whole planes were taken, are not looked for.

    Args:
        calculator: any ASE calculator with stress.
        crystal: fcc or bcc, from :func:`alpot.validation.lattice.equilibrium` with the same calculator.
        thickness: of a grain, Å, at least.
        translation_step: Å, the longest one of the grid of translations.

    Raises:
        PotentialError: the crystal is neither fcc nor bcc, or no boundary relaxes.
    """
    if crystal.structure not in ("fcc", "bcc"):
        raise PotentialError(
            f"grain-boundary energies are computed for fcc and bcc crystals only; {crystal.element} is examined as"
            f" {crystal.structure}"
        )
    return Measured(
        values=tuple(
            PropertyValue(
                name=f"grain boundary energy {name}",
                value=tilt_boundary_energy(
                    calculator, crystal, miller, thickness=thickness, translation_step=translation_step
                ),
                unit="J/m²",
            )
            for name, miller in _BOUNDARIES.items()
        )
    )


def tilt_boundary_energy(
    calculator: BaseCalculator,
    crystal: Equilibrium,
    miller: Miller,
    *,
    thickness: float = _THICKNESS,
    translation_step: float = _TRANSLATION_STEP,
) -> float:
    """γ in J/m² of the boundary between a crystal and its mirror image in (hkl), as above.

    Args:
        calculator, crystal, thickness, translation_step: as in :func:`grain_boundary_energies`.
        miller: h, k, l of the boundary; a mirror plane of the crystal is no boundary, and has the energy 0.

    Raises:
        PotentialError: no boundary relaxes.
    """
    planes = cubic_planes(crystal, miller)
    crystal_name = f"{crystal.structure} {crystal.element}"
    what = f"a ({''.join(map(str, miller))}) grain boundary in {crystal_name}"
    grain = planes.sequence(thickness)
    bulk = attached(calculator, planes.stack(np.vstack([grain, grain])))
    bulk_energy = relax_along_normal(bulk, crystal_name)
    candidates = []
    for translation in _translations(planes, translation_step):
        atoms = attached(calculator, planes.stack(_bicrystal(planes, grain[1:], translation)))
        relaxation_along_normal(atoms).run(fmax=_MAX_FORCE, steps=_SCREENING_STEPS)
        candidates.append(atoms)
    candidates.sort(key=energy_of)
    energy = _lowest_relaxed(candidates[:_FINALISTS], what)
    boundary = (energy - bulk_energy) / (2 * planes.area) / (J / m**2)
    if boundary < -_ROUNDING:
        raise PotentialError(
            f"{what} lowers the energy by {-boundary:.2f} J/m²: the crystal gives way to another structure"
        )
    return boundary


def _lowest_relaxed(candidates: list[Atoms], what: str) -> float:
    """eV. One that does not relax is left out, unless none does: its neighbors often end in the same boundary."""
    energies = []
    failure: PotentialError | None = None
    for atoms in candidates:
        try:
            energies.append(relax_along_normal(atoms, what, max_force=_MAX_FORCE))
        except NonFiniteError:
            raise
        except PotentialError as error:
            failure = failure or error
    if not energies and failure:
        raise failure
    return min(energies)


def _translations(planes: LatticePlanes, longest_step: float) -> NDArray[np.float64]:
    """(n, 2) Å: a grid over half the cell of the plane, the other half being its mirror image in the boundary.

    None of them is symmetric, where the forces along the boundary would vanish and a saddle pass for a minimum.
    """
    first, second = (int(np.ceil(length / longest_step)) for length in np.linalg.norm(planes.edges, axis=1) / [2, 1])
    x, y = np.meshgrid((np.arange(first) + 0.5) / (2 * first), (np.arange(second) + 0.25) / second)
    return np.column_stack([x.ravel(), y.ravel()]) @ planes.edges[:, :2]


def _bicrystal(
    planes: LatticePlanes, grain: NDArray[np.float64], translation: NDArray[np.float64]
) -> NDArray[np.float64]:
    """(n, 3) Å: steps up through a grain (m − 1, 3), over to its image, through that, and over to the next cell."""
    to_image = np.array([*translation, _gap(planes, translation)])
    return np.vstack([grain, to_image, reversed_in_plane(grain), reversed_in_plane(to_image)])


def _gap(planes: LatticePlanes, translation: NDArray[np.float64]) -> float:
    """Height in Å of the image's first plane over the last one of the crystal at which the closest atoms just touch."""
    contact = _CONTACT * np.cbrt(planes.area * planes.spacing)
    depth = np.arange(int(contact / planes.spacing) + 1)  # of a plane below the boundary, and above it
    reach = np.arange(-3, 4)
    periods = np.array(list(product(reach, reach))) @ planes.edges[:, :2]
    shifts = (depth[:, None] - depth[None, :])[..., None] * planes.steps[0, :2]
    lateral = np.linalg.norm(translation + shifts[:, :, None] + periods, axis=-1).min(axis=-1)
    below_and_above = (depth[:, None] + depth[None, :]) * planes.spacing
    touching = lateral < contact
    return float((np.sqrt(contact**2 - lateral[touching] ** 2) - below_and_above[touching]).max())
