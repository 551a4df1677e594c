"""Networks with the derivative of a loss on their outputs and input gradients, written out; compiled for the CPU.

Notation of one network, a row per atom: x the features, h₀ = x, z_l = h_{l−1} W_l + b_l, h_l = a(z_l), o = h_L·w + b.
Its input gradient g = ∂o/∂x comes from the chain

    p_L = w,    δ_l = a′(z_l) ∘ p_l,    p_{l−1} = δ_l W_lᵀ,    g = p₀.

A loss on energies and forces has derivatives c = ∂L/∂o and v = ∂L/∂g. With both held, ∂L/∂θ = ∂/∂θ Σ (c o + v·g), and
v·g is the derivative of o along v: one tangent pass (Pearlmutter, Neural Computation 6, 147 (1994))

    ḣ₀ = v,    ż_l = ḣ_{l−1} W_l,    ḣ_l = a′(z_l) ∘ ż_l,    v·g = ḣ_L·w,

and one reverse pass through values and tangents,

    z̄_l = a′(z_l) ∘ h̄_l + a″(z_l) ∘ p_l ∘ ż_l,    h̄_L = c w,    h̄_{l−1} = z̄_l W_lᵀ,
    ∂L/∂W_l = h_{l−1}ᵀ z̄_l + ḣ_{l−1}ᵀ δ_l,    ∂L/∂b_l = Σ z̄_l,    ∂L/∂w = Σ (c h_L + ḣ_L),    ∂L/∂b = Σ c,

where the δ_l are those of the gradient. That is six matrix products per layer, and nothing is computed twice.
``test_ensemble_gradient`` compares with autograd.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from alpot.potential.matrix_tiles import (
    COLUMNS,
    COMPILE,
    COMPILE_INNER,
    add_product,
    add_transposed_product,
    clear,
    transpose,
)
from alpot.potential.networks import CELU_ALPHA, Activation
from alpot.potential.simd import exp, load, splat, store, total, typed

Array = NDArray[Any]


class NetworkShape(NamedTuple):
    """Where the parameters of one network lie among those of its member, and its neurons in ``Activity``.

    Attributes:
        widths: (L + 1,) features, then neurons of each hidden layer; all padded to whole tiles.
        weight: (L,) where W_l begins, (widths[l − 1], widths[l]).
        bias: (L,) where b_l begins, (widths[l],).
        output: where w begins, (widths[L],); b follows it.
        size: length of the network's part.
        neurons: (L,) number of neurons in the layers before.
        is_celu: CELU if True, SiLU otherwise.
    """

    widths: NDArray[np.int64]
    weight: NDArray[np.int64]
    bias: NDArray[np.int64]
    output: int
    size: int
    neurons: NDArray[np.int64]
    is_celu: bool

    @classmethod
    def of(cls, widths: Sequence[int], activation: Activation) -> NetworkShape:
        """Of networks with that many features and neurons, all in multiples of ``COLUMNS``."""
        weight, bias, at = [], [], 0
        for before, width in pairwise(widths):
            weight.append(at)
            bias.append(at + before * width)
            at += (before + 1) * width
        return cls(
            widths=np.array(widths),
            weight=np.array(weight),
            bias=np.array(bias),
            output=at,
            size=at + widths[-1] + COLUMNS,
            neurons=np.cumsum([0, *widths[1:-1]]),
            is_celu=activation == "celu",
        )


class Activity(NamedTuple):
    """What a member's network leaves behind for the reverse pass; flat, layer after layer, a row per atom.

    Attributes:
        value: h_l.
        slope: a′(z_l).
        bend: a″(z_l) ∘ p_l; the reverse pass turns it into a″ ∘ p ∘ ż.
        chain: δ_l.
    """

    value: Array
    slope: Array
    bend: Array
    chain: Array


@njit(inline="always")
def _matrix(flat: Array, start: int, rows: int, columns: int) -> Array:
    return flat[start : start + rows * columns].reshape(rows, columns)


@njit(**COMPILE_INNER)
def _fill_rows(flat: Array, start: int, rows: int, source: Array, at: int, width: int) -> None:
    """Copies of one row."""
    for i in range(start, start + rows * width, width):
        for j in range(0, width, COLUMNS):
            store(flat, i + j, load(source, at + j, COLUMNS))


@njit(**COMPILE_INNER)
def _add_rows(flat: Array, rows: int, width: int, total: Array, at: int) -> None:
    """Add the sum of some rows."""
    for j in range(0, width, COLUMNS):
        column = load(total, at + j, COLUMNS)
        for i in range(j, j + rows * width, width):
            column = column + load(flat, i, COLUMNS)
        store(total, at + j, column)


@njit(**COMPILE_INNER)
def _silu(value: Array, slope: Array, bend: Array) -> None:
    one = value.dtype.type(1.0)
    for i in range(len(value)):
        z = value[i]
        sigmoid = one / (one + exp(-z))
        rest = one - sigmoid
        h = z * sigmoid
        value[i] = h
        slope[i] = sigmoid + h * rest
        bend[i] = sigmoid * rest * (one + one + z * (rest - sigmoid))


@njit(**COMPILE_INNER)
def _celu(value: Array, slope: Array, bend: Array) -> None:
    one, zero, alpha = value.dtype.type(1.0), value.dtype.type(0.0), value.dtype.type(CELU_ALPHA)
    per_alpha = one / alpha
    for i in range(len(value)):
        z = value[i]
        negative = z if z < zero else zero
        decay = exp(negative * per_alpha)
        value[i] = (z - negative) + alpha * (decay - one)  # NaN stays NaN
        slope[i] = decay
        bend[i] = decay * per_alpha if z < zero else zero


@njit(**COMPILE)
def transpose_weights(parameters: Array, shape: NetworkShape, transposed: Array) -> None:
    """Fill ``transposed`` with W_lᵀ, (widths[l], widths[l − 1]), where W_l lies in ``parameters``."""
    for layer in range(len(shape.weight)):
        rows, columns, start = shape.widths[layer], shape.widths[layer + 1], shape.weight[layer]
        transpose(_matrix(parameters, start, rows, columns), _matrix(transposed, start, columns, rows))


@njit(**COMPILE_INNER)
def evaluate_network(
    parameters: Array, transposed: Array, shape: NetworkShape, x: Array, activity: Activity, outputs: Array, g: Array
) -> None:
    """Outputs and their input gradient.

    Args:
        parameters: of the member; flat.
        transposed: see ``transpose_weights``.
        shape: of the network.
        x: (n, widths[0]) features; n in whole tiles.
        activity: filled.
        outputs: (n,) filled.
        g: (n, widths[0]) filled.
    """
    n, n_layers = len(x), len(shape.weight)
    h = x
    for layer in range(n_layers):
        width, start = shape.widths[layer + 1], n * shape.neurons[layer]
        _fill_rows(activity.value, start, n, parameters, shape.bias[layer], width)
        z = _matrix(activity.value, start, n, width)
        add_product(h, _matrix(parameters, shape.weight[layer], shape.widths[layer], width), z)
        part = slice(start, start + n * width)
        if shape.is_celu:
            _celu(activity.value[part], activity.slope[part], activity.bend[part])
        else:
            _silu(activity.value[part], activity.slope[part], activity.bend[part])
        h = z
    _evaluate_output(parameters, shape, activity, n, outputs)
    for layer in range(n_layers - 1, -1, -1):
        before, width, start = shape.widths[layer], shape.widths[layer + 1], n * shape.neurons[layer]
        if layer < n_layers - 1:  # δ_l holds p_l up to here
            for k in range(start, start + n * width, COLUMNS):
                p = load(activity.chain, k, COLUMNS)
                store(activity.chain, k, p * load(activity.slope, k, COLUMNS))
                store(activity.bend, k, p * load(activity.bend, k, COLUMNS))
        target = g.reshape(g.size) if layer == 0 else activity.chain[n * shape.neurons[layer - 1] :]
        clear(target[: n * before])
        chain, weight = (
            _matrix(activity.chain, start, n, width),
            _matrix(transposed, shape.weight[layer], width, before),
        )
        add_product(chain, weight, _matrix(target, 0, n, before))


@njit(**COMPILE_INNER)
def _evaluate_output(parameters: Array, shape: NetworkShape, activity: Activity, n: int, outputs: Array) -> None:
    """o = h_L·w + b, δ_L = a′ ∘ w and a″ ∘ w."""
    last, start = shape.widths[-1], n * shape.neurons[-1]
    for i in range(n):
        sums = splat(typed(0.0, outputs[0]), COLUMNS)
        for j in range(0, last, COLUMNS):
            k, w = start + i * last + j, load(parameters, shape.output + j, COLUMNS)
            sums = sums + w * load(activity.value, k, COLUMNS)
            store(activity.chain, k, w * load(activity.slope, k, COLUMNS))
            store(activity.bend, k, w * load(activity.bend, k, COLUMNS))
        outputs[i] = total(sums) + parameters[shape.output + last]


@njit(**COMPILE_INNER)
def add_gradient(
    parameters: Array,
    transposed: Array,
    shape: NetworkShape,
    x: Array,
    activity: Activity,
    c: Array,
    v: Array,
    scratch: Array,
    gradient: Array,
) -> None:
    """Add ∂/∂θ Σ (c o + v·g) of the network to ``gradient``.

    Args:
        parameters, transposed, shape, x: as given to ``evaluate_network``.
        activity: as left by it; used up.
        c: (n,).
        v: (n, widths[0]).
        scratch: (2, n · widest hidden layer).
        gradient: of the member's parameters; flat.
    """
    n, n_layers = len(x), len(shape.weight)
    tangent = v
    for layer in range(n_layers):
        before, width, start = shape.widths[layer], shape.widths[layer + 1], n * shape.neurons[layer]
        chain = _matrix(activity.chain, start, n, width)
        add_transposed_product(tangent, chain, _matrix(gradient, shape.weight[layer], before, width))
        flat = scratch[layer % 2]
        clear(flat[: n * width])
        weight = _matrix(parameters, shape.weight[layer], before, width)
        add_product(tangent, weight, _matrix(flat, 0, n, width))
        for k in range(0, n * width, COLUMNS):
            change = load(flat, k, COLUMNS)
            store(activity.bend, start + k, change * load(activity.bend, start + k, COLUMNS))
            store(flat, k, change * load(activity.slope, start + k, COLUMNS))
        tangent = _matrix(flat, 0, n, width)
    flat, other = scratch[n_layers % 2], scratch[(n_layers + 1) % 2]
    _add_output_gradient(parameters, shape, activity, c, other, flat, gradient)
    for layer in range(n_layers - 1, -1, -1):
        before, width, start = shape.widths[layer], shape.widths[layer + 1], n * shape.neurons[layer]
        for k in range(0, n * width, COLUMNS):
            bent = load(activity.bend, start + k, COLUMNS)
            store(flat, k, load(flat, k, COLUMNS) * load(activity.slope, start + k, COLUMNS) + bent)
        _add_rows(flat, n, width, gradient, shape.bias[layer])
        adjoint = _matrix(flat, 0, n, width)
        h = x if layer == 0 else _matrix(activity.value, n * shape.neurons[layer - 1], n, before)
        add_transposed_product(h, adjoint, _matrix(gradient, shape.weight[layer], before, width))
        if layer > 0:
            clear(other[: n * before])
            weight = _matrix(transposed, shape.weight[layer], width, before)
            add_product(adjoint, weight, _matrix(other, 0, n, before))
            flat, other = other, flat


@njit(**COMPILE_INNER)
def _add_output_gradient(
    parameters: Array,
    shape: NetworkShape,
    activity: Activity,
    c: Array,
    tangent: Array,
    adjoint: Array,
    gradient: Array,
) -> None:
    """∂L/∂w = Σ (c h_L + ḣ_L) and ∂L/∂b = Σ c, added; h̄_L = c w, filled."""
    n, last, start = len(c), shape.widths[-1], len(c) * shape.neurons[-1]
    for j in range(0, last, COLUMNS):
        w, sums = load(parameters, shape.output + j, COLUMNS), load(gradient, shape.output + j, COLUMNS)
        for i in range(n):
            k = i * last + j
            sums = sums + (load(tangent, k, COLUMNS) + load(activity.value, start + k, COLUMNS) * c[i])
            store(adjoint, k, w * c[i])
        store(gradient, shape.output + j, sums)
    for i in range(n):
        gradient[shape.output + last] += c[i]
