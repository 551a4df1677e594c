"""A box with vacuum for what is not periodic: plane-wave codes know nothing else."""

from __future__ import annotations

import numpy as np
from ase import Atoms
from ase.geometry import complete_cell

#: Å of vacuum between an atom and its image.
_VACUUM = 12.0


def with_box(atoms: Atoms) -> Atoms:
    """The frame with three cell vectors.

    Directions that are not periodic keep their cell vector if it leaves 12 Å of vacuum between images; otherwise it is
    made as long as that, rounded up to whole Å so that a small displacement does not change the box. The atoms are
    moved to its middle along these directions; forces do not depend on that.

    Args:
        atoms: any frame; it is not changed.

    Returns:
        A copy without constraints, which some inputs would show, and some outputs take off the forces; its ``pbc``
        still says which directions are periodic.
    """
    boxed = atoms.copy()
    boxed.set_constraint()
    loose = [axis for axis in range(3) if not atoms.pbc[axis]]
    if not loose:
        return boxed
    cell = complete_cell(atoms.cell.array)
    for axis in loose:
        others = [other for other in range(3) if other != axis]
        normal = np.cross(cell[others[0]], cell[others[1]])
        # Along the vector that is there or was completed, so that the cell stays right-handed: some codes want that.
        normal *= np.sign(cell[axis] @ normal) / np.linalg.norm(normal)
        height = abs(float(cell[axis] @ normal))
        along = atoms.positions @ normal
        extent = along.max() - along.min() - 1e-3
        is_given = np.linalg.norm(atoms.cell.array[axis]) > 0
        if not is_given or height < extent + _VACUUM:
            cell[axis] = normal * (np.ceil(extent) + _VACUUM) + 0.0  # no −0, which some inputs would show
    boxed.set_cell(cell)
    boxed.center(axis=loose)
    return boxed
