"""How close atoms are, in units of their covalent radii: what the packing keeps and what ends a walker."""

from __future__ import annotations

import numpy as np
from ase import Atoms
from ase.data import covalent_radii
from ase.geometry import complete_cell
from numpy.typing import ArrayLike


def contact_distance(numbers_i: ArrayLike, numbers_j: ArrayLike, factor: float) -> np.ndarray:
    """The distance below which two atoms are in contact.

    Args:
        numbers_i: (...) atomic numbers.
        numbers_j: (...) atomic numbers, of a shape that broadcasts with the other.
        factor: fraction of the sum of the two covalent radii.

    Returns:
        (...) Å.
    """
    return factor * (covalent_radii[np.asarray(numbers_i)] + covalent_radii[np.asarray(numbers_j)])


def closest_approach(atoms: Atoms) -> float:
    """The smallest distance between two atoms as a fraction of the sum of their covalent radii.

    Periodic images count, those of an atom itself included, in cells of any size and shape.

    Returns:
        A number without unit; infinite for a lone atom without periodic images, NaN where a position or the cell is
        not finite, so that ``closest_approach(atoms) >= limit`` is false for it.
    """
    if not (np.isfinite(atoms.positions).all() and np.isfinite(atoms.cell.array).all()):
        return float("nan")
    if len(atoms) == 0 or (len(atoms) == 1 and not atoms.pbc.any()):
        return float("inf")
    largest_sum = 2.0 * covalent_radii[atoms.numbers].max()  # Å
    reach = 1.0
    while True:
        i, j, distance = near_pairs(atoms, reach * largest_sum)
        if len(distance):
            smallest = float((distance / contact_distance(atoms.numbers[i], atoms.numbers[j], 1.0)).min())
            # A pair that is out of reach has at least this ratio, so nothing closer was missed.
            if smallest <= reach:
                return smallest
        reach *= 2.0


def near_pairs(atoms: Atoms, cutoff: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """All pairs of atoms (each once; periodic images and an atom's own ones included) within a cutoff.

    Args:
        atoms: a frame with any boundary conditions.
        cutoff: Å.

    Returns:
        Indices i and j, each (n_pairs,), and distances (n_pairs,) in Å.
    """
    # vesin imports torch, which takes seconds: not before it is needed.
    from vesin import NeighborList

    i, j, distance = NeighborList(cutoff=cutoff, full_list=False).compute(
        points=atoms.positions, box=complete_cell(atoms.cell.array), periodic=atoms.pbc, quantities="ijd"
    )
    return i, j, distance
