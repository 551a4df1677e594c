"""The compact Jacobian against automatic differentiation of the plain descriptor."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from alpot.potential.aev_reference import ReferenceKernels
from alpot.potential.batch import Batch
from alpot.potential.descriptor import Environments
from alpot.potential.frame_cache import FrameCache
from alpot.potential.jacobian import VOIGT
from alpot.potential.kernels import Geometry
from alpot.potential.neighbors import NeighborSearch


def features_of(ensemble, atoms):
    """The features (n, F) as a function of displacements (n, 3) and strain (3, 3), and zeros to call it with."""
    batch = Batch.from_atoms([atoms])
    oracle = ReferenceKernels(ensemble.aev, len(ensemble.elements), ensemble.dtype)
    pairs = NeighborSearch(ensemble.cutoff).pairs(batch)
    atoms_and_pairs = Geometry.of(batch, torch.from_numpy(ensemble.species(batch.numbers)), pairs, "cpu")
    geometry = oracle.environments(atoms_and_pairs, 0, batch.n_atoms)
    species = torch.from_numpy(ensemble.species(batch.numbers))

    def features(moves, strain):
        vectors = geometry.vectors + moves[geometry.neighbor] - moves[geometry.center]
        vectors = vectors + vectors @ (0.5 * (strain + strain.T))
        n_elements = len(ensemble.elements)
        return Environments(
            ensemble.aev, n_elements, batch.n_atoms, geometry.center, species[geometry.neighbor], vectors
        ).features

    return features, (torch.zeros((batch.n_atoms, 3), dtype=torch.float64), torch.zeros((3, 3), dtype=torch.float64))


def by_autograd(ensemble, atoms) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Features (n, F), derivatives by positions (n, F, n, 3) and by the strain in Voigt order (n, F, 6)."""
    features, still = features_of(ensemble, atoms)
    by_moves, by_strain = torch.autograd.functional.jacobian(features, still)
    return features(*still).numpy(), by_moves.numpy(), np.stack([by_strain[..., a, b] for a, b in VOIGT], axis=-1)


def dense(cache) -> tuple[np.ndarray, np.ndarray]:
    """The compact Jacobian of one frame, written out as what ``by_autograd`` returns."""
    f, jacobian, n = cache.functions, cache.jacobian, len(cache.features)
    by_moves = np.zeros((n, f.width, n, 3))
    for segment in range(n * f.n_elements):
        center, element = divmod(segment, f.n_elements)
        for p in range(jacobian.first_pair[segment], jacobian.first_pair[segment + 1]):
            start = element * f.radial_width + jacobian.pair_window[p]
            slopes = jacobian.pair_slope[p * f.window : (p + 1) * f.window]
            pull = slopes[:, None] * jacobian.pair_unit[3 * p : 3 * p + 3]
            by_moves[center, start : start + f.window, jacobian.pair_neighbor[p]] += pull
            by_moves[center, start : start + f.window, center] -= pull
    for segment in range(n * f.n_blocks):
        center, block = divmod(segment, f.n_blocks)
        start = f.n_elements * f.radial_width + block * f.angular_width
        for p in range(jacobian.first_item[segment], jacobian.first_item[segment + 1]):
            own = jacobian.item_block[3 * p * f.angular_width : 3 * (p + 1) * f.angular_width]
            pull = own.reshape(3, f.angular_width).T
            by_moves[center, start : start + f.angular_width, jacobian.item_neighbor[p]] += pull
            by_moves[center, start : start + f.angular_width, center] -= pull
    by_strain = jacobian.strain[: 6 * n * f.width].reshape(n, 6, f.width).transpose(0, 2, 1)
    return by_moves, by_strain


def check(ensemble, label, tolerance):
    cache = FrameCache.of(ensemble, [label])
    features, by_moves, by_strain = by_autograd(ensemble, label.atoms)
    own_moves, own_strain = dense(cache)
    for own, expected in ((cache.features, features), (own_moves, by_moves), (own_strain, by_strain)):
        scale = max(float(np.abs(expected).max(initial=0.0)), 1.0)
        np.testing.assert_allclose(own[:, cache.columns], expected, rtol=0, atol=tolerance * scale)
        padding = np.setdiff1d(np.arange(cache.functions.width), cache.columns)
        assert not own[:, padding].any()


@pytest.mark.parametrize("elements", [("Al",), ("Al", "Ni"), ("Ni", "Cu", "Al"), ("Ni", "Cu", "Al", "Si")], ids=len)
def test_derivatives_of_any_number_of_elements(make_ensemble, make_frame, make_label, elements):
    for n_atoms, pbc in ((1, True), (2, (True, False, False)), (9, True), (7, False)):
        label = make_label(make_frame(n_atoms, elements, seed=n_atoms, pbc=pbc, volume_per_atom=11.0))
        check(make_ensemble(elements), label, 1e-12)  # float64, another order of sums


@pytest.mark.parametrize("n_shifts, n_sections", [(1, 1), (3, 8), (8, 8), (4, 4), (5, 11), (2, 16)])
def test_derivatives_of_any_number_of_functions(make_ensemble, make_frame, make_label, small_aev, n_shifts, n_sections):
    """Vectors of eight functions at once: the numbers need not fit."""
    aev = replace(
        small_aev,
        radial_shifts=tuple(np.linspace(0.9, 4.6, 6 * n_shifts + 3)),
        radial_eta=16.0,
        angular_shifts=tuple(np.linspace(1.0, 3.5, n_shifts)),
        angle_sections=tuple(np.linspace(0.1, 3.0, n_sections)),
    )
    label = make_label(make_frame(5, ("Al", "Ni"), seed=3, volume_per_atom=11.0))
    check(make_ensemble(("Al", "Ni"), aev=aev), label, 1e-12)


def test_shifts_may_come_in_any_order(make_ensemble, make_frame, make_label, small_aev):
    aev = replace(small_aev, radial_shifts=(4.2, 1.0, 2.6, 3.4, 1.8), radial_eta=90.0)
    check(make_ensemble(aev=aev), make_label(make_frame(6, seed=1)), 1e-12)


def test_single_precision(make_ensemble, make_frame, make_label):
    label = make_label(make_frame(9, ("Al", "Ni"), seed=2))
    cache = FrameCache.of(make_ensemble(("Al", "Ni"), dtype=torch.float32), [label])
    _, expected, by_strain = by_autograd(make_ensemble(("Al", "Ni")), label.atoms)
    own_moves, own_strain = dense(cache)
    # Derivatives up to 10 and strain derivatives up to 30, from exponents of a few tens that are rounded to 6e-8.
    np.testing.assert_allclose(own_moves[:, cache.columns], expected, rtol=0, atol=1e-4)
    np.testing.assert_allclose(own_strain[:, cache.columns], by_strain, rtol=0, atol=3e-4)


@settings(max_examples=25, deadline=None, derandomize=True)
@given(
    n_atoms=st.integers(1, 8),
    seed=st.integers(0, 999),
    pbc=st.tuples(st.booleans(), st.booleans(), st.booleans()),
    skew=st.floats(0.0, 0.3),
    volume=st.floats(7.0, 60.0),
)
def test_derivatives_in_any_cell(make_ensemble, make_frame, make_label, n_atoms, seed, pbc, skew, volume):
    """Along a random displacement and strain."""
    ensemble = make_ensemble(("Al", "Ni"))
    atoms = make_frame(n_atoms, ("Al", "Ni"), seed=seed, pbc=pbc, skew=skew, volume_per_atom=volume)
    features, still = features_of(ensemble, atoms)
    moves, strain = (torch.randn(x.shape, generator=torch.manual_seed(seed), dtype=torch.float64) for x in still)
    strain = 0.5 * (strain + strain.T)
    _, expected = torch.func.jvp(features, still, (moves, strain))
    cache = FrameCache.of(ensemble, [make_label(atoms)])
    by_moves, by_strain = dense(cache)
    # A shear counts twice, as yz and as zy.
    in_voigt = np.array([strain[i] * (1 if i[0] == i[1] else 2) for i in VOIGT])
    own = np.einsum("nfmd,md->nf", by_moves, moves.numpy()) + by_strain @ in_voigt
    scale = max(float(expected.abs().max()), 1.0)
    np.testing.assert_allclose(own[:, cache.columns], expected.numpy(), rtol=0, atol=1e-11 * scale)
