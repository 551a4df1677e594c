"""The Triton kernels against the float64 oracle: on the GPU where there is one, else in Triton's interpreter."""

import copy
import os
from dataclasses import replace

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk
from hypothesis import given, settings
from hypothesis import strategies as st

from alpot.potential.aev_reference import ReferenceKernels
from alpot.potential.batch import Batch
from alpot.potential.descriptor import AevSettings
from alpot.potential.kernels import Environments, Geometry
from alpot.potential.neighbors import NeighborSearch
from alpot.potential.saved import load_potential

if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"  # read when triton is imported
pytest.importorskip("triton", reason="Triton comes with torch's CUDA builds")

from alpot.potential.aev_gpu import GpuKernels

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
ELEMENTS = ("Al", "Cu", "Ni", "Mg")
#: No number is a power of two, so that no padding goes unnoticed.
UNEVEN = AevSettings(
    radial_cutoff=4.6,
    radial_eta=7.0,
    radial_shifts=(1.0, 1.6, 2.2, 2.9, 3.7),
    angular_cutoff=3.6,
    angular_eta=5.0,
    angular_zeta=13.7,
    angular_shifts=(1.1, 1.8, 2.7),
    angle_sections=(0.3, 0.9, 1.5, 2.1, 2.7),
)


def geometry_of(frames: list[Atoms], n_elements: int, aev: AevSettings, skin: float = 0.4) -> Geometry:
    batch = Batch.from_atoms(frames)
    order = {Atoms([symbol]).numbers[0]: index for index, symbol in enumerate(ELEMENTS[:n_elements])}
    species = torch.tensor([order[number] for number in batch.numbers])
    pairs = NeighborSearch(aev.radial_cutoff, skin).pairs(batch)
    return Geometry.of(batch, species, pairs, DEVICE)


def forces_of(environments: Environments, weights: torch.Tensor, geometry: Geometry) -> tuple[torch.Tensor, ...]:
    """(n_atoms, K, 3) forces and (n_frames, K, 3, 3) virials; something is there already, to be added to."""
    n_members = weights.shape[1]
    forces = torch.full((geometry.n_atoms, n_members, 3), 0.25, dtype=torch.float64, device=DEVICE)
    virials = torch.full((geometry.n_frames, n_members, 3, 3), -0.5, dtype=torch.float64, device=DEVICE)
    environments.add_forces(weights, forces, virials)
    return forces, virials


def compare(
    geometry: Geometry,
    aev: AevSettings,
    n_elements: int,
    n_members: int,
    dtype: torch.dtype = torch.float64,
    span: tuple[int, int] | None = None,
) -> None:
    """Features, forces and virials of both; weights of order 1, so that results are of order 1 to 10."""
    begin, end = span or (0, geometry.n_atoms)
    tested = GpuKernels(aev, n_elements, dtype).environments(geometry, begin, end)
    oracle = ReferenceKernels(aev, n_elements, torch.float64).environments(geometry, begin, end)
    # float64: rounding of some hundred terms. float32: 2⁻²³ times the exponents, up to 30 (ζ ln of the base), in
    # features up to 2, and times some hundred terms of forces that cancel.
    exact = dtype == torch.float64
    torch.testing.assert_close(
        tested.features.double(), oracle.features, rtol=0, atol=1e-13 if exact else 3e-6, check_dtype=False
    )
    generator = torch.Generator().manual_seed(n_members)
    weights = torch.randn((end - begin, n_members, oracle.features.shape[1]), generator=generator, dtype=torch.float64)
    weights = weights.to(DEVICE)
    expected = forces_of(oracle, weights, geometry)
    actual = forces_of(tested, weights.to(dtype), geometry)
    for mine, theirs in zip(actual, expected, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=0, atol=1e-11 if exact else 5e-5)


@pytest.mark.parametrize("n_members", [1, 3, 9])
def test_members(make_frame, small_aev, n_members):
    """One member has its own layout of weights; nine need two programs per center."""
    compare(geometry_of([make_frame(4, volume_per_atom=20.0)], 1, small_aev), small_aev, 1, n_members)


@pytest.mark.parametrize("n_elements", [2, 3, 4])
def test_elements(make_frame, n_elements):
    frames = [make_frame(5, ELEMENTS[:n_elements], seed=n_elements, volume_per_atom=20.0)]
    compare(geometry_of(frames, n_elements, UNEVEN), UNEVEN, n_elements, 2)


def test_single_precision(make_frame, small_aev):
    geometry = geometry_of([make_frame(5, ELEMENTS[:2], volume_per_atom=20.0)], 2, small_aev)
    compare(geometry, small_aev, 2, 3, torch.float32)


def test_whole_powers(make_frame, small_aev):
    """ζ = 1: the power ζ − 1 that slopes are made of is zero."""
    aev = replace(small_aev, angular_zeta=1.0)
    compare(geometry_of([make_frame(3)], 1, aev), aev, 1, 1)


def test_compressed(small_aev):
    """More sites than lanes share out between j and k, and more pairs than one block of a row."""
    rng = np.random.default_rng(0)
    atoms = Atoms("Al2", scaled_positions=rng.random((2, 3)), cell=np.diag([2.0, 2.2, 2.1]), pbc=True)
    geometry = geometry_of([atoms], 1, small_aev)
    per_center = geometry.first_pair.diff()
    assert per_center.max() > 128
    compare(geometry, small_aev, 1, 1)


def test_frames_without_neighbors(small_aev, make_frame):
    """A lone atom, a pair (no triple), atoms within the skin only."""
    dimer = Atoms("Al2", positions=[[0, 0, 0], [2.5, 0, 0]])
    distant = Atoms("Al2", positions=[[0, 0, 0], [5.2, 0, 0]])
    geometry = geometry_of([Atoms("Al"), dimer, distant, make_frame(3, pbc=False)], 1, small_aev)
    compare(geometry, small_aev, 1, 2)


def test_no_atoms(make_frame, small_aev):
    geometry = geometry_of([make_frame(2)], 1, small_aev)
    environments = GpuKernels(small_aev, 1, torch.float64).environments(geometry, 1, 1)
    assert environments.features.shape == (0, small_aev.n_features(1))
    forces, _ = forces_of(environments, environments.features[:, None], geometry)
    assert (forces == 0.25).all()


def test_part_of_a_batch(make_frame, small_aev):
    frames = [
        make_frame(n, ELEMENTS[:2], seed=n, pbc=pbc) for n, pbc in [(3, True), (4, (True, False, True)), (2, False)]
    ]
    compare(geometry_of(frames, 2, small_aev), small_aev, 2, 2, span=(2, 8))


def test_padded_pairs(make_frame, small_aev):
    """Pairs beyond the last row, as recorded force calls have them, are not looked at."""
    geometry = geometry_of([make_frame(3)], 1, small_aev)
    nonsense = torch.full((50,), 10**6, dtype=torch.int32, device=DEVICE)
    padded = replace(
        geometry,
        neighbor=torch.cat([geometry.neighbor, nonsense]),
        shift=torch.cat([geometry.shift, nonsense[:, None].expand(-1, 3)]),
    )
    kernels = GpuKernels(small_aev, 1, torch.float64)
    expected = kernels.environments(geometry, 0, 3).features
    assert torch.equal(kernels.environments(padded, 0, 3).features, expected)


@settings(max_examples=6, deadline=None, derandomize=True)
@given(
    seed=st.integers(0, 2**20),
    sizes=st.lists(st.integers(1, 4), min_size=1, max_size=2),
    pbc=st.tuples(st.booleans(), st.booleans(), st.booleans()),
    edge=st.floats(3.0, 6.0),
    n_elements=st.integers(1, 3),
)
def test_random_cells(seed, sizes, pbc, edge, n_elements):
    rng = np.random.default_rng(seed)
    frames = []
    for n_atoms in sizes:
        cell = edge * (np.eye(3) + rng.uniform(-0.3, 0.3, (3, 3)))
        symbols = rng.choice(ELEMENTS[:n_elements], n_atoms)
        frames.append(Atoms(symbols, positions=rng.uniform(-0.5, 1.5, (n_atoms, 3)) @ cell, cell=cell, pbc=pbc))
    compare(geometry_of(frames, n_elements, UNEVEN), UNEVEN, n_elements, 2)


def test_the_published_potential_in_single_precision(ani_al):
    """The gate of every backend: 1e-5 eV/Å and 1e-6 eV/atom against the oracle, for a real potential."""
    ensemble, _ = load_potential(ani_al)
    atoms = bulk("Al", cubic=True)
    atoms.rattle(0.15, seed=1)
    geometry = geometry_of([atoms], 1, ensemble.aev)
    results = []
    for dtype, kernels in ((torch.float64, ReferenceKernels), (torch.float32, GpuKernels)):
        networks = copy.deepcopy(ensemble).to(device=DEVICE, dtype=dtype)
        environments = kernels(ensemble.aev, 1, dtype).environments(geometry, 0, len(atoms))
        with torch.no_grad():
            energies, slopes = networks.atom_outputs(geometry.species, environments.features)
        results.append((energies.double(), *forces_of(environments, slopes.transpose(0, 1), geometry)))
    (expected_energies, expected_forces, _), (energies, forces, _) = results
    assert expected_forces.abs().max() > 1.0
    assert (forces - expected_forces).abs().max() < 1e-5
    assert (energies - expected_energies).mean(1).abs().max() < 1e-6


@pytest.mark.filterwarnings("ignore:.*encountered in:RuntimeWarning")  # numpy, on behalf of the interpreter
def test_what_is_not_finite_stays_so(small_aev):
    """Nothing can be raised on a device: atoms that coincide, or are nowhere, show in the forces."""
    positions = np.array([[0, 0, 0], [0, 0, 0], [2.0, 0, 0], [40.0, 0, 0], [42.0, 0, 0]])
    geometry = geometry_of([Atoms("Al5", positions=positions)], 1, small_aev)
    geometry.positions[3, 1] = torch.nan
    environments = GpuKernels(small_aev, 1, torch.float64).environments(geometry, 0, 5)
    assert environments.features[3:].isnan().any(1).all()
    weights = torch.ones_like(environments.features)[:, None]
    forces, _ = forces_of(environments, weights, geometry)
    assert forces[[0, 1, 3, 4], 0].isnan().any(1).all()
