"""Neighbor pairs of a batch of frames, from vesin's cell list, reused between time steps with a skin.

Any combination of periodic directions, cells smaller than the cutoff, single atoms and empty
neighborhoods are all right.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from ase.geometry import complete_cell
from numba import njit
from numpy.typing import NDArray
from vesin import NeighborList as VesinList

from alpot.potential.batch import Batch


@dataclass(frozen=True, kw_only=True)
class NeighborPairs:
    """Directed pairs (each physical pair twice), grouped by center.

    Attributes:
        first_pair: (n_atoms + 1,) int64; the pairs of center i are first_pair[i]:first_pair[i + 1].
        neighbor: (n_pairs,) int32 atom index in the batch.
        shift: (n_pairs, 3) int32 multiples of the cell vectors to be added to the neighbor's position.
    """

    first_pair: NDArray[np.int64]
    neighbor: NDArray[np.int32]
    shift: NDArray[np.int32]

    @property
    def center(self) -> NDArray[np.int64]:
        """(n_pairs,) atom index of the center."""
        return np.repeat(np.arange(len(self.first_pair) - 1), np.diff(self.first_pair))

    def vectors(self, batch: Batch) -> NDArray[np.float64]:
        """(n_pairs, 3) Å from center to neighbor, in float64, so that large cells lose no precision."""
        center = self.center
        vectors = batch.positions[self.neighbor] - batch.positions[center]
        if len(self.shift):
            vectors += np.einsum("pa,pab->pb", self.shift, batch.cells[batch.frame_of_atom[center]])
        return vectors


def frame_pairs(
    positions: NDArray[np.float64], cell: NDArray[np.float64], pbc: NDArray[np.bool_], cutoff: float
) -> NeighborPairs:
    """All directed pairs of one frame closer than ``cutoff`` (Å)."""
    search = VesinList(cutoff=cutoff, full_list=False, n_threads=torch.get_num_threads())
    box = complete_cell(cell) if not pbc.all() else cell
    half = search.compute(positions, box, pbc, quantities="ijS")
    first_pair, neighbor, shift = _both_directions(len(positions), *half)
    return NeighborPairs(first_pair=first_pair, neighbor=neighbor, shift=shift)


@njit(cache=True, nogil=True)
def _both_directions(n_atoms, first, second, shifts):
    """Rows of each atom's neighbors from a list that has each pair once."""
    first_pair = np.zeros(n_atoms + 1, np.int64)
    for p in range(len(first)):
        first_pair[first[p] + 1] += 1
        first_pair[second[p] + 1] += 1
    for i in range(n_atoms):
        first_pair[i + 1] += first_pair[i]
    free = first_pair[:-1].copy()
    neighbor = np.empty(2 * len(first), np.int32)
    shift = np.empty((2 * len(first), 3), np.int32)
    for p in range(len(first)):
        i, j = first[p], second[p]
        a, b = free[i], free[j] + (i == j)
        free[i] += 1
        free[j] += 1
        neighbor[a], neighbor[b] = j, i
        for d in range(3):
            shift[a, d], shift[b, d] = shifts[p, d], -shifts[p, d]
    return first_pair, neighbor, shift


@dataclass
class _FrameList:
    """Pairs of one frame within cutoff + skin, and where its atoms were when they were found."""

    positions: NDArray[np.float64]
    cell: NDArray[np.float64]
    pairs: NeighborPairs

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
            self._frames[slot] = _FrameList(positions.copy(), cell.copy(), found)
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
        lists = [self._frames[slot].pairs for slot in range(batch.n_frames)]
        if len(lists) == 1:
            return lists[0]
        first_of_frame = np.cumsum([0] + [len(pairs.neighbor) for pairs in lists])
        rows = [pairs.first_pair[:-1] + first for pairs, first in zip(lists, first_of_frame[:-1], strict=True)]
        neighbors = [pairs.neighbor + np.int32(first) for pairs, first in zip(lists, batch.offsets[:-1], strict=True)]
        return NeighborPairs(
            first_pair=np.concatenate([*rows, first_of_frame[-1:]]),
            neighbor=np.concatenate(neighbors),
            shift=np.concatenate([pairs.shift for pairs in lists]),
        )
