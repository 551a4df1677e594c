"""What is labelled first: where the forces are least sure, nothing twice, and small cells where they teach as much."""

import numpy as np
import pytest

from alpot.config import Exploration
from alpot.exploration.selection import rank
from alpot.potential.calibration import ErrorBound
from alpot.potential.novelty import INFORMATION, Information, environments_of

LIMITS = Exploration(max_force_error=0.01, mean_force_error=0.01)
BOUND = ErrorBound(slope=2.0)


@pytest.fixture(scope="module")
def ensemble(make_ensemble):
    return make_ensemble(strength=0.5)


@pytest.fixture
def frames(crystal):
    """Crystals of growing density: no two alike."""
    return [crystal(i, (2, 1, 1), a=4.3 - 0.1 * i) for i in range(6)]


def test_a_copy_waits_until_the_others_were_labelled(ensemble, frames):
    """Of two equal frames, a rotated and a shifted one, one is in front; the others teach next to nothing after it."""
    turned = frames[5].copy()
    turned.rotate(40, (1, 2, 3), rotate_cell=True)
    turned.positions += 0.7
    copies = [frames[5], frames[5].copy(), turned]
    known = Information.of(ensemble, frames[:2])
    ranking = rank([*frames[2:5], *copies], ensemble, BOUND, LIMITS, information=known)
    first, *others = sorted(ranking.scores[3:], reverse=True)
    assert first > 3 * others[0] and first > 3 * others[1]
    assert ranking.urgencies[3:] == pytest.approx(ranking.urgencies[3], rel=1e-6)


def test_what_is_being_labelled_counts_as_known(ensemble, frames):
    known = Information.of(ensemble, frames[:2])
    plain = rank(frames[2:], ensemble, BOUND, LIMITS, information=known)
    after = rank(frames[2:], ensemble, BOUND, LIMITS, information=known, taken=[frames[5].copy()])
    assert after.scores[3] < 0.4 * plain.scores[3]
    assert after.scores.max() < plain.scores.max()  # what it would have taught of the others is known, too
    np.testing.assert_allclose(after.urgencies, plain.urgencies)  # what a model knows does not depend on the queue


def test_labels_that_were_trained_on_leave_less_to_learn(ensemble, frames):
    """The more labels of a kind, the smaller the variance: as 1/n for n equal ones."""
    environments = environments_of(ensemble, frames[:1])
    few, many = (
        np.square(Information.of(ensemble, [frames[0]] * count).whitened(environments)).sum() for count in (10, 100)
    )
    assert many / few == pytest.approx(0.1)
    assert few <= len(frames[0]) / 10  # an atom has a variance of 1 at most after its own label, of 1/10 after ten


def test_what_is_removed_is_the_drop_of_the_conditional_variance(ensemble, frames):
    """Of a Gaussian process conditioned on the labelled atoms, computed at once for all that waits."""
    from alpot.exploration.selection import _Known, _split

    information = Information.of(ensemble, frames[:2])
    waiting = frames[2:]
    errors = np.random.default_rng(0).uniform(0.1, 1.0, sum(len(atoms) for atoms in waiting))
    species, rows = _split(ensemble, information, waiting)
    known = _Known(errors, species, rows)
    everything = np.concatenate(rows)
    first = np.square(everything).sum(axis=1)
    seen = np.empty((0, everything.shape[1]))
    left = errors**2
    for frame in (2, 0, 3):
        removed = known.removed_by(frame)
        seen = np.concatenate([seen, rows[frame]])
        posterior = np.linalg.inv(np.eye(everything.shape[1]) + seen.T @ seen)
        variances = np.einsum("ij,jk,ik->i", everything, posterior, everything)
        after = errors**2 * variances / first
        assert removed == pytest.approx(left.sum() - after.sum(), rel=1e-6)
        left = after
        known.take(species[frame], rows[frame])


def test_one_of_many_is_worth_more_than_a_lone_one(ensemble, crystal):
    """Five frames of one kind and one of another: one of the five goes first, the lone one next."""
    kind = [crystal(i, (2, 1, 1), a=4.0) for i in range(5)]
    lone = crystal(9, (2, 1, 1), a=4.5)
    even = ErrorBound(slope=1e-9, floor=1e9)  # 1 eV/Å everywhere, so that only resemblance counts
    scores = rank([*kind, lone], ensemble, even, LIMITS, information=Information.none(ensemble)).scores
    order = np.argsort(-scores)
    assert order[0] < 5 and scores[order[0]] > scores[5]
    assert order[1] == 5


def test_a_small_cell_with_the_same_environments_comes_first(ensemble, crystal):
    small = crystal(3, (1, 1, 1))
    large = small.repeat((2, 2, 1))
    known = Information.none(ensemble)
    dear = rank([large, small], ensemble, BOUND, LIMITS, information=known, cost_exponent=3.0)
    assert dear.scores[1] > dear.scores[0]
    cheap = rank([large, small], ensemble, BOUND, LIMITS, information=known, cost_exponent=0.0)
    assert cheap.scores[0] > cheap.scores[1]


def test_elements_do_not_teach_each_other(make_ensemble, crystal):
    alloy = make_ensemble(strength=0.5, elements=("Al", "Cu"))
    aluminum, copper = crystal(1), crystal(1, symbol="Cu")
    ranking = rank([aluminum, copper], alloy, BOUND, LIMITS, information=Information.none(alloy))
    alone = [rank([frame], alloy, BOUND, LIMITS, information=Information.none(alloy)) for frame in (aluminum, copper)]
    np.testing.assert_allclose(ranking.scores, [each.scores[0] for each in alone], rtol=1e-9)


def test_nothing_to_rank(ensemble):
    assert len(rank([], ensemble, BOUND, LIMITS, information=Information.none(ensemble)).scores) == 0


def test_information_lies_beside_the_weights(tmp_path, ensemble, make_ensemble, frames):
    known = Information.of(ensemble, frames)
    known.write(tmp_path)
    np.testing.assert_array_equal(Information.read(tmp_path, ensemble).matrices, known.matrices)
    # Of other networks, damaged, or not there: as if nothing was known.
    assert not Information.read(tmp_path, make_ensemble(elements=("Al", "Cu"))).matrices.any()
    content = bytearray((tmp_path / INFORMATION).read_bytes())
    (tmp_path / INFORMATION).write_bytes(bytes(content[:-9]))
    assert not Information.read(tmp_path, ensemble).matrices.any()
    assert not Information.read(tmp_path / "nowhere", ensemble).matrices.any()
