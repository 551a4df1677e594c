"""Neighbor pairs of a batch of frames, from vesin's cell list, reused between time steps with a skin.

Any combination of periodic directions, cells smaller than the cutoff, single atoms and empty
neighborhoods are all right.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from ase.geometry import complete_cell
from numpy.typing import NDArray
from vesin import NeighborList as VesinList

from alpot.potential.batch import Batch


@dataclass(frozen=True, kw_only=True)
class NeighborPairs:
    """Directed pairs (each physical pair twice), sorted by center.

    Attributes:
        center: (n_pairs,) atom index in the batch.
        neighbor: (n_pairs,) atom index in the batch.
        frame: (n_pairs,) index of the frame.
        shift: (n_pairs, 3) integer multiples of the cell vectors to be added to the neighbor's position.
    """

    center: NDArray[np.int64]
    neighbor: NDArray[np.int64]
    frame: NDArray[np.int64]
    shift: NDArray[np.float64]

    def vectors(self, batch: Batch) -> NDArray[np.float64]:
        """(n_pairs, 3) Å from center to neighbor, in float64, so that large cells lose no precision."""
        vectors = batch.positions[self.neighbor] - batch.positions[self.center]
        if len(self.shift):
            vectors += np.einsum("pa,pab->pb", self.shift, batch.cells[self.frame])
        return vectors


def frame_pairs(
    positions: NDArray[np.float64], cell: NDArray[np.float64], pbc: NDArray[np.bool_], cutoff: float
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """All directed pairs of one frame closer than ``cutoff`` (Å): centers, neighbors, (n_pairs, 3) shifts."""
    search = VesinList(cutoff=cutoff, full_list=True, sorted=True, n_threads=1)
    box = complete_cell(cell) if not pbc.all() else cell
    center, neighbor, shift = search.compute(positions, box, pbc, quantities="ijS")
    return center.astype(np.int64), neighbor.astype(np.int64), shift.astype(np.float64)


@dataclass
class _FrameList:
    """Pairs of one frame within cutoff + skin, and where its atoms were when they were found."""

    positions: NDArray[np.float64]
    cell: NDArray[np.float64]
    center: NDArray[np.int64]
    neighbor: NDArray[np.int64]
    shift: NDArray[np.float64]

    def covers(self, positions: NDArray[np.float64], cell: NDArray[np.float64], cutoff: float, skin: float) -> bool:
        """Whether no pair closer than ``cutoff`` can be missing, atoms and cell having moved.

        Motion is split into the deformation of the cell, which shrinks distances by its smallest stretch at most,
        and displacements in the undeformed cell, which shrink them by twice the largest displacement.
        """
        if len(positions) != len(self.positions):
            return False
        stretch = 1.0
        undeformed = positions
        if not np.array_equal(cell, self.cell):
            deformation = np.linalg.solve(complete_cell(self.cell), complete_cell(cell))
            stretch = float(np.linalg.svd(deformation, compute_uv=False)[-1])
            undeformed = positions @ np.linalg.inv(deformation)
        displacement = float(np.sqrt(((undeformed - self.positions) ** 2).sum(axis=1).max()))
        return bool(stretch * (cutoff + skin - 2.0 * displacement) >= cutoff)


class NeighborSearch:
    """Finds the pairs of a batch; frames whose atoms moved less than the skin allows are not searched again.

    Args:
        cutoff: Å.
        skin: Å added to the cutoff; 0 searches every time.
    """

    def __init__(self, cutoff: float, skin: float = 0.0) -> None:
        self.cutoff = cutoff
        self.skin = skin
        self._frames: dict[int, _FrameList] = {}
        self._joined: NeighborPairs | None = None
        self._joined_offsets: NDArray[np.int64] | None = None

    def forget(self, slot: int) -> None:
        """Drop what is known of one frame, because other atoms have taken its place."""
        self._frames.pop(slot, None)
        self._joined = None

    def pairs(self, batch: Batch) -> NeighborPairs:
        """All pairs closer than cutoff + skin or, with a skin, a superset of those closer than the cutoff."""
        if set(self._frames) - set(range(batch.n_frames)):
            self._frames = {slot: kept for slot, kept in self._frames.items() if slot < batch.n_frames}
            self._joined = None
        for slot, (begin, end) in enumerate(zip(batch.offsets[:-1], batch.offsets[1:], strict=True)):
            positions, cell = batch.positions[begin:end], batch.cells[slot]
            known = self._frames.get(slot)
            if self.skin > 0 and known is not None and known.covers(positions, cell, self.cutoff, self.skin):
                continue
            found = frame_pairs(positions, cell, batch.pbc[slot], self.cutoff + self.skin)
            self._frames[slot] = _FrameList(positions.copy(), cell.copy(), *found)
            self._joined = None
        if (
            self._joined is None
            or self._joined_offsets is None
            or not np.array_equal(self._joined_offsets, batch.offsets)
        ):
            self._joined = self._join(batch)
            self._joined_offsets = batch.offsets
        return self._joined

    def _join(self, batch: Batch) -> NeighborPairs:
        lists = [self._frames[slot] for slot in range(batch.n_frames)]
        frame = np.repeat(np.arange(batch.n_frames), [len(kept.center) for kept in lists])
        first_atom = batch.offsets[frame]
        return NeighborPairs(
            center=np.concatenate([kept.center for kept in lists]) + first_atom,
            neighbor=np.concatenate([kept.neighbor for kept in lists]) + first_atom,
            frame=frame,
            shift=np.concatenate([kept.shift for kept in lists]),
        )
