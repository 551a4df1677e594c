"""Frames of different sizes and cells, concatenated, so that one call evaluates them all."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from alpot.errors import PotentialError

#: Frames that are evaluated together where there may be any number of them; bounds the memory that takes.
_FRAMES_AT_ONCE = 16

_Frame = TypeVar("_Frame")


def in_portions(frames: Sequence[_Frame]) -> Iterator[Sequence[_Frame]]:
    """Frames, or labels, as many at a time as are evaluated together."""
    for begin in range(0, len(frames), _FRAMES_AT_ONCE):
        yield frames[begin : begin + _FRAMES_AT_ONCE]


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Atoms of all frames, one after the other.

    Attributes:
        numbers: (n_atoms,) atomic numbers.
        positions: (n_atoms, 3) Å.
        cells: (n_frames, 3, 3) Å, rows are cell vectors; rows may be zero along directions without periodicity.
        pbc: (n_frames, 3) bool.
        offsets: (n_frames + 1,) frame f owns the atoms offsets[f]:offsets[f + 1].
    """

    numbers: NDArray[np.int64]
    positions: NDArray[np.float64]
    cells: NDArray[np.float64]
    pbc: NDArray[np.bool_]
    offsets: NDArray[np.int64]

    @classmethod
    def from_atoms(cls, frames: Sequence[Atoms]) -> Batch:
        """Concatenate frames; refuses positions that are not finite and periodicity without cell vectors.

        Raises:
            PotentialError: there is no frame, a position or cell vector is NaN or infinite, or the cell vectors along
                the periodic directions are missing or lie in one plane.
        """
        if not frames:
            raise PotentialError("a batch needs at least one frame, got none")
        batch = cls(
            numbers=np.concatenate([atoms.numbers for atoms in frames]).astype(np.int64),
            positions=np.concatenate([atoms.positions for atoms in frames]).astype(np.float64),
            cells=np.stack([atoms.cell.array for atoms in frames]).astype(np.float64),
            pbc=np.stack([atoms.pbc for atoms in frames]),
            offsets=np.cumsum([0] + [len(atoms) for atoms in frames]),
        )
        if not (np.isfinite(batch.positions).all() and np.isfinite(batch.cells).all()):
            raise PotentialError("positions or cell vectors are NaN or infinite; the frame cannot be evaluated")
        for cell, pbc in zip(batch.cells, batch.pbc, strict=True):
            if np.linalg.matrix_rank(cell[pbc]) < pbc.sum():
                raise PotentialError(
                    f"a frame is periodic along {pbc.tolist()}, but its cell vectors there are missing or lie in one"
                    f" plane: {cell.tolist()} Å; set the cell, or pbc=False"
                )
        return batch

    @property
    def n_frames(self) -> int:
        """Number of frames."""
        return len(self.offsets) - 1

    @property
    def n_atoms(self) -> int:
        """Number of atoms of all frames together."""
        return len(self.numbers)

    @property
    def counts(self) -> NDArray[np.int64]:
        """(n_frames,) number of atoms of each frame."""
        return np.diff(self.offsets)

    @property
    def frame_of_atom(self) -> NDArray[np.int64]:
        """(n_atoms,) index of the frame that owns each atom."""
        return np.repeat(np.arange(self.n_frames), self.counts)

    @property
    def volumes(self) -> NDArray[np.float64]:
        """(n_frames,) Å³; zero where a cell vector is missing."""
        return np.abs(np.linalg.det(self.cells))
