"""How densely reciprocal space is sampled, alike for cells of all sizes and shapes."""

from __future__ import annotations

import math

import numpy as np
from ase import Atoms

#: A spacing that is short of a whole number by rounding only does not cost another k point.
_SLACK = 1e-6


def kpoint_grid(atoms: Atoms, density: float) -> tuple[int, int, int]:
    """Numbers of k points along the three reciprocal lattice vectors, Gamma included.

    Along vector i there are N_i = ⌈L / d_i⌉, where d_i = V / |a_j × a_k| is the spacing of the lattice planes and
    L the density. Twice as large a cell so gets half as many, and the spacing of k points is 2π/L at most.

    Args:
        atoms: the frame, with three cell vectors.
        density: L in Å.

    Returns:
        One along the directions that are not periodic.
    """
    spacings = 1.0 / np.linalg.norm(np.linalg.inv(atoms.cell.array), axis=0)
    counts = [max(1, math.ceil(density / spacing - _SLACK)) for spacing in spacings]
    n1, n2, n3 = (count if periodic else 1 for count, periodic in zip(counts, atoms.pbc, strict=True))
    return n1, n2, n3
