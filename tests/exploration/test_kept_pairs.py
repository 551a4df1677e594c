"""No pair is missing as long as the margins say so."""

import numpy as np
import pytest
import torch
from ase import Atoms

from alpot.exploration.kept_pairs import KeptPairs, search_on_host
from alpot.exploration.phase_space import PhaseSpace
from alpot.exploration.walker import Walker
from alpot.potential.batch import Batch
from alpot.potential.kernels import Geometry
from alpot.potential.neighbors import NeighborSearch

CUTOFF, SKIN = 4.5, 0.6


@pytest.fixture
def walkers(settings_of, crystal) -> list[Walker]:
    open_frame = crystal(3, (2, 2, 1))
    open_frame.pbc = (True, False, False)
    frames = [crystal(0), Atoms("Al", cell=[3.0] * 3, pbc=True), crystal(1, (2, 1, 1)), open_frame, Atoms("Al")]
    frames[2].set_cell(frames[2].cell.array + np.diag([0.5, -0.4], k=1), scale_atoms=True)
    for frame in frames[1:4]:
        frame.info["compression"] = 0.3
    return [
        Walker.begin(atoms, settings_of(density_end=(1.0, 5.0)), np.random.default_rng(i))
        for i, atoms in enumerate(frames)
    ]


@pytest.fixture
def space(walkers) -> PhaseSpace:
    space = PhaseSpace(torch.device("cpu"))
    space.append(walkers, torch.zeros(sum(map(len, walkers))))
    return space


def rows_of(geometry: Geometry, cutoff: float) -> set[tuple[int, ...]]:
    """(center, neighbor, shift) of all pairs closer than the cutoff."""
    center = torch.repeat_interleave(torch.arange(geometry.n_atoms), geometry.first_pair.diff())
    cells = geometry.cells[geometry.frame.long()[center]]
    images = (geometry.shift[:, None].double() @ cells)[:, 0]
    vectors = geometry.positions[geometry.neighbor.long()] + images - geometry.positions[center]
    rows = torch.cat([center[:, None], geometry.neighbor[:, None], geometry.shift], dim=1)
    return set(map(tuple, rows[vectors.norm(dim=1) < cutoff].tolist()))


def expected_rows(space: PhaseSpace) -> set[tuple[int, ...]]:
    frames = []
    for slot, walker in enumerate(space.walkers):
        positions, cell = space.frame(slot)
        frames.append(Atoms(walker.start.numbers, positions=positions, cell=cell, pbc=walker.start.pbc))
    batch = Batch.from_atoms(frames)
    pairs = NeighborSearch(CUTOFF).pairs(batch)
    return set(zip(pairs.center.tolist(), pairs.neighbor.tolist(), *pairs.shift.T.tolist(), strict=True))


def test_the_walkers_pairs_are_joined(space, walkers):
    pairs = KeptPairs(space, search_on_host, CUTOFF, 0.0)
    pairs.append()
    geometry = pairs.geometry()
    assert rows_of(geometry, CUTOFF) == expected_rows(space)
    assert geometry.frame.tolist() == np.repeat(range(5), [len(walker) for walker in walkers]).tolist()
    pairs.keep([2, 4])
    space.keep([2, 4])
    assert rows_of(pairs.geometry(), CUTOFF) == expected_rows(space)
    space.append([walkers[3]], torch.zeros(len(walkers[3])))
    pairs.append()
    assert rows_of(pairs.geometry(), CUTOFF) == expected_rows(space)
    last = pairs.geometry(first=2)
    assert last.n_frames == 1 and last.frame.unique().tolist() == [0]
    assert {(i + 9, j + 9, *shift) for i, j, *shift in rows_of(last, CUTOFF)} <= expected_rows(space)


def test_no_pair_is_missing_within_the_margins(space):
    """Random motions, growths and compressions, near the limit: whoever is not over it has all its pairs."""
    rng = np.random.default_rng(0)
    pairs = KeptPairs(space, search_on_host, CUTOFF, SKIN)
    pairs.append()
    start, cells, scales = space.atoms.positions.clone(), space.cells.cells.clone(), space.scales
    verdicts = []
    for _ in range(60):
        growth = rng.uniform(0.95, 1.05, len(space.walkers))
        growth[3:] = 1.0  # no density without full periodicity
        squeeze = np.where([walker.compression is not None for walker in space.walkers], rng.uniform(0.9, 1.02, 5), 1.0)
        direction = rng.normal(size=start.shape)
        direction *= rng.uniform(0.1, 0.4) / np.linalg.norm(direction, axis=1, keepdims=True)
        for slot, walker in enumerate(space.walkers):
            axis = np.eye(3)[0] if walker.compression is None else cells[slot, walker.axis].numpy()
            axis = axis / np.linalg.norm(axis)
            deform = torch.from_numpy(growth[slot] * (np.eye(3) + (squeeze[slot] - 1.0) * np.outer(axis, axis)))
            span = slice(*space.span(slot))
            space.atoms.positions[span] = (start[span] + torch.from_numpy(direction[span])) @ deform
            space.cells.cells[slot] = cells[slot] @ deform
        margins = pairs.margins((scales * np.column_stack([growth, squeeze]))[None])
        is_inside = torch.segment_reduce(margins.excess(0), "max", offsets=space.offsets) <= 0
        missing = expected_rows(space) - rows_of(pairs.geometry(), CUTOFF)
        assert not {int(space.walker[center]) for center, *_ in missing} & set(is_inside.nonzero()[:, 0].tolist())
        verdicts.append((is_inside.tolist(), bool(missing)))
        np.testing.assert_allclose(margins.displacements(0), np.linalg.norm(direction, axis=1), rtol=1e-9)
    # The test has teeth: some are inside, some are not, and some of these do lack pairs.
    assert any(any(inside) for inside, _ in verdicts) and any(missing for _, missing in verdicts)


def test_a_walker_is_searched_by_itself(space):
    searched = []

    def search(positions, cells, pbc, counts, cutoff):
        searched.append(list(counts))
        return search_on_host(positions, cells, pbc, counts, cutoff)

    pairs = KeptPairs(space, search, CUTOFF, SKIN)
    pairs.append()
    space.atoms.positions.add_(1.0)
    pairs.renew([0, 2], space.scales)
    assert searched == [[4, 1, 8, 16, 1], [4, 8]]
    displacements = pairs.margins(space.scales[None]).displacements(0)
    per_walker = torch.segment_reduce(displacements, "max", offsets=space.offsets)
    np.testing.assert_allclose(per_walker, [0, 3**0.5, 0, 3**0.5, 3**0.5], atol=1e-12)
    assert rows_of(pairs.geometry(), CUTOFF) == expected_rows(space)


def test_allowances_are_those_of_the_skin(space):
    pairs = KeptPairs(space, search_on_host, CUTOFF, SKIN)
    pairs.append()
    assert pairs.allowances(space.scales) == pytest.approx(0.5 * SKIN)
    # A cell that shrinks by more than the skin leaves nothing.
    left = CUTOFF / (CUTOFF + SKIN)
    assert (pairs.allowances(space.scales * [0.999 * left, 1.0]) < 0).all()
    assert (pairs.allowances(space.scales * [1.0, 0.999 * left]) < 0).all()
    # One direction alone that grows allows nothing more; all directions do.
    assert pairs.allowances(space.scales * [1.0, 1.2]) == pytest.approx(0.5 * SKIN)
    assert (pairs.allowances(space.scales * [1.2, 1.0]) > 0.5 * SKIN).all()


def test_pairs_are_found_again(space):
    """In the same order, whenever each walker was searched and however far its atoms and its cell have gone since."""
    pairs = KeptPairs(space, search_on_host, CUTOFF, SKIN)
    pairs.append()
    rng = np.random.default_rng(0)
    for walker in space.walkers:
        walker.step += 20
    scales = space.scales
    space.atoms.positions.add_(torch.from_numpy(rng.normal(0.0, 0.2, (30, 3))))
    space.cells.cells[:3] *= torch.from_numpy((scales / pairs.searched_scales)[:3, :1])[:, None]
    pairs.renew([1, 2], scales)
    # The last one never changes, and the one before it is only compressed.
    assert (pairs.searched_scales == scales).all(1).tolist() == [False, True, True, False, True]
    space.atoms.positions.add_(torch.from_numpy(rng.normal(0.0, 0.2, (30, 3))))
    space.cells.cells[:3] *= 0.9
    again = KeptPairs(space, search_on_host, CUTOFF, SKIN)
    again.append_in_flight(pairs.searched_scales)
    for name in ("first_pair", "neighbor", "shift"):
        assert torch.equal(getattr(again.geometry(), name), getattr(pairs.geometry(), name))
    np.testing.assert_array_equal(again.searched_scales, pairs.searched_scales)
