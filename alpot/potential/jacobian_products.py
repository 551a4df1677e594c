"""Forces from the networks' gradients, F = −Jᵀ g, and the transpose, v = −J dL/dF; compiled for the CPU.

Both go through the compact Jacobian of ``jacobian.py`` center by center, for all members of an ensemble at once, so
that it is read once. With the energy E of one center i, T_j = ∂E/∂r_j is the pull of its neighbor j: the center feels
+T_j, the neighbor −T_j.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic
from numpy.typing import NDArray

from alpot.potential.jacobian import Functions, Jacobian
from alpot.potential.matrix_tiles import COLUMNS, COMPILE_INNER, ROWS, add_strided_product, strided_row_products
from alpot.potential.simd import load, splat, store, typed

Array = NDArray[Any]


class Scratch(NamedTuple):
    """Work space of the products.

    Attributes:
        slopes: radial derivatives of one center and element, (n_pairs, radial_width).
        pulls: of the rows of one product, (n_rows, M).
        center: (3 · M,) sum over the pairs of a center.
    """

    slopes: Array
    pulls: Array
    center: Array

    @classmethod
    def allocate(cls, functions: Functions, most_pairs: int, most_items: int, n_members: int) -> Scratch:
        """Enough for centers with up to so many pairs and items."""
        dtype = functions.radial_shifts.dtype
        rows = max(most_pairs, 3 * most_items, 6) + ROWS
        return cls(
            slopes=np.zeros((most_pairs + ROWS) * functions.radial_width, dtype),
            pulls=np.zeros(rows * n_members, dtype),
            center=np.zeros(3 * n_members, dtype),
        )


@intrinsic
def _prefetch(typing_context: Any, array: Any, index: Any) -> Any:
    """Ask for the cache line of an element, which will be read soon."""

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        word, byte = ir.IntType(32), ir.IntType(8).as_pointer()
        pointer = builder.gep(context.make_array(array)(context, builder, arguments[0]).data, [arguments[1]])
        kind = ir.FunctionType(ir.VoidType(), [byte, word, word, word])
        function = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
        builder.call(function, [builder.bitcast(pointer, byte), word(0), word(2), word(1)])
        return context.get_dummy_value()

    return types.void(array, types.intp), build


@njit(**COMPILE_INNER, forceinline=True)
def _fetch_center(jacobian: Jacobian, f: Functions, center: int) -> None:
    """Ask for what the products of a center will read: memory answers while those of others are computed."""
    line = 64 // jacobian.item_block.itemsize
    begin, end = jacobian.first_item[center * f.n_blocks], jacobian.first_item[(center + 1) * f.n_blocks]
    for k in range(3 * begin * f.angular_width, 3 * end * f.angular_width, line):
        _prefetch(jacobian.item_block, k)
    begin, end = jacobian.first_pair[center * f.n_elements], jacobian.first_pair[(center + 1) * f.n_elements]
    for k in range(begin * f.window, end * f.window, line):
        _prefetch(jacobian.pair_slope, k)


@njit(**COMPILE_INNER, forceinline=True)
def _spread_slopes(jacobian: Jacobian, f: Functions, begin: int, end: int, slopes: Array) -> None:
    """Radial derivatives of some pairs as rows of all shifts."""
    zero = splat(typed(0.0, f.reach), COLUMNS)
    for p in range(begin, end):
        row = (p - begin) * f.radial_width
        for k in range(0, f.radial_width, COLUMNS):
            store(slopes, row + k, zero)
        for k in range(0, f.window, 8):
            store(slopes, row + jacobian.pair_window[p] + k, load(jacobian.pair_slope, p * f.window + k, 8))


@njit(**COMPILE_INNER)
def add_forces(
    jacobian: Jacobian,
    functions: Functions,
    center: int,
    rows: NDArray[np.int64],
    gradients: Array,
    scratch: Scratch,
    forces: Array,
    virials: Array,
    with_virials: bool,
) -> None:
    """Add the forces and virials of the energies of one frame.

    Args:
        jacobian, functions: see there.
        center: index in the Jacobian of the frame's first atom.
        rows: (n_atoms,) row of each atom in ``gradients``.
        gradients: (M, n_rows, width) dE/dG; M in whole tiles.
        scratch: work space.
        forces: (n_atoms · 3 · M,) added to.
        virials: (6 · M,) Voigt order, added to.
        with_virials: whether to.
    """
    f, j, n_members = functions, jacobian, len(gradients)
    stride, per_atom = gradients.shape[1] * f.width, 3 * len(gradients)
    pulls, total = scratch.pulls, scratch.center
    for i in range(len(rows)):
        row = rows[i] * f.width
        if i + 1 < len(rows):
            _fetch_center(j, f, center + i + 1)
        for k in range(per_atom):
            total[k] = 0.0
        for element in range(f.n_elements):
            segment = (center + i) * f.n_elements + element
            begin, end = j.first_pair[segment], j.first_pair[segment + 1]
            _spread_slopes(j, f, begin, end, scratch.slopes)
            strided_row_products(
                scratch.slopes, 0, f.radial_width, gradients, row + element * f.radial_width, stride,
                pulls, 0, n_members, end - begin, n_members, f.radial_width,
            )  # fmt: skip
            for m in range(0, n_members, ROWS):
                x, y, z = load(total, m, ROWS), load(total, n_members + m, ROWS), load(total, 2 * n_members + m, ROWS)
                for p in range(begin, end):
                    pull, k = load(pulls, (p - begin) * n_members + m, ROWS), j.pair_neighbor[p] * per_atom + m
                    x_part, y_part = pull * j.pair_unit[3 * p], pull * j.pair_unit[3 * p + 1]
                    z_part = pull * j.pair_unit[3 * p + 2]
                    x, y, z = x + x_part, y + y_part, z + z_part
                    store(forces, k, load(forces, k, ROWS) - x_part)
                    store(forces, k + n_members, load(forces, k + n_members, ROWS) - y_part)
                    store(forces, k + 2 * n_members, load(forces, k + 2 * n_members, ROWS) - z_part)
                store(total, m, x)
                store(total, n_members + m, y)
                store(total, 2 * n_members + m, z)
        for block in range(f.n_blocks):
            segment = (center + i) * f.n_blocks + block
            begin, end = j.first_item[segment], j.first_item[segment + 1]
            strided_row_products(
                j.item_block, 3 * begin * f.angular_width, f.angular_width,
                gradients, row + f.n_elements * f.radial_width + block * f.angular_width, stride,
                pulls, 0, n_members, 3 * (end - begin), n_members, f.angular_width,
            )  # fmt: skip
            for k in range(0, per_atom, ROWS):
                sums = load(total, k, ROWS)
                for p in range(begin, end):
                    part, place = load(pulls, (p - begin) * per_atom + k, ROWS), j.item_neighbor[p] * per_atom + k
                    sums = sums + part
                    store(forces, place, load(forces, place, ROWS) - part)
                store(total, k, sums)
        for k in range(per_atom):
            forces[i * per_atom + k] += total[k]
        if with_virials:
            strided_row_products(
                j.strain, 6 * (center + i) * f.width, f.width, gradients, row, stride,
                pulls, 0, n_members, 6, n_members, f.width,
            )  # fmt: skip
            for k in range(6 * n_members):
                virials[k] += pulls[k]


@njit(**COMPILE_INNER)
def gradients_from_forces(
    jacobian: Jacobian,
    functions: Functions,
    center: int,
    rows: NDArray[np.int64],
    by_forces: Array,
    by_virials: Array,
    with_virials: bool,
    next_centers: tuple[int, int],
    scratch: Scratch,
    by_gradients: Array,
) -> None:
    """Derivative of a loss by the networks' gradients from its derivatives by the forces and virials of one frame.

    Args:
        jacobian, functions, center, rows, scratch: as in ``add_forces``.
        by_forces: (n_atoms · 3 · M,) dL/dF.
        by_virials: (6 · M,) dL/dvirial.
        with_virials: whether there is a derivative by the virials.
        next_centers: first and end of the centers in the Jacobian that will be asked for next.
        by_gradients: (M, n_rows, width) dL/dg; the frame's rows are filled.
    """
    f, j, n_members = functions, jacobian, len(by_gradients)
    stride, per_atom = by_gradients.shape[1] * f.width, 3 * len(by_gradients)
    pulls, flat = scratch.pulls, by_gradients.reshape(by_gradients.size)
    for i in range(len(rows)):
        row, own = rows[i] * f.width, i * per_atom
        n_next = next_centers[1] - next_centers[0]
        for k in range(i * n_next // len(rows), (i + 1) * n_next // len(rows)):
            _fetch_center(jacobian, f, next_centers[0] + k)
        for m in range(n_members):
            for k in range(m * stride + row, m * stride + row + f.width, COLUMNS):
                store(flat, k, splat(typed(0.0, f.reach), COLUMNS))
        for element in range(f.n_elements):
            segment = (center + i) * f.n_elements + element
            begin, end = j.first_pair[segment], j.first_pair[segment + 1]
            _spread_slopes(j, f, begin, end, scratch.slopes)
            for p in range(begin, end):
                other = j.pair_neighbor[p] * per_atom
                for m in range(0, n_members, ROWS):
                    pull = splat(typed(0.0, f.reach), ROWS)
                    for d in range(3):
                        k = d * n_members + m
                        change = load(by_forces, own + k, ROWS) - load(by_forces, other + k, ROWS)
                        pull = pull + change * j.pair_unit[3 * p + d]
                    store(pulls, (p - begin) * n_members + m, pull)
            add_strided_product(
                pulls, 0, 1, n_members, scratch.slopes, 0, f.radial_width,
                by_gradients, row + element * f.radial_width, stride, n_members, f.radial_width, end - begin,
            )  # fmt: skip
        for block in range(f.n_blocks):
            segment = (center + i) * f.n_blocks + block
            begin, end = j.first_item[segment], j.first_item[segment + 1]
            for p in range(begin, end):
                other, item = j.item_neighbor[p] * per_atom, (p - begin) * per_atom
                for k in range(0, per_atom, ROWS):
                    change = load(by_forces, own + k, ROWS) - load(by_forces, other + k, ROWS)
                    store(pulls, item + k, change)
            add_strided_product(
                pulls, 0, 1, n_members, j.item_block, 3 * begin * f.angular_width, f.angular_width,
                by_gradients, row + f.n_elements * f.radial_width + block * f.angular_width, stride,
                n_members, f.angular_width, 3 * (end - begin),
            )  # fmt: skip
        if with_virials:
            add_strided_product(
                by_virials, 0, 1, n_members, j.strain, 6 * (center + i) * f.width, f.width,
                by_gradients, row, stride, n_members, f.width, 6,
            )  # fmt: skip
