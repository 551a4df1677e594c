"""Disordered packings: atoms dropped at random into a periodic cube, no two too close.

Atoms are inserted one after the other where there is room. Above a packing fraction of about 0.35 there is none left
for the last ones: they are inserted where it is least bad, and overlapping atoms then push each other apart.
Above about 0.6 (random close packing) no disordered packing exists, and the distance is lowered in small steps.
"""

from __future__ import annotations

import numpy as np
from ase import Atoms
from ase.data import covalent_radii

from alpot.structures.contacts import contact_distance
from alpot.structures.density import volume_of

#: Random places looked at for each atom.
_TRIALS = 30
#: Rounds of pushing before the distance is lowered.
_ROUNDS = 150
#: The distance is lowered to this fraction of itself.
_LOWERING = 0.97
#: Overlapping atoms are pushed to slightly more than the distance asked for, else they approach it without end.
_MARGIN = 1.01


def build_packing(
    numbers: np.ndarray, density: float, min_distance_factor: float, rng: np.random.Generator
) -> tuple[Atoms, float]:
    """Builds a random packing in a periodic cube.

    Args:
        numbers: (n_atoms,) atomic numbers.
        density: g/cm³.
        min_distance_factor: closest approach as a fraction of the sum of covalent radii.
        rng: the only source of randomness.

    Returns:
        The frame, and the factor that it keeps: the one asked for, or less where the density does not permit it.
    """
    side = volume_of(numbers, density) ** (1.0 / 3.0)
    # An atom cannot be pushed away from its own images, which are one side away.
    factor = min(min_distance_factor, side / (2.0 * covalent_radii[numbers].max()))
    positions = _insert(numbers, side, factor, rng)
    atoms = Atoms(numbers=numbers, positions=positions, cell=[side] * 3, pbc=True)
    while not push_apart(atoms, factor):
        factor *= _LOWERING
    atoms.wrap()
    return atoms, factor


def _insert(numbers: np.ndarray, side: float, factor: float, rng: np.random.Generator) -> np.ndarray:
    """Positions (n_atoms, 3) in Å: each atom at the first of some random places that is free, or else at the best."""
    positions = np.empty((len(numbers), 3))
    for n, number in enumerate(numbers):
        trials = rng.uniform(0.0, side, (_TRIALS, 3))
        apart = trials[:, None, :] - positions[None, :n, :]  # (trials, n, 3)
        apart -= side * np.round(apart / side)
        room = np.linalg.norm(apart, axis=2) / contact_distance(number, numbers[:n], factor)  # (trials, n)
        closest = room.min(axis=1, initial=np.inf)
        free = np.flatnonzero(closest >= 1.0)
        positions[n] = trials[free[0] if len(free) else closest.argmax()]
    return positions


def push_apart(atoms: Atoms, factor: float) -> bool:
    """Moves overlapping atoms apart, in place; says whether no overlap is left.

    Args:
        atoms: a frame that is periodic in all directions.
        factor: closest approach as a fraction of the sum of covalent radii.
    """
    # vesin imports torch, which takes seconds: not before it is needed.
    from vesin import NeighborList

    numbers, positions = atoms.numbers, atoms.positions
    neighbors = NeighborList(cutoff=_MARGIN * 2.0 * factor * covalent_radii[numbers].max(), full_list=False)
    for _ in range(_ROUNDS):
        i, j, vector, distance = neighbors.compute(positions, atoms.cell.array, True, "ijDd")
        wanted = contact_distance(numbers[i], numbers[j], factor)
        # Images of an atom itself (i = j) are a side apart: no push changes that.
        if np.all((distance >= wanted) | (i == j)):
            return True
        overlap = np.clip(_MARGIN * wanted - distance, 0.0, None)
        # Half of the overlap for each of the two. Coinciding atoms have no direction, but random ones never coincide.
        push = (0.5 * overlap / np.maximum(distance, 1e-9))[:, None] * vector  # (pairs, 3)
        for axis in range(3):
            positions[:, axis] += np.bincount(j, push[:, axis], len(positions))
            positions[:, axis] -= np.bincount(i, push[:, axis], len(positions))
    return False
