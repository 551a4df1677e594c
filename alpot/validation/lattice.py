"""Equilibrium of a crystal: lattice constant, energy and bulk modulus from an equation of state.

Only energies are needed. The energy is sampled on a grid of volumes that is moved until the minimum lies in its middle,
so a poor start costs a few more calls and nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from ase import Atoms
from ase.calculators.calculator import BaseCalculator
from ase.units import GPa
from numpy.typing import NDArray

from alpot.errors import PotentialError
from alpot.validation.crystals import (
    IDEAL_C_OVER_A,
    Structure,
    build_crystal,
    build_supercell,
    lattice_constant,
    start_volume,
)
from alpot.validation.properties import Measured, PropertyValue, attached, energy_of

#: Ratio of neighboring volumes of the grid, and its half width: ±4.5 % in volume is wide enough that meV ripples of a
#: learned potential do not matter, and narrow enough that the third-order equation holds to 0.5 % in the bulk modulus.
_VOLUME_STEP = 0.015
_HALF_WIDTH = 3
#: The search gives up at half or twice the volume at which it began.
_MAX_STEPS = 46
#: For c/a of hcp, which is searched in turns with the volume until it moves by less than its tolerance: the energy is
#: then 0.05 meV from its minimum. Most hcp metals need one or two turns.
_C_OVER_A_STEP = 0.015
_C_OVER_A_MAX_STEPS = 20
_C_OVER_A_TOLERANCE = 2e-3
_MAX_TURNS = 4


@dataclass(frozen=True, kw_only=True)
class Equilibrium:
    """A crystal at its own equilibrium according to one calculator.

    Attributes:
        element: chemical symbol.
        structure: prototype.
        volume: per atom, Å³.
        c_over_a: of hcp, relaxed; ideal and without meaning for the others.
        lattice_constant: a in Å.
        bulk_modulus: GPa.
        energy: eV/atom.
    """

    element: str
    structure: Structure
    volume: float
    c_over_a: float
    lattice_constant: float
    bulk_modulus: float
    energy: float

    @property
    def primitive(self) -> Atoms:
        """Primitive cell at equilibrium."""
        return build_crystal(self.element, self.structure, self.volume, self.c_over_a)

    def supercell(self, minimum_atoms: int) -> Atoms:
        """The most compact block of right-angled cells at equilibrium with at least so many atoms."""
        return build_supercell(self.element, self.structure, self.volume, minimum_atoms, self.c_over_a)


def equilibrium(
    calculator: BaseCalculator, element: str, structure: Structure, *, volume: float | None = None
) -> Equilibrium:
    """Find the equilibrium volume (and c/a of hcp) of a crystal.

    Args:
        calculator: any ASE calculator.
        element: chemical symbol.
        structure: prototype.
        volume: per atom in Å³, where the search begins; by default the experimental one.

    Raises:
        PotentialError: there is no minimum between half and twice the first volume.
    """
    c_over_a = IDEAL_C_OVER_A
    curve = _sample_volumes(calculator, element, structure, volume or start_volume(element), c_over_a)
    for _ in range(_MAX_TURNS if structure == "hcp" else 0):
        middle = birch_murnaghan(*curve)[0]
        last, c_over_a = c_over_a, _best_c_over_a(calculator, element, middle, c_over_a)
        if abs(c_over_a / last - 1) < _C_OVER_A_TOLERANCE:
            c_over_a = last
            break
        curve = _sample_volumes(calculator, element, structure, middle, c_over_a)
    found, energy, modulus = birch_murnaghan(*curve)
    return Equilibrium(
        element=element,
        structure=structure,
        volume=found,
        c_over_a=c_over_a,
        lattice_constant=float(lattice_constant(structure, found, c_over_a)),
        bulk_modulus=modulus / GPa,
        energy=energy,
    )


def lattice_properties(crystal: Equilibrium) -> Measured:
    """Lattice constant, bulk modulus and energy of a crystal at equilibrium."""
    return Measured(
        values=(
            PropertyValue(name="lattice constant", value=crystal.lattice_constant, unit="Å"),
            PropertyValue(name="bulk modulus", value=crystal.bulk_modulus, unit="GPa"),
            PropertyValue(name="energy per atom", value=crystal.energy, unit="eV"),
        )
    )


def birch_murnaghan(volumes: NDArray[np.float64], energies: NDArray[np.float64]) -> tuple[float, float, float]:
    """Fit the third-order equation of state of Birch, Phys. Rev. 71, 809 (1947).

    It is a cubic in x = V^(−2/3), so the fit is linear.

    Args:
        volumes: (n,) Å³.
        energies: (n,) eV.

    Returns:
        Equilibrium volume in Å³, energy in eV and bulk modulus in eV/Å³; NaN if there is no minimum among these
        volumes.
    """
    x = volumes ** (-2 / 3)
    middle, width = x.mean(), np.ptp(x) / 2  # scaled to ±1, to keep the fit well conditioned
    c0, c1, c2, c3 = np.polynomial.polynomial.polyfit((x - middle) / width, energies, 3)
    # The root of c1 + 2 c2 z + 3 c3 z² with positive curvature, in the form that allows c3 = 0.
    discriminant = c2**2 - 3 * c1 * c3
    if discriminant <= 0 or c2 + np.sqrt(discriminant) <= 0:
        return np.nan, np.nan, np.nan
    z = -c1 / (c2 + np.sqrt(discriminant))
    if abs(z) > 1:
        return np.nan, np.nan, np.nan
    minimum = middle + width * z
    volume = minimum**-1.5
    curvature = (2 * c2 + 6 * c3 * z) / width**2
    slope = -2 / 3 * volume ** (-5 / 3)  # dx/dV; the other term of E'' vanishes with dE/dx
    return float(volume), float(c0 + z * (c1 + z * (c2 + z * c3))), float(volume * curvature * slope**2)


def _sample_volumes(
    calculator: BaseCalculator, element: str, structure: Structure, start: float, c_over_a: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Volumes per atom (n,) Å³ and energies per atom (n,) eV, the lowest of them in the middle."""

    def energy(step: int) -> float:
        crystal = build_crystal(element, structure, start * np.exp(_VOLUME_STEP * step), c_over_a)
        return energy_of(attached(calculator, crystal)) / len(crystal)

    known: dict[int, float] = {}
    middle = 0
    while abs(middle) <= _MAX_STEPS:
        window = range(middle - _HALF_WIDTH, middle + _HALF_WIDTH + 1)
        for step in window:
            if step not in known:
                known[step] = energy(step)
        lowest = min(window, key=known.__getitem__)
        if lowest == middle:
            volumes = start * np.exp(_VOLUME_STEP * np.array(window))
            return volumes, np.array([known[step] for step in window])
        middle = lowest
    bounds = start * np.exp(-_VOLUME_STEP * _MAX_STEPS), start * np.exp(_VOLUME_STEP * _MAX_STEPS)
    raise PotentialError(
        f"{structure} {element} has no minimum of the energy between {bounds[0]:.1f} and {bounds[1]:.1f} Å³ per atom"
        f" (the search began at {start:.1f}): this calculator does not bind the crystal"
    )


def _best_c_over_a(calculator: BaseCalculator, element: str, volume: float, start: float) -> float:
    """c/a of the hcp crystal with the lowest energy at this volume per atom (Å³), from the parabola through three."""

    def energy(step: int) -> float:
        crystal = build_crystal(element, "hcp", volume, start * (1 + _C_OVER_A_STEP * step))
        return energy_of(attached(calculator, crystal))

    known: dict[int, float] = {}
    middle = 0
    while abs(middle) <= _C_OVER_A_MAX_STEPS:
        window = (middle - 1, middle, middle + 1)
        for step in window:
            if step not in known:
                known[step] = energy(step)
        below, lowest, above = (known[step] for step in window)
        if lowest <= min(below, above):
            curvature = below - 2 * lowest + above
            offset = 0.5 * (below - above) / curvature if curvature > 0 else 0.0
            return start * (1 + _C_OVER_A_STEP * (middle + offset))
        middle += 1 if above < below else -1
    raise PotentialError(
        f"hcp {element} at {volume:.1f} Å³ per atom has no minimum of the energy for c/a within"
        f" {100 * _C_OVER_A_STEP * _C_OVER_A_MAX_STEPS:.0f} % of {start:.3f}"
    )
