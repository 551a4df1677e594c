"""Descriptor kernels for a GPU, in Triton: four launches per force call, and no memory for triples.

The formulas are those of ``descriptor.py``; the oracle is ``aev_reference.py``. One program, which is one warp, does
one center at a time:

1. ``_collect``: pair vectors; radial features; the neighbors inside the angular cutoff, grouped by element ("sites").
2. ``_angular_features``: a lane does one triple {j, k} at a time and keeps all products E_a A_z of its triples.
3. ``_radial_forces``: a lane does one pair, for several members.
4. ``_angular_forces``: a lane does one neighbor j and runs over the others k. Each triple is thus met twice, once from
   either side, but every lane owns what it sums: no reduction and no atomic operation per triple. With E_a the
   Gaussians of the mean distance, A_z the terms of the angle and w the weights, it first sums over a,

       t_z = Σ_a w_az E_a,    t'_z = Σ_a w_az E_a (mean distance − R_a),

   which is 3/4 of the arithmetic and nothing but multiply-adds for all members at once, and then over z.

Pair gradients go straight into the float64 forces and virials by atomic additions. The alternative, pair gradients in
memory and a sum over each atom's segment, moves as many bytes, needs the index of each pair's reverse, and 10 kB per
atom for 8 members; the order of the additions, which is not the same in every run, matters at 1e-16 relative only.

Rows of neighbors may have any length. Shapes that a compiled kernel depends on are those of the descriptor, the number
of elements and the number of members: nothing is compiled again when atoms move, come or go.

Letters: i center; j, k neighbors; a shift of the angular Gaussian; z section of the angle; m member.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.nn.functional import pad

from alpot.potential.descriptor import AevSettings
from alpot.potential.kernels import Geometry

#: Quantities kept per site: unit vector, distance, cutoff function and its derivative.
_SITE_VALUES = 6
#: Pairs of a row that a program looks at together, for features and for forces; triples of a center likewise.
_PAIRS, _FORCE_PAIRS, _TRIPLES = 32, 128, 32
#: Members whose forces one program computes; more members, more programs.
_MEMBERS = 8
#: Lanes of a warp, and how many different neighbors j they have in ``_angular_forces``.
_LANES, _SIDE = 32, 16
#: Tensors that may begin anywhere within others: walkers that are added to a batch. Alignment would not help, and each
#: combination of alignments would be compiled by itself.
_ALIGNMENT = ["positions", "cells", "species", "frame", "first_pair", "neighbor", "shift"]
#: One warp per program needs no barrier. Multiply-adds are fused by default today, but not for ever.
_LAUNCH = {"num_warps": 1, "num_stages": 1, "enable_fp_fusion": True}


class GpuKernels:
    """See ``kernels.Kernels``. Atoms that coincide are not refused, which would need the host: their forces are NaN.

    Args:
        settings: the symmetry functions.
        n_elements: number of elements of the potential.
        dtype: of the features, float32 or float64.
    """

    def __init__(self, settings: AevSettings, n_elements: int, dtype: torch.dtype) -> None:
        self.settings, self.n_elements, self.dtype = settings, n_elements, dtype
        self.n_features = settings.n_features(n_elements)
        self._tables: dict[torch.device, tuple[Tensor, Tensor, Tensor]] = {}

    def environments(self, geometry: Geometry, begin: int, end: int) -> GpuEnvironments:
        """See ``kernels.Kernels``; the host waits for the device only if this is not the whole batch."""
        return GpuEnvironments(self, geometry, begin, end)

    def tables(self, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
        """Radial (n_radial,) and angular shifts (n_shifts,) in Å; (2, n_sections) cos and sin of the sections."""
        if device not in self._tables:
            s = self.settings
            sections = torch.tensor(s.angle_sections, dtype=torch.float64)
            values = (
                torch.tensor(s.radial_shifts, dtype=torch.float64),
                torch.tensor(s.angular_shifts, dtype=torch.float64),
                torch.stack([torch.cos(sections), torch.sin(sections)]),
            )
            radial, angular, angles = (table.to(device=device, dtype=self.dtype) for table in values)
            self._tables[device] = radial, angular, angles
        return self._tables[device]


class GpuEnvironments:
    """See ``kernels.Environments``.

    Attributes:
        features: (n_centers, n_features).
    """

    def __init__(self, kernels: GpuKernels, geometry: Geometry, begin: int, end: int) -> None:
        self._kernels, self._geometry, self._begin, self._n_centers = kernels, geometry, begin, end - begin
        device, s = geometry.positions.device, kernels.settings
        whole = begin == 0 and end == geometry.n_atoms
        n_pairs = len(geometry.neighbor) if whole else int(geometry.first_pair[end] - geometry.first_pair[begin])
        # Padded, so that a launch finds the same alignment whatever the number of pairs.
        n_slots = max(triton.cdiv(n_pairs, 16) * 16, 16)
        # Sites lie at the beginning of their center's row; the rest of the row stays free.
        self._sites = torch.empty((_SITE_VALUES, n_slots), dtype=kernels.dtype, device=device)
        self._site_atom = torch.empty(n_slots, dtype=torch.int32, device=device)
        self._site_end = torch.empty((self._n_centers, kernels.n_elements), dtype=torch.int32, device=device)
        self.features = torch.empty((self._n_centers, kernels.n_features), dtype=kernels.dtype, device=device)
        if not self._n_centers:
            return
        radial_shifts, angular_shifts, sections = kernels.tables(device)
        _collect[(self._n_centers,)](
            *self._pair_tensors(),
            radial_shifts,
            self.features,
            self._sites,
            self._site_atom,
            self._site_end,
            begin,
            n_slots,
            N_ELEMENTS=kernels.n_elements,
            N_RADIAL=s.n_radial,
            N_FEATURES=kernels.n_features,
            RADIAL_CUTOFF=s.radial_cutoff,
            RADIAL_ETA=s.radial_eta,
            ANGULAR_CUTOFF=s.angular_cutoff,
            SHIFTS=triton.next_power_of_2(s.n_radial),
            PAIRS=_PAIRS,
            **_LAUNCH,
        )
        _angular_features[(self._n_centers,)](
            self._sites,
            self._site_end,
            geometry.first_pair,
            angular_shifts,
            sections,
            self.features,
            begin,
            n_slots,
            **self._angular_constants(),
            SHIFTS=triton.next_power_of_2(len(s.angular_shifts)),
            TRIPLES=_TRIPLES,
            **_LAUNCH,
        )

    def add_forces(self, weights: Tensor, forces: Tensor, virials: Tensor) -> None:
        """See ``kernels.Environments``; forces and virials are contiguous."""
        if not self._n_centers:
            return
        kernels, s, geometry = self._kernels, self._kernels.settings, self._geometry
        n_members = weights.shape[1]
        members = min(triton.next_power_of_2(n_members), _MEMBERS)
        blocks = triton.cdiv(n_members, members)
        # (n_centers, n_features, columns): members side by side, so that one load brings several.
        columns = blocks * members
        by_feature = pad(weights.transpose(1, 2), (0, columns - n_members)).contiguous()
        radial_shifts, angular_shifts, sections = kernels.tables(geometry.positions.device)
        _radial_forces[(self._n_centers, blocks)](
            *self._pair_tensors(),
            radial_shifts,
            by_feature,
            forces,
            virials,
            self._begin,
            N_RADIAL=s.n_radial,
            N_FEATURES=kernels.n_features,
            RADIAL_CUTOFF=s.radial_cutoff,
            RADIAL_ETA=s.radial_eta,
            N_MEMBERS=n_members,
            COLUMNS=columns,
            MEMBERS=members,
            PAIRS=_FORCE_PAIRS,
            **_LAUNCH,
        )
        _angular_forces[(self._n_centers, blocks)](
            self._sites,
            self._site_atom,
            self._site_end,
            geometry.first_pair,
            geometry.frame,
            angular_shifts,
            sections,
            by_feature,
            forces,
            virials,
            self._begin,
            self._sites.shape[1],
            **self._angular_constants(),
            N_MEMBERS=n_members,
            COLUMNS=columns,
            MEMBERS=members,
            LANES=_LANES,
            SIDE=_SIDE,
            **_LAUNCH,
        )

    def _pair_tensors(self) -> tuple[Tensor, ...]:
        g = self._geometry
        return g.positions, g.cells, g.species, g.frame, g.first_pair, g.neighbor, g.shift

    def _angular_constants(self) -> dict[str, int | float]:
        kernels, s = self._kernels, self._kernels.settings
        return {
            "N_ELEMENTS": kernels.n_elements,
            "N_RADIAL": s.n_radial,
            "N_SHIFTS": len(s.angular_shifts),
            "N_SECTIONS": len(s.angle_sections),
            "N_FEATURES": kernels.n_features,
            "ETA": s.angular_eta,
            "ZETA": s.angular_zeta,
            "SECTIONS": triton.next_power_of_2(len(s.angle_sections)),
        }


# ------------------------------------------------------------------------------------------------- parts of kernels


@triton.jit
def _exp(x):
    """Clamped as in the oracle; e⁻⁸⁰ is nothing beside 1."""
    return tl.exp(tl.maximum(x, -80.0))


@triton.jit
def _pair_vectors(positions, cells, frame, neighbor, shift, i, pair, valid):
    """Neighbors (.., ) int64 of the pairs of center i, and the float64 vectors to them, Å."""
    j = tl.load(neighbor + pair, mask=valid, other=0).to(tl.int64)
    n0 = tl.load(shift + 3 * pair, mask=valid, other=0)
    n1 = tl.load(shift + 3 * pair + 1, mask=valid, other=0)
    n2 = tl.load(shift + 3 * pair + 2, mask=valid, other=0)
    cell = cells + 9 * tl.load(frame + i).to(tl.int64)
    own, other = positions + 3 * i, positions + 3 * j
    x = tl.load(other) - tl.load(own) + n0 * tl.load(cell) + n1 * tl.load(cell + 3) + n2 * tl.load(cell + 6)
    y = tl.load(other + 1) - tl.load(own + 1) + n0 * tl.load(cell + 1) + n1 * tl.load(cell + 4) + n2 * tl.load(cell + 7)
    z = tl.load(other + 2) - tl.load(own + 2) + n0 * tl.load(cell + 2) + n1 * tl.load(cell + 5) + n2 * tl.load(cell + 8)
    return j, x, y, z


@triton.jit
def _cutoff(r, CUTOFF: tl.constexpr):
    """f_c and its derivative."""
    x = r * (3.141592653589793 / CUTOFF)
    return 0.5 * tl.cos(x) + 0.5, (-0.5 * 3.141592653589793 / CUTOFF) * tl.sin(x)


@triton.jit
def _radial_terms(r, shifts, ETA: tl.constexpr, CUTOFF: tl.constexpr):
    """Radial terms, and their derivatives by the distance; r and shifts are broadcast against each other."""
    x = r - shifts
    gauss = 0.25 * _exp(-ETA * x * x)
    fc, dfc = _cutoff(r, CUTOFF)
    return gauss * fc, gauss * (dfc - 2.0 * ETA * x * fc)


@triton.jit
def _angle_terms(cosine, cos_z, sin_z, ZETA: tl.constexpr):
    """Terms of the angle 2 [(1 + cos(θ − θ_z)) / 2]^ζ, and their derivatives by cos θ before the factor 0.95."""
    c = 0.95 * cosine
    square = 1.0 - c * c  # never below 0.0975
    inverse = tl.rsqrt(square)
    base = tl.maximum(0.5 + 0.5 * (c * cos_z + square * inverse * sin_z), 1e-12)
    power = _exp((ZETA - 1.0) * tl.log(base))
    return 2.0 * power * base, (0.95 * ZETA) * power * (cos_z - c * inverse * sin_z)


@triton.jit
def _kind(s, t, N_ELEMENTS: tl.constexpr):
    """Index of a pair of elements s ≤ t, in the order of ``descriptor.element_pair_table``."""
    return s * N_ELEMENTS - s * (s - 1) // 2 + t - s


@triton.jit
def _site(sites, n_slots, slot, valid):
    """Unit vector, distance and cutoff function of sites; where not valid, one whose terms are all zero."""
    ux = tl.load(sites + slot, mask=valid, other=0.0)
    uy = tl.load(sites + n_slots + slot, mask=valid, other=0.0)
    uz = tl.load(sites + 2 * n_slots + slot, mask=valid, other=0.0)
    r = tl.load(sites + 3 * n_slots + slot, mask=valid, other=1.0)
    return ux, uy, uz, r, tl.load(sites + 4 * n_slots + slot, mask=valid, other=0.0)


@triton.jit
def _add_vectors(out, x, y, z, mask):
    """Add to float64 vectors in memory, whoever else is adding to them."""
    tl.atomic_add(out, x.to(tl.float64), mask=mask, sem="relaxed")
    tl.atomic_add(out + 1, y.to(tl.float64), mask=mask, sem="relaxed")
    tl.atomic_add(out + 2, z.to(tl.float64), mask=mask, sem="relaxed")


@triton.jit
def _add_pair_gradients(forces, virials, i, frame, atom, member, x, y, z, gx, gy, gz, valid, N_MEMBERS: tl.constexpr):
    """Forces on both atoms, and virial, of the pairs of one center.

    x, y, z: (lanes,) vectors in Å; gx, gy, gz: (members, lanes) derivatives of the energies by them, eV/Å.
    """
    real = member < N_MEMBERS
    mask = valid[None, :] & real[:, None]
    gx, gy, gz = tl.where(mask, gx, 0.0), tl.where(mask, gy, 0.0), tl.where(mask, gz, 0.0)
    _add_vectors(forces + 3 * (atom[None, :] * N_MEMBERS + member[:, None]), -gx, -gy, -gz, mask)
    _add_vectors(forces + 3 * (i * N_MEMBERS + member), tl.sum(gx, 1), tl.sum(gy, 1), tl.sum(gz, 1), real)
    x, y, z = tl.where(valid, x, 0.0)[None, :], tl.where(valid, y, 0.0)[None, :], tl.where(valid, z, 0.0)[None, :]
    virial = virials + 9 * (tl.load(frame + i).to(tl.int64) * N_MEMBERS + member)
    _add_vectors(virial, tl.sum(x * gx, 1), tl.sum(x * gy, 1), tl.sum(x * gz, 1), real)
    _add_vectors(virial + 3, tl.sum(y * gx, 1), tl.sum(y * gy, 1), tl.sum(y * gz, 1), real)
    _add_vectors(virial + 6, tl.sum(z * gx, 1), tl.sum(z * gy, 1), tl.sum(z * gz, 1), real)


# ---------------------------------------------------------------------------------------------------------- kernels


@triton.jit(do_not_specialize=["begin"], do_not_specialize_on_alignment=_ALIGNMENT)
def _collect(
    positions, cells, species, frame, first_pair, neighbor, shift,
    radial_shifts, features, sites, site_atom, site_end, begin, n_slots,
    N_ELEMENTS: tl.constexpr, N_RADIAL: tl.constexpr, N_FEATURES: tl.constexpr,
    RADIAL_CUTOFF: tl.constexpr, RADIAL_ETA: tl.constexpr, ANGULAR_CUTOFF: tl.constexpr,
    SHIFTS: tl.constexpr, PAIRS: tl.constexpr,
):  # fmt: skip
    """Radial features of a center, and its sites: the neighbors inside the angular cutoff, element by element."""
    row = tl.program_id(0).to(tl.int64)
    i = row + begin
    dtype = features.dtype.element_ty
    row_begin, row_end = tl.load(first_pair + i), tl.load(first_pair + i + 1)
    n_slots = n_slots.to(tl.int64)
    sites += row_begin - tl.load(first_pair + begin)
    site_atom += row_begin - tl.load(first_pair + begin)
    a = tl.arange(0, SHIFTS)
    shifts = tl.load(radial_shifts + a, mask=a < N_RADIAL, other=0.0)[:, None]
    n_sites = 0
    for element in range(N_ELEMENTS):
        radial = tl.zeros([SHIFTS, PAIRS], dtype)
        for p in range(row_begin, row_end, PAIRS):
            pair = p + tl.arange(0, PAIRS)
            valid = pair < row_end
            j, x, y, z = _pair_vectors(positions, cells, frame, neighbor, shift, i, pair, valid)
            squares = x * x + y * y + z * z
            # A distance that is NaN stays, so that it is seen in the result.
            inside = valid & (tl.load(species + j) == element) & ~(squares >= RADIAL_CUTOFF * RADIAL_CUTOFF)
            x, y, z = x.to(dtype), y.to(dtype), z.to(dtype)
            r = tl.where(inside, tl.sqrt(x * x + y * y + z * z), 1.0)
            terms, _ = _radial_terms(r[None, :], shifts, RADIAL_ETA, RADIAL_CUTOFF)
            radial += tl.where(inside[None, :], terms, 0.0)
            near = inside & (r < ANGULAR_CUTOFF)
            slot = n_sites + tl.cumsum(near.to(tl.int32), 0) - 1
            tl.store(site_atom + slot, j.to(tl.int32), mask=near)
            tl.store(sites + slot, x / r, mask=near)
            tl.store(sites + n_slots + slot, y / r, mask=near)
            tl.store(sites + 2 * n_slots + slot, z / r, mask=near)
            tl.store(sites + 3 * n_slots + slot, r, mask=near)
            fc, dfc = _cutoff(r, ANGULAR_CUTOFF)
            tl.store(sites + 4 * n_slots + slot, fc, mask=near)
            tl.store(sites + 5 * n_slots + slot, dfc, mask=near)
            n_sites += tl.sum(near.to(tl.int32), 0)
        tl.store(features + row * N_FEATURES + element * N_RADIAL + a, tl.sum(radial, 1), mask=a < N_RADIAL)
        tl.store(site_end + row * N_ELEMENTS + element, n_sites)


@triton.jit(do_not_specialize=["begin"], do_not_specialize_on_alignment=_ALIGNMENT)
def _angular_features(
    sites, site_end, first_pair, angular_shifts, sections, features, begin, n_slots,
    N_ELEMENTS: tl.constexpr, N_RADIAL: tl.constexpr, N_SHIFTS: tl.constexpr, N_SECTIONS: tl.constexpr,
    N_FEATURES: tl.constexpr, ETA: tl.constexpr, ZETA: tl.constexpr, SECTIONS: tl.constexpr,
    SHIFTS: tl.constexpr, TRIPLES: tl.constexpr,
):  # fmt: skip
    """Angular features of a center: Σ over its triples of E_a A_z, one pair of elements after the other.

    Triples within one element are counted round a circle: the q-th has site j = q mod n and that q // n + 1 behind it.
    """
    row = tl.program_id(0).to(tl.int64)
    i = row + begin
    dtype = features.dtype.element_ty
    n_slots = n_slots.to(tl.int64)
    sites += tl.load(first_pair + i) - tl.load(first_pair + begin)
    site_end += row * N_ELEMENTS
    features += row * N_FEATURES + N_ELEMENTS * N_RADIAL
    a, z = tl.arange(0, SHIFTS), tl.arange(0, SECTIONS)
    shifts = tl.load(angular_shifts + a, mask=a < N_SHIFTS, other=0.0)[:, None]
    cos_z = tl.load(sections + z, mask=z < N_SECTIONS, other=0.0)[:, None]
    sin_z = tl.load(sections + N_SECTIONS + z, mask=z < N_SECTIONS, other=0.0)[:, None]
    first_s = 0
    for s in range(N_ELEMENTS):
        n_s = tl.load(site_end + s) - first_s
        first_t = first_s
        for t in range(s, N_ELEMENTS):
            n_t = tl.load(site_end + t) - first_t
            n_triples = tl.where(s == t, n_s * (n_s - 1) // 2, n_s * n_t)
            sums = tl.zeros([SHIFTS, SECTIONS, TRIPLES], dtype)
            for q0 in range(0, n_triples, TRIPLES):
                q = q0 + tl.arange(0, TRIPLES)
                valid = q < n_triples
                j = q % n_s
                k = tl.where(s == t, (j + q // n_s + 1) % n_s, q // n_s)
                ux, uy, uz, r, fc = _site(sites, n_slots, first_s + j, valid)
                vx, vy, vz, r_k, fc_k = _site(sites, n_slots, first_t + k, valid)
                terms, _ = _angle_terms((ux * vx + uy * vy + uz * vz)[None, :], cos_z, sin_z, ZETA)
                x = (0.5 * (r + r_k))[None, :] - shifts
                gauss = _exp(-ETA * x * x) * (fc * fc_k)
                sums += gauss[:, None, :] * terms[None, :, :]
            block = features + _kind(s, t, N_ELEMENTS) * (N_SHIFTS * N_SECTIONS)
            mask = (a < N_SHIFTS)[:, None] & (z < N_SECTIONS)[None, :]
            tl.store(block + a[:, None] * N_SECTIONS + z[None, :], tl.sum(sums, 2), mask=mask)
            first_t += n_t
        first_s += n_s


@triton.jit(do_not_specialize=["begin"], do_not_specialize_on_alignment=_ALIGNMENT)
def _radial_forces(
    positions, cells, species, frame, first_pair, neighbor, shift,
    radial_shifts, weights, forces, virials, begin,
    N_RADIAL: tl.constexpr, N_FEATURES: tl.constexpr, RADIAL_CUTOFF: tl.constexpr, RADIAL_ETA: tl.constexpr,
    N_MEMBERS: tl.constexpr, COLUMNS: tl.constexpr, MEMBERS: tl.constexpr, PAIRS: tl.constexpr,
):  # fmt: skip
    """Forces and virials from the radial features of a center; weights: (n_centers, n_features, columns)."""
    row = tl.program_id(0).to(tl.int64)
    i = row + begin
    dtype = weights.dtype.element_ty
    member = tl.program_id(1) * MEMBERS + tl.arange(0, MEMBERS)
    weights += row * (N_FEATURES * COLUMNS)
    row_end = tl.load(first_pair + i + 1)
    for p in range(tl.load(first_pair + i), row_end, PAIRS):
        pair = p + tl.arange(0, PAIRS)
        valid = pair < row_end
        j, x, y, z = _pair_vectors(positions, cells, frame, neighbor, shift, i, pair, valid)
        valid = valid & ~(x * x + y * y + z * z >= RADIAL_CUTOFF * RADIAL_CUTOFF)
        x, y, z = x.to(dtype), y.to(dtype), z.to(dtype)
        r = tl.where(valid, tl.sqrt(x * x + y * y + z * z), 1.0)
        block = weights + (tl.load(species + j) * (N_RADIAL * COLUMNS))[None, :] + member[:, None]
        along = tl.zeros([MEMBERS, PAIRS], dtype)
        for a in range(N_RADIAL):
            _, slopes = _radial_terms(r, tl.load(radial_shifts + a), RADIAL_ETA, RADIAL_CUTOFF)
            along += tl.load(block + a * COLUMNS) * slopes[None, :]
        along = along / r[None, :]
        gx, gy, gz = along * x[None, :], along * y[None, :], along * z[None, :]
        _add_pair_gradients(forces, virials, i, frame, j, member, x, y, z, gx, gy, gz, valid, N_MEMBERS)


@triton.jit(do_not_specialize=["begin"], do_not_specialize_on_alignment=_ALIGNMENT)
def _angular_forces(
    sites, site_atom, site_end, first_pair, frame,
    angular_shifts, sections, weights, forces, virials, begin, n_slots,
    N_ELEMENTS: tl.constexpr, N_RADIAL: tl.constexpr, N_SHIFTS: tl.constexpr, N_SECTIONS: tl.constexpr,
    N_FEATURES: tl.constexpr, ETA: tl.constexpr, ZETA: tl.constexpr, SECTIONS: tl.constexpr,
    N_MEMBERS: tl.constexpr, COLUMNS: tl.constexpr, MEMBERS: tl.constexpr, LANES: tl.constexpr, SIDE: tl.constexpr,
):  # fmt: skip
    """Forces and virials from the angular features of a center; weights: (n_centers, n_features, columns).

    SIDE sites j are spread over the lanes, and lanes with the same j share out the sites k. Axes of the large tensors:
    member, section, lane. For a triple of distances r_j, r_k, with P the product of its cutoff functions and
    U = P Σ_z t_z A_z its energy, the gradient by the vector to j is

        [Σ_z (t_z ∂P/∂r_j − η P t'_z) A_z − ∂U/∂cos θ cos θ / r_j] r̂_j + ∂U/∂cos θ / r_j  r̂_k.

    All lanes use the same weights, those of one pair of elements. How Triton spreads tensors over lanes follows from
    the loads: weights are loaded as a small (member, section) tensor, so that they have no say in it.
    """
    row = tl.program_id(0).to(tl.int64)
    i = row + begin
    dtype = sites.dtype.element_ty
    n_slots = n_slots.to(tl.int64)
    sites += tl.load(first_pair + i) - tl.load(first_pair + begin)
    site_atom += tl.load(first_pair + i) - tl.load(first_pair + begin)
    site_end += row * N_ELEMENTS
    lane = tl.arange(0, LANES)
    member = tl.program_id(1) * MEMBERS + tl.arange(0, MEMBERS)
    z = tl.arange(0, SECTIONS)
    cos_z = tl.load(sections + z, mask=z < N_SECTIONS, other=0.0)[:, None]
    sin_z = tl.load(sections + N_SECTIONS + z, mask=z < N_SECTIONS, other=0.0)[:, None]
    weights += (row * N_FEATURES + N_ELEMENTS * N_RADIAL) * COLUMNS
    column, is_section = z[None, :] * COLUMNS + member[:, None], z[None, :] < N_SECTIONS
    s_begin = 0
    for s in range(N_ELEMENTS):
        s_end = tl.load(site_end + s)
        for j0 in range(s_begin, s_end, SIDE):
            j = j0 + lane % SIDE
            valid = j < s_end
            ux, uy, uz, r, fc = _site(sites, n_slots, j, valid)
            dfc = tl.load(sites + 5 * n_slots + j, mask=valid, other=0.0)
            along = tl.zeros([MEMBERS, LANES], dtype)
            gx, gy, gz = along, along, along
            t_begin = 0
            for t in range(N_ELEMENTS):
                t_end = tl.load(site_end + t)
                kind = _kind(tl.minimum(s, t), tl.maximum(s, t), N_ELEMENTS)
                block = weights + kind * (N_SHIFTS * N_SECTIONS * COLUMNS) + column
                for k0 in range(t_begin, t_end, LANES // SIDE):
                    k = k0 + lane // SIDE
                    is_triple = valid & (k < t_end) & (k != j)
                    vx, vy, vz, r_k, fc_k = _site(sites, n_slots, k, is_triple)
                    mean = 0.5 * (r + r_k)
                    by_section = tl.zeros([MEMBERS, SECTIONS, LANES], dtype)  # t_z
                    moment = tl.zeros([MEMBERS, SECTIONS, LANES], dtype)  # t'_z
                    for a in range(N_SHIFTS):
                        x = mean - tl.load(angular_shifts + a)
                        gauss = _exp(-ETA * x * x)
                        w = tl.load(block + a * (N_SECTIONS * COLUMNS), mask=is_section, other=0.0)
                        by_section += w[:, :, None] * gauss
                        moment += w[:, :, None] * (gauss * x)
                    cosine = ux * vx + uy * vy + uz * vz
                    terms, slopes = _angle_terms(cosine[None, :], cos_z, sin_z, ZETA)
                    product = fc * fc_k
                    by_cosine = tl.sum(by_section * slopes, 1) * (product / r)
                    along += tl.sum(by_section * terms, 1) * (dfc * fc_k) - by_cosine * cosine
                    along -= tl.sum(moment * terms, 1) * (ETA * product)
                    gx += by_cosine * vx
                    gy += by_cosine * vy
                    gz += by_cosine * vz
                t_begin = t_end
            gx, gy, gz = gx + along * ux, gy + along * uy, gz + along * uz
            atom = tl.load(site_atom + j, mask=valid, other=0).to(tl.int64)
            _add_pair_gradients(
                forces, virials, i, frame, atom, member, r * ux, r * uy, r * uz, gx, gy, gz, valid, N_MEMBERS
            )
        s_begin = s_end
