import numpy as np
import pytest

from alpot.report.intervals import rms_interval, rms_upper_limit


def test_the_interval_of_normal_errors_is_the_known_one():
    """For n normal errors, n·rms²/σ² is χ² distributed: the interval of rms is ±1.96·rms/√(2n) for large n."""
    errors = np.random.default_rng(1).normal(0.0, 0.3, size=2000)
    found = rms_interval(errors)
    width = 1.96 * found.value / np.sqrt(2 * 2000)
    # 2,000 draws know the ends of the interval within 5 % of its width, and the sample's own kurtosis as much again.
    assert found.high - found.value == pytest.approx(width, rel=0.1)
    assert found.value - found.low == pytest.approx(width, rel=0.1)


def test_it_covers_the_truth_nearly_as_often_as_it_says():
    rng = np.random.default_rng(2)
    intervals = [rms_interval(rng.normal(size=60), seed=trial) for trial in range(200)]
    covered = np.mean([found.low <= 1.0 <= found.high for found in intervals])
    # The bootstrap of 60 is a little too sure of itself; three standard errors of 200 trials are 5 %.
    assert 0.89 <= covered <= 1.0


def test_the_upper_limit_of_few_and_skewed_frames_holds_about_as_often_as_it_says():
    """Log-normal squares, σ = 1: the mean is e^(1/2), and plain percentiles of the bootstrap cover 77 % at n = 20."""
    rng = np.random.default_rng(3)
    frames = np.exp(rng.normal(size=(300, 20)) / 2)
    limits = [rms_upper_limit(errors, 0.9, seed=trial) for trial, errors in enumerate(frames)]
    covered = np.mean([limit >= np.exp(0.25) for limit in limits])
    # 87 % in long runs; three standard errors of 300 trials are 6 %.
    assert 0.81 <= covered <= 0.95
    assert all(limit >= np.sqrt(np.mean(errors**2)) for limit, errors in zip(limits, frames, strict=True))


def test_the_upper_limit_is_seeded_and_grows_with_the_confidence():
    errors = [0.1, 0.2, 0.4, 0.15, 0.3]
    limits = [rms_upper_limit(errors, confidence) for confidence in (0.6, 0.9, 0.99)]
    assert limits == sorted(limits) and limits == [rms_upper_limit(errors, level) for level in (0.6, 0.9, 0.99)]
    assert rms_upper_limit([0.1], 0.9) is None
    assert rms_upper_limit([0.2, 0.2], 0.9) == pytest.approx(0.2) and rms_upper_limit([0.0, 0.0], 0.9) == 0.0


def test_the_same_frames_give_the_same_interval_and_few_give_none():
    errors = [0.1, 0.2, 0.4]
    assert rms_interval(errors) == rms_interval(errors)
    assert rms_interval([0.1]) is None and rms_interval([]) is None
    exact = rms_interval([0.2] * 5)
    assert exact.low == exact.value == exact.high == pytest.approx(0.2)
