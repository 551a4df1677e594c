"""Long boxes of crystal, for what moves along one direction: interfaces and shocks."""

from __future__ import annotations

import numpy as np
from ase import Atoms


def build_bar(cell: Atoms, minimum_atoms: int, elongation: float) -> Atoms:
    """Repeat a right-angled cell to a box about as thick as wide, and longer along its third edge.

    Args:
        cell: conventional cell.
        minimum_atoms: of the bar.
        elongation: length in units of the width, about.

    Returns:
        The bar; an even number of cells long.
    """
    edges = cell.cell.lengths()
    width = np.cbrt(minimum_atoms / len(cell) * cell.cell.volume / elongation)
    across = np.maximum(np.rint(width / edges[:2]).astype(int), 1)
    along = 2 * int(np.ceil(minimum_atoms / len(cell) / across.prod() / 2))
    return cell.repeat((*across.tolist(), along))
