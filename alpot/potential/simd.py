"""Vector registers for numba kernels: short vectors as values, and elementary functions on them and on scalars.

LLVM's own vectoriser gives up on loops with many arrays, whose overlap it cannot exclude, and library exponentials are
a call per element. Here a kernel says what it means: ``load(x, i, 8) * exp(v)`` is a few vector instructions on any
processor (LLVM splits a vector into the registers that there are).

The elementary functions are polynomials after the usual range reductions, accurate to a few units in the last place
(of the argument, too, in the case of exp).
NaN and infinity keep their meaning: a potential that explodes must be seen to do so.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.errors import TypingError
from numba.extending import intrinsic, models, overload, register_model

#: What LLVM may do with sums and products.
FASTMATH = {"reassoc", "contract", "arcp", "nsz"}


class VectorType(types.Type):
    """n float32 or float64 numbers."""

    def __init__(self, dtype: types.Float, n: int) -> None:
        self.dtype, self.n = dtype, n
        super().__init__(name=f"Vector({dtype}, {n})")


@register_model(VectorType)
class _VectorModel(models.PrimitiveModel):
    def __init__(self, manager: Any, kind: VectorType) -> None:
        super().__init__(manager, kind, ir.VectorType(_scalar(kind), kind.n))


def _scalar(kind: Any) -> Any:
    dtype = kind.dtype if isinstance(kind, VectorType) else kind
    return ir.FloatType() if dtype == types.float32 else ir.DoubleType()


def _is_number(kind: Any) -> bool:
    return isinstance(kind, VectorType | types.Float)


class _Builder:
    """Arithmetic in LLVM's language on values of one kind, scalar or vector."""

    def __init__(self, builder: Any, kind: Any) -> None:
        self.builder, self.kind = builder, kind
        self.type = ir.VectorType(_scalar(kind), kind.n) if isinstance(kind, VectorType) else _scalar(kind)
        dtype = kind.dtype if isinstance(kind, VectorType) else kind
        self.is_single = dtype == types.float32

    def constant(self, number: float) -> Any:
        number = float(np.float32(number)) if self.is_single else number
        if isinstance(self.kind, VectorType):
            return ir.Constant(self.type, [ir.Constant(self.type.element, number)] * self.kind.n)
        return ir.Constant(self.type, number)

    def polynomial(self, x: Any, coefficients: Sequence[float]) -> Any:
        """Horner's rule, highest power first."""
        value = self.constant(coefficients[0])
        for c in coefficients[1:]:
            value = self.builder.fadd(self.builder.fmul(value, x), self.constant(c))
        return value

    def call(self, name: str, *arguments: Any) -> Any:
        """One of LLVM's own functions, such as ``llvm.floor``."""
        kind = ir.FunctionType(self.type, [self.type] * len(arguments))
        suffix = f"v{self.kind.n}" if isinstance(self.kind, VectorType) else ""
        name = f"{name}.{suffix}f{32 if self.is_single else 64}"
        return self.builder.call(cgutils.get_or_insert_function(self.builder.module, kind, name), arguments)

    def exp(self, x: Any) -> Any:
        """2ⁿ e^f with |f| ≤ ln 2 / 2; arguments are clamped to where the result is a normal number."""
        b = self.builder
        bits, bias, mantissa, limit, terms = (32, 127, 23, 87.0, 7) if self.is_single else (64, 1023, 52, 700.0, 13)
        too_small = b.fcmp_ordered("<", x, self.constant(-limit))
        x = b.select(too_small, self.constant(-limit), x)
        too_large = b.fcmp_ordered(">", x, self.constant(limit))
        x = b.select(too_large, self.constant(limit), x)
        n = self.call("llvm.floor", b.fadd(b.fmul(x, self.constant(1.0 / math.log(2.0))), self.constant(0.5)))
        f = b.fsub(x, b.fmul(n, self.constant(math.log(2.0))))
        value = self.polynomial(f, [1.0 / math.factorial(k) for k in range(terms, -1, -1)])
        whole = ir.IntType(bits)
        fill = (
            (lambda c: ir.Constant(whole, c))
            if not isinstance(self.kind, VectorType)
            else (lambda c: ir.Constant(ir.VectorType(whole, self.kind.n), [ir.Constant(whole, c)] * self.kind.n))
        )
        exponent = b.fptosi(n, ir.VectorType(whole, self.kind.n) if isinstance(self.kind, VectorType) else whole)
        power = b.bitcast(b.shl(b.add(exponent, fill(bias)), fill(mantissa)), self.type)
        return b.fmul(value, power)

    def sine(self, x: Any) -> Any:
        terms = 7 if self.is_single else 12
        odd = [(-1) ** k / math.factorial(2 * k + 1) for k in range(terms - 1, -1, -1)]
        return self.builder.fmul(x, self.polynomial(self.builder.fmul(x, x), odd))

    def cosine(self, x: Any) -> Any:
        terms = 7 if self.is_single else 12
        even = [(-1) ** k / math.factorial(2 * k) for k in range(terms, -1, -1)]
        return self.polynomial(self.builder.fmul(x, x), even)


def _elementary(build: Callable[[_Builder, Any], Any]) -> Any:
    """An intrinsic of one argument from what ``_Builder`` makes of it."""

    def define(typing_context: Any, x: Any) -> Any:
        if not _is_number(x):
            return None
        return x(x), lambda context, builder, signature, arguments: build(_Builder(builder, x), arguments[0])

    return define


#: eˣ; arguments beyond ±87 (float32) or ±700 (float64) count as that.
exp = intrinsic(_elementary(_Builder.exp))
#: sin x for |x| ≤ π/2; of full relative accuracy near 0.
sine = intrinsic(_elementary(_Builder.sine))
#: cos x for |x| ≤ π/2.
cosine = intrinsic(_elementary(_Builder.cosine))
floor = intrinsic(_elementary(lambda b, x: b.call("llvm.floor", x)))


@intrinsic
def typed(typing_context: Any, number: Any, like: Any) -> Any:
    """A number in the type of ``like`` (splat if that is a vector): a literal would drag float32 into float64."""
    if not (isinstance(number, types.Float | types.Integer) and _is_number(like)):
        return None

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        dtype = like.dtype if isinstance(like, VectorType) else like
        value = context.cast(builder, arguments[0], number, dtype)
        return _splat(builder, value, like.n) if isinstance(like, VectorType) else value

    return like(number, like), build


def _splat(builder: Any, value: Any, n: int) -> Any:
    one = builder.insert_element(
        ir.Constant(ir.VectorType(value.type, n), ir.Undefined), value, ir.Constant(ir.IntType(32), 0)
    )
    mask = ir.Constant(ir.VectorType(ir.IntType(32), n), [ir.Constant(ir.IntType(32), 0)] * n)
    return builder.shuffle_vector(one, ir.Constant(one.type, ir.Undefined), mask)


def _literal(kind: Any) -> int:
    if not isinstance(kind, types.IntegerLiteral):
        raise TypingError(f"the length of a vector must be a constant, got {kind}")
    return int(kind.literal_value)


@intrinsic(prefer_literal=True)
def splat(typing_context: Any, value: Any, n: Any) -> Any:
    """A vector of n equal numbers."""
    result = VectorType(types.unliteral(value), _literal(n))
    return result(value, n), lambda context, builder, signature, arguments: _splat(builder, arguments[0], result.n)


def _pointer(context: Any, builder: Any, array: Any, value: Any, index: Any, n: int) -> Any:
    data = context.make_array(array)(context, builder, value).data
    start = builder.gep(data, [index])
    return builder.bitcast(start, ir.VectorType(context.get_value_type(array.dtype), n).as_pointer())


def _check_array(array: Any) -> None:
    if not (isinstance(array, types.Array) and array.ndim == 1 and array.layout == "C"):
        raise TypingError(f"vectors are loaded from and stored in contiguous arrays of one dimension, got {array}")


@intrinsic(prefer_literal=True)
def load(typing_context: Any, array: Any, index: Any, n: Any) -> Any:
    """n consecutive elements of a contiguous one-dimensional array; the array's end is not checked."""
    _check_array(array)
    result = VectorType(array.dtype, _literal(n))

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        at = context.cast(builder, arguments[1], signature.args[1], types.intp)
        pointer = _pointer(context, builder, array, arguments[0], at, result.n)
        return builder.load(pointer, align=array.dtype.bitwidth // 8)

    return result(array, types.unliteral(index), n), build


@intrinsic
def at(typing_context: Any, array: Any, index: Any) -> Any:
    """One element of a contiguous one-dimensional array; unlike ``array[index]``, no index counts from the end."""
    _check_array(array)

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        place = context.cast(builder, arguments[1], signature.args[1], types.intp)
        return builder.load(builder.gep(context.make_array(array)(context, builder, arguments[0]).data, [place]))

    return array.dtype(array, index), build


@intrinsic
def store(typing_context: Any, array: Any, index: Any, vector: Any) -> Any:
    """Write a vector to consecutive elements; into an int32 array, numbers are cut to integers."""
    _check_array(array)

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        at = context.cast(builder, arguments[1], signature.args[1], types.intp)
        value = arguments[2]
        if isinstance(array.dtype, types.Integer):
            value = builder.fptosi(value, ir.VectorType(context.get_value_type(array.dtype), vector.n))
        pointer = _pointer(context, builder, array, arguments[0], at, vector.n)
        builder.store(value, pointer, align=array.dtype.bitwidth // 8)
        return context.get_dummy_value()

    return types.void(array, index, vector), build


@intrinsic
def total(typing_context: Any, vector: Any) -> Any:
    """Sum of a vector's elements."""

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        scalar = _scalar(vector)
        name = f"llvm.vector.reduce.fadd.v{vector.n}f{vector.dtype.bitwidth}"
        function = cgutils.get_or_insert_function(
            builder.module, ir.FunctionType(scalar, [scalar, arguments[0].type]), name
        )
        return builder.call(function, [ir.Constant(scalar, 0.0), arguments[0]], fastmath=("reassoc", "nsz"))

    return vector.dtype(vector), build


def _shuffle(indices: Callable[[int, int], list[int]]) -> Any:
    def define(typing_context: Any, vector: Any, times: Any) -> Any:
        result = VectorType(vector.dtype, vector.n * _literal(times))

        def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            word = ir.IntType(32)
            mask = [ir.Constant(word, i) for i in indices(vector.n, result.n // vector.n)]
            nothing = ir.Constant(arguments[0].type, ir.Undefined)
            return builder.shuffle_vector(arguments[0], nothing, ir.Constant(ir.VectorType(word, result.n), mask))

        return result(vector, times), build

    return define


#: (a, b) → (a, a, …, b, b, …), each element that many times.
spread = intrinsic(prefer_literal=True)(_shuffle(lambda n, times: [i for i in range(n) for _ in range(times)]))
#: (a, b) → (a, b, a, b, …), the vector that many times.
tile = intrinsic(prefer_literal=True)(_shuffle(lambda n, times: list(range(n)) * times))


@intrinsic
def fold(typing_context: Any, vector: Any, like: Any) -> Any:
    """Sum of consecutive pieces of a vector, each as long as ``like``."""

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        def part(value: Any, begin: int, end: int) -> Any:
            word = ir.IntType(32)
            mask = ir.Constant(ir.VectorType(word, end - begin), [word(i) for i in range(begin, end)])
            return builder.shuffle_vector(value, ir.Constant(value.type, ir.Undefined), mask)

        def add_up(value: Any, n: int) -> Any:
            if n == like.n:
                return value
            # Halves first: whole registers are added before one is taken apart.
            middle = n // like.n // 2 * like.n
            halves = part(value, 0, middle), part(value, middle, n)
            return (
                builder.fadd(add_up(halves[0], middle), add_up(halves[1], n - middle))
                if n % (2 * like.n)
                else (add_up(builder.fadd(*halves), middle))
            )

        return add_up(arguments[0], vector.n)

    return like(vector, like), build


@intrinsic
def row_totals(typing_context: Any, vector: Any, like: Any) -> Any:
    """Sums of as many pieces of equal length as ``like`` is long."""
    length = vector.n // like.n

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        def pick(value: Any, n: int, at: int, step: int) -> Any:
            """Every ``step``-th element of each piece of n, the ``at``-th first."""
            picked = [piece * n + i for piece in range(like.n) for i in range(at, n // step * step, step)]
            mask = ir.Constant(ir.VectorType(ir.IntType(32), len(picked)), [ir.IntType(32)(i) for i in picked])
            return builder.shuffle_vector(value, ir.Constant(value.type, ir.Undefined), mask)

        def add_up(value: Any, n: int) -> Any:
            if n == 1:
                return value
            if n % 2:
                columns = [pick(value, n, i, n) for i in range(n)]
                result = columns[0]
                for column in columns[1:]:
                    result = builder.fadd(result, column)
                return result
            return add_up(builder.fadd(pick(value, n, 0, 2), pick(value, n, 1, 2)), n // 2)

        return add_up(arguments[0], length)

    return like(vector, like), build


def _binary(operation: str) -> Any:
    """An intrinsic on two vectors, or a vector and a scalar of its type."""

    def define(typing_context: Any, x: Any, y: Any) -> Any:
        vector = x if isinstance(x, VectorType) else y
        for kind in (x, y):
            if kind != vector and kind != vector.dtype:
                raise TypingError(f"cannot combine {x} and {y}; convert one of them with typed(...)")

        def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            values = [
                value if isinstance(kind, VectorType) else _splat(builder, value, vector.n)
                for kind, value in zip((x, y), arguments, strict=True)
            ]
            if operation in ("<", ">"):
                return builder.select(builder.fcmp_ordered(operation, *values), *values)
            return getattr(builder, operation)(*values)

        return vector(x, y), build

    return define


_add = intrinsic(_binary("fadd"))
_subtract = intrinsic(_binary("fsub"))
_multiply = intrinsic(_binary("fmul"))
_divide = intrinsic(_binary("fdiv"))
#: Element by element; the second argument where they cannot be compared (NaN).
smaller = intrinsic(_binary("<"))
larger = intrinsic(_binary(">"))


def _has_vector(x: Any, y: Any) -> bool:
    return isinstance(x, VectorType) or isinstance(y, VectorType)


def _operator(function: Any, build: Any) -> None:
    def choose(x, y):  # type: ignore[no-untyped-def]  # numba compares the signatures, annotations included
        return (lambda x, y: build(x, y)) if _has_vector(x, y) else None

    overload(function)(choose)


_operator(operator.add, _add)
_operator(operator.sub, _subtract)
_operator(operator.mul, _multiply)
_operator(operator.truediv, _divide)
