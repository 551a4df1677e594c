import numpy as np
import pytest

from alpot.report.intervals import rms_interval


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
    assert 0.87 <= covered <= 1.0


def test_the_same_frames_give_the_same_interval_and_few_give_none():
    errors = [0.1, 0.2, 0.4]
    assert rms_interval(errors) == rms_interval(errors)
    assert rms_interval([0.1]) is None and rms_interval([]) is None
    exact = rms_interval([0.2] * 5)
    assert exact.low == exact.value == exact.high == pytest.approx(0.2)
