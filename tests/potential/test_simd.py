"""Vectors in numba kernels, and elementary functions of them."""

import numpy as np
import pytest
from numba import njit
from numba.core.errors import TypingError

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

BOTH = pytest.mark.parametrize("dtype", [np.float32, np.float64])


@njit(fastmath=FASTMATH, error_model="numpy")
def elementary(x, e, s, c):
    for i in range(0, len(x), 8):
        v = load(x, i, 8)
        store(e, i, exp(v))
        store(s, i, sine(v))
        store(c, i, cosine(v))


@njit(fastmath=FASTMATH, error_model="numpy")
def elementary_scalar(x, e, s, c):
    for i in range(len(x)):
        e[i], s[i], c[i] = exp(x[i]), sine(x[i]), cosine(x[i])


@BOTH
@pytest.mark.parametrize("function", [elementary, elementary_scalar])
def test_elementary_functions(function, dtype):
    # Four units in the last place: one from the polynomial, the rest from rounding its steps.
    error = 4.0 * np.finfo(dtype).eps
    x = np.linspace(-80.0, 80.0, 4096).astype(dtype)
    e, s, c = np.empty_like(x), np.empty_like(x), np.empty_like(x)
    function(x, e, s, c)
    # One unit in the last place of x = 80 changes its exponential by 80 units.
    np.testing.assert_allclose(e, np.exp(x.astype(np.float64)), rtol=error + 80.0 * np.finfo(dtype).eps)
    x = np.linspace(-0.5 * np.pi, 0.5 * np.pi, 4096).astype(dtype)
    function(x, e, s, c)
    np.testing.assert_allclose(s, np.sin(x.astype(np.float64)), rtol=error)
    np.testing.assert_allclose(c, np.cos(x.astype(np.float64)), atol=error)


@BOTH
def test_exponentials_do_not_overflow_and_keep_nan(dtype):
    x = np.array([-np.inf, -1e30, 1e30, np.inf, np.nan, 0.0, 1.0, -1.0], dtype)
    e, s, c = np.empty_like(x), np.empty_like(x), np.empty_like(x)
    elementary(x, e, s, c)
    assert (e[:2] > 0).all() and (e[:2] < 1e-37).all()
    assert np.isfinite(e[2:4]).all() and (e[2:4] > 1e37).all()
    assert np.isnan(e[4])
    np.testing.assert_allclose(e[5:], np.exp([0.0, 1.0, -1.0]), rtol=4 * np.finfo(dtype).eps)


@BOTH
def test_arithmetic_and_rearrangement(dtype):
    @njit
    def run(x, out, whole):
        v, w = load(x, 0, 6), load(x, 6, 6)
        two = typed(2.0, at(x, 0))
        store(out, 0, two * v + w / v - w)
        store(out, 6, smaller(v, w))
        store(out, 12, larger(v, two * two))
        store(out, 18, fold(spread(v, 3), v))
        store(out, 24, fold(tile(v, 3), v))
        store(out, 30, row_totals(tile(v, 2), splat(two, 2)))
        store(out, 32, row_totals(tile(v, 2), splat(two, 4)))
        store(whole, 0, floor(v + typed(0.5, v)))
        return total(v)

    x = np.array([1.0, 2.5, 3.0, 4.25, 5.0, 6.5, 6.0, 1.0, 4.0, 3.0, 2.0, 8.0], dtype)
    out, whole = np.zeros(36, dtype), np.zeros(6, np.int32)
    v, w = x[:6], x[6:]
    assert run(x, out, whole) == v.sum()
    np.testing.assert_allclose(out[:6], 2 * v + w / v - w, rtol=1e-6)
    np.testing.assert_array_equal(out[6:12], np.minimum(v, w))
    np.testing.assert_array_equal(out[12:18], np.maximum(v, 4.0))
    np.testing.assert_allclose(out[18:24], np.repeat(v, 3).reshape(3, 6).sum(0), rtol=1e-6)
    np.testing.assert_allclose(out[24:30], 3 * v, rtol=1e-6)
    np.testing.assert_allclose(out[30:32], [v.sum(), v.sum()], rtol=1e-6)
    np.testing.assert_allclose(out[32:36], [v[:3].sum(), v[3:].sum()] * 2, rtol=1e-6)
    np.testing.assert_array_equal(whole, np.floor(v + 0.5))


def test_mixed_types_and_unknown_lengths_are_refused():
    @njit
    def mixed(x):
        return total(load(x, 0, 4) * 2.0)

    @njit
    def unknown(x, n):
        return total(load(x, 0, n))

    with pytest.raises(TypingError, match="convert one of them"):
        mixed(np.ones(4, np.float32))
    with pytest.raises(TypingError, match="must be a constant"):
        unknown(np.ones(4), 4)
    with pytest.raises(TypingError, match="one dimension"):
        mixed(np.ones((4, 4)))
