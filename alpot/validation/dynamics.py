"""What the molecular dynamics of the tests share: time step, first velocities, and when a run has failed."""

from __future__ import annotations

import numpy as np
from ase import Atoms, units
from ase.data import covalent_radii
from ase.neighborlist import neighbor_list

#: fs for Al; a fiftieth of its fastest vibration. Others by the root of their mass, within these bounds.
_ALUMINUM_STEP, _ALUMINUM_MASS = 2.0, 26.98
_STEP_BOUNDS = (0.25, 4.0)
#: Atoms closer than this fraction of the sum of their covalent radii have fallen into each other; exploration ends a
#: walker at the same fraction by default.
_CONTACT_FACTOR = 0.6


def time_step_fs(atoms: Atoms) -> float:
    """Time step in fs that resolves the vibrations of the lightest atom."""
    step = _ALUMINUM_STEP * np.sqrt(atoms.get_masses().min() / _ALUMINUM_MASS)
    return float(np.clip(step, *_STEP_BOUNDS))


def set_velocities(atoms: Atoms, temperature: float, rng: np.random.Generator) -> None:
    """Give exactly this temperature (K) to two or more atoms, at rest as a whole."""
    masses = atoms.get_masses()[:, None]  # (n_atoms, 1)
    momenta = rng.standard_normal((len(atoms), 3)) * np.sqrt(masses)
    momenta -= masses * momenta.sum(axis=0) / masses.sum()
    # The center of mass takes no part: 3 N − 3 degrees of freedom.
    wanted = 0.5 * (3 * len(atoms) - 3) * units.kB * temperature
    atoms.set_momenta(momenta * np.sqrt(wanted / (0.5 * (momenta**2 / masses).sum())))


def failure_of(atoms: Atoms, highest_temperature: float) -> str | None:
    """Why this moment of a run is not physical any more, or None.

    Args:
        atoms: with momenta.
        highest_temperature: K; above, the run has exploded.
    """
    if not (np.isfinite(atoms.positions).all() and np.isfinite(atoms.get_momenta()).all()):
        return "positions or velocities are not finite"
    temperature = atoms.get_temperature()
    if not temperature < highest_temperature:
        return f"the temperature reached {temperature:.0f} K (limit {highest_temperature:.0f} K)"
    radii = _CONTACT_FACTOR * covalent_radii[atoms.numbers]
    distances = neighbor_list("d", atoms, list(radii))
    if len(distances):
        return f"two atoms came within {distances.min():.2f} Å"
    return None
