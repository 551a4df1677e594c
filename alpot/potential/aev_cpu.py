"""Descriptor kernels for the CPU, compiled by numba: one center at a time, vectorised over features or neighbors.

The formulas are those of ``descriptor.py`` (the oracle is ``aev_reference.py``), arranged so that almost nothing
transcendental is left inside the loop over triples:

- The Gaussian of the mean distance is a product of one factor per neighbor and one per triple,

      exp(−η ((r_j + r_k)/2 − R_a)²) = D_a(r_j) D_a(r_k) exp(η (r_j − r_k)² / 4),   D_a(r) = exp(−η (r − R_a)² / 2).

- The angular term ((1 + cos(θ − θ_z))/2)^ζ is a function of c = cos θ alone: cubic Hermite interpolation in a table of
  all its sections, fine enough for the floating-point type (``AngleTable``). Forces are the exact derivative of what
  is interpolated.
- A Gaussian of the distance is nothing outside a window of shifts around the distance; only those are evaluated.

Letters: i center; j, k neighbors; a shift of the angular Gaussian; z section of the angle; m member.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import torch
from numba import njit
from numpy.typing import NDArray
from torch import Tensor

from alpot.errors import PotentialError
from alpot.potential.descriptor import AevSettings, element_pair_table
from alpot.potential.kernels import Geometry
from alpot.potential.simd import (
    FASTMATH,
    at,
    cosine,
    exp,
    floor,
    fold,
    larger,
    load,
    row_totals,
    sine,
    smaller,
    splat,
    spread,
    store,
    tile,
    total,
    typed,
)

_COMPILE = {"cache": True, "fastmath": FASTMATH, "error_model": "numpy", "nogil": True}
_INLINE = _COMPILE | {"forceinline": True}
#: A term of this size beside 1 is below the resolution of the type.
_NEGLIGIBLE = {torch.float32: 1e-9, torch.float64: 1e-18}
#: Largest error of the angular terms in their table.
_TABLE_ERROR = {torch.float32: 2e-9, torch.float64: 1e-12}
#: Neighbors that are handled at once.
_LANES = 16


class AngleTable:
    """Values and slopes of the angular terms on a grid of c = 0.95 cos θ.

    Attributes:
        start, spacing: of the grid.
        values: (n_nodes, 2, n_sections) terms, and their derivatives by c times the spacing.
    """

    #: The grid goes a little beyond ±0.95, so that rounding does not leave it.
    start = -0.9501

    def __init__(self, settings: AevSettings, dtype: torch.dtype) -> None:
        zeta, sections = settings.angular_zeta, np.array(settings.angle_sections)

        def terms(c: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
            c = c[:, None]
            s = np.sqrt(1.0 - c * c)
            base = np.maximum(0.5 + 0.5 * (c * np.cos(sections) + s * np.sin(sections)), 1e-12)
            value = base**zeta
            return value, zeta * value / base * 0.5 * (np.cos(sections) - c / s * np.sin(sections))

        n_intervals = 256
        while True:
            spacing = -2.0 * self.start / n_intervals
            nodes = self.start + spacing * np.arange(n_intervals + 1)
            value, slope = terms(nodes)
            middle: NDArray[Any] = 0.5 * (value[:-1] + value[1:]) + spacing / 8.0 * (slope[:-1] - slope[1:])
            error = np.abs(middle - terms(nodes[:-1] + 0.5 * spacing)[0]).max()
            if error <= _TABLE_ERROR[dtype]:
                break
            n_intervals *= 2
        self.spacing = spacing
        self.values = _numpy_type(dtype)(np.stack([value, slope * spacing], axis=1))


def _numpy_type(dtype: torch.dtype) -> Any:
    return np.float32 if dtype == torch.float32 else np.float64


class _Terms(NamedTuple):
    """Parameters of the symmetry functions in the kernels' floating-point type."""

    cutoff: Any
    radial_eta: Any
    radial_shifts: NDArray[Any]
    angular_cutoff: Any
    angular_eta: Any
    angular_shifts: NDArray[Any]
    table: NDArray[Any]
    table_start: Any
    nodes_per_cosine: Any
    n_nodes: int
    block_of: NDArray[np.int32]


class _Arrays(NamedTuple):
    """``Geometry`` as numpy arrays."""

    species: NDArray[np.int32]
    positions: NDArray[np.float64]
    cells: NDArray[np.float64]
    frame: NDArray[np.int32]
    first_pair: NDArray[np.int64]
    neighbor: NDArray[np.int32]
    shift: NDArray[np.int32]


class _Rows(NamedTuple):
    """Pairs inside the cutoff of some consecutive centers, packed.

    Attributes:
        first: (n_centers,) where each center's row begins.
        counts: (n_centers, n_elements + 1) number of neighbors inside the angular cutoff, by element, and of all.
        x, y, z, r: (n_slots,) vectors and distances, Å; in each row first what is inside the angular cutoff, by
            element. The arrays are longer by ``_LANES``, so that vectors may be loaded at a row's end.
        partners, kinds: (n_slots,) atom index and element index of the neighbor.
    """

    first: NDArray[np.int64]
    counts: NDArray[np.int32]
    x: NDArray[Any]
    y: NDArray[Any]
    z: NDArray[Any]
    r: NDArray[Any]
    partners: NDArray[np.int32]
    kinds: NDArray[np.int32]


@njit(**_COMPILE)
def _gather(geometry, begin, end, rows, terms):
    """Pack the pairs inside the cutoff of the centers begin:end of the batch.

    Vectors are formed in float64, so that large cells lose no precision. A distance that is NaN counts as inside, so
    that it is seen in the result. Returns a center that coincides with one of its neighbors, or −1.
    """
    positions, first_pair = geometry.positions, geometry.first_pair
    n_elements = rows.counts.shape[1] - 1
    longest = 0
    for i in range(begin, end):
        longest = max(longest, first_pair[i + 1] - first_pair[i])
    row = np.empty((4, longest + 1))
    row_kind = np.empty(longest + 1, np.int32)
    packed = np.empty(longest + 1, np.int32)
    inner, outer = np.float64(terms.angular_cutoff) ** 2, np.float64(terms.cutoff) ** 2
    for i in range(begin, end):
        first, n = first_pair[i], first_pair[i + 1] - first_pair[i]
        cell = geometry.cells[geometry.frame[i]]
        x0, y0, z0 = positions[i, 0], positions[i, 1], positions[i, 2]
        smallest = outer
        for p in range(n):
            j = geometry.neighbor[first + p]
            a, b, c = geometry.shift[first + p, 0], geometry.shift[first + p, 1], geometry.shift[first + p, 2]
            x = positions[j, 0] - x0 + (a * cell[0, 0] + b * cell[1, 0] + c * cell[2, 0])
            y = positions[j, 1] - y0 + (a * cell[0, 1] + b * cell[1, 1] + c * cell[2, 1])
            z = positions[j, 2] - z0 + (a * cell[0, 2] + b * cell[1, 2] + c * cell[2, 2])
            square = x * x + y * y + z * z
            row[0, p], row[1, p], row[2, p], row[3, p] = x, y, z, square
            row_kind[p] = geometry.species[j]
            smallest = min(smallest, square)
        if smallest < 1e-12:
            return i
        own, start = rows.counts[i - begin], rows.first[i - begin]
        found = 0
        for element in range(n_elements):
            before = found
            for p in range(n):
                packed[found] = p
                found += not (row[3, p] >= inner) and row_kind[p] == element
            own[element] = found - before
        for p in range(n):
            packed[found] = p
            found += row[3, p] >= inner and not (row[3, p] >= outer)
        own[n_elements] = found
        for p in range(found):
            q = packed[p]
            rows.x[start + p], rows.y[start + p], rows.z[start + p] = row[0, q], row[1, q], row[2, q]
            rows.r[start + p] = math.sqrt(row[3, q])
            rows.partners[start + p] = geometry.neighbor[first + q]
            rows.kinds[start + p] = row_kind[q]
    return -1


@njit(**_INLINE)
def _longest(rows):
    """Length of the longest row."""
    longest = 1
    for i in range(len(rows.first)):
        longest = max(longest, rows.counts[i, -1])
    return longest


@njit(**_INLINE)
def _copy_row(source, start, n, target, filler):
    """The n numbers of a row, and ``_LANES`` fillers behind them: what vectors find beyond a row's end is harmless."""
    for p in range(0, n, _LANES):
        store(target, p, load(source, start + p, _LANES))
    store(target, n, splat(filler, _LANES))


@njit(**_INLINE)
def _cutoff_row(r, n, cutoff, value, ratio):
    """f_c and f_c'/f_c of n distances.

    f_c(r) = ½ cos(π r / r_c) + ½ = sin²(π/2 (1 − r/r_c)), which keeps its relative accuracy where it vanishes.
    """
    one, quarter_turn, tiny = typed(1.0, cutoff), typed(0.5 * math.pi, cutoff), typed(1e-7, cutoff)
    per_cutoff = one / cutoff
    slope = -(quarter_turn + quarter_turn) * per_cutoff
    for p in range(0, n, _LANES):
        z = quarter_turn * larger(one - load(r, p, _LANES) * per_cutoff, tiny)
        s = sine(z)
        store(value, p, s * s)
        store(ratio, p, slope * cosine(z) / s)


@njit(**_INLINE)
def _window_row(r, n, shifts, window, lowest):
    """First shift of the window of each distance."""
    n_radial, first = len(shifts), shifts[0]
    per_angstrom = typed(n_radial - 1, first) / max(shifts[n_radial - 1] - first, typed(1e-6, first))
    offset = typed(1.0 - 0.5 * window, first) - first * per_angstrom
    highest, zero = typed(n_radial - window, first), typed(0.0, first)
    for p in range(0, n, _LANES):
        below = floor(load(r, p, _LANES) * per_angstrom + offset)
        store(lowest, p, smaller(larger(below, zero), highest))
    # A distance that is not finite must not lead outside of the arrays.
    for p in range(n):
        lowest[p] = max(min(lowest[p], np.int32(n_radial - window)), np.int32(0))


@njit(**_INLINE)
def _unit_row(rows, start, n, r, unit_x, unit_y, unit_z):
    """Unit vectors of n neighbors."""
    one = typed(1.0, r[0])
    for p in range(0, n, _LANES):
        per_r = one / load(r, p, _LANES)
        store(unit_x, p, load(rows.x, start + p, _LANES) * per_r)
        store(unit_y, p, load(rows.y, start + p, _LANES) * per_r)
        store(unit_z, p, load(rows.z, start + p, _LANES) * per_r)
    for unit in (unit_x, unit_y, unit_z):
        store(unit, n, splat(one, _LANES))


@njit(**_INLINE)
def _triple_row(unit_x, unit_y, unit_z, r, j, first, last, terms, cosines, factor, node, hermite):
    """Triples of neighbor j with first:last: cos θ, 2 exp(η (r_j − r_k)² / 4), and the place in the table.

    hermite: 7 arrays one after the other; what the values and slopes at the two nodes count in the value (4) and, the
    two values counting oppositely, in the derivative with respect to cos θ (3).
    """
    eta, size = terms.angular_eta, len(r)
    quarter_eta, zero, one = typed(0.25, eta) * eta, typed(0.0, eta), typed(1.0, eta)
    two, three, four, six = typed(2.0, eta), typed(3.0, eta), typed(4.0, eta), typed(6.0, eta)
    scale = typed(0.95, eta) * terms.nodes_per_cosine
    origin = -terms.table_start * terms.nodes_per_cosine
    last_node = typed(terms.n_nodes - 2, eta)
    for k in range(first, last, _LANES):
        c = unit_x[j] * load(unit_x, k, _LANES) + unit_y[j] * load(unit_y, k, _LANES)
        c = c + unit_z[j] * load(unit_z, k, _LANES)
        place = c * scale + origin
        below = smaller(larger(floor(place), zero), last_node)
        t = place - below
        u = one - t
        d = r[j] - load(r, k, _LANES)
        store(cosines, k, c)
        store(factor, k, two * exp(quarter_eta * d * d))
        store(node, k, below)
        store(hermite, k, (one + two * t) * u * u)
        store(hermite, k + size, t * u * u)
        store(hermite, k + 2 * size, t * t * (three - two * t))
        store(hermite, k + 3 * size, zero - t * t * u)
        store(hermite, k + 4 * size, six * t * (t - one) * scale)
        store(hermite, k + 5 * size, ((three * t - four) * t + one) * scale)
        store(hermite, k + 6 * size, (three * t - two) * t * scale)
    # A cosine that is not finite must not lead outside of the table.
    for k in range(first, last):
        node[k] = max(min(node[k], np.int32(terms.n_nodes - 2)), np.int32(0))


class _Compiled(NamedTuple):
    """Kernels for one shape of descriptor."""

    features: Callable[..., None]
    mean_gradients: Callable[..., None]
    member_gradients: Callable[..., None]


@lru_cache
def _compiled(n_radial: int, window: int, n_shifts: int, n_sections: int, n_members: int) -> _Compiled:
    """Kernels in which vectors of features have constant lengths.

    Args:
        n_radial, n_shifts, n_sections: of the descriptor.
        window: radial shifts evaluated per pair.
        n_members: number K of energies in ``member_gradients``.
    """
    n_angular = n_shifts * n_sections
    n_lanes, n_rows = n_shifts * n_members, _LANES * n_sections

    @njit(**_COMPILE)
    def features(rows, terms, out):
        """Atomic environment vectors of all centers; out (n_centers · n_features,)."""
        n_elements = rows.counts.shape[1] - 1
        n_features = len(out) // len(rows.first)
        size, one = _longest(rows) + 2 * _LANES, typed(1.0, terms.cutoff)
        r, value, ratio = np.full(size, one), np.full(size, one), np.full(size, one)
        unit_x, unit_y, unit_z = np.full(size, one), np.full(size, one), np.full(size, one)
        cosines, factor, hermite = np.full(size, one), np.full(size, one), np.full(7 * size, one)
        lowest, node = np.zeros(size, np.int32), np.zeros(size, np.int32)
        factors = np.full(size * n_shifts, one)
        quarter = typed(0.25, one)
        half_eta = typed(0.5, one) * terms.angular_eta
        shifts, table = load(terms.angular_shifts, 0, n_shifts), terms.table
        nothing = splat(typed(0.0, one), n_angular)
        for i in range(len(rows.first)):
            row = i * n_features
            for f in range(row, row + n_features):
                out[f] = typed(0.0, one)
            start, n = rows.first[i], rows.counts[i, n_elements]
            _copy_row(rows.r, start, n, r, one)
            _cutoff_row(r, n, terms.cutoff, value, ratio)
            _window_row(r, n, terms.radial_shifts, window, lowest)
            for p in range(n):
                d = at(r, p) - load(terms.radial_shifts, at(lowest, p), window)
                f = row + n_radial * rows.kinds[start + p] + at(lowest, p)
                store(out, f, load(out, f, window) + quarter * at(value, p) * exp(-terms.radial_eta * d * d))
            n_inner = 0
            for element in range(n_elements):
                n_inner += rows.counts[i, element]
            _cutoff_row(r, n_inner, terms.angular_cutoff, value, ratio)
            _unit_row(rows, start, n_inner, r, unit_x, unit_y, unit_z)
            for p in range(n_inner):
                d = at(r, p) - shifts
                store(factors, p * n_shifts, at(value, p) * exp(-half_eta * d * d))
            first_end = 0
            for element in range(n_elements):
                first_begin, first_end = first_end, first_end + rows.counts[i, element]
                second_end = first_begin
                for other in range(element, n_elements):
                    second_begin, second_end = second_end, second_end + rows.counts[i, other]
                    sums = nothing
                    for j in range(first_begin, first_end):
                        begin_k = max(j + 1, second_begin)
                        _triple_row(
                            unit_x, unit_y, unit_z, r, j, begin_k, second_end, terms, cosines, factor, node, hermite
                        )
                        sums_j = nothing
                        for k in range(begin_k, second_end):
                            place = 2 * n_sections * at(node, k)
                            left = load(table, place, n_sections)
                            left_slope = load(table, place + n_sections, n_sections)
                            right = load(table, place + 2 * n_sections, n_sections)
                            right_slope = load(table, place + 3 * n_sections, n_sections)
                            angles = at(hermite, k) * left + at(hermite, k + size) * left_slope
                            angles = angles + at(hermite, k + 2 * size) * right
                            angles = at(factor, k) * (angles + at(hermite, k + 3 * size) * right_slope)
                            factors_k = spread(load(factors, k * n_shifts, n_shifts), n_sections)
                            sums_j = sums_j + factors_k * tile(angles, n_shifts)
                        sums = sums + spread(load(factors, j * n_shifts, n_shifts), n_sections) * sums_j
                    store(out, row + n_radial * n_elements + n_angular * terms.block_of[element, other], sums)

    @njit(**_COMPILE)
    def mean_gradients(rows, terms, weights, gradients):
        """Derivatives of one energy of each center by its pair vectors.

        Args:
            weights: (n_centers · n_features,) derivatives of the energies by the features.
            gradients: (n_slots, 3, 1), the result, as the rows are packed.
        """
        n_elements = rows.counts.shape[1] - 1
        n_features = len(weights) // len(rows.first)
        size, one = _longest(rows) + 2 * _LANES, typed(1.0, terms.cutoff)
        r, value, ratio = np.full(size, one), np.full(size, one), np.full(size, one)
        unit_x, unit_y, unit_z = np.full(size, one), np.full(size, one), np.full(size, one)
        cosines, factor, hermite = np.full(size, one), np.full(size, one), np.full(7 * size, one)
        lowest, node = np.zeros(size, np.int32), np.zeros(size, np.int32)
        factors = np.full(size * n_shifts, one)
        energies, turns = np.full(size * n_sections, one), np.full(size * n_sections, one)
        stretches = np.full(size * n_sections, one)
        own, own_shifted = np.full(n_angular, one), np.full(n_angular, one)
        along, gx, gy, gz = np.full(size, one), np.full(size, one), np.full(size, one), np.full(size, one)
        zero, quarter, half, two = typed(0.0, one), typed(0.25, one), typed(0.5, one), typed(2.0, one)
        eta, half_eta = terms.angular_eta, half * terms.angular_eta
        shifts, table = load(terms.angular_shifts, 0, n_shifts), terms.table
        nothing, no_angles, no_rows = splat(zero, _LANES), splat(zero, n_sections), splat(zero, n_rows)
        for i in range(len(rows.first)):
            row = i * n_features
            start, n = rows.first[i], rows.counts[i, n_elements]
            _copy_row(rows.r, start, n, r, one)
            _cutoff_row(r, n, terms.cutoff, value, ratio)
            _window_row(r, n, terms.radial_shifts, window, lowest)
            for p in range(n):
                d = at(r, p) - load(terms.radial_shifts, at(lowest, p), window)
                weight = load(weights, row + n_radial * rows.kinds[start + p] + at(lowest, p), window)
                slope = exp(-terms.radial_eta * d * d) * (at(ratio, p) - two * terms.radial_eta * d)
                along[p] = quarter * at(value, p) * total(weight * slope)
            n_inner = 0
            for element in range(n_elements):
                n_inner += rows.counts[i, element]
            _cutoff_row(r, n_inner, terms.angular_cutoff, value, ratio)
            store(ratio, n_inner, splat(one, _LANES))
            _unit_row(rows, start, n, r, unit_x, unit_y, unit_z)
            for p in range(n_inner):
                d = at(r, p) - shifts
                store(factors, p * n_shifts, at(value, p) * exp(-half_eta * d * d))
            for p in range(0, n, _LANES):
                store(gx, p, nothing)
                store(gy, p, nothing)
                store(gz, p, nothing)
            first_end = 0
            for element in range(n_elements):
                first_begin, first_end = first_end, first_end + rows.counts[i, element]
                second_end = first_begin
                for other in range(element, n_elements):
                    second_begin, second_end = second_end, second_end + rows.counts[i, other]
                    block = row + n_radial * n_elements + n_angular * terms.block_of[element, other]
                    for j in range(first_begin, first_end):
                        begin_k = max(j + 1, second_begin)
                        _triple_row(
                            unit_x, unit_y, unit_z, r, j, begin_k, second_end, terms, cosines, factor, node, hermite
                        )
                        for a in range(n_shifts):
                            weight = at(factors, j * n_shifts + a) * load(weights, block + a * n_sections, n_sections)
                            store(own, a * n_sections, weight)
                            store(own_shifted, a * n_sections, (terms.angular_shifts[a] - at(r, j)) * weight)
                        for k in range(begin_k, second_end):
                            place = 2 * n_sections * at(node, k)
                            left = load(table, place, n_sections)
                            left_slope = load(table, place + n_sections, n_sections)
                            right = load(table, place + 2 * n_sections, n_sections)
                            right_slope = load(table, place + 3 * n_sections, n_sections)
                            angles = at(hermite, k) * left + at(hermite, k + size) * left_slope
                            angles = angles + at(hermite, k + 2 * size) * right
                            angles = angles + at(hermite, k + 3 * size) * right_slope
                            slopes = at(hermite, k + 4 * size) * (left - right) + at(hermite, k + 5 * size) * left_slope
                            slopes = slopes + at(hermite, k + 6 * size) * right_slope
                            by_angle, shifted = no_angles, no_angles
                            for a in range(n_shifts):
                                factor_k = at(factors, k * n_shifts + a)
                                by_angle = by_angle + factor_k * load(own, a * n_sections, n_sections)
                                shifted = shifted + factor_k * load(own_shifted, a * n_sections, n_sections)
                            store(energies, k * n_sections, by_angle * angles)
                            store(turns, k * n_sections, by_angle * slopes)
                            store(stretches, k * n_sections, shifted * angles)
                        # Lanes beyond the row's end count nothing.
                        store(factor, second_end, nothing)
                        store(energies, second_end * n_sections, no_rows)
                        store(stretches, second_end * n_sections, no_rows)
                        store(turns, second_end * n_sections, no_rows)
                        per_rj = one / at(r, j)
                        along_j, x_j, y_j, z_j = nothing, nothing, nothing, nothing
                        for k in range(begin_k, second_end, _LANES):
                            r_k, weight = load(r, k, _LANES), load(factor, k, _LANES)
                            energy = weight * row_totals(load(energies, k * n_sections, n_rows), nothing)
                            turn = weight * row_totals(load(turns, k * n_sections, n_rows), nothing)
                            moment = row_totals(load(stretches, k * n_sections, n_rows), nothing)
                            stretch = eta * (weight * moment + half * (at(r, j) - r_k) * energy)
                            per_rk = one / r_k
                            back = turn * load(cosines, k, _LANES)
                            along_j = along_j + energy * at(ratio, j) + stretch - back * per_rj
                            x, y, z = load(unit_x, k, _LANES), load(unit_y, k, _LANES), load(unit_z, k, _LANES)
                            across = turn * per_rj
                            x_j, y_j, z_j = x_j + across * x, y_j + across * y, z_j + across * z
                            along_k = energy * load(ratio, k, _LANES) + stretch - back * per_rk
                            across = turn * per_rk
                            store(gx, k, load(gx, k, _LANES) + along_k * x + across * at(unit_x, j))
                            store(gy, k, load(gy, k, _LANES) + along_k * y + across * at(unit_y, j))
                            store(gz, k, load(gz, k, _LANES) + along_k * z + across * at(unit_z, j))
                        along[j] += total(along_j)
                        gx[j] += total(x_j)
                        gy[j] += total(y_j)
                        gz[j] += total(z_j)
            for p in range(n):
                gradients[start + p, 0, 0] = gx[p] + along[p] * at(unit_x, p)
                gradients[start + p, 1, 0] = gy[p] + along[p] * at(unit_y, p)
                gradients[start + p, 2, 0] = gz[p] + along[p] * at(unit_z, p)

    @njit(**_COMPILE)
    def member_gradients(rows, terms, weights, gradients):
        """As ``mean_gradients`` for K energies of each center: weights (n_centers · K · n_features,).

        Args:
            gradients: (n_slots · 3 · K,), the result.
        """
        n_elements = rows.counts.shape[1] - 1
        n_features = len(weights) // len(rows.first) // n_members
        size, one = _longest(rows) + 2 * _LANES, typed(1.0, terms.cutoff)
        r, value, ratio = np.full(size, one), np.full(size, one), np.full(size, one)
        unit_x, unit_y, unit_z = np.full(size, one), np.full(size, one), np.full(size, one)
        cosines, factor, hermite = np.full(size, one), np.full(size, one), np.full(7 * size, one)
        lowest, node = np.zeros(size, np.int32), np.zeros(size, np.int32)
        factors, radial_slopes = np.full(size * n_lanes, one), np.full(window, one)
        angle_terms, angle_slopes = np.full(n_sections, one), np.full(n_sections, one)
        radial_weights = np.full(n_radial * n_elements * n_members, one)
        angular_weights = np.full(n_sections * n_lanes, one)
        zero, quarter, half, two = typed(0.0, one), typed(0.25, one), typed(0.5, one), typed(2.0, one)
        eta, half_eta = terms.angular_eta, half * terms.angular_eta
        shifts, table = spread(load(terms.angular_shifts, 0, n_shifts), n_members), terms.table
        no_lanes, nothing = splat(zero, n_lanes), splat(zero, n_members)
        for i in range(len(rows.first)):
            row = i * n_members * n_features
            for f in range(n_radial * n_elements):
                for m in range(n_members):
                    radial_weights[f * n_members + m] = weights[row + m * n_features + f]
            start, n = rows.first[i], rows.counts[i, n_elements]
            _copy_row(rows.r, start, n, r, one)
            _cutoff_row(r, n, terms.cutoff, value, ratio)
            _window_row(r, n, terms.radial_shifts, window, lowest)
            _unit_row(rows, start, n, r, unit_x, unit_y, unit_z)
            for p in range(n):
                d = at(r, p) - load(terms.radial_shifts, at(lowest, p), window)
                slope = exp(-terms.radial_eta * d * d) * (at(ratio, p) - two * terms.radial_eta * d)
                store(radial_slopes, 0, quarter * at(value, p) * slope)
                f = (n_radial * rows.kinds[start + p] + at(lowest, p)) * n_members
                along = nothing
                for s in range(window):
                    along = along + at(radial_slopes, s) * load(radial_weights, f + s * n_members, n_members)
                g = (start + p) * 3 * n_members
                store(gradients, g, along * at(unit_x, p))
                store(gradients, g + n_members, along * at(unit_y, p))
                store(gradients, g + 2 * n_members, along * at(unit_z, p))
            n_inner = 0
            for element in range(n_elements):
                n_inner += rows.counts[i, element]
            _cutoff_row(r, n_inner, terms.angular_cutoff, value, ratio)
            for p in range(n_inner):
                d = at(r, p) - shifts
                store(factors, p * n_lanes, at(value, p) * exp(-half_eta * d * d))
            first_end = 0
            for element in range(n_elements):
                first_begin, first_end = first_end, first_end + rows.counts[i, element]
                second_end = first_begin
                for other in range(element, n_elements):
                    second_begin, second_end = second_end, second_end + rows.counts[i, other]
                    block = row + n_radial * n_elements + n_angular * terms.block_of[element, other]
                    for a in range(n_shifts):
                        for z in range(n_sections):
                            for m in range(n_members):
                                weight = weights[block + m * n_features + a * n_sections + z]
                                angular_weights[z * n_lanes + a * n_members + m] = weight
                    for j in range(first_begin, first_end):
                        begin_k = max(j + 1, second_begin)
                        _triple_row(
                            unit_x, unit_y, unit_z, r, j, begin_k, second_end, terms, cosines, factor, node, hermite
                        )
                        factors_j, per_rj = load(factors, j * n_lanes, n_lanes), one / at(r, j)
                        along_j, x_j, y_j, z_j = nothing, nothing, nothing, nothing
                        for k in range(begin_k, second_end):
                            place = 2 * n_sections * at(node, k)
                            left = load(table, place, n_sections)
                            left_slope = load(table, place + n_sections, n_sections)
                            right = load(table, place + 2 * n_sections, n_sections)
                            right_slope = load(table, place + 3 * n_sections, n_sections)
                            angles = at(hermite, k) * left + at(hermite, k + size) * left_slope
                            angles = angles + at(hermite, k + 2 * size) * right
                            angles = angles + at(hermite, k + 3 * size) * right_slope
                            slopes = at(hermite, k + 4 * size) * (left - right) + at(hermite, k + 5 * size) * left_slope
                            slopes = slopes + at(hermite, k + 6 * size) * right_slope
                            store(angle_terms, 0, at(factor, k) * angles)
                            store(angle_slopes, 0, at(factor, k) * slopes)
                            lane_energy, lane_turn = no_lanes, no_lanes
                            for z in range(n_sections):
                                weight = load(angular_weights, z * n_lanes, n_lanes)
                                lane_energy = lane_energy + at(angle_terms, z) * weight
                                lane_turn = lane_turn + at(angle_slopes, z) * weight
                            product = factors_j * load(factors, k * n_lanes, n_lanes)
                            lane_energy = lane_energy * product
                            energy, turn = fold(lane_energy, nothing), fold(lane_turn * product, nothing)
                            stretch = eta * fold(lane_energy * (shifts - half * (at(r, j) + at(r, k))), nothing)
                            back, per_rk = turn * at(cosines, k), one / at(r, k)
                            along_j = along_j + energy * at(ratio, j) + stretch - back * per_rj
                            across = turn * per_rj
                            x_j = x_j + across * at(unit_x, k)
                            y_j = y_j + across * at(unit_y, k)
                            z_j = z_j + across * at(unit_z, k)
                            along_k = energy * at(ratio, k) + stretch - back * per_rk
                            across = turn * per_rk
                            g = (start + k) * 3 * n_members
                            x = along_k * at(unit_x, k) + across * at(unit_x, j)
                            y = along_k * at(unit_y, k) + across * at(unit_y, j)
                            z = along_k * at(unit_z, k) + across * at(unit_z, j)
                            store(gradients, g, load(gradients, g, n_members) + x)
                            g += n_members
                            store(gradients, g, load(gradients, g, n_members) + y)
                            g += n_members
                            store(gradients, g, load(gradients, g, n_members) + z)
                        g = (start + j) * 3 * n_members
                        store(gradients, g, load(gradients, g, n_members) + along_j * at(unit_x, j) + x_j)
                        g += n_members
                        store(gradients, g, load(gradients, g, n_members) + along_j * at(unit_y, j) + y_j)
                        g += n_members
                        store(gradients, g, load(gradients, g, n_members) + along_j * at(unit_z, j) + z_j)

    return _Compiled(features, mean_gradients, member_gradients)


@njit(**_COMPILE)
def _center_virials(rows, gradients, virials):
    """Σ r_a g_b over the pairs of each center: (n_centers, K, 3, 3) from gradients (n_slots, 3, K)."""
    for i in range(len(rows.first)):
        virials[i] = 0.0
        start = rows.first[i]
        for p in range(start, start + rows.counts[i, -1]):
            for b in range(3):
                for m in range(gradients.shape[2]):
                    g = gradients[p, b, m]
                    virials[i, m, 0, b] += rows.x[p] * g
                    virials[i, m, 1, b] += rows.y[p] * g
                    virials[i, m, 2, b] += rows.z[p] * g


@njit(**_COMPILE)
def _scatter(rows, first_center, gradients, forces):
    """Add +g to the center and −g to the neighbor of each pair."""
    for i in range(len(rows.first)):
        start = rows.first[i]
        for p in range(start, start + rows.counts[i, -1]):
            j = rows.partners[p]
            for m in range(gradients.shape[2]):
                for d in range(3):
                    forces[first_center + i, m, d] += gradients[p, d, m]
                    forces[j, m, d] -= gradients[p, d, m]


#: Exponents beyond which a float overflows.
_LARGEST_EXPONENT = {torch.float32: 80.0, torch.float64: 650.0}


class CpuKernels:
    """Descriptor kernels on the CPU; they hold no state and release Python's lock, so that threads may share them.

    Args:
        settings: the symmetry functions.
        n_elements: number of elements of the potential.
        dtype: torch.float32 or torch.float64, type of the features.
    """

    def __init__(self, settings: AevSettings, n_elements: int, dtype: torch.dtype) -> None:
        self.settings, self.n_elements, self.dtype = settings, n_elements, dtype
        self.numpy_type = _numpy_type(dtype)
        table = AngleTable(settings, dtype)
        to = self.numpy_type
        self.terms = _Terms(
            cutoff=to(settings.radial_cutoff),
            radial_eta=to(settings.radial_eta),
            radial_shifts=np.array(settings.radial_shifts, to),
            angular_cutoff=to(settings.angular_cutoff),
            angular_eta=to(settings.angular_eta),
            angular_shifts=np.array(settings.angular_shifts, to),
            table=table.values.ravel(),
            table_start=to(table.start),
            nodes_per_cosine=to(1.0 / table.spacing),
            n_nodes=len(table.values),
            block_of=element_pair_table(n_elements).numpy().astype(np.int32),
        )
        self.window = _window(settings, dtype)

    @staticmethod
    def serve(settings: AevSettings, dtype: torch.dtype) -> bool:
        """Whether the factors of the angular Gaussians stay within the range of the type.

        The largest is exp(η (r_j − r_k)² / 4), which matters where the mean of the two is a shift: below the cutoff.
        """
        return settings.angular_eta * (0.5 * settings.angular_cutoff) ** 2 <= _LARGEST_EXPONENT[dtype]

    def compiled(self, n_members: int) -> _Compiled:
        """The compiled functions for K = ``n_members`` energies."""
        s = self.settings
        return _compiled(s.n_radial, self.window, len(s.angular_shifts), len(s.angle_sections), n_members)

    def environments(self, geometry: Geometry, begin: int, end: int) -> CpuEnvironments:
        """See ``kernels.Kernels``."""
        return CpuEnvironments(self, geometry, begin, end)


class CpuEnvironments:
    """See ``kernels.Environments``."""

    def __init__(self, kernels: CpuKernels, geometry: Geometry, begin: int, end: int) -> None:
        self._kernels = kernels
        self._begin = begin
        self._frame = geometry.frame[begin:end]
        arrays = _Arrays(*(getattr(geometry, name).numpy() for name in _Arrays._fields))
        n_centers = end - begin
        first = arrays.first_pair[begin : end + 1] - arrays.first_pair[begin]
        n_slots = int(first[-1])
        self._rows = rows = _Rows(
            first=first[:-1],
            counts=np.empty((n_centers, kernels.n_elements + 1), np.int32),
            **{name: np.empty(n_slots + _LANES, kernels.numpy_type) for name in "xyzr"},
            partners=np.empty(n_slots, np.int32),
            kinds=np.empty(n_slots, np.int32),
        )
        coinciding = _gather(arrays, begin, end, rows, kernels.terms)
        if coinciding >= 0:
            raise PotentialError(f"atom {coinciding} of the batch and one of its neighbors lie on top of each other")
        features = np.empty((n_centers, kernels.settings.n_features(kernels.n_elements)), kernels.numpy_type)
        kernels.compiled(1).features(rows, kernels.terms, features.reshape(-1))
        self.features = torch.from_numpy(features)

    def add_forces(self, weights: Tensor, forces: Tensor, virials: Tensor) -> None:
        """See ``kernels.Environments``."""
        self.pair_gradients(weights).add_to(forces, virials)

    def pair_gradients(self, weights: Tensor) -> PairGradients:
        """The part of ``add_forces`` that threads may do at the same time."""
        n_centers, n_members, _ = weights.shape
        weight = weights.contiguous().numpy().reshape(-1)
        gradients = np.empty((len(self._rows.partners), 3, n_members), self._kernels.numpy_type)
        compiled = self._kernels.compiled(n_members)
        if n_members == 1:
            compiled.mean_gradients(self._rows, self._kernels.terms, weight, gradients)
        else:
            compiled.member_gradients(self._rows, self._kernels.terms, weight, gradients.reshape(-1))
        virials = np.empty((n_centers, n_members, 3, 3))
        _center_virials(self._rows, gradients, virials)
        return PairGradients(self._rows, self._begin, self._frame, gradients, virials)


@dataclass(frozen=True)
class PairGradients:
    """Derivatives of energies by the pair vectors of some centers, and the virials of each center."""

    _rows: _Rows
    _first_center: int
    _frame: Tensor
    _gradients: NDArray[Any]
    _virials: NDArray[np.float64]

    def add_to(self, forces: Tensor, virials: Tensor) -> None:
        """Add what belongs to each atom and each frame; shapes as in ``kernels.Environments``."""
        _scatter(self._rows, self._first_center, self._gradients, forces.numpy())
        virials.index_add_(0, self._frame, torch.from_numpy(self._virials))


def _window(settings: AevSettings, dtype: torch.dtype) -> int:
    """How many radial shifts around a distance matter: all where they are not evenly spaced."""
    shifts = np.array(settings.radial_shifts)
    spacings = np.diff(shifts)
    if len(shifts) < 3 or np.ptp(spacings) > 1e-6 * spacings.mean():
        return len(shifts)
    reach = math.sqrt(-math.log(_NEGLIGIBLE[dtype]) / settings.radial_eta)
    return min(len(shifts), 8 * math.ceil((2.0 * reach / float(spacings.mean()) + 1.0) / 8.0))
