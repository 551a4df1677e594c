"""Crystals as stacks of lattice planes: what free surfaces and slipped planes are made from."""

from __future__ import annotations

from itertools import product

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from alpot.structures.prototypes import primitive_cell, prototype, supercell

Miller = tuple[int, int, int]

#: The planes over which a prototype slips most easily: the close-packed ones, which are the farthest apart.
SLIP_PLANES: dict[str, Miller] = {
    "fcc": (1, 1, 1),
    "bcc": (1, 1, 0),
    "hcp": (0, 0, 1),
    "sc": (1, 0, 0),
}
#: Lattice vectors are sought among so many multiples of the primitive ones: enough for Miller indices up to 3.
_MULTIPLES = 6
#: In units of the lattice constant; heights above a lattice plane that are less are zero.
_TOLERANCE = 1e-6


def plane_cell(name: str, miller: Miller) -> Atoms:
    """The primitive cell of a prototype between two neighboring lattice planes, of hydrogen, lattice constant 1 Å.

    Args:
        name: prototype lattice, see ``alpot.structures.prototypes.prototype``.
        miller: h, k, l of the planes. They refer to the cubic cell, or to the two axes of hcp at 120° and its third.

    Returns:
        A periodic cell: its first two vectors are the shortest of the plane and lie in xy, the third leads to the
        next plane and is in general not along z.
    """
    cell = primitive_cell(name)
    axes = cell.cell.array if name == "hcp" else prototype(name).cell.array
    normal = np.linalg.inv(axes) @ miller
    vectors = np.array(list(product(range(-_MULTIPLES, _MULTIPLES + 1), repeat=3))) @ cell.cell.array  # (n, 3) Å
    heights = vectors @ (normal / np.linalg.norm(normal))  # (n,) Å
    in_plane = _shortest_first(vectors[np.abs(heights) < _TOLERANCE])[1:]  # the first is zero
    first = in_plane[0]
    # The two shortest vectors of a plane that are not parallel are a basis of all.
    second = next(vector for vector in in_plane if np.linalg.norm(np.cross(first, vector)) > _TOLERANCE)
    if np.cross(first, second) @ normal < 0:
        second = -second
    is_above = heights > _TOLERANCE
    spacing = heights[is_above].min()
    third = _shortest_first(vectors[is_above & (heights < spacing + _TOLERANCE)])[0]
    cell.set_cell([first, second, third])
    cell.rotate(first, "x", rotate_cell=True)
    cell.rotate(np.cross(cell.cell[0], cell.cell[1]), "z", rotate_cell=True)
    cell.wrap()
    return cell


def stack(name: str, miller: Miller, target: int, bounds: tuple[int, int], rng: np.random.Generator) -> Atoms:
    """A perfect crystal of about ``target`` atoms, nearly as high as wide, whose first two cell vectors are in a plane.

    Where between two lattice planes its cell begins is random, because it matters once the crystal is cut there: in
    diamond, say, planes are alternately near to each other and far apart.

    Args:
        name: prototype lattice; the lattice constant is 1 Å.
        miller: of the planes, see ``plane_cell``.
        target: wanted number of atoms.
        bounds: numbers of atoms allowed, as far as there are such cells.
        rng: the only source of randomness.
    """
    cell = plane_cell(name, miller)
    cell.positions += rng.random() * cell.cell[2]
    cell.wrap()
    return supercell(cell, target, bounds)


def slip(atoms: Atoms, name: str, rng: np.random.Generator) -> None:
    """Shifts the crystal against its periodic image above, in place: a stack then has one plane that has slipped.

    The shift is uniform in the unit cell of the plane, so that all faults of the γ-surface (Vítek, Phil. Mag. 18, 773
    (1968)) occur: the stable ones, the way between them, and the worst.

    Args:
        atoms: a stack of the planes in ``SLIP_PLANES``, with lattice constant 1 Å.
        name: its prototype.
        rng: the only source of randomness.
    """
    shift = rng.random(2) @ plane_cell(name, SLIP_PLANES[name]).cell.array[:2]
    cell = atoms.cell.array.copy()
    cell[2] += shift
    # The least tilted of all equivalent cells: many codes find neighbors and k-points badly in the others.
    cell[2] -= np.round(np.linalg.solve(cell[:2, :2].T, cell[2, :2])) @ cell[:2]
    atoms.set_cell(cell)
    atoms.wrap()


def _shortest_first(vectors: NDArray[np.float64]) -> NDArray[np.float64]:
    """(n, 3) Å; equally long ones keep their order, whatever the last digits."""
    return vectors[np.argsort(np.linalg.norm(vectors, axis=1).round(6), kind="stable")]
