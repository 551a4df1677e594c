"""The descriptor's loops over centers on the CPU: features, and forces from derivatives by the features.

Formulas and letters are explained in ``aev_cpu.py``. The three loops interpolate in the same table with the same lines:
vectors need lengths known when they are compiled, which arguments are not, and numba never finds a function in its
cache that has another compiled function among its constants.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numba import njit

from alpot.potential.aev_rows import (
    COMPILE,
    LANES,
    Array,
    Rows,
    copy_row,
    find_cutoffs,
    find_triples,
    find_units,
    find_windows,
    longest_row,
)
from alpot.potential.simd import at, exp, fold, load, row_totals, splat, spread, store, tile, total, typed


class Loops(NamedTuple):
    """Kernels for one shape of descriptor."""

    features: Callable[..., None]
    mean_gradients: Callable[..., None]
    member_gradients: Callable[..., None]


@lru_cache
def compiled_loops(n_radial: int, window: int, n_shifts: int, n_sections: int, n_members: int) -> Loops:
    """Kernels in which vectors of features have constant lengths.

    Args:
        n_radial, n_shifts, n_sections: of the descriptor.
        window: radial shifts evaluated per pair.
        n_members: number K of energies in ``member_gradients``.
    """
    n_angular = n_shifts * n_sections
    n_lanes, n_rows = n_shifts * n_members, LANES * n_sections

    @njit(**COMPILE)
    def features(rows, terms, out):
        """Atomic environment vectors of all centers; out (n_centers · n_features,)."""
        n_elements = rows.counts.shape[1] - 1
        n_features = len(out) // len(rows.first)
        size, one = longest_row(rows) + 2 * LANES, typed(1.0, terms.cutoff)
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
            copy_row(rows.r, start, n, r, one)
            find_cutoffs(r, n, terms.cutoff, value, ratio)
            find_windows(r, n, terms.radial_shifts, window, lowest)
            for p in range(n):
                d = at(r, p) - load(terms.radial_shifts, at(lowest, p), window)
                f = row + n_radial * rows.kinds[start + p] + at(lowest, p)
                store(out, f, load(out, f, window) + quarter * at(value, p) * exp(-terms.radial_eta * d * d))
            n_inner = 0
            for element in range(n_elements):
                n_inner += rows.counts[i, element]
            find_cutoffs(r, n_inner, terms.angular_cutoff, value, ratio)
            find_units(rows, start, n_inner, r, unit_x, unit_y, unit_z)
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
                        find_triples(
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

    @njit(**COMPILE)
    def mean_gradients(rows, terms, weights, gradients):
        """Derivatives of one energy of each center by its pair vectors.

        Args:
            weights: (n_centers · n_features,) derivatives of the energies by the features.
            gradients: (n_slots, 3, 1), the result, as the rows are packed.
        """
        n_elements = rows.counts.shape[1] - 1
        n_features = len(weights) // len(rows.first)
        size, one = longest_row(rows) + 2 * LANES, typed(1.0, terms.cutoff)
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
        nothing, no_angles, no_rows = splat(zero, LANES), splat(zero, n_sections), splat(zero, n_rows)
        for i in range(len(rows.first)):
            row = i * n_features
            start, n = rows.first[i], rows.counts[i, n_elements]
            copy_row(rows.r, start, n, r, one)
            find_cutoffs(r, n, terms.cutoff, value, ratio)
            find_windows(r, n, terms.radial_shifts, window, lowest)
            for p in range(n):
                d = at(r, p) - load(terms.radial_shifts, at(lowest, p), window)
                weight = load(weights, row + n_radial * rows.kinds[start + p] + at(lowest, p), window)
                slope = exp(-terms.radial_eta * d * d) * (at(ratio, p) - two * terms.radial_eta * d)
                along[p] = quarter * at(value, p) * total(weight * slope)
            n_inner = 0
            for element in range(n_elements):
                n_inner += rows.counts[i, element]
            find_cutoffs(r, n_inner, terms.angular_cutoff, value, ratio)
            store(ratio, n_inner, splat(one, LANES))
            find_units(rows, start, n, r, unit_x, unit_y, unit_z)
            for p in range(n_inner):
                d = at(r, p) - shifts
                store(factors, p * n_shifts, at(value, p) * exp(-half_eta * d * d))
            for p in range(0, n, LANES):
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
                        find_triples(
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
                        for k in range(begin_k, second_end, LANES):
                            r_k, weight = load(r, k, LANES), load(factor, k, LANES)
                            energy = weight * row_totals(load(energies, k * n_sections, n_rows), nothing)
                            turn = weight * row_totals(load(turns, k * n_sections, n_rows), nothing)
                            moment = row_totals(load(stretches, k * n_sections, n_rows), nothing)
                            stretch = eta * (weight * moment + half * (at(r, j) - r_k) * energy)
                            per_rk = one / r_k
                            back = turn * load(cosines, k, LANES)
                            along_j = along_j + energy * at(ratio, j) + stretch - back * per_rj
                            x, y, z = load(unit_x, k, LANES), load(unit_y, k, LANES), load(unit_z, k, LANES)
                            across = turn * per_rj
                            x_j, y_j, z_j = x_j + across * x, y_j + across * y, z_j + across * z
                            along_k = energy * load(ratio, k, LANES) + stretch - back * per_rk
                            across = turn * per_rk
                            store(gx, k, load(gx, k, LANES) + along_k * x + across * at(unit_x, j))
                            store(gy, k, load(gy, k, LANES) + along_k * y + across * at(unit_y, j))
                            store(gz, k, load(gz, k, LANES) + along_k * z + across * at(unit_z, j))
                        along[j] += total(along_j)
                        gx[j] += total(x_j)
                        gy[j] += total(y_j)
                        gz[j] += total(z_j)
            for p in range(n):
                gradients[start + p, 0, 0] = gx[p] + along[p] * at(unit_x, p)
                gradients[start + p, 1, 0] = gy[p] + along[p] * at(unit_y, p)
                gradients[start + p, 2, 0] = gz[p] + along[p] * at(unit_z, p)

    @njit(**COMPILE)
    def member_gradients(rows, terms, weights, gradients):
        """As ``mean_gradients`` for K energies of each center: weights (n_centers · K · n_features,).

        Args:
            gradients: (n_slots · 3 · K,), the result.
        """
        n_elements = rows.counts.shape[1] - 1
        n_features = len(weights) // len(rows.first) // n_members
        size, one = longest_row(rows) + 2 * LANES, typed(1.0, terms.cutoff)
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
            copy_row(rows.r, start, n, r, one)
            find_cutoffs(r, n, terms.cutoff, value, ratio)
            find_windows(r, n, terms.radial_shifts, window, lowest)
            find_units(rows, start, n, r, unit_x, unit_y, unit_z)
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
            find_cutoffs(r, n_inner, terms.angular_cutoff, value, ratio)
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
                        find_triples(
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

    return Loops(features, mean_gradients, member_gradients)


@njit(**COMPILE)
def center_virials(rows: Rows, gradients: Array, virials: Array) -> None:
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


@njit(**COMPILE)
def scatter(rows: Rows, first_center: int, gradients: Array, forces: Array) -> None:
    """Add +g to the center and −g to the neighbor of each pair."""
    for i in range(len(rows.first)):
        start = rows.first[i]
        for p in range(start, start + rows.counts[i, -1]):
            j = rows.partners[p]
            for m in range(gradients.shape[2]):
                for d in range(3):
                    forces[first_center + i, m, d] += gradients[p, d, m]
                    forces[j, m, d] -= gradients[p, d, m]
