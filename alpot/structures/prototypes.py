"""Prototype lattices, their cells, and how these are repeated: perfect, of hydrogen, with lattice constant 1 Å."""

from __future__ import annotations

import itertools

import numpy as np
from ase import Atoms
from ase.build import bulk

#: How much a supercell twice as long as wide counts, against a wrong number of atoms of 50 %.
_SHAPE_WEIGHT = 0.5

_A15_POSITIONS = [(0, 0, 0), (2, 2, 2), (1, 0, 2), (3, 0, 2), (2, 1, 0), (2, 3, 0), (0, 2, 1), (0, 2, 3)]  # a/4


def prototype(name: str) -> Atoms:
    """An orthogonal cell of a prototype lattice, of hydrogen and with lattice constant 1 Å.

    Args:
        name: fcc, bcc, hcp (ideal c/a), sc, diamond or a15.
    """
    if name == "a15":
        return Atoms("H8", scaled_positions=np.array(_A15_POSITIONS) / 4.0, cell=[1.0] * 3, pbc=True)
    if name == "hcp":
        return bulk("H", "hcp", a=1.0, orthorhombic=True)
    return bulk("H", name, a=1.0, cubic=True)


def primitive_cell(name: str) -> Atoms:
    """The primitive cell of a prototype lattice, of hydrogen and with lattice constant 1 Å; see ``prototype``."""
    return prototype(name) if name == "a15" else bulk("H", name, a=1.0)


def supercell(cell: Atoms, target: int, bounds: tuple[int, int]) -> Atoms:
    """Repeats a cell to about ``target`` atoms in a shape close to a cube.

    Args:
        cell: the cell to repeat.
        target: wanted number of atoms.
        bounds: numbers of atoms allowed; if no multiple of the cell lies within, the best one outside is taken.
    """
    most = max(2, round((bounds[1] / len(cell)) ** (1.0 / 3.0) * 2.0) + 1)
    repeats = np.array(list(itertools.product(range(1, most + 1), repeat=3)))  # (n, 3)
    n_atoms = len(cell) * repeats.prod(axis=1)
    # From each face to the opposite one; for orthogonal cells these are the edges.
    heights = repeats / np.linalg.norm(cell.cell.reciprocal(), axis=1)
    too_long = heights.max(axis=1) / heights.min(axis=1) - 1.0
    is_outside = (n_atoms < bounds[0]) | (n_atoms > bounds[1])
    badness = np.abs(n_atoms - target) / target + _SHAPE_WEIGHT * too_long
    return cell.repeat(repeats[np.lexsort((badness, is_outside))[0]])
