"""A bound on errors: how often it holds, and what it says where little is known."""

import numpy as np
import pytest

from alpot.potential.calibration import UNKNOWN_SLOPE, ErrorBound, fewest_frames, fit_bound


def draw(rng, n_frames, atoms=30):
    """Deviations, errors and frames; the atoms of a frame are alike, and members agree on errors that they share."""
    mood = rng.lognormal(0.0, 0.5, (n_frames, 1))
    deviations = 0.05 * mood * rng.lognormal(0.0, 0.4, (n_frames, atoms))
    scale = rng.lognormal(0.0, 0.3, (n_frames, 1)) * (2.5 * deviations + 0.02)
    errors = np.linalg.norm(rng.normal(size=(n_frames, atoms, 3)), axis=-1) * scale / np.sqrt(3.0)
    return deviations.ravel(), errors.ravel(), np.repeat(np.arange(n_frames), atoms)


@pytest.mark.parametrize(("confidence", "low", "high"), [(0.9, 0.88, 0.96), (0.68, 0.65, 0.73)])
def test_new_frames_are_covered_with_the_confidence(confidence, low, high):
    """The level (n + 1) / n × 0.9 makes the expected coverage at least 0.9 for 24 frames, if the score is chosen
    beforehand. That the floor is chosen with the same frames costs less than 0.02. The mean of 300 repetitions, with a
    scatter of 0.03 each, is known to 0.002.
    """
    rng = np.random.default_rng(0)
    fresh = draw(rng, 2000)[:2]
    held = [fit_bound(*draw(rng, 24), confidence).coverage(*fresh) for _ in range(300)]
    assert low < np.mean(held) < high
    # The bound is no guess that covers everything now and nothing then.
    assert np.std(held) < 0.06


def test_many_frames_find_the_line_that_errors_follow():
    """Errors are uniform up to 4 × (deviation + 0.03): nine of ten lie below 3.6 × (deviation + 0.03)."""
    rng = np.random.default_rng(1)
    deviations = rng.uniform(0.0, 0.3, 60_000)
    errors = 4.0 * (deviations + 0.03) * rng.random(60_000)
    bound = fit_bound(deviations, errors, np.repeat(np.arange(600), 100), 0.9)
    # Floors that are tried lie 0.015 apart; the slope follows.
    assert bound.floor == pytest.approx(0.03, abs=0.015)
    np.testing.assert_allclose(bound.of(np.array([0.05, 0.25])), 3.6 * np.array([0.08, 0.28]), rtol=0.05)
    assert (bound.confidence, bound.n_frames) == (0.9, 600)


def test_each_frame_counts_the_same():
    """19 frames of one atom each, and one of a thousand that would decide alone if atoms counted."""
    frames = np.concatenate([np.arange(19), np.full(1000, 19)])
    errors = np.where(frames < 19, 0.3, 0.001)
    bound = fit_bound(np.full(len(frames), 0.1), errors, frames, 0.9)
    assert bound.of(0.1) == pytest.approx(0.3)


def test_few_frames_promise_nothing_and_fewer_teach_nothing():
    """With n frames, the level 0.9 (n + 1) / n is at most 1 from nine frames on; below, it is 0.95 and no promise."""
    assert [fewest_frames(confidence) for confidence in (0.5, 0.9, 0.95, 0.99)] == [1, 9, 19, 99]
    rng = np.random.default_rng(2)
    assert fit_bound(*draw(rng, 2), 0.9) == ErrorBound(slope=UNKNOWN_SLOPE, floor=0.0, confidence=0.9, n_frames=0)
    deviations, errors, frames = draw(rng, 4)
    bound = fit_bound(deviations, errors, frames, 0.9)
    assert bound.n_frames == 4 and bound.coverage(deviations, errors) == pytest.approx(0.95, abs=0.02)
    deviations, errors, frames = draw(rng, 9)
    bound = fit_bound(deviations, errors, frames, 0.9)
    assert bound.n_frames == 9 and bound.coverage(deviations, errors) == 1.0
    nothing = np.zeros(0)
    assert fit_bound(nothing, nothing, np.zeros(0, dtype=np.int64), 0.9).n_frames == 0


def test_members_that_agree_exactly_are_not_believed():
    frames, errors = np.arange(20), np.linspace(0.01, 0.2, 20)
    none = fit_bound(np.zeros(20), errors, frames, 0.9)
    assert np.isfinite(none.slope) and none.floor > 0 and none.coverage(np.zeros(20), errors) >= 0.9
    some = fit_bound(np.where(frames < 5, 0.0, 0.1), errors, frames, 0.9)
    assert np.isfinite(some.slope) and some.floor > 0
    right = fit_bound(np.zeros(20), np.zeros(20), frames, 0.9)
    assert np.isfinite(right.slope) and right.of(0.0) >= 0.0


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("which", ["deviations", "errors"])
def test_what_is_not_finite_has_no_bound(which, value):
    known = {"deviations": np.full(20, 0.1), "errors": np.full(20, 0.2)}
    known[which][3] = value
    bound = fit_bound(known["deviations"], known["errors"], np.arange(20), 0.9)
    assert bound.slope == np.inf and bound.of(0.1) == np.inf


def test_what_is_not_a_number_is_not_covered():
    assert ErrorBound().coverage(np.full(2, 0.1), np.array([0.1, np.nan])) == 0.5
