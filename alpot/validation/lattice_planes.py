"""A crystal as a sequence of steps from one lattice plane to the next, out of which planar defects are made.

A step with vacuum is a surface, a step with a shift is a stacking fault, steps that go back are a mirror image: a twin
or another symmetric tilt boundary. In the smallest cell of a plane each plane is one atom, so that cells are small.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
from ase import Atoms
from ase.filters import UnitCellFilter
from ase.optimize import BFGS
from numpy.typing import NDArray

from alpot.validation.lattice import Equilibrium
from alpot.validation.relaxation import relax_by

Miller = tuple[int, int, int]

#: Lattice vectors are sought among so many multiples of the primitive ones: enough for Miller indices up to 3.
_MULTIPLES = 5
#: Å, below which a height above the plane is zero.
_TOLERANCE = 1e-6


@dataclass(frozen=True, kw_only=True)
class LatticePlanes:
    """The planes of a crystal along one normal, which is z.

    Attributes:
        element: chemical symbol.
        edges: (2, 3) Å, the smallest cell of a plane, with one atom; z = 0.
        steps: (n, 3) Å, from the atom of a plane to one of the next, until the stacking repeats: one step for Bravais
            lattices, two for hcp (0001).
    """

    element: str
    edges: NDArray[np.float64]
    steps: NDArray[np.float64]

    @property
    def area(self) -> float:
        """Area per atom of a plane in Å²."""
        return float(np.linalg.norm(np.cross(*self.edges)))

    @property
    def spacing(self) -> float:
        """Distance in Å from one plane to the next."""
        return float(self.steps[0, 2])

    def sequence(self, minimum_thickness: float) -> NDArray[np.float64]:
        """(n, 3) Å: steps of the perfect crystal through at least this thickness in Å, in whole periods."""
        periods = int(np.ceil(minimum_thickness / self.steps[:, 2].sum()))
        return np.tile(self.steps, (periods, 1))

    def stack(self, steps: NDArray[np.float64]) -> Atoms:
        """Periodic crystal, one atom per step; the last step leads to the next cell.

        Args:
            steps: (n, 3) Å, from each plane to the next.
        """
        heights = np.cumsum(steps, axis=0)
        positions = np.vstack([np.zeros(3), heights[:-1]])
        # The least tilted of all equivalent cells: many codes find neighbors and k-points badly in the others.
        tilt = np.linalg.solve(self.edges[:, :2].T, heights[-1, :2])
        third = heights[-1] - np.round(tilt) @ self.edges
        return Atoms([self.element] * len(steps), positions, cell=[*self.edges, third], pbc=True)


def cubic_planes(crystal: Equilibrium, miller: Miller) -> LatticePlanes:
    """Planes (hkl) of a cubic crystal with one atom per primitive cell (fcc, bcc, sc) at equilibrium.

    Args:
        crystal: of a structure with one atom per primitive cell.
        miller: h, k, l, which refer to the cubic cell; up to 3 each.
    """
    multiples = np.array(list(product(range(-_MULTIPLES, _MULTIPLES + 1), repeat=3)))
    vectors = multiples @ np.asarray(crystal.primitive.cell)  # (n, 3) Å
    normal = np.array(miller) / np.linalg.norm(miller)
    heights = vectors @ normal  # (n,) Å
    in_plane = _shortest_first(vectors[np.abs(heights) < _TOLERANCE])[1:]  # the first is zero
    first = in_plane[0]
    # The two shortest vectors of a plane that are not parallel are a basis of all.
    second = next(v for v in in_plane if np.linalg.norm(np.cross(first, v)) > _TOLERANCE)
    above = vectors[heights > _TOLERANCE]
    spacing = (above @ normal).min()
    step = _shortest_first(above[above @ normal < spacing + _TOLERANCE])[0]
    x = first / np.linalg.norm(first)
    axes = np.array([x, np.cross(normal, x), normal]).T
    edges = np.array([first, second]) @ axes
    if np.cross(*edges)[2] < 0:
        edges[1] *= -1
    edges[:, 2] = 0.0
    return LatticePlanes(element=crystal.element, edges=edges, steps=(step @ axes)[None])


def basal_planes(crystal: Equilibrium) -> LatticePlanes:
    """Planes (0001) of an hcp crystal at equilibrium."""
    a, spacing = crystal.lattice_constant, crystal.lattice_constant * crystal.c_over_a / 2
    edges = a * np.array([[1, 0, 0], [1 / 2, np.sqrt(3) / 2, 0]])
    to_hollow = edges.sum(axis=0) / 3
    up = np.array([0, 0, spacing])
    return LatticePlanes(element=crystal.element, edges=edges, steps=np.array([up + to_hollow, up - to_hollow]))


def reversed_in_plane(steps: NDArray[np.float64]) -> NDArray[np.float64]:
    """(n, 3) Å: the steps of the mirror image, which climbs as the crystal itself climbs down."""
    return steps * [-1, -1, 1]


def relax_along_normal(atoms: Atoms, what: str, *, max_force: float = 0.003, max_steps: int = 300) -> float:
    """Relax positions and the length of the cell along z in place; the bulk around a planar defect holds its area.

    Args:
        atoms: with a calculator that has stress.
        what: for the error, such as "a stacking fault in fcc Al".
        max_force: eV/Å on atoms, and eV per unit of strain and atom.
        max_steps: of the optimizer.

    Returns:
        The energy in eV.

    Raises:
        PotentialError: the forces do not vanish within ``max_steps``.
        NonFiniteError: the energy is NaN or infinite.
    """
    return relax_by(relaxation_along_normal(atoms), atoms, what, max_force=max_force, max_steps=max_steps)


def relaxation_along_normal(atoms: Atoms) -> BFGS:
    """The optimizer of :func:`relax_along_normal`, for those who want some steps of it."""
    free: Any = UnitCellFilter(atoms, mask=[False, False, True, False, False, False])  # optimizers take it for atoms
    return BFGS(free, logfile=None)


def _shortest_first(vectors: NDArray[np.float64]) -> NDArray[np.float64]:
    """(n, 3) Å; equally long ones keep their order, whatever the last digits."""
    return vectors[np.argsort(np.linalg.norm(vectors, axis=1).round(6), kind="stable")]
