"""Products of small matrices for numba kernels, at the full speed of the processor.

Networks of a hundred neurons on a hundred atoms are too small for BLAS: a library's call, its packing and its choice
of instruction set cost more than half of the time (100 against 240 Gflop/s on one Zen 5 core). Here a product is cut
into tiles of four rows and a few vector registers, whose sums stay in registers while the depth is walked; nothing is
packed.

Sizes are padded to whole tiles by the caller, with zeros: rows to ``ROWS``, columns (the contiguous dimension) to
``COLUMNS``.
"""

from __future__ import annotations

import platform
from collections.abc import Sequence
from typing import Any

import llvmlite.binding as llvm
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic
from numpy.typing import NDArray

from alpot.potential.simd import FASTMATH, splat, store, typed

#: Rows of a product come in multiples of this, its columns in multiples of that.
ROWS, COLUMNS = 4, 16
COMPILE: dict[str, Any] = {"cache": True, "nogil": True, "error_model": "numpy", "fastmath": FASTMATH}
#: For what only other kernels call, which then contain it: no code that Python would need to call it, and no counting
#: of references to arrays (its callers hold them), which costs more than short loops do. So it cannot allocate.
#: Numba's cache looks at the file of the outermost function only: after a change here, remove ``__pycache__``.
COMPILE_INNER = COMPILE | {"cache": False, "no_cpython_wrapper": True, "no_cfunc_wrapper": True, "_nrt": False}

_FEATURES = llvm.get_host_cpu_features() if platform.machine() in ("x86_64", "AMD64") else {}
#: A vector register's bytes, and how many registers wide a tile is at most: its sums must fit into what there is.
_BYTES = 64 if _FEATURES.get("avx512f") else 32 if _FEATURES.get("avx") else 16
_WIDEST = 3 if _BYTES == 32 else 4
_FLAGS = tuple(sorted(FASTMATH))
_WORD, _SIZE = ir.IntType(32), ir.IntType(64)


class _Tile:
    """What the code of a tile is made of: pointers to its operands, vectors, sums."""

    def __init__(self, context: Any, builder: Any, dtype: types.Float) -> None:
        self.context, self.builder = context, builder
        self.bytes = dtype.bitwidth // 8
        self.lanes = _BYTES // self.bytes
        self.vector = ir.VectorType(ir.FloatType() if self.bytes == 4 else ir.DoubleType(), self.lanes)

    def pointer(self, array: Any, value: Any, offset: Any) -> Any:
        """To an element of an array, whatever its dimensions."""
        return self.builder.gep(self.context.make_array(array)(self.context, self.builder, value).data, [offset])

    def advance(self, pointer: Any, steps: Any, stride: Any = 1) -> Any:
        """Pointer to the element that many steps further on."""
        steps, stride = (ir.Constant(_SIZE, x) if isinstance(x, int) else x for x in (steps, stride))
        return self.builder.gep(pointer, [self.builder.mul(steps, stride)])

    def load(self, pointer: Any) -> Any:
        return self.builder.load(self.builder.bitcast(pointer, self.vector.as_pointer()), align=self.bytes)

    def store(self, vector: Any, pointer: Any) -> None:
        self.builder.store(vector, self.builder.bitcast(pointer, vector.type.as_pointer()), align=self.bytes)

    def shuffle(self, x: Any, y: Any, lanes: Sequence[int]) -> Any:
        mask = ir.Constant(ir.VectorType(_WORD, len(lanes)), [ir.Constant(_WORD, lane) for lane in lanes])
        return self.builder.shuffle_vector(x, y, mask)

    def splat(self, number: Any) -> Any:
        nothing = ir.Constant(self.vector, ir.Undefined)
        return self.shuffle(
            self.builder.insert_element(nothing, number, ir.Constant(_WORD, 0)), nothing, [0] * self.lanes
        )

    def zeros(self, n: int) -> list[Any]:
        """Places of sums; LLVM keeps them in registers."""
        places = [cgutils.alloca_once(self.builder, self.vector) for _ in range(n)]
        for place in places:
            self.builder.store(ir.Constant(self.vector, None), place)
        return places

    def accumulate(self, place: Any, x: Any, y: Any) -> None:
        product = self.builder.fmul(x, y, flags=_FLAGS)
        self.builder.store(self.builder.fadd(self.builder.load(place), product, flags=_FLAGS), place)

    def totals(self, vectors: Sequence[Any]) -> list[Any]:
        """The sum of each vector's lanes, one after the other in fewer vectors.

        In each round every vector holds what is left of one or more sums, ``width`` lanes each; the halves of each are
        added, and two vectors become one.
        """
        width = self.lanes
        while width > 1:
            low = [lane for lane in range(2 * self.lanes) if lane % width < width // 2]
            high = [lane + width // 2 for lane in low]
            vectors = [
                self.builder.fadd(self.shuffle(x, y, low), self.shuffle(x, y, high), flags=_FLAGS)
                for x, y in zip(vectors[::2], vectors[1::2], strict=True)
            ]
            width //= 2
        return list(vectors)


def _outer_tile(registers: int) -> Any:
    """An intrinsic c += a b on four rows of c, ``registers`` vectors wide; arguments as of ``add_strided_product``."""

    @intrinsic
    def tile(
        typing_context: Any, a: Any, a_at: Any, a_row: Any, a_column: Any, b: Any, b_at: Any, b_row: Any, c: Any,
        c_at: Any, c_row: Any, depth: Any,
    ) -> Any:  # fmt: skip
        def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            a_value, a_at, a_row, a_column, b_value, b_at, b_row, c_value, c_at, c_row, depth = arguments
            t = _Tile(context, builder, c.dtype)
            a_start, b_start = t.pointer(a, a_value, a_at), t.pointer(b, b_value, b_at)
            sums = t.zeros(ROWS * registers)
            with cgutils.for_range(builder, depth) as loop:
                a_here, b_here = t.advance(a_start, loop.index, a_column), t.advance(b_start, loop.index, b_row)
                vectors = [t.load(t.advance(b_here, v * t.lanes)) for v in range(registers)]
                for r in range(ROWS):
                    factor = t.splat(builder.load(t.advance(a_here, r, a_row)))
                    for v in range(registers):
                        t.accumulate(sums[r * registers + v], factor, vectors[v])
            c_start = t.pointer(c, c_value, c_at)
            for r in range(ROWS):
                for v in range(registers):
                    place = t.advance(t.advance(c_start, r, c_row), v * t.lanes)
                    t.store(builder.fadd(t.load(place), builder.load(sums[r * registers + v]), flags=_FLAGS), place)
            return context.get_dummy_value()

        n = types.intp
        return types.void(a, n, n, n, b, n, n, c, n, n, n), build

    return tile


_tile_1, _tile_2, _tile_3, _tile_4 = (_outer_tile(registers) for registers in (1, 2, 3, 4))


@intrinsic
def _inner_tile(
    typing_context: Any, a: Any, a_at: Any, a_row: Any, b: Any, b_at: Any, b_row: Any, c: Any, c_at: Any, c_row: Any,
    depth: Any,
) -> Any:  # fmt: skip
    """c = a bᵀ for 4 × 4 elements of c, walking along the rows of a and b; the depth is in whole registers."""

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        a_value, a_at, a_row, b_value, b_at, b_row, c_value, c_at, c_row, depth = arguments
        t = _Tile(context, builder, c.dtype)
        a_start, b_start = t.pointer(a, a_value, a_at), t.pointer(b, b_value, b_at)
        sums = t.zeros(ROWS * ROWS)
        with cgutils.for_range(builder, builder.udiv(depth, ir.Constant(_SIZE, t.lanes))) as loop:
            a_here, b_here = t.advance(a_start, loop.index, t.lanes), t.advance(b_start, loop.index, t.lanes)
            columns = [t.load(t.advance(b_here, m, b_row)) for m in range(ROWS)]
            for r in range(ROWS):
                row = t.load(t.advance(a_here, r, a_row))
                for m in range(ROWS):
                    t.accumulate(sums[ROWS * r + m], row, columns[m])
        totals = t.totals([builder.load(place) for place in sums])
        c_start, piece = t.pointer(c, c_value, c_at), min(t.lanes, ROWS)
        for first in range(0, ROWS * ROWS, piece):
            whole, lane = totals[first // t.lanes], first % t.lanes
            place = t.advance(t.advance(c_start, first // ROWS, c_row), first % ROWS)
            t.store(t.shuffle(whole, whole, range(lane, lane + piece)), place)
        return context.get_dummy_value()

    n = types.intp
    return types.void(a, n, n, b, n, n, c, n, n, n), build


@intrinsic
def _transposed_tile(
    typing_context: Any, a: Any, a_at: Any, a_row: Any, b: Any, b_at: Any, b_row: Any
) -> Any:  # fmt: skip
    """b = aᵀ for as many rows and columns as a register has lanes.

    In round k, rows whose numbers differ in bit k exchange the lanes whose numbers differ from theirs in that bit.
    """

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        a_value, a_at, a_row, b_value, b_at, b_row = arguments
        t = _Tile(context, builder, b.dtype)
        a_start, b_start = t.pointer(a, a_value, a_at), t.pointer(b, b_value, b_at)
        rows = [t.load(t.advance(a_start, r, a_row)) for r in range(t.lanes)]
        bit = 1
        while bit < t.lanes:
            upper = [lane if not lane & bit else t.lanes + lane - bit for lane in range(t.lanes)]
            lower = [lane + bit if not lane & bit else t.lanes + lane for lane in range(t.lanes)]
            for r in range(t.lanes):
                if not r & bit:
                    x, y = rows[r], rows[r + bit]
                    rows[r], rows[r + bit] = t.shuffle(x, y, upper), t.shuffle(x, y, lower)
            bit *= 2
        for r, row in enumerate(rows):
            t.store(row, t.advance(b_start, r, b_row))
        return context.get_dummy_value()

    n = types.intp
    return types.void(a, n, n, b, n, n), build


@njit(**COMPILE_INNER)
def transpose(a: NDArray[Any], b: NDArray[Any]) -> None:
    """b = aᵀ for an (n, p) and a (p, n) matrix; n and p in multiples of ``COLUMNS``."""
    n, p = a.shape
    lanes = _BYTES // a.itemsize
    for i in range(0, n, lanes):
        for j in range(0, p, lanes):
            _transposed_tile(a, i * p + j, p, b, j * n + i, n)


@njit(**COMPILE_INNER)
def clear(flat: NDArray[Any]) -> None:
    """Zeros in a flat array of any length."""
    whole = len(flat) - len(flat) % COLUMNS
    for k in range(0, whole, COLUMNS):
        store(flat, k, splat(typed(0.0, flat[0]), COLUMNS))
    for k in range(whole, len(flat)):
        flat[k] = 0.0


@njit(**COMPILE_INNER)
def add_strided_product(
    a: NDArray[Any], a_at: int, a_row: int, a_column: int, b: NDArray[Any], b_at: int, b_row: int, c: NDArray[Any],
    c_at: int, c_row: int, rows: int, columns: int, depth: int,
) -> None:  # fmt: skip
    """c += a b, with operands anywhere in arrays.

    Args:
        a: element (i, k) of the first factor lies a_at + i a_row + k a_column elements from this array's beginning.
        b: row k of the second factor begins b_at + k b_row elements from this array's beginning.
        c: row i of the result begins c_at + i c_row elements from this array's beginning.
        rows, columns: of the result, in multiples of ``ROWS`` and ``COLUMNS``.
        depth: columns of a, rows of b.
    """
    lanes = _BYTES // c.itemsize
    column = 0
    while column < columns:
        left = (columns - column) // lanes
        strips = (left + _WIDEST - 1) // _WIDEST
        registers = (left + strips - 1) // strips
        b_here, c_here = b_at + column, c_at + column
        for i in range(0, rows, ROWS):
            if registers == 4:
                _tile_4(a, a_at + i * a_row, a_row, a_column, b, b_here, b_row, c, c_here + i * c_row, c_row, depth)
            elif registers == 3:
                _tile_3(a, a_at + i * a_row, a_row, a_column, b, b_here, b_row, c, c_here + i * c_row, c_row, depth)
            elif registers == 2:
                _tile_2(a, a_at + i * a_row, a_row, a_column, b, b_here, b_row, c, c_here + i * c_row, c_row, depth)
            else:
                _tile_1(a, a_at + i * a_row, a_row, a_column, b, b_here, b_row, c, c_here + i * c_row, c_row, depth)
        column += registers * lanes


@njit(**COMPILE_INNER)
def add_product(a: NDArray[Any], b: NDArray[Any], c: NDArray[Any]) -> None:
    """c += a b for (n, k) and (k, p) matrices; n in multiples of ``ROWS``, p in multiples of ``COLUMNS``."""
    n, p = c.shape
    add_strided_product(a, 0, a.shape[1], 1, b, 0, p, c, 0, p, n, p, b.shape[0])


@njit(**COMPILE_INNER)
def add_transposed_product(a: NDArray[Any], b: NDArray[Any], c: NDArray[Any]) -> None:
    """c += aᵀ b for (k, n) and (k, p) matrices; n in multiples of ``ROWS``, p in multiples of ``COLUMNS``."""
    n, p = c.shape
    add_strided_product(a, 0, 1, a.shape[1], b, 0, p, c, 0, p, n, p, b.shape[0])


@njit(**COMPILE_INNER)
def strided_row_products(
    a: NDArray[Any], a_at: int, a_row: int, b: NDArray[Any], b_at: int, b_row: int, c: NDArray[Any], c_at: int,
    c_row: int, rows: int, columns: int, depth: int,
) -> None:  # fmt: skip
    """c = a bᵀ, the scalar products of the rows of a with those of b.

    Args:
        a: row i begins a_at + i a_row elements from this array's beginning; up to three rows more than asked for are
            read.
        b: row m begins b_at + m b_row elements from this array's beginning.
        c: row i of the result begins c_at + i c_row elements from this array's beginning; up to three rows more than
            asked for are written.
        rows: of the result.
        columns: of the result, in multiples of ``ROWS``.
        depth: length of the rows of a and b, in multiples of ``COLUMNS``.
    """
    for i in range(0, rows, ROWS):
        for m in range(0, columns, ROWS):
            _inner_tile(
                a, a_at + i * a_row, a_row, b, b_at + m * b_row, b_row, c, c_at + i * c_row + m, c_row, depth
            )  # fmt: skip
