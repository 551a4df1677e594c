"""Pairs against ASE's own search, and against a fresh search wherever the old one is used again."""

import itertools

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from ase.neighborlist import neighbor_list
from hypothesis import given, settings
from hypothesis import strategies as st

from alpot.errors import PotentialError
from alpot.potential.batch import Batch
from alpot.potential.neighbors import NeighborPairs, NeighborSearch

ALL_PBC = list(itertools.product([False, True], repeat=3))


def vectors_of(batch: Batch, pairs: NeighborPairs) -> np.ndarray:
    frame = batch.frame_of_atom[pairs.center]
    shifts = np.einsum("pa,pab->pb", pairs.shift, batch.cells[frame])
    return batch.positions[pairs.neighbor] - batch.positions[pairs.center] + shifts


def inside(batch: Batch, pairs: NeighborPairs, cutoff: float) -> np.ndarray:
    """(n_pairs, 5) center, neighbor and vector, in an order that does not depend on who found them."""
    vectors = vectors_of(batch, pairs)
    near = np.linalg.norm(vectors, axis=1) < cutoff
    return ordered(pairs.center[near], pairs.neighbor[near], vectors[near])


def ordered(center: np.ndarray, neighbor: np.ndarray, vectors: np.ndarray) -> np.ndarray:
    # Rounded before sorting: two searches differ by rounding errors of 1e-15 Å.
    rows = np.column_stack([center, neighbor, vectors.round(7)]) + 0.0
    return rows[np.lexsort(rows.T[::-1])]


def assert_same(actual: np.ndarray, expected: np.ndarray) -> None:
    assert actual.shape == expected.shape
    # Vectors were rounded to 1e-7 Å, so two of them differ by that at most.
    np.testing.assert_allclose(actual, expected, atol=1.1e-7)


def ase_pairs(atoms: Atoms, cutoff: float) -> np.ndarray:
    # Half of ASE's neighbor lists in other packages are checked against this one; it includes an atom's own images.
    return ordered(*neighbor_list("ijD", atoms, cutoff, self_interaction=False))


def random_frame(rng: np.random.Generator, n_atoms: int, pbc, edge: float = 4.0) -> Atoms:
    cell = edge * (np.eye(3) + rng.uniform(-0.4, 0.4, (3, 3)))
    # Scaled positions from −1.5 to 2.5: most atoms lie outside of the cell.
    return Atoms(np.full(n_atoms, 13), positions=rng.uniform(-1.5, 2.5, (n_atoms, 3)) @ cell, cell=cell, pbc=pbc)


def check_against_ase(atoms: Atoms, cutoff: float) -> NeighborPairs:
    batch = Batch.from_atoms([atoms])
    pairs = NeighborSearch(cutoff).pairs(batch)
    assert (np.diff(pairs.center) >= 0).all()
    assert (np.linalg.norm(vectors_of(batch, pairs), axis=1) <= cutoff).all()
    assert_same(inside(batch, pairs, cutoff), ase_pairs(atoms, cutoff))
    return pairs


@pytest.mark.parametrize("pbc", ALL_PBC)
@pytest.mark.parametrize("n_atoms", [1, 2, 9])
def test_every_pbc_with_atoms_outside_of_a_skew_cell(pbc, n_atoms):
    check_against_ase(random_frame(np.random.default_rng(n_atoms), n_atoms, pbc), 4.5)


@pytest.mark.parametrize("pbc", ALL_PBC)
def test_boxes_thinner_than_the_cutoff(pbc):
    rng = np.random.default_rng(1)
    cell = np.array([[1.1, 0.0, 0.0], [0.9, 9.0, 0.2], [0.3, -1.0, 2.5]])
    check_against_ase(Atoms("Al3", positions=rng.uniform(-2, 2, (3, 3)) @ cell, cell=cell, pbc=pbc), 5.0)


def test_one_atom_in_a_small_box_sees_its_images():
    pairs = check_against_ase(bulk("Al", "fcc", a=4.05), 5.0)
    assert len(pairs.center) == 42  # 12 + 6 + 24 neighbors of the first three shells of fcc, up to 4.96 Å


@pytest.mark.parametrize("cell", [None, [3.0, 3.0, 3.0], [[4.0, 0, 0], [0, 0, 0], [0, 0, 0]]])
def test_a_molecule_needs_no_cell(cell):
    atoms = molecule("CH3CH2OH")
    atoms.set_cell(cell)
    check_against_ase(atoms, 3.0)


@pytest.mark.parametrize("periodic", [(True, False, False), (True, True, False)])
def test_wires_and_slabs_without_the_other_cell_vectors(periodic):
    cell = np.diag([3.0, 4.0, 5.0]) * np.array(periodic)[:, None]
    atoms = Atoms("Al3", positions=[[0, 0, 0], [1.0, 2.0, 7.0], [4.0, 9.0, -8.0]], cell=cell, pbc=periodic)
    check_against_ase(atoms, 6.0)


@pytest.mark.parametrize("pbc", [(True, True, True), (True, False, False)])
def test_periodic_without_a_cell_vector_is_refused(pbc):
    with pytest.raises(PotentialError, match="periodic"):
        Batch.from_atoms([Atoms("Al2", positions=[[0, 0, 0], [0, 0, 2.5]], pbc=pbc)])


def test_empty_neighborhoods():
    lone = Atoms("Al", pbc=False)
    pairs = NeighborSearch(5.0).pairs(Batch.from_atoms([lone]))
    assert len(pairs.center) == 0 and pairs.shift.shape == (0, 3)
    far = Atoms("Al2", positions=[[0, 0, 0], [0, 0, 50.0]], cell=[100.0] * 3, pbc=True)
    assert len(NeighborSearch(5.0).pairs(Batch.from_atoms([lone, far, lone])).center) == 0


def test_atoms_flying_apart_cost_no_memory():
    """A cluster that blew up spans 1e8 Å; a grid over it would not fit into any machine."""
    rng = np.random.default_rng(0)
    atoms = Atoms("Al20", positions=rng.normal(scale=1e8, size=(20, 3)))
    atoms.positions[1] = atoms.positions[0] + [2.0, 0, 0]
    assert len(NeighborSearch(5.0).pairs(Batch.from_atoms([atoms])).center) == 2


@settings(max_examples=25, deadline=None, derandomize=True)
@given(
    seed=st.integers(0, 2**20),
    n_atoms=st.integers(1, 8),
    pbc=st.sampled_from(ALL_PBC),
    edge=st.floats(2.0, 9.0),
    cutoff=st.floats(0.5, 5.0),
)
def test_random_cells(seed, n_atoms, pbc, edge, cutoff):
    check_against_ase(random_frame(np.random.default_rng(seed), n_atoms, pbc, edge), cutoff)


def test_a_batch_holds_the_pairs_of_its_frames():
    rng = np.random.default_rng(3)
    frames = [random_frame(rng, n, pbc) for n, pbc in [(3, True), (1, False), (7, (True, False, True)), (1, True)]]
    batch = Batch.from_atoms(frames)
    pairs = NeighborSearch(4.0).pairs(batch)
    for index, (frame, begin) in enumerate(zip(frames, batch.offsets, strict=False)):
        own = batch.frame_of_atom[pairs.center] == index
        vectors = vectors_of(batch, pairs)[own]
        found = ordered(pairs.center[own] - begin, pairs.neighbor[own] - begin, vectors)
        assert_same(found, ase_pairs(frame, 4.0))


@settings(max_examples=25, deadline=None, derandomize=True)
@given(
    seed=st.integers(0, 2**20),
    pbc=st.sampled_from(ALL_PBC),
    step=st.sampled_from([0.0, 0.02, 0.1, 0.3]),
    stretch=st.floats(0.7, 1.2),
    shear=st.floats(-0.15, 0.15),
)
def test_reused_pairs_miss_nothing(seed, pbc, step, stretch, shear):
    """Random walks under isotropic and shear deformation; small steps are served by the skin, large ones not."""
    rng = np.random.default_rng(seed)
    frames = [random_frame(rng, 6, pbc, edge=4.5), random_frame(rng, 3, True, edge=3.0)]
    search = NeighborSearch(4.0, skin=0.6)
    search.pairs(Batch.from_atoms(frames))
    for _ in range(3):
        deformation = np.eye(3) * stretch ** (1 / 3)
        deformation[0, 1] += shear
        for atoms in frames:
            atoms.set_cell(atoms.cell.array @ deformation, scale_atoms=True)
            atoms.positions += rng.uniform(-step, step, atoms.positions.shape)
        batch = Batch.from_atoms(frames)
        assert_same(inside(batch, search.pairs(batch), 4.0), inside(batch, NeighborSearch(4.0).pairs(batch), 4.0))


def test_the_skin_spares_searches(monkeypatch):
    """Otherwise the test above would prove nothing."""
    from alpot.potential import neighbors

    calls = []
    real = neighbors.frame_pairs
    monkeypatch.setattr(neighbors, "frame_pairs", lambda *args: calls.append(1) or real(*args))
    atoms = random_frame(np.random.default_rng(0), 6, True)
    search = NeighborSearch(4.0, skin=0.5)
    for _ in range(5):
        atoms.positions[2] += [0.04, 0.0, 0.0]
        atoms.set_cell(atoms.cell.array * 1.001, scale_atoms=True)
        search.pairs(Batch.from_atoms([atoms]))
    assert len(calls) == 1
    atoms.positions[2] += [0.1, 0.0, 0.0]  # 0.3 Å in all, more than half of the skin
    search.pairs(Batch.from_atoms([atoms]))
    assert len(calls) == 2


def test_frames_may_come_and_go():
    rng = np.random.default_rng(5)
    frames = [random_frame(rng, n, True) for n in (4, 6, 5)]
    search = NeighborSearch(4.0, skin=0.5)
    for chosen in ([0, 1, 2], [0, 1], [0, 1, 2], [0]):
        for slot in chosen:
            search.forget(slot)
        batch = Batch.from_atoms([frames[i] for i in chosen])
        assert_same(inside(batch, search.pairs(batch), 4.0), inside(batch, NeighborSearch(4.0).pairs(batch), 4.0))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_positions_that_are_not_finite_are_refused(bad):
    atoms = bulk("Al", cubic=True)
    atoms.positions[2, 1] = bad
    with pytest.raises(PotentialError, match="NaN or infinite"):
        Batch.from_atoms([atoms])


def test_a_batch_without_frames_is_refused():
    with pytest.raises(PotentialError, match="at least one frame"):
        Batch.from_atoms([])
