"""What is kept of labelled frames; that losses computed from it are right is tested in ``test_ensemble_gradient``."""

import numpy as np
import pytest
import torch
from ase import Atoms

from alpot.errors import PotentialError
from alpot.potential.aev_reference import ReferenceKernels
from alpot.potential.batch import Batch
from alpot.potential.descriptor import Environments
from alpot.potential.frame_cache import FrameCache
from alpot.potential.jacobian import VOIGT
from alpot.potential.kernels import Geometry
from alpot.potential.neighbors import NeighborSearch

ELEMENTS = ("Al", "Ni")


@pytest.fixture(scope="module")
def frames(make_frame, make_label):
    atoms = [
        make_frame(6, ELEMENTS, seed=1),
        make_frame(5, ELEMENTS, seed=3, pbc=(True, False, True)),
        Atoms("Al", cell=[15.0] * 3, pbc=True),
        make_frame(30, ["Ni"], seed=4),
    ]
    return [make_label(frame, seed=index, stress=index != 0) for index, frame in enumerate(atoms)]


def features_of(ensemble, frames) -> np.ndarray:
    batch = Batch.from_atoms([frame.atoms for frame in frames])
    oracle = ReferenceKernels(ensemble.aev, len(ensemble.elements), ensemble.dtype)
    pairs = NeighborSearch(ensemble.cutoff).pairs(batch)
    atoms_and_pairs = Geometry.of(batch, torch.from_numpy(ensemble.species(batch.numbers)), pairs, "cpu")
    geometry = oracle.environments(atoms_and_pairs, 0, batch.n_atoms)
    species = torch.from_numpy(ensemble.species(batch.numbers))
    environments = Environments(
        ensemble.aev,
        len(ensemble.elements),
        batch.n_atoms,
        geometry.center,
        species[geometry.neighbor],
        geometry.vectors,
    )
    return environments.features.numpy()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_features_are_standardised_with_the_ensembles_scaling(make_ensemble, frames, dtype):
    ensemble = make_ensemble(ELEMENTS, dtype=dtype)
    cache = FrameCache.of(ensemble, frames)
    expected = features_of(ensemble, frames)
    tolerance = {"rtol": 0, "atol": 50 * torch.finfo(dtype).eps}  # rounding of numbers up to 10
    np.testing.assert_allclose(cache.features[:, cache.columns], expected, **tolerance)
    means, deviations = ensemble.feature_mean.numpy(), ensemble.feature_scale.numpy()
    cache.scale(means, deviations, ensemble.energy_scale.numpy())
    species = cache.geometry.species
    np.testing.assert_allclose(
        cache.features[:, cache.columns], (expected - means[species]) / deviations[species], **tolerance
    )
    padding = np.setdiff1d(np.arange(cache.functions.width), cache.columns)
    assert len(padding) and not cache.features[:, padding].any()
    assert cache.features.dtype == cache.jacobian.item_block.dtype == np.dtype(str(dtype).removeprefix("torch."))


def test_targets_are_those_of_the_labels(make_ensemble, frames):
    ensemble = make_ensemble(ELEMENTS)
    cache = FrameCache.of(ensemble, frames)
    for index, frame in enumerate(frames):
        shift = ensemble.self_energies[ensemble.species(frame.atoms.numbers)].sum()
        assert cache.energies[index] == pytest.approx(frame.energy - shift, abs=1e-12)
        np.testing.assert_array_equal(cache.forces[cache.offsets[index] : cache.offsets[index + 1]], frame.forces)
        if frame.stress is None:
            assert np.isnan(cache.virials[index]).all()
        else:
            assert VOIGT[3] == (1, 2)  # ASE's order
            np.testing.assert_allclose(cache.virials[index], frame.stress * frame.atoms.get_volume(), atol=1e-12)


@pytest.mark.parametrize("stress", [False, True])
def test_memory_is_known_beforehand(make_ensemble, make_frame, make_label, stress):
    ensemble = make_ensemble(ELEMENTS, dtype=torch.float32)
    frames = [make_label(make_frame(40, ELEMENTS, seed=seed), seed=seed, stress=stress) for seed in range(4)]
    cache = FrameCache.of(ensemble, frames)
    assert sum(array.nbytes for array in cache.jacobian) == pytest.approx(cache.bytes_of_jacobian, rel=0.01)
    assert FrameCache.of(ensemble, frames, memory_share=0.0).jacobian is None


def test_recomputed_derivatives_are_the_stored_ones(make_ensemble, frames):
    ensemble = make_ensemble(ELEMENTS)
    cache = FrameCache.of(ensemble, frames)
    cache.scale(ensemble.feature_mean.numpy(), ensemble.feature_scale.numpy(), ensemble.energy_scale.numpy())
    again = cache.derivatives_of(np.arange(len(frames)))
    for stored, recomputed in zip(cache.jacobian, again, strict=True):
        np.testing.assert_array_equal(stored, recomputed)
    last = cache.derivatives_of(np.array([3]))
    np.testing.assert_array_equal(
        last.pair_slope, cache.jacobian.pair_slope[cache.first_pair[3] * cache.functions.window :]
    )


def test_threads_do_not_change_anything(make_ensemble, frames):
    ensemble = make_ensemble(ELEMENTS)
    alone = FrameCache.of(ensemble, frames)
    threads = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        together = FrameCache.of(ensemble, frames)
    finally:
        torch.set_num_threads(threads)
    for one, other in zip(alone.jacobian, together.jacobian, strict=True):
        np.testing.assert_array_equal(one, other)


def test_atoms_that_coincide_are_named(make_ensemble, frames, make_label):
    twice = make_label(Atoms("AlNiAl", positions=[[0, 0, 0], [2, 0, 0], [2, 0, 0]], cell=[9.0] * 3), seed=5)
    with pytest.raises(PotentialError, match=rf"{twice.key}: atom 1 .*on top of each other"):
        FrameCache.of(make_ensemble(ELEMENTS), [*frames, twice])
