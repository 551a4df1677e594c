"""Neighbor pairs of all walkers, kept while atoms move by less than a skin allows; each is searched by itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from alpot.exploration.deformation import Deformation, least_growth
from alpot.exploration.phase_space import PhaseSpace
from alpot.potential.batch import Batch
from alpot.potential.kernels import Geometry
from alpot.potential.neighbors import NeighborSearch


class Pairs(Protocol):
    """Directed pairs of several frames as tensors, grouped by center.

    Attributes:
        first_pair: (n_atoms + 1,) int64; the pairs of center i are first_pair[i]:first_pair[i + 1].
        neighbor: (n_pairs,) int32 atom index.
        shift: (n_pairs, 3) int32 cell vectors to be added to the neighbor's position.
    """

    @property
    def first_pair(self) -> Tensor: ...  # noqa: D102

    @property
    def neighbor(self) -> Tensor: ...  # noqa: D102

    @property
    def shift(self) -> Tensor: ...  # noqa: D102


class PairSearch(Protocol):
    """Finds pairs of frames where the tensors are."""

    def __call__(self, positions: Tensor, cells: Tensor, pbc: Tensor, counts: Sequence[int], cutoff: float) -> Pairs:
        """All pairs closer than a cutoff within each of several frames.

        Args:
            positions: (n_atoms, 3) float64 Å, one frame after the other.
            cells: (n_frames, 3, 3) float64 Å.
            pbc: (n_frames, 3) bool.
            counts: number of atoms of each frame.
            cutoff: Å.
        """


@dataclass(frozen=True, kw_only=True)
class TensorPairs:
    """See ``Pairs``."""

    first_pair: Tensor
    neighbor: Tensor
    shift: Tensor


def search_on_host(positions: Tensor, cells: Tensor, pbc: Tensor, counts: Sequence[int], cutoff: float) -> TensorPairs:
    """The ``PairSearch`` for tensors on the CPU."""
    batch = Batch(
        numbers=np.zeros(len(positions), dtype=np.int64),  # whatever they are: distances count
        positions=positions.numpy(),
        cells=cells.numpy(),
        pbc=pbc.numpy(),
        offsets=np.cumsum([0, *counts]),
    )
    found = NeighborSearch(cutoff).pairs(batch)
    return TensorPairs(
        first_pair=torch.from_numpy(found.first_pair),
        neighbor=torch.from_numpy(found.neighbor),
        shift=torch.from_numpy(found.shift),
    )


def search_for(device: torch.device) -> PairSearch:
    """The search for a device."""
    if device.type == "cuda":
        from alpot.potential.neighbors_gpu import find_pairs  # needs Triton, which a machine without GPU may lack

        return find_pairs
    return search_on_host


@dataclass(frozen=True, kw_only=True)
class _Part:
    """Pairs of one walker, as views of the pairs of several.

    Attributes:
        n_neighbors: (n_atoms,) int64.
        neighbor: (n_pairs,) int32.
        shift: (n_pairs, 3) int32.
        first_atom: index that its first atom has in ``neighbor``.
    """

    n_neighbors: Tensor
    neighbor: Tensor
    shift: Tensor
    first_atom: int


@dataclass(frozen=True, kw_only=True)
class Margins:
    """How far the atoms may be from where they were searched, in each of some steps.

    Attributes:
        positions, searched_at: (n_atoms, 3) Å, now and when searched.
        undo: what brings positions back into the cell as it was when searched; None where no cell has changed.
        allowance: (n_steps, n_atoms) Å; negative where the cell alone has used up the skin.
    """

    positions: Tensor
    searched_at: Tensor
    undo: Deformation | None
    allowance: Tensor

    @property
    def n_steps(self) -> int:
        """Number of steps."""
        return len(self.allowance)

    def displacements(self, step: int) -> Tensor:
        """(n_atoms,) Å between where the atoms are and where they were searched, in the cell as it was."""
        positions = self.positions if self.undo is None else self.undo.apply_to(self.positions.clone(), step)
        return torch.linalg.vector_norm(positions - self.searched_at, dim=1)

    def excess(self, step: int) -> Tensor:
        """(n_atoms,) Å by which displacements exceed the allowance of a step; at most 0 where no pair is missing."""
        return self.displacements(step) - self.allowance[step]


class KeptPairs:
    """Pairs of the walkers of a phase space within cutoff + skin.

    Motion is split into the deformation of the cell, which leaves a share λ of any length at least, and displacements
    d in the cell as it was when the pairs were searched: distances shrink by λ and by 2 d at most, so that no pair
    closer than the cutoff is missing as long as λ (cutoff + skin − 2 d) ≥ cutoff.

    Args:
        space: the walkers.
        search: how pairs are found.
        cutoff: Å.
        skin: Å.
    """

    def __init__(self, space: PhaseSpace, search: PairSearch, cutoff: float, skin: float) -> None:
        self._space = space
        self._search = search
        self._cutoff = cutoff
        self._skin = skin
        self._parts: list[_Part] = []
        self._scales: NDArray[np.float64] = np.empty((0, 2))

    @property
    def searched_scales(self) -> NDArray[np.float64]:
        """(n_walkers, 2) scales of the cells when each was searched, see ``Course``."""
        return self._scales

    def append(self) -> None:
        """Search the walkers that were added last."""
        slots = range(len(self._parts), len(self._space.walkers))
        self._note_places(slots)
        self._append(slots, self._space.scales[slots.start :])

    def append_in_flight(self, searched_scales: NDArray[np.float64]) -> None:
        """Find the pairs of the walkers that were added last once more: those of where they were searched.

        Args:
            searched_scales: (n_added, 2) scales of their cells then.
        """
        self._append(range(len(self._parts), len(self._space.walkers)), searched_scales)

    def _append(self, slots: Sequence[int], searched_scales: NDArray[np.float64]) -> None:
        self._scales = np.concatenate([self._scales, searched_scales])
        self._parts += self._find(slots)

    def renew(self, slots: Sequence[int], scales: NDArray[np.float64]) -> None:
        """Search some walkers again, when the scales of all are (n_walkers, 2), see ``Course``."""
        self._scales[slots] = scales[slots]
        self._note_places(slots)
        for slot, part in zip(slots, self._find(slots), strict=True):
            self._parts[slot] = part

    def keep(self, slots: Sequence[int]) -> None:
        """Drop the pairs of all walkers but those in some slots."""
        self._parts = [self._parts[slot] for slot in slots]
        self._scales = self._scales[list(slots)]

    def _note_places(self, slots: Sequence[int]) -> None:
        """The atoms of some walkers are searched where they are now."""
        atoms, cells, which = self._space.atoms, self._space.cells, list(slots)
        for span in self._spans(slots):
            atoms.searched_at[span] = atoms.positions[span]
        cells.searched_cells[which] = cells.cells[which]

    def _spans(self, slots: Sequence[int]) -> list[slice]:
        return [slice(*self._space.span(slot)) for slot in slots]

    def _find(self, slots: Sequence[int]) -> list[_Part]:
        """Pairs of some walkers, of nothing but their noted places: the same ones whenever it is called."""
        atoms, cells = self._space.atoms, self._space.cells
        spans = self._spans(slots)
        positions = torch.cat([atoms.searched_at[span] for span in spans])
        counts = [span.stop - span.start for span in spans]
        which = list(slots)
        found = self._search(
            positions, cells.searched_cells[which], cells.pbc[which], counts, self._cutoff + self._skin
        )
        offsets = torch.tensor(np.cumsum(counts), device=positions.device)
        return _split(found, counts, np.diff(found.first_pair[offsets].tolist(), prepend=0).tolist())

    def ratios(self, scales: NDArray[np.float64]) -> NDArray[np.float64]:
        """(n_walkers, 2) by which scales have changed since the search, when they are (n_walkers, 2)."""
        return scales / self._scales

    def allowances(self, scales: NDArray[np.float64]) -> NDArray[np.float64]:
        """(..., n_walkers) largest d in Å for present scales (..., n_walkers, 2)."""
        return np.asarray(0.5 * (self._cutoff + self._skin - self._cutoff / least_growth(scales, self._scales)))

    def margins(self, scales: NDArray[np.float64]) -> Margins:
        """Margins of the steps after which the scales are (n_steps, n_walkers, 2)."""
        is_as_searched = (scales == self._scales).all()
        return Margins(
            positions=self._space.atoms.positions,
            searched_at=self._space.atoms.searched_at,
            undo=None if is_as_searched else self._space.deformation_of_atoms(self._scales / scales),
            allowance=self._space.of_atoms(self.allowances(scales)),
        )

    def geometry(self, first: int = 0) -> Geometry:
        """All walkers from one slot on, as views of what moves: good until pairs or walkers change."""
        begin, _ = self._space.span(first)
        parts = self._parts[first:]
        joined = _join(parts)
        # From now on views of the joined pairs, so that the memory of what was joined is free again.
        counts, n_pairs = zip(*((len(part.n_neighbors), len(part.neighbor)) for part in parts), strict=True)
        self._parts[first:] = _split(joined, counts, n_pairs)
        atoms = self._space.atoms
        return Geometry(
            species=atoms.species[begin:],
            positions=atoms.positions[begin:],
            cells=self._space.cells.cells[first:],
            pbc=self._space.cells.pbc[first:],
            frame=self._space.walker[begin:] - first,
            first_pair=joined.first_pair,
            neighbor=joined.neighbor,
            shift=joined.shift,
        )


def _split(pairs: Pairs, counts: Sequence[int], n_pairs: Sequence[int]) -> list[_Part]:
    """The pairs of each frame, which have ``counts`` atoms and ``n_pairs`` pairs."""
    columns = zip(
        pairs.first_pair.diff().split(list(counts)),
        pairs.neighbor.split(list(n_pairs)),
        pairs.shift.split(list(n_pairs)),
        np.cumsum([0, *counts[:-1]]).tolist(),
        strict=True,
    )
    return [
        _Part(n_neighbors=n_neighbors, neighbor=neighbor, shift=shift, first_atom=first_atom)
        for n_neighbors, neighbor, shift, first_atom in columns
    ]


def _join(parts: Sequence[_Part]) -> TensorPairs:
    """The pairs of all parts, atoms counted through."""
    first_atoms = np.cumsum([0, *(len(part.n_neighbors) for part in parts)]).tolist()
    n_neighbors = torch.cat([part.n_neighbors for part in parts])
    first_pair = n_neighbors.new_zeros(len(n_neighbors) + 1)
    torch.cumsum(n_neighbors, 0, out=first_pair[1:])
    neighbors = [
        part.neighbor if part.first_atom == first_atom else part.neighbor + (first_atom - part.first_atom)
        for part, first_atom in zip(parts, first_atoms[:-1], strict=True)
    ]
    return TensorPairs(
        first_pair=first_pair, neighbor=torch.cat(neighbors), shift=torch.cat([part.shift for part in parts])
    )
