from __future__ import annotations

import numpy as np
import pytest

from alpot.validation.averages import standard_error


def correlated(length: int, memory: float, rng: np.random.Generator) -> np.ndarray:
    """An autoregressive series of unit variance; its correlation falls off as memory^k."""
    noise = rng.standard_normal(length) * np.sqrt(1 - memory**2)
    series = np.empty(length)
    series[0] = rng.standard_normal()
    for k in range(1, length):
        series[k] = memory * series[k - 1] + noise[k]
    return series


def test_independent_samples_have_the_textbook_error() -> None:
    series = np.random.default_rng(0).standard_normal(4096)
    # The largest of ten levels is taken, so the error is somewhat above 1/√n, never below.
    assert 1.0 <= standard_error(series) * np.sqrt(4096) < 2.0


@pytest.mark.parametrize("memory", [0.5, 0.9, 0.98])
def test_correlated_samples_have_the_error_of_their_correlation_time(memory: float) -> None:
    # Var(mean) = (1 + m)/(1 − m)/n for an autoregressive series.
    length = 8192
    expected = np.sqrt((1 + memory) / (1 - memory) / length)
    rng = np.random.default_rng(1)
    found = np.mean([standard_error(correlated(length, memory, rng)) for _ in range(5)])
    # Up to a third too large, because the largest level is taken.
    assert 0.9 < found / expected < 1.6


def test_four_samples_are_too_few() -> None:
    with pytest.raises(ValueError, match="4 samples have no standard error; at least 5 are needed"):
        standard_error([1.0, 2.0, 3.0, 4.0])


def test_a_constant_has_no_error() -> None:
    assert standard_error(np.ones(64)) == 0.0
