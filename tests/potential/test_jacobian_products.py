"""Forces from gradients and their transpose; that they are the right forces is tested in ``test_ensemble_gradient``."""

import numpy as np
import pytest
from numba import njit

from alpot.potential.frame_cache import FrameCache
from alpot.potential.jacobian_products import Scratch, add_forces, gradients_from_forces
from alpot.potential.matrix_tiles import COMPILE, ROWS

ELEMENTS = ("Al", "Ni")


# These functions are for other kernels only: a kernel around each.
@njit(**COMPILE)
def pull(jacobian, functions, center, rows, gradients, scratch, forces, virials):
    add_forces(jacobian, functions, center, rows, gradients, scratch, forces, virials, True)


@njit(**COMPILE)
def push(jacobian, functions, center, rows, by_forces, by_virials, scratch, by_gradients):
    gradients_from_forces(
        jacobian, functions, center, rows, by_forces, by_virials, True, (0, 0), scratch, by_gradients
    )  # fmt: skip


@pytest.mark.parametrize("n_members", [ROWS, 3 * ROWS])
def test_the_two_products_are_transposes(make_ensemble, make_frame, make_label, n_members):
    """Σ F·X + Σ V·Y = Σ g·v(X, Y) for any g, X and Y; forces add up to zero, and other rows are left alone."""
    frames = [make_label(make_frame(n, ELEMENTS, seed=n), seed=n) for n in (5, 11)]
    cache = FrameCache.of(make_ensemble(ELEMENTS), frames)
    rng, n_atoms, begin = np.random.default_rng(0), 11, 5
    rows = rng.permutation(20)[:n_atoms]
    g = rng.normal(size=(n_members, 20, cache.functions.width))
    x, y = rng.normal(size=(n_atoms, 3, n_members)), rng.normal(size=(6, n_members))
    forces, virials, v = np.zeros(x.size), np.zeros(y.size), np.full_like(g, np.nan)
    scratch = Scratch.allocate(cache.functions, cache.most_pairs, cache.most_items, n_members)
    pull(cache.jacobian, cache.functions, begin, rows, g, scratch, forces, virials)
    push(cache.jacobian, cache.functions, begin, rows, x.reshape(-1), y.reshape(-1), scratch, v)
    forces, virials = forces.reshape(x.shape), virials.reshape(y.shape)
    left = np.einsum("idm,idm->m", forces, x) + np.einsum("km,km->m", virials, y)
    right = np.einsum("mif,mif->m", g[:, rows], v[:, rows])
    scale = np.abs(forces).sum()
    np.testing.assert_allclose(left, right, rtol=0, atol=1e-13 * scale)  # rounding of sums of that size
    np.testing.assert_allclose(forces.sum(axis=0), 0.0, atol=1e-13 * scale)
    assert np.isnan(np.delete(v, rows, axis=1)).all()
