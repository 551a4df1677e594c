"""Tiled products against numpy's, of all sizes that padding leaves."""

import numpy as np
import pytest
from numba import njit

from alpot.potential import matrix_tiles
from alpot.potential.matrix_tiles import COLUMNS, COMPILE, ROWS


# These functions are for other kernels only: a kernel around each.
@njit(**COMPILE)
def add_product(a, b, c):
    matrix_tiles.add_product(a, b, c)


@njit(**COMPILE)
def add_transposed_product(a, b, c):
    matrix_tiles.add_transposed_product(a, b, c)


@njit(**COMPILE)
def add_strided_product(a, a_at, a_row, a_column, b, b_at, b_row, c, c_at, c_row, rows, columns, depth):
    matrix_tiles.add_strided_product(
        a, a_at, a_row, a_column, b, b_at, b_row, c, c_at, c_row, rows, columns, depth
    )  # fmt: skip


@njit(**COMPILE)
def strided_row_products(a, a_at, a_row, b, b_at, b_row, c, c_at, c_row, rows, columns, depth):
    matrix_tiles.strided_row_products(a, a_at, a_row, b, b_at, b_row, c, c_at, c_row, rows, columns, depth)


@njit(**COMPILE)
def transposed(a, b):
    matrix_tiles.transpose(a, b)


def draw(rng, dtype, *shape):
    return rng.normal(size=shape).astype(dtype)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("columns", [COLUMNS * n for n in range(1, 10)])
def test_products_are_numpys(dtype, columns):
    rng = np.random.default_rng(columns)
    for n, depth in ((ROWS, 1), (3 * ROWS, 7), (24, 40)):
        a, b, start = draw(rng, dtype, n, depth), draw(rng, dtype, depth, columns), draw(rng, dtype, n, columns)
        # The sum of 40 products of numbers near 1 in another order: rounding.
        tolerance = {"rtol": 0, "atol": 200 * np.finfo(dtype).eps}
        c = start.copy()
        add_product(a, b, c)
        np.testing.assert_allclose(c, start + a @ b, **tolerance)
        c = start.copy()
        add_transposed_product(np.ascontiguousarray(a.T), b, c)
        np.testing.assert_allclose(c, start + a @ b, **tolerance)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_operands_may_lie_anywhere(dtype):
    rng = np.random.default_rng(0)
    a, b, c = draw(rng, dtype, 20, 30), draw(rng, dtype, 20, 50), draw(rng, dtype, 20, 40)
    expected = c.copy()
    expected[3:11, 5:37] += a[2:12:2, 7:23:2].T @ b[1:6, 9:41]
    add_strided_product(a, 2 * 30 + 7, 2, 60, b, 59, 50, c, 125, 40, 8, 32, 5)
    np.testing.assert_allclose(c, expected, rtol=0, atol=50 * np.finfo(dtype).eps)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("rows", [1, 4, 6, 11])
def test_row_products(dtype, rows):
    """Rows in any number; what is written beyond them is the caller's to ignore, and no more than three rows."""
    rng = np.random.default_rng(rows)
    for columns, depth in ((ROWS, COLUMNS), (3 * ROWS, 5 * COLUMNS)):
        a, b = draw(rng, dtype, rows + 3, depth + 2), draw(rng, dtype, columns, depth + 1)
        c = np.full((rows + 4, columns + 3), np.nan, dtype)
        strided_row_products(a, 1, depth + 2, b, 0, depth + 1, c, 2, columns + 3, rows, columns, depth)
        expected = a[:rows, 1 : depth + 1] @ b[:, :depth].T
        np.testing.assert_allclose(c[:rows, 2 : columns + 2], expected, rtol=0, atol=200 * np.finfo(dtype).eps)
        assert np.isnan(c[rows + 3 :]).all() and np.isnan(c[:, :2]).all() and np.isnan(c[:, columns + 2 :]).all()


def test_nan_stays_in_its_row():
    """A member that diverges must not spoil the others."""
    a, b, c = np.ones((8, 3)), np.ones((3, 32)), np.zeros((8, 32))
    a[5, 1] = np.nan
    add_product(a, b, c)
    assert np.isnan(c[5]).all() and np.isfinite(np.delete(c, 5, axis=0)).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_transposition(dtype):
    a = draw(np.random.default_rng(0), dtype, 3 * COLUMNS, 2 * COLUMNS)
    b = np.zeros((2 * COLUMNS, 3 * COLUMNS), dtype)
    transposed(a, b)
    np.testing.assert_array_equal(b, a.T)
