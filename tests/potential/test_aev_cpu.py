"""The compiled kernels against the plain-torch ones in float64."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk
from hypothesis import given, settings
from hypothesis import strategies as st

from alpot.config import Descriptor
from alpot.errors import PotentialError
from alpot.potential.aev_cpu import AngleTable, CpuKernels
from alpot.potential.aev_reference import ReferenceKernels
from alpot.potential.batch import Batch
from alpot.potential.descriptor import AevSettings
from alpot.potential.kernels import Geometry
from alpot.potential.neighbors import NeighborSearch

ANI_AL = AevSettings.from_config(Descriptor(radial_eta=43.9, angular_eta=6.5, angular_zeta=69.4))
ELEMENTS = ("Al", "Ni", "Cu", "Mg")
#: Features are of order 1 to 10, weights of order 1 and forces of order 10 eV/Å. float64: the table of angular terms is
#: good to 1e-12, its slopes to 1e-9. float32: rounding of single terms (1e-7), slopes of narrow functions 100 times
#: that; a trained potential's weights are a tenth of these.
FEATURE_ERROR = {torch.float64: 1e-11, torch.float32: 2e-5}
FORCE_ERROR = {torch.float64: 3e-8, torch.float32: 1e-3}


def geometry_of(frames: list[Atoms], cutoff: float, find_species, *, skin: float = 0.4, elements=ELEMENTS) -> Geometry:
    batch = Batch.from_atoms(frames)
    species = torch.cat([find_species(atoms, elements) for atoms in frames])
    return Geometry.of(batch, species, NeighborSearch(cutoff, skin).pairs(batch), "cpu")


def answers(kernels, geometry: Geometry, n_energies: int, dtype: torch.dtype, bounds=None):
    """Features, forces and virials for weights that are always the same."""
    n_atoms, n_frames = geometry.n_atoms, geometry.n_frames
    generator = torch.Generator().manual_seed(7)
    n_features = kernels.settings.n_features(kernels.n_elements)
    weights = torch.randn((n_atoms, n_energies, n_features), generator=generator, dtype=torch.float64).to(dtype)
    features = torch.empty((n_atoms, n_features), dtype=dtype)
    forces = torch.zeros((n_atoms, n_energies, 3), dtype=torch.float64)
    virials = torch.zeros((n_frames, n_energies, 3, 3), dtype=torch.float64)
    for begin, end in itertools.pairwise(bounds or [0, n_atoms]):
        environments = kernels.environments(geometry, begin, end)
        features[begin:end] = environments.features
        environments.add_forces(weights[begin:end], forces, virials)
    return features, forces, virials


def check(settings: AevSettings, geometry: Geometry, dtype: torch.dtype, n_energies: int = 1, n_elements: int = 4):
    found = answers(CpuKernels(settings, n_elements, dtype), geometry, n_energies, dtype)
    expected = answers(ReferenceKernels(settings, n_elements, torch.float64), geometry, n_energies, torch.float64)
    assert found[0].dtype == dtype
    errors = (FEATURE_ERROR[dtype], FORCE_ERROR[dtype], 10.0 * FORCE_ERROR[dtype])  # virials: times distances
    for mine, theirs, error in zip(found, expected, errors, strict=True):
        torch.testing.assert_close(mine.double(), theirs, atol=error, rtol=10.0 * error)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize("n_energies", [1, 2, 8])
@pytest.mark.parametrize("n_elements", [1, 2, 4])
def test_elements_and_energies(make_frame, find_species, dtype, n_energies, n_elements):
    elements = ELEMENTS[:n_elements]
    frames = [make_frame(14, elements, seed=1), make_frame(5, elements, seed=2, pbc=(True, False, True))]
    geometry = geometry_of(frames, 7.0, find_species, elements=elements)
    check(ANI_AL, geometry, dtype, n_energies, n_elements)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize(
    "frame",
    [
        bulk("Al", "fcc", a=3.2, cubic=True),  # 176 neighbors in the cutoff
        bulk("Al", "fcc", a=4.05),  # one atom and its images
        bulk("Al", "fcc", a=9.0, cubic=True),  # few neighbors
        Atoms("Al"),
        Atoms("Al2", positions=[[0, 0, 0], [0, 0, 2.5]]),  # no triple
        Atoms("Al2", positions=[[0, 0, 0], [0, 0, 6.0]]),  # beyond the angular cutoff
        Atoms("Al2", positions=[[0, 0, 0], [0, 0, 60.0]]),  # beyond all
        Atoms("Al3", positions=[[0, 0, 0], [0, 0, 2.5], [0, 0, 4.9]]),  # θ = 0 and π
        Atoms("Al2", positions=[[0, 0, 0], [0, 0, 1.1]], cell=[2.6, 9, 9], pbc=(True, False, False)),
    ],
    ids=["compressed", "primitive", "dilute", "alone", "dimer", "far", "farther", "collinear", "wire"],
)
def test_sparse_and_crowded_neighborhoods(find_species, frame, dtype):
    check(ANI_AL, geometry_of([frame, bulk("Al")], 7.0, find_species), dtype, 3)


@pytest.mark.parametrize(
    "changes",
    [
        {"radial_shifts": (0.9, 1.0, 2.0, 4.0, 5.0)},  # uneven: no window
        {"radial_shifts": (2.0,)},
        {"angular_shifts": (1.5, 2.5, 3.5), "angle_sections": (0.3, 1.0, 1.7, 2.4, 3.0)},  # odd lengths
        {"angular_shifts": (2.0,), "angle_sections": (1.0,)},
        {"radial_eta": 300.0, "angular_zeta": 200.0},
        {"radial_eta": 0.5, "angular_eta": 0.1, "angular_zeta": 2.0},
        {"angular_cutoff": 7.0, "angular_eta": 4.0},
    ],
    ids=["uneven", "one radial", "odd", "one angular", "narrow", "broad", "equal cutoffs"],
)
def test_any_symmetry_functions(make_frame, find_species, changes):
    aev = replace(ANI_AL, **changes)
    geometry = geometry_of([make_frame(9, ELEMENTS[:2], seed=3)], 7.0, find_species)
    assert CpuKernels.serve(aev, torch.float32)
    check(aev, geometry, torch.float64, 1)
    check(aev, geometry, torch.float64, 3)


@settings(max_examples=20, deadline=None, derandomize=True)
@given(
    seed=st.integers(0, 2**20),
    n_atoms=st.integers(1, 8),
    pbc=st.tuples(st.booleans(), st.booleans(), st.booleans()),
    volume_per_atom=st.floats(7.0, 60.0),
    n_elements=st.integers(1, 3),
    skin=st.floats(0.0, 1.5),
)
def test_random_cells(make_frame, find_species, seed, n_atoms, pbc, volume_per_atom, n_elements, skin):
    elements = ELEMENTS[:n_elements]
    frame = make_frame(n_atoms, elements, seed=seed, pbc=pbc, volume_per_atom=volume_per_atom, skew=0.4)
    geometry = geometry_of([frame], 7.0, find_species, skin=skin, elements=elements)
    for n_energies in (1, 4):
        check(ANI_AL, geometry, torch.float64, n_energies, n_elements)


def test_passes_add_up(make_frame, find_species):
    geometry = geometry_of([make_frame(70, seed=seed) for seed in (1, 2)], 7.0, find_species)
    kernels = CpuKernels(ANI_AL, 1, torch.float32)
    for n_energies in (1, 4):
        whole = answers(kernels, geometry, n_energies, torch.float32)
        in_pieces = answers(kernels, geometry, n_energies, torch.float32, bounds=[0, 1, 60, 71, 140])
        assert torch.equal(in_pieces[0], whole[0])
        torch.testing.assert_close(in_pieces[1], whole[1], rtol=1e-12, atol=1e-12)  # order of float64 sums


def test_threads_do_not_change_a_bit(make_ensemble, make_frame):
    ensemble = make_ensemble(aev=ANI_AL, dtype=torch.float32)
    batch = Batch.from_atoms([make_frame(300, seed=seed) for seed in (1, 2)])
    pairs = NeighborSearch(ensemble.cutoff).pairs(batch)
    n_threads = torch.get_num_threads()
    try:
        for mean_only in (True, False):
            torch.set_num_threads(1)
            alone = ensemble.evaluate(batch, pairs, mean_only=mean_only)
            torch.set_num_threads(3)
            shared = ensemble.evaluate(batch, pairs, mean_only=mean_only)
            assert torch.get_num_threads() == 3
            for name in ("atom_energies", "energies", "forces", "virials"):
                np.testing.assert_array_equal(getattr(shared, name), getattr(alone, name))
    finally:
        torch.set_num_threads(n_threads)


def test_nan_is_seen_and_stays_in_its_frame(make_frame, find_species):
    frames = [make_frame(12, seed=seed) for seed in (1, 2, 3)]
    geometry = geometry_of(frames, 7.0, find_species)
    kernels = CpuKernels(ANI_AL, 4, torch.float32)
    sound = answers(kernels, geometry, 1, torch.float32), answers(kernels, geometry, 3, torch.float32)
    geometry.positions[14] = float("nan")
    for before, n_energies in zip(sound, (1, 3), strict=True):
        features, forces, virials = answers(kernels, geometry, n_energies, torch.float32)
        assert torch.isnan(features[14]).any() and torch.isnan(forces[14]).all() and torch.isnan(virials[1]).all()
        others = [i for i in range(36) if not 12 <= i < 24]
        assert torch.equal(features[others], before[0][others]) and torch.equal(forces[others], before[1][others])


def test_coinciding_atoms_are_refused(find_species):
    geometry = geometry_of([Atoms("Al3", positions=[[0, 0, 0], [3, 0, 0], [3, 0, 1e-8]])], 7.0, find_species)
    with pytest.raises(PotentialError, match="atom 1 of the batch"):
        CpuKernels(ANI_AL, 4, torch.float64).environments(geometry, 0, 3)


def test_gaussians_too_narrow_for_the_factors_are_left_to_the_reference(make_ensemble, make_frame):
    narrow = replace(ANI_AL, angular_eta=60.0)
    assert not CpuKernels.serve(narrow, torch.float32) and CpuKernels.serve(narrow, torch.float64)
    assert isinstance(make_ensemble(aev=narrow, dtype=torch.float32).kernels, ReferenceKernels)
    assert isinstance(make_ensemble(aev=narrow).kernels, CpuKernels)


@pytest.mark.parametrize("zeta", [1.0, 8.0, 69.4, 400.0])
def test_the_angle_table(zeta):
    aev = replace(ANI_AL, angular_zeta=zeta)
    table = AngleTable(aev, torch.float64)
    cosines = 0.95 * np.cos(np.linspace(0.0, np.pi, 10_001))
    place = (cosines - table.start) / table.spacing
    node = place.astype(int)
    assert node.min() >= 0 and node.max() < len(table.values) - 1
    t = (place - node)[:, None]
    (left, left_slope), (right, right_slope) = (table.values[n].transpose(1, 0, 2) for n in (node, node + 1))
    found = (1 + 2 * t) * (1 - t) ** 2 * left + t * (1 - t) ** 2 * left_slope
    found += t**2 * (3 - 2 * t) * right - t**2 * (1 - t) * right_slope
    angles = np.arccos(cosines)[:, None] - np.array(aev.angle_sections)
    # The table is refined until errors in the middle between nodes are below 1e-12.
    np.testing.assert_allclose(found, ((1 + np.cos(angles)) / 2) ** zeta, atol=2e-12)
