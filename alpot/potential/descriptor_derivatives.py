"""Features and their derivatives by positions and strain, center by center; compiled for the CPU.

The formulas are those of ``descriptor.py``; ``test_descriptor_derivatives`` compares.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic
from numpy.typing import NDArray

from alpot.potential.jacobian import LANES, VOIGT, Array, Functions, Jacobian
from alpot.potential.kernels import GeometryArrays
from alpot.potential.matrix_tiles import COLUMNS, COMPILE, COMPILE_INNER, clear
from alpot.potential.simd import cosine, exp, larger, load, sine, store, typed

#: Exponents are cut here, as in ``descriptor.py``.
_SMALLEST_EXPONENT = -80.0


class _AngularScratch(NamedTuple):
    """Work space for one center; n neighbors are inside the angular cutoff.

    Attributes:
        units: (n · 3,) vectors.
        radii: (n,) Å.
        cutoffs: (n · 2,) f_c and its derivative.
        factors: (n · n_factors,) of the triples of one neighbor with the others, see ``_find_factors``.
    """

    units: Array
    radii: Array
    cutoffs: Array
    factors: Array


@intrinsic
def _log(typing_context: Any, x: Any) -> Any:
    """ln x of positive normal numbers: x = 2ⁿ m with √½ ≤ m < √2, ln m = 2 artanh((m − 1)/(m + 1))."""
    bits, mantissa, root, terms = (
        (32, 23, 0x3F3504F3, 6) if x.dtype == types.float32 else (64, 52, 0x3FE6A09E667F3BCD, 12)
    )
    whole = ir.VectorType(ir.IntType(bits), x.n)
    real = ir.VectorType(ir.FloatType() if bits == 32 else ir.DoubleType(), x.n)

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        def number(value: float) -> Any:
            return real([float(np.float32(value)) if bits == 32 else value] * x.n)

        def integer(value: int) -> Any:
            return whole([value] * x.n)

        pattern = builder.bitcast(arguments[0], whole)
        n = builder.ashr(builder.sub(pattern, integer(root)), integer(mantissa))
        m = builder.bitcast(builder.sub(pattern, builder.shl(n, integer(mantissa))), real)
        s = builder.fdiv(builder.fsub(m, number(1.0)), builder.fadd(m, number(1.0)))
        square = builder.fmul(s, s)
        series = number(2.0 / (2 * terms - 1))
        for k in range(terms - 2, -1, -1):
            series = builder.fadd(builder.fmul(series, square), number(2.0 / (2 * k + 1)))
        return builder.fadd(builder.fmul(builder.sitofp(n, real), number(math.log(2.0))), builder.fmul(s, series))

    return x(x), build


@njit(**COMPILE_INNER)
def _cutoff(r: Any, cutoff: Any) -> tuple[Any, Any]:
    """f_c = ½ cos(π r / r_c) + ½ = cos²(π r / 2 r_c), and its derivative."""
    quarter_turn = typed(0.5 * math.pi, cutoff) / cutoff
    c = cosine(quarter_turn * r)
    return c * c, -(quarter_turn + quarter_turn) * sine(quarter_turn * r) * c


@njit(**COMPILE_INNER)
def _find_neighbors(
    geometry: GeometryArrays, functions: Functions, i: int, vectors: Array, partners: Array, first: Array, near: Array
) -> int:
    """Neighbors of one center inside the cutoff, element by element.

    Args:
        geometry, functions: see there.
        i: the center.
        vectors: (4, most) filled: x, y, z and r in Å.
        partners: (most,) filled: indices of the atoms.
        first: (2, n_elements + 1) filled: where the neighbors of each element begin, among all and among those near.
        near: (most,) filled: which of them are inside the angular cutoff.

    Returns:
        −1 if the center coincides with a neighbor, otherwise the number of neighbors.
    """
    begin, end = geometry.first_pair[i], geometry.first_pair[i + 1]
    cell, positions = geometry.cells[geometry.frame[i]], geometry.positions
    outer, inner = np.float64(functions.radial_cutoff) ** 2, np.float64(functions.angular_cutoff)
    n, n_near = 0, 0
    for element in range(functions.n_elements):
        first[0, element], first[1, element] = n, n_near
        for p in range(begin, end):
            j = geometry.neighbor[p]
            if geometry.species[j] != element:
                continue
            square = 0.0
            for d in range(3):
                component = positions[j, d] - positions[i, d]
                for a in range(3):
                    component += geometry.shift[p, a] * cell[a, d]
                vectors[d, n] = component
                square += component * component
            if square < 1e-12:
                return -1
            if square < outer:
                r = math.sqrt(square)
                vectors[3, n], partners[n] = r, j
                if r < inner:
                    near[n_near] = n
                    n_near += 1
                n += 1
    first[0, functions.n_elements], first[1, functions.n_elements] = n, n_near
    return n


@njit(**COMPILE_INNER)
def _longest_row(geometry: GeometryArrays, begin: int, end: int) -> int:
    longest = 1
    for i in range(begin, end):
        longest = max(longest, geometry.first_pair[i + 1] - geometry.first_pair[i] + 1)
    return longest


@njit(**COMPILE)
def count_neighbors(geometry: GeometryArrays, functions: Functions, counts: NDArray[np.int64]) -> int:
    """Fill counts (n_atoms, 2) with each center's pairs and items; returns an atom that lies on another, or −1."""
    longest = _longest_row(geometry, 0, len(counts))
    vectors, partners = np.empty((4, longest)), np.empty(longest, np.int32)
    first, near = np.empty((2, functions.n_elements + 1), np.int64), np.empty(longest, np.int64)
    for i in range(len(counts)):
        n = _find_neighbors(geometry, functions, i, vectors, partners, first, near)
        if n < 0:
            return i
        counts[i, 0], counts[i, 1] = n, 0
        for s in range(functions.n_elements):
            for t in range(s, functions.n_elements):
                counts[i, 1] += _n_items(first, s, t)
    return -1


@njit(**COMPILE_INNER)
def _n_items(first: NDArray[np.int64], s: int, t: int) -> int:
    """Neighbors that take part in the triples of a pair of elements; none if there are no triples."""
    n_s, n_t = first[1, s + 1] - first[1, s], first[1, t + 1] - first[1, t]
    if s == t:
        return n_s if n_s > 1 else 0
    return n_s + n_t if n_s > 0 and n_t > 0 else 0


@njit(**COMPILE)
def fill_jacobian(
    geometry: GeometryArrays,
    functions: Functions,
    begin: int,
    end: int,
    jacobian: Jacobian,
    center: int,
    with_strain: bool,
    features: Array,
) -> None:
    """Features of the atoms of one frame, and their derivatives.

    Args:
        geometry: of a batch; no two atoms coincide.
        functions: of the descriptor.
        begin, end: the frame's atoms in the batch.
        jacobian: filled from ``center`` on; ``first_pair`` and ``first_item`` there say where there is room.
        center: index in the Jacobian of the frame's first atom.
        with_strain: whether to fill the derivatives by the strain.
        features: (end − begin, width) filled.
    """
    f = functions
    longest = _longest_row(geometry, begin, end)
    vectors, partners = np.empty((4, longest), features.dtype), np.empty(longest, np.int32)
    first, near = np.empty((2, f.n_elements + 1), np.int64), np.empty(longest, np.int64)
    scratch = _AngularScratch(
        np.empty(3 * longest, features.dtype),
        np.empty(longest, features.dtype),
        np.empty(2 * longest, features.dtype),
        np.empty(longest * (3 * len(f.angular_shifts) + 2 * len(f.section_cosines)), features.dtype),
    )
    for i in range(begin, end):
        row = features[i - begin]
        clear(row)
        _find_neighbors(geometry, f, i, vectors, partners, first, near)
        strain = jacobian.strain[6 * (center + i - begin) * f.width :][: 6 * f.width * with_strain]
        clear(strain)
        _fill_radial(f, vectors, partners, first[0], begin, jacobian, center + i - begin, strain, row)
        _fill_angular(f, vectors, partners, first, near, begin, jacobian, center + i - begin, strain, row, scratch)


@njit(**COMPILE_INNER)
def _fill_radial(
    f: Functions,
    vectors: Array,
    partners: Array,
    first: Array,
    frame_begin: int,
    jacobian: Jacobian,
    center: int,
    strain: Array,
    row: Array,
) -> None:
    """G = ¼ Σ exp(−η (r − R)²) f_c(r) of one center."""
    quarter, lowest, two = typed(0.25, f.reach), typed(_SMALLEST_EXPONENT, f.reach), typed(2.0, f.reach)
    at = jacobian.first_pair[center * f.n_elements]
    for element in range(f.n_elements):
        for p in range(first[element], first[element + 1]):
            r = vectors[3, p]
            fc, dfc = _cutoff(r, f.radial_cutoff)
            window = 0
            while window < f.radial_width - f.window and f.radial_shifts[window] < r - f.reach:
                window += 1
            jacobian.pair_neighbor[at], jacobian.pair_window[at] = partners[p] - frame_begin, window
            for d in range(3):
                jacobian.pair_unit[3 * at + d] = vectors[d, p] / r
            slopes = jacobian.pair_slope[at * f.window : (at + 1) * f.window]
            values = row[element * f.radial_width + window :]
            shifts = f.radial_shifts[window:]
            for k in range(f.window):
                x = r - shifts[k]
                gauss = quarter * exp(max(-f.radial_eta * x * x, lowest))
                slopes[k] = gauss * (dfc - two * f.radial_eta * x * fc)
                values[k] += gauss * fc
            for k in range(f.n_radial - window, f.window):
                slopes[k] = values[k] = 0.0
            if len(strain):
                for component in range(6):
                    a, b = VOIGT[component]
                    factor = vectors[a, p] * vectors[b, p] / r
                    for k in range(0, f.window, LANES):
                        place = component * f.width + element * f.radial_width + window + k
                        change = load(jacobian.pair_slope, at * f.window + k, LANES) * factor
                        store(strain, place, load(strain, place, LANES) + change)
            at += 1
        jacobian.first_pair[center * f.n_elements + element + 1] = at


@njit(**COMPILE_INNER)
def _fill_angular(
    f: Functions,
    vectors: Array,
    partners: Array,
    first: Array,
    near: Array,
    frame_begin: int,
    jacobian: Jacobian,
    center: int,
    strain: Array,
    row: Array,
    scratch: _AngularScratch,
) -> None:
    """G = Σ 2 [(1 + cos(θ − θ_z))/2]^ζ exp(−η ((r_j + r_k)/2 − R_a)²) f_c(r_j) f_c(r_k) of one center, by triples.

    With A(z) the angle's term, E(a) the Gaussian and P the product of the cutoffs, the derivative by r_j is

        E A (f_c′(r_j) f_c(r_k) − η (mean r − R_a) P) r̂_j + P E dA/dcosθ (r̂_k − cosθ r̂_j)/r_j.
    """
    n_near, width = first[1, f.n_elements], f.angular_width
    units, radii, cutoffs = scratch.units, scratch.radii, scratch.cutoffs
    for q in range(n_near):
        radii[q] = vectors[3, near[q]]
        cutoffs[2 * q], cutoffs[2 * q + 1] = _cutoff(radii[q], f.angular_cutoff)
        for d in range(3):
            units[3 * q + d] = vectors[d, near[q]] / radii[q]
    at = jacobian.first_item[center * f.n_blocks]
    block = 0
    for s in range(f.n_elements):
        for t in range(s, f.n_elements):
            n_items, start = _n_items(first, s, t), 3 * at * width
            clear(jacobian.item_block[start : start + 3 * n_items * width])
            values = row[f.n_elements * f.radial_width + block * width :][:width]
            s_begin, s_end, t_begin, t_end = first[1, s], first[1, s + 1], first[1, t], first[1, t + 1]
            # The items of s come first, then those of t.
            t_item = 0 if s == t else s_end - s_begin
            for j in range(s_begin, s_end):
                k_begin = j + 1 if s == t else t_begin
                item_j = start + 3 * (j - s_begin) * width
                # In two sweeps: the second reads what the first has written long before.
                for k in range(k_begin, t_end):
                    _find_factors(f, scratch, j, k, k - k_begin)
                for k in range(k_begin, t_end):
                    item_k = start + 3 * (t_item + k - t_begin) * width
                    _add_triple(f, scratch, j, k, k - k_begin, values, jacobian.item_block, item_j, item_k)
            for item in range(n_items):
                q = s_begin + item if item < s_end - s_begin else t_begin + item - t_item
                jacobian.item_neighbor[at + item] = partners[near[q]] - frame_begin
                if len(strain):
                    column = f.n_elements * f.radial_width + block * width
                    item_start = start + 3 * item * width
                    _add_strain(jacobian.item_block, item_start, width, vectors, near[q], strain, column, f.width)
            at += n_items
            block += 1
            jacobian.first_item[center * f.n_blocks + block] = at


@njit(**COMPILE_INNER, forceinline=True)
def _find_factors(f: Functions, scratch: _AngularScratch, j: int, k: int, place: int) -> None:
    """What the terms of one triple are products of: three numbers per shift, two per section (0 beyond the last)."""
    units, radii, cutoffs, factors = scratch.units, scratch.radii, scratch.cutoffs, scratch.factors
    cos = units[3 * j] * units[3 * k] + units[3 * j + 1] * units[3 * k + 1] + units[3 * j + 2] * units[3 * k + 2]
    half, one, two, largest = typed(0.5, cos), typed(1.0, cos), typed(2.0, cos), typed(0.95, cos)
    smallest, lowest = typed(1e-12, cos), typed(_SMALLEST_EXPONENT, cos)
    n_shifts, n_sections = len(f.angular_shifts), len(f.section_cosines)
    whole = place * (3 * n_shifts + 2 * n_sections)
    toward_j, toward_k = whole + n_shifts, whole + 2 * n_shifts
    angles, slopes = whole + 3 * n_shifts, whole + 3 * n_shifts + n_sections
    c = largest * cos
    sin = math.sqrt(one - c * c)
    cotangent = c / sin
    for z in range(0, n_sections, LANES):
        cos_z, sin_z = load(f.section_cosines, z, LANES), load(f.section_sines, z, LANES)
        base = larger(half + half * (cos_z * c + sin_z * sin), smallest)
        angle = two * exp(larger(f.angular_zeta * _log(base), lowest))
        store(factors, angles + z, angle)
        store(factors, slopes + z, largest * f.angular_zeta * half * (angle / base * (cos_z - sin_z * cotangent)))
    for z in range(f.n_sections, n_sections):
        factors[angles + z] = factors[slopes + z] = typed(0.0, cos)
    product = cutoffs[2 * j] * cutoffs[2 * k]
    by_j, by_k = cutoffs[2 * j + 1] * cutoffs[2 * k], cutoffs[2 * j] * cutoffs[2 * k + 1]
    mean = half * (radii[j] + radii[k])
    for a in range(0, n_shifts, LANES):
        x = mean - load(f.angular_shifts, a, LANES)
        gauss = exp(larger(-f.angular_eta * (x * x), lowest))
        stretch = -f.angular_eta * product * (x * gauss)
        store(factors, whole + a, gauss * product)
        store(factors, toward_j + a, stretch + gauss * by_j)
        store(factors, toward_k + a, stretch + gauss * by_k)


@njit(**COMPILE_INNER, forceinline=True)
def _add_triple(
    f: Functions,
    scratch: _AngularScratch,
    j: int,
    k: int,
    place: int,
    values: Array,
    blocks: Array,
    item_j: int,
    item_k: int,
) -> None:
    """Add the terms of one triple to the features, and their derivatives to the blocks of both neighbors.

    Vectors of sections may reach beyond those of one shift; they are zero there.
    """
    units, factors, width = scratch.units, scratch.factors, f.angular_width
    xj, yj, zj = units[3 * j], units[3 * j + 1], units[3 * j + 2]
    xk, yk, zk = units[3 * k], units[3 * k + 1], units[3 * k + 2]
    cos, one = xj * xk + yj * yk + zj * zk, typed(1.0, xj)
    per_j, per_k = one / scratch.radii[j], one / scratch.radii[k]
    tilts_j = (xk - cos * xj) * per_j, (yk - cos * yj) * per_j, (zk - cos * zj) * per_j
    tilts_k = (xj - cos * xk) * per_k, (yj - cos * yk) * per_k, (zj - cos * zk) * per_k
    units_j, units_k = (xj, yj, zj), (xk, yk, zk)
    n_shifts, n_sections = len(f.angular_shifts), len(f.section_cosines)
    whole = place * (3 * n_shifts + 2 * n_sections)
    angles, slopes = whole + 3 * n_shifts, whole + 3 * n_shifts + n_sections
    for a in range(f.n_shifts):
        for z in range(0, n_sections, LANES):
            angle, at = load(factors, angles + z, LANES), a * f.n_sections + z
            across = load(factors, slopes + z, LANES) * factors[whole + a]
            along_j, along_k = angle * factors[whole + n_shifts + a], angle * factors[whole + 2 * n_shifts + a]
            store(values, at, load(values, at, LANES) + angle * factors[whole + a])
            for d in range(3):
                on_j, on_k = item_j + d * width + at, item_k + d * width + at
                store(blocks, on_j, load(blocks, on_j, LANES) + (along_j * units_j[d] + across * tilts_j[d]))
                store(blocks, on_k, load(blocks, on_k, LANES) + (along_k * units_k[d] + across * tilts_k[d]))


@njit(**COMPILE_INNER, forceinline=True)
def _add_strain(
    blocks: Array, start: int, width: int, vectors: Array, p: int, strain: Array, column: int, row_length: int
) -> None:
    """Symmetrised Σ r_a ∂G/∂r_b of one item, in Voigt order."""
    half = typed(0.5, vectors[0, p])
    for component in range(6):
        a, b = VOIGT[component]
        r_a, r_b = half * vectors[a, p], half * vectors[b, p]
        for z in range(0, width, COLUMNS):
            change = load(blocks, start + b * width + z, COLUMNS) * r_a
            change = change + load(blocks, start + a * width + z, COLUMNS) * r_b
            place = component * row_length + column + z
            store(strain, place, load(strain, place, COLUMNS) + change)


@njit(**COMPILE)
def scale_jacobian(
    jacobian: Jacobian, functions: Functions, begin: int, end: int, species: Array, scale: Array, with_strain: bool
) -> None:
    """Multiply the derivatives of each feature of the centers begin:end by scale (n_elements, width).

    Args:
        jacobian, functions: see there.
        begin, end: centers.
        species: (end − begin,) element of each center.
        scale: (n_elements, width) by element of the center.
        with_strain: whether there are derivatives by the strain.
    """
    f = functions
    for center in range(begin, end):
        factors = scale[species[center - begin]]
        for element in range(f.n_elements):
            segment = center * f.n_elements + element
            for p in range(jacobian.first_pair[segment], jacobian.first_pair[segment + 1]):
                start = element * f.radial_width + jacobian.pair_window[p]
                for k in range(f.window):
                    jacobian.pair_slope[p * f.window + k] *= factors[start + k]
        for block in range(f.n_blocks):
            start = f.n_elements * f.radial_width + block * f.angular_width
            segment = center * f.n_blocks + block
            for row in range(3 * jacobian.first_item[segment], 3 * jacobian.first_item[segment + 1]):
                for z in range(f.angular_width):
                    jacobian.item_block[row * f.angular_width + z] *= factors[start + z]
        for component in range(6 * with_strain):
            for k in range(f.width):
                jacobian.strain[(6 * center + component) * f.width + k] *= factors[k]
