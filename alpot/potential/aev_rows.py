"""Rows of neighbors for the descriptor's loops on the CPU, and what belongs to a neighbor or to a triple of atoms.

Formulas and letters are explained in ``aev_cpu.py``.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from alpot.potential.kernels import GeometryArrays
from alpot.potential.simd import FASTMATH, cosine, exp, floor, larger, load, sine, smaller, splat, store, typed

COMPILE = {"cache": True, "fastmath": FASTMATH, "error_model": "numpy", "nogil": True}
INLINE = COMPILE | {"forceinline": True}
#: Neighbors that are handled at once.
LANES = 16

Array = NDArray[Any]


class Terms(NamedTuple):
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


class Rows(NamedTuple):
    """Pairs inside the cutoff of some consecutive centers, packed.

    Attributes:
        first: (n_centers,) where each center's row begins.
        counts: (n_centers, n_elements + 1) number of neighbors inside the angular cutoff, by element, and of all.
        x, y, z, r: (n_slots,) vectors and distances, Å; in each row first what is inside the angular cutoff, by
            element. The arrays are longer by ``LANES``, so that vectors may be loaded at a row's end.
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


@njit(**COMPILE)
def gather(geometry: GeometryArrays, begin: int, end: int, rows: Rows, terms: Terms) -> int:
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


@njit(**INLINE)
def longest_row(rows: Rows) -> int:
    """Length of the longest row."""
    longest = 1
    for i in range(len(rows.first)):
        longest = max(longest, rows.counts[i, -1])
    return longest


@njit(**INLINE)
def copy_row(source: Array, start: int, n: int, target: Array, filler: Any) -> None:
    """The n numbers of a row, and ``LANES`` fillers behind them: what vectors find beyond a row's end is harmless."""
    for p in range(0, n, LANES):
        store(target, p, load(source, start + p, LANES))
    store(target, n, splat(filler, LANES))


@njit(**INLINE)
def find_cutoffs(r: Array, n: int, cutoff: Any, value: Array, ratio: Array) -> None:
    """f_c and f_c'/f_c of n distances.

    f_c(r) = ½ cos(π r / r_c) + ½ = sin²(π/2 (1 − r/r_c)), which keeps its relative accuracy where it vanishes.
    """
    one, quarter_turn, tiny = typed(1.0, cutoff), typed(0.5 * math.pi, cutoff), typed(1e-7, cutoff)
    per_cutoff = one / cutoff
    slope = -(quarter_turn + quarter_turn) * per_cutoff
    for p in range(0, n, LANES):
        z = quarter_turn * larger(one - load(r, p, LANES) * per_cutoff, tiny)
        s = sine(z)
        store(value, p, s * s)
        store(ratio, p, slope * cosine(z) / s)


@njit(**INLINE)
def find_windows(r: Array, n: int, shifts: Array, window: int, lowest: Array) -> None:
    """First shift of the window of each distance."""
    n_radial, first = len(shifts), shifts[0]
    per_angstrom = typed(n_radial - 1, first) / max(shifts[n_radial - 1] - first, typed(1e-6, first))
    offset = typed(1.0 - 0.5 * window, first) - first * per_angstrom
    highest, zero = typed(n_radial - window, first), typed(0.0, first)
    for p in range(0, n, LANES):
        below = floor(load(r, p, LANES) * per_angstrom + offset)
        store(lowest, p, smaller(larger(below, zero), highest))
    # A distance that is not finite must not lead outside of the arrays.
    for p in range(n):
        lowest[p] = max(min(lowest[p], np.int32(n_radial - window)), np.int32(0))


@njit(**INLINE)
def find_units(rows: Rows, start: int, n: int, r: Array, unit_x: Array, unit_y: Array, unit_z: Array) -> None:
    """Unit vectors of n neighbors."""
    one = typed(1.0, r[0])
    for p in range(0, n, LANES):
        per_r = one / load(r, p, LANES)
        store(unit_x, p, load(rows.x, start + p, LANES) * per_r)
        store(unit_y, p, load(rows.y, start + p, LANES) * per_r)
        store(unit_z, p, load(rows.z, start + p, LANES) * per_r)
    for unit in (unit_x, unit_y, unit_z):
        store(unit, n, splat(one, LANES))


@njit(**INLINE)
def find_triples(
    unit_x: Array,
    unit_y: Array,
    unit_z: Array,
    r: Array,
    j: int,
    first: int,
    last: int,
    terms: Terms,
    cosines: Array,
    factor: Array,
    node: Array,
    hermite: Array,
) -> None:
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
    for k in range(first, last, LANES):
        c = unit_x[j] * load(unit_x, k, LANES) + unit_y[j] * load(unit_y, k, LANES)
        c = c + unit_z[j] * load(unit_z, k, LANES)
        place = c * scale + origin
        below = smaller(larger(floor(place), zero), last_node)
        t = place - below
        u = one - t
        d = r[j] - load(r, k, LANES)
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
