"""Neighbor pairs of a batch of frames on the device where they are: any periodicity, any cell, frames of any size.

Atoms are sorted into bins along the cell vectors, at least as wide as the cutoff where the cell allows it, at most as
many as there are atoms. Where the cell is narrower than the cutoff there is one bin, and it is looked at in as many
periodic images as the cutoff reaches: small frames are thus searched by brute force, large ones in linear time, and
the code is the same. Bins are found by torch; one Triton kernel then counts the neighbors of each atom and, once their
places are known, writes them. Memory is linear in atoms and pairs, and has no capacity that could be exceeded.

nvalchemi-toolkit-ops (0.5, Apache-2.0) does the same job; it was not taken because it fills a matrix of a fixed number
of neighbors per atom, and needs warp and torch 2.10 beside the Triton that torch's CUDA builds bring anyway.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor

#: Bins are this much wider than the cutoff, more than coordinates are rounded by.
_SLACK = 1.0 + 1e-6
#: Cells away from the origin beyond which an atom's image is not tracked (int32).
_FARTHEST = 2.0**30
#: Bins that a program, which is one warp, looks at together: 27 of them where no cell is narrow.
_BINS = 32


@dataclass(frozen=True, kw_only=True)
class DevicePairs:
    """Directed pairs (each physical pair twice), grouped by center.

    Attributes:
        first_pair: (n_atoms + 1,) int64; the pairs of center i are first_pair[i]:first_pair[i + 1].
        neighbor: (n_pairs,) int32 atom index in the batch.
        shift: (n_pairs, 3) int32 cell vectors to be added to the neighbor's position.
    """

    first_pair: Tensor
    neighbor: Tensor
    shift: Tensor


def find_pairs(positions: Tensor, cells: Tensor, pbc: Tensor, counts: Sequence[int], cutoff: float) -> DevicePairs:
    """All directed pairs closer than a cutoff, within each of several frames.

    The host waits for the device once, for the number of pairs.

    Args:
        positions: (n_atoms, 3) float64 Å, one frame after the other. Atoms that are not finite have no neighbors.
        cells: (n_frames, 3, 3) float64 Å; vectors along directions without periodicity do not matter.
        pbc: (n_frames, 3) bool.
        counts: number of atoms of each frame.
        cutoff: Å.
    """
    n_atoms, device = len(positions), positions.device
    bins = _Bins.of(positions, cells, pbc, counts, cutoff)
    first_pair = torch.zeros(n_atoms + 1, dtype=torch.int64, device=device)
    # A float argument of a kernel would be rounded to float32.
    square = torch.tensor([cutoff**2], dtype=torch.float64, device=device)
    tensors = (
        *(positions.contiguous(), cells.contiguous(), (~pbc).int().contiguous(), square),
        *(bins.frame, bins.image, bins.coordinates, bins.atoms, bins.first_atom, bins.shape, bins.reach, bins.first),
    )
    nothing = torch.empty(0, dtype=torch.int32, device=device)
    launch = {"BINS": _BINS, "num_warps": 1, "num_stages": 1}
    if n_atoms:
        _search[(n_atoms,)](*tensors, first_pair, nothing, nothing, FILL=False, **launch)
    torch.cumsum(first_pair, 0, out=first_pair)
    n_pairs = int(first_pair[-1])
    neighbor = torch.empty(n_pairs, dtype=torch.int32, device=device)
    shift = torch.empty((n_pairs, 3), dtype=torch.int32, device=device)
    if n_pairs:
        _search[(n_atoms,)](*tensors, first_pair, neighbor, shift, FILL=True, **launch)
    return DevicePairs(first_pair=first_pair, neighbor=neighbor, shift=shift)


def _full_basis(cells: Tensor, pbc: Tensor) -> Tensor:
    """(n_frames, 3, 3) cell vectors, those without periodicity replaced by unit vectors normal to all others."""
    periodic = torch.where(pbc[:, :, None], torch.nan_to_num(cells, posinf=0.0, neginf=0.0), 0.0)
    # The last rows of V span what the periodic vectors leave free.
    free = torch.linalg.svd(periodic).Vh.flip(1)
    which = (torch.cumsum(~pbc, 1) - 1).clamp(min=0)
    return torch.where(pbc[:, :, None], periodic, torch.take_along_dim(free, which[:, :, None], 1))


@dataclass(frozen=True, kw_only=True)
class _Bins:
    """Atoms sorted into bins; the bins of a frame have coordinates (x, y, z) along its cell vectors.

    Attributes:
        frame: (n_atoms,) int32.
        image: (n_atoms, 3) int32 cells by which an atom lies outside of its frame's cell.
        coordinates: (n_atoms, 3) int32 bin of each atom.
        atoms: (n_atoms,) int32, bin by bin.
        first_atom: (n_bins + 1,) int64; bin b holds atoms[first_atom[b]:first_atom[b + 1]].
        shape: (n_frames, 3) int32 number of bins.
        reach: (n_frames, 3) int32 bins, on either side, that may hold neighbors.
        first: (n_frames,) int64 first bin of each frame.
    """

    frame: Tensor
    image: Tensor
    coordinates: Tensor
    atoms: Tensor
    first_atom: Tensor
    shape: Tensor
    reach: Tensor
    first: Tensor

    @classmethod
    def of(cls, positions: Tensor, cells: Tensor, pbc: Tensor, counts: Sequence[int], cutoff: float) -> _Bins:
        """Sort the atoms; arguments as those of ``find_pairs``."""
        n_atoms, n_frames, device = len(positions), len(cells), positions.device
        count = torch.tensor(counts, device=device)
        frame = torch.repeat_interleave(torch.arange(n_frames, device=device), count, output_size=n_atoms)
        inverse = torch.linalg.inv_ex(_full_basis(cells, pbc)).inverse
        scaled = torch.nan_to_num((positions[:, None] @ inverse[frame])[:, 0]).clamp(-_FARTHEST, _FARTHEST)
        image = torch.where(pbc[frame], scaled.floor(), 0.0)
        scaled = scaled - image
        # Along periodic directions bins fill the cell, along others the space that the atoms take.
        index = frame[:, None].expand(-1, 3)
        lowest = scaled.new_zeros((n_frames, 3)).scatter_reduce(0, index, scaled, "amin", include_self=False)
        highest = scaled.new_zeros((n_frames, 3)).scatter_reduce(0, index, scaled, "amax", include_self=False)
        lowest = torch.where(pbc, 0.0, lowest)
        extent = torch.where(pbc, 1.0, highest - lowest)
        length = torch.nan_to_num(extent / torch.linalg.vector_norm(inverse, dim=1))  # Å between opposite faces
        shape = _fewer((length / (_SLACK * cutoff)).floor().clamp(min=1.0), count.clamp(min=1))
        reach = torch.nan_to_num((_SLACK * cutoff * shape / length - 1e-9).ceil(), posinf=0.0)
        reach = torch.where(pbc, reach, torch.minimum(reach, shape - 1.0))
        place = torch.nan_to_num((scaled - lowest[frame]) / extent[frame] * shape[frame]).floor()
        coordinates = torch.minimum(place.clamp(min=0.0), shape[frame] - 1.0).long()
        n_bins = shape.prod(1).long()
        first = torch.cumsum(n_bins, 0) - n_bins
        x, y, z = coordinates.unbind(1)
        _, n_y, n_z = shape.long()[frame].unbind(1)
        bins, atoms = torch.sort(first[frame] + (x * n_y + y) * n_z + z, stable=True)
        # There are as many bins as atoms at most, and one for a frame without atoms.
        every_bin = torch.arange(n_atoms + n_frames + 1, device=device)
        return cls(
            frame=frame.int(),
            image=image.int(),
            coordinates=coordinates.int(),
            atoms=atoms.int(),
            first_atom=torch.searchsorted(bins, every_bin),
            shape=shape.int(),
            reach=reach.int(),
            first=first,
        )


def _fewer(shape: Tensor, most: Tensor) -> Tensor:
    """Bins (n_frames, 3), made fewer where their product exceeds ``most`` (n_frames,): thin matter, atoms far apart."""
    shape = torch.minimum(shape, most[:, None])
    # A direction that would have less than one bin gets one, and the others pay for it: at most in two more rounds.
    for _ in range(3):
        excess, divided = shape.prod(1) / most, shape > 1.0
        factor = excess ** (-1.0 / divided.sum(1).clamp(min=1))
        shape = torch.where(divided & (excess > 1.0)[:, None], (shape * factor[:, None]).floor().clamp(min=1.0), shape)
    return shape


@triton.jit(do_not_specialize_on_alignment=["positions", "cells"])
def _search(
    positions, cells, is_open, square, frame, image, coordinates, atoms, first_atom, shape, reach, first,
    first_pair, neighbor, shift,
    FILL: tl.constexpr, BINS: tl.constexpr,
):  # fmt: skip
    """Neighbors of one atom: their number into first_pair[i + 1] or, with FILL, they themselves into its row.

    Each lane goes through the atoms of one bin; lanes together cover all bins within reach, images included.
    """
    i = tl.load(atoms + tl.program_id(0)).to(tl.int64)
    f = tl.load(frame + i).to(tl.int64)
    cell, first_bin, cutoff = cells + 9 * f, tl.load(first + f), tl.load(square)
    n_x, n_y, n_z = tl.load(shape + 3 * f), tl.load(shape + 3 * f + 1), tl.load(shape + 3 * f + 2)
    m_x, m_y, m_z = tl.load(reach + 3 * f), tl.load(reach + 3 * f + 1), tl.load(reach + 3 * f + 2)
    w_y, w_z = 2 * m_y + 1, 2 * m_z + 1
    n_near = (2 * m_x + 1) * w_y * w_z
    x_i, y_i, z_i = tl.load(positions + 3 * i), tl.load(positions + 3 * i + 1), tl.load(positions + 3 * i + 2)
    n_found = tl.load(first_pair + i) if FILL else 0
    for b0 in range(0, n_near, BINS):
        b = b0 + tl.arange(0, BINS)
        # Unwrapped coordinates of a bin, made positive because integer division rounds towards zero.
        x = tl.load(coordinates + 3 * i) + b // (w_z * w_y) - m_x + (m_x + 1) * n_x
        y = tl.load(coordinates + 3 * i + 1) + b // w_z % w_y - m_y + (m_y + 1) * n_y
        z = tl.load(coordinates + 3 * i + 2) + b % w_z - m_z + (m_z + 1) * n_z
        s_x, s_y, s_z = x // n_x - (m_x + 1), y // n_y - (m_y + 1), z // n_z - (m_z + 1)
        is_there = (b < n_near) & (s_x * tl.load(is_open + 3 * f) == 0)
        is_there = is_there & (s_y * tl.load(is_open + 3 * f + 1) == 0) & (s_z * tl.load(is_open + 3 * f + 2) == 0)
        s_x += tl.load(image + 3 * i)
        s_y += tl.load(image + 3 * i + 1)
        s_z += tl.load(image + 3 * i + 2)
        bin_ = first_bin + ((x % n_x) * n_y + y % n_y) * n_z + z % n_z
        begin = tl.load(first_atom + bin_, mask=is_there, other=0)
        count = tl.load(first_atom + bin_ + 1, mask=is_there, other=0) - begin
        for q in range(0, tl.max(count, 0)):
            valid = q < count
            j = tl.load(atoms + begin + q, mask=valid, other=0).to(tl.int64)
            t_x = s_x - tl.load(image + 3 * j)
            t_y = s_y - tl.load(image + 3 * j + 1)
            t_z = s_z - tl.load(image + 3 * j + 2)
            d_x = tl.load(positions + 3 * j) - x_i
            d_y = tl.load(positions + 3 * j + 1) - y_i
            d_z = tl.load(positions + 3 * j + 2) - z_i
            d_x += t_x * tl.load(cell) + t_y * tl.load(cell + 3) + t_z * tl.load(cell + 6)
            d_y += t_x * tl.load(cell + 1) + t_y * tl.load(cell + 4) + t_z * tl.load(cell + 7)
            d_z += t_x * tl.load(cell + 2) + t_y * tl.load(cell + 5) + t_z * tl.load(cell + 8)
            is_other = (j != i) | (t_x != 0) | (t_y != 0) | (t_z != 0)
            found = (valid & is_other & (d_x * d_x + d_y * d_y + d_z * d_z < cutoff)).to(tl.int32)
            if FILL:
                at = n_found + tl.cumsum(found, 0) - 1
                tl.store(neighbor + at, j.to(tl.int32), mask=found != 0)
                tl.store(shift + 3 * at, t_x, mask=found != 0)
                tl.store(shift + 3 * at + 1, t_y, mask=found != 0)
                tl.store(shift + 3 * at + 2, t_z, mask=found != 0)
            n_found += tl.sum(found, 0)
    if not FILL:
        tl.store(first_pair + i + 1, n_found)
