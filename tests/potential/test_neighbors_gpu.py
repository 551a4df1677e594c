"""Pairs found on a device against ASE's: on the GPU where there is one, else in Triton's interpreter."""

import itertools
import os

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.neighborlist import neighbor_list
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from alpot.potential.batch import Batch
from alpot.potential.neighbors import NeighborPairs, NeighborSearch

if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"  # read when triton is imported
pytest.importorskip("triton", reason="Triton comes with torch's CUDA builds")

from alpot.potential.neighbors_gpu import DevicePairs, _fewer, find_pairs

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
ALL_PBC = list(itertools.product([False, True], repeat=3))


def found_in(frames: list[Atoms], cutoff: float) -> DevicePairs:
    batch = Batch.from_atoms(frames)
    tensors = (torch.from_numpy(array).to(DEVICE) for array in (batch.positions, batch.cells, batch.pbc))
    return find_pairs(*tensors, [len(atoms) for atoms in frames], cutoff)


def rows_of(pairs: DevicePairs | NeighborPairs, batch: Batch) -> NDArray[np.float64]:
    """(n_pairs, 5) center, neighbor and vector, ordered; rounded because two searches differ by 1e-15 Å."""
    arrays = (np.asarray(torch.as_tensor(array).cpu()) for array in (pairs.first_pair, pairs.neighbor, pairs.shift))
    pairs = NeighborPairs(**dict(zip(("first_pair", "neighbor", "shift"), arrays, strict=True)))
    rows = np.column_stack([pairs.center, pairs.neighbor, pairs.vectors(batch).round(7)]) + 0.0
    return rows[np.lexsort(rows.T[::-1])]


def check(frames: list[Atoms], cutoff: float) -> None:
    """Against ASE's own search, frame by frame."""
    batch = Batch.from_atoms(frames)
    actual = rows_of(found_in(frames, cutoff), batch)
    expected = []
    for first, atoms in zip(batch.offsets, frames, strict=False):
        center, neighbor, vectors = neighbor_list("ijD", atoms, cutoff, self_interaction=False)
        expected.append(np.column_stack([center + first, neighbor + first, vectors.round(7)]) + 0.0)
    rows = np.concatenate(expected)
    rows = rows[np.lexsort(rows.T[::-1])]
    assert actual.shape == rows.shape
    np.testing.assert_allclose(actual, rows, atol=1.1e-7)  # two roundings to 1e-7 Å


def random_frame(rng: np.random.Generator, n_atoms: int, pbc, edge: float) -> Atoms:
    cell = edge * (np.eye(3) + rng.uniform(-0.4, 0.4, (3, 3)))
    # Scaled positions from −1.5 to 2.5: most atoms lie outside of the cell.
    return Atoms(np.full(n_atoms, 13), positions=rng.uniform(-1.5, 2.5, (n_atoms, 3)) @ cell, cell=cell, pbc=pbc)


def test_every_pbc_in_one_batch():
    rng = np.random.default_rng(0)
    check([random_frame(rng, 1 + k % 3, pbc, edge=4.0) for k, pbc in enumerate(ALL_PBC)], 3.5)


def test_boxes_thinner_than_the_cutoff():
    rng = np.random.default_rng(1)
    cell = np.array([[1.3, 0.0, 0.0], [0.9, 9.0, 0.2], [0.3, -1.0, 2.5]])
    check(
        [Atoms("Al2", positions=rng.uniform(-2, 2, (2, 3)) @ cell, cell=cell, pbc=pbc) for pbc in (True, (1, 0, 1))],
        4.0,
    )


@pytest.mark.parametrize("periodic", [(False, False, False), (True, False, False), (False, True, True)])
def test_missing_cell_vectors(periodic):
    cell = np.diag([3.0, 4.0, 5.0]) * np.array(periodic)[:, None]
    check([Atoms("Al3", positions=[[0, 0, 0], [1.0, 2.0, 4.0], [2.0, 5.0, -3.0]], cell=cell, pbc=periodic)], 5.0)


@pytest.mark.parametrize("pbc", [True, False, (True, False, True)])
def test_several_bins(pbc):
    """Wide enough for 4, 3 and 1 bins; the width of the cell is a whole number of cutoffs."""
    rng = np.random.default_rng(2)
    cell = [[12.0, 0, 0], [4.0, 10.0, 0], [0.0, 1.0, 4.5]]
    check([Atoms("Al26", positions=rng.uniform(-1, 2, (26, 3)) @ cell, cell=cell, pbc=pbc)], 3.0)


def test_atoms_flying_apart_cost_no_memory():
    rng = np.random.default_rng(0)
    atoms = Atoms("Al6", positions=rng.normal(scale=1e8, size=(6, 3)))
    atoms.positions[1] = atoms.positions[0] + [2.0, 0, 0]
    assert len(found_in([atoms], 5.0).neighbor) == 2


@settings(max_examples=12, deadline=None, derandomize=True)
@given(
    seed=st.integers(0, 2**20),
    sizes=st.lists(st.integers(1, 4), min_size=1, max_size=3),
    pbc=st.sampled_from(ALL_PBC),
    edge=st.floats(2.5, 9.0),
    cutoff=st.floats(0.5, 4.0),
)
def test_random_cells(seed, sizes, pbc, edge, cutoff):
    rng = np.random.default_rng(seed)
    check([random_frame(rng, n_atoms, pbc, edge) for n_atoms in sizes], cutoff)


def test_the_same_as_on_the_cpu():
    rng = np.random.default_rng(3)
    frames = [random_frame(rng, n_atoms, True, 5.0) for n_atoms in (3, 1, 2)]
    batch = Batch.from_atoms(frames)
    np.testing.assert_array_equal(
        rows_of(found_in(frames, 4.0), batch), rows_of(NeighborSearch(4.0).pairs(batch), batch)
    )


def test_frames_and_batches_without_atoms():
    assert found_in([Atoms(), Atoms("Al"), Atoms()], 3.0).first_pair.tolist() == [0, 0]
    pairs = found_in([Atoms()], 3.0)
    assert pairs.first_pair.tolist() == [0] and pairs.shift.shape == (0, 3)


@pytest.mark.filterwarnings("ignore:.*encountered in:RuntimeWarning")  # numpy, on behalf of the interpreter
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_is_not_finite_has_no_neighbors(bad):
    """A walker that blew up must not take the others with it: an index out of bounds would end the process."""
    atoms = Atoms("Al2", positions=[[0, 0, 0], [2.0, 0, 0]], cell=[5.0, 5.0, 5.0], pbc=True)
    positions = torch.tensor(np.tile(atoms.positions, (3, 1)), device=DEVICE)
    cells = torch.tensor(np.tile(atoms.cell.array, (3, 1, 1)), device=DEVICE)
    positions[1, 2] = bad
    cells[1, 0, 0] = bad
    pbc = torch.ones((3, 3), dtype=torch.bool, device=DEVICE)
    pairs = find_pairs(positions, cells, pbc, [2, 2, 2], 3.0)
    assert pairs.first_pair.diff().tolist() == [0, 0, 0, 0, 1, 1]


@settings(max_examples=200, deadline=None, derandomize=True)
@given(shape=st.tuples(*[st.integers(0, 9).map(lambda n: 10**n)] * 3), most=st.integers(1, 10**6))
def test_bins_are_as_many_as_atoms_at_most(shape, most):
    fewer = _fewer(torch.tensor([shape], dtype=torch.float64), torch.tensor([most]))
    assert fewer.min() >= 1 and fewer.prod() <= most
