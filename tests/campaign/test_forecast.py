import math

import numpy as np
import pytest
from scipy import stats

from alpot.campaign.forecast import (
    Forecast,
    LearningPoint,
    audit_noise,
    fit_learning_curve,
    student_quantile,
)


def points(labels, errors, *, audit=40, price: float = 1.0) -> list[LearningPoint]:
    return [
        LearningPoint(labels=int(n), calculations=round(price * n) + 7, force_error=float(error), audit_labels=audit)
        for n, error in zip(labels, errors, strict=True)
    ]


def test_an_exact_power_law_is_found_and_forecast():
    labels = np.array([60, 90, 140, 200, 300])
    curve = fit_learning_curve(points(labels, 0.5 * labels**-0.4, price=1.25))
    assert curve.exponent == pytest.approx(0.4) and curve.error(1000) == pytest.approx(0.5 * 1000**-0.4)
    found = curve.forecast(0.5 * 2000**-0.4, 0.9)
    # All three in the digits of the fit: without scatter there is no interval.
    assert (found.low, found.expected, found.high) == pytest.approx((2000, 2000, 2000), rel=1e-5)
    assert curve.in_calculations(found).expected == pytest.approx(1.25 * 2000 + 7, rel=1e-5)
    assert curve.band(500, 0.9) == pytest.approx((curve.error(500),) * 2)


def noisy(rng: np.random.Generator, exponent: float, n_points: int) -> list[LearningPoint]:
    """Errors of trainings that scatter by 5 %, measured on audits that grow, whose squares are χ² distributed."""
    found = []
    for n in np.unique(np.geomspace(60, 600, n_points).astype(int)):
        audit = int(n // 3)
        sampled = math.sqrt(rng.chisquare(2 * audit) / (2 * audit))
        found += points([n], [n**-exponent * math.exp(0.05 * rng.normal()) * sampled], audit=audit)
    return found


@pytest.mark.parametrize(("exponent", "n_points"), [(0.3, 6), (0.5, 12), (0.2, 8)])
def test_intervals_hold_the_truth_as_often_as_they_say(exponent, n_points):
    rng = np.random.default_rng(5)
    curves = [fit_learning_curve(noisy(rng, exponent, n_points)) for _ in range(400)]
    exponents = [curve.exponent for curve in curves]
    # Its standard error is known by the curves' own scatter; four of them, so that one seed in 16,000 fails.
    assert np.mean(exponents) == pytest.approx(exponent, abs=4 * np.std(exponents) / 20)
    found = [curve.forecast(3000**-exponent, 0.9) for curve in curves]
    held = [(f.low or math.inf) <= 3000 <= (f.high or math.inf) for f in found]
    # Three standard errors of 400 trials are 4.5 %; the weights are not exactly those of the scatter.
    assert np.mean(held) == pytest.approx(0.9, abs=0.05)
    bands = [curve.band(1500, 0.9) for curve in curves]
    assert np.mean([low <= 1500**-exponent <= high for low, high in bands]) == pytest.approx(0.9, abs=0.05)


def test_the_interval_is_where_the_band_holds_the_target():
    """Fieller's roots against the band itself."""
    curve = fit_learning_curve(noisy(np.random.default_rng(8), 0.3, 10))
    target = 2000**-0.3
    found = curve.forecast(target, 0.8, audit_noise=0.05)
    assert curve.band(found.low, 0.8, audit_noise=0.05)[0] == pytest.approx(target)
    assert curve.band(found.high, 0.8, audit_noise=0.05)[1] == pytest.approx(target)
    narrow = curve.forecast(target, 0.8)
    assert found.low < narrow.low < narrow.expected == found.expected < narrow.high < found.high


@pytest.mark.parametrize(
    ("errors", "is_low_known", "is_expected_known"),
    [
        ([0.1, 0.1, 0.1, 0.1], False, False),  # flat, without scatter
        ([0.1, 0.11, 0.12, 0.13], False, False),  # rises beyond doubt
        ([0.11, 0.1, 0.12, 0.11], True, False),  # may fall or rise
        ([0.12, 0.1, 0.12, 0.1], True, True),
    ],
)
def test_there_is_no_limit_where_the_error_may_not_fall(errors, is_low_known, is_expected_known):
    found = fit_learning_curve(points([50, 80, 120, 200], errors)).forecast(0.05, 0.9)
    assert found.high is None
    assert (found.low is not None, found.expected is not None) == (is_low_known, is_expected_known)
    assert Forecast.map(found, 2.0, 1.0).high is None


def test_only_the_last_decade_is_fitted_and_audits_weigh():
    late = points([100, 200, 400, 900], [0.2, 0.14, 0.1, 0.067])
    alone = fit_learning_curve(late)
    assert fit_learning_curve(points([20, 80], [0.21, 0.2]) + late) == alone
    # A fresh campaign's tiny audit says little: it pulls the line less than as many labels as the others would.
    small, large = (fit_learning_curve([*points([95], [0.3], audit=audit), *late]) for audit in (2, 200))
    assert alone.exponent < small.exponent < large.exponent


def test_what_cannot_be_fitted():
    assert fit_learning_curve([]) is None
    assert fit_learning_curve(points([10, 20], [0.2, 0.1])) is None
    assert fit_learning_curve(points([10, 10, 10], [0.2, 0.1, 0.1])) is None
    assert fit_learning_curve(points([10, 20, 30], [0.2, 0.0, 0.1])) is None


@pytest.mark.parametrize("freedom", [1, 2, 3, 4, 7, 30])
def test_students_quantiles_are_those_of_scipy(freedom):
    for probability in (0.5, 0.75, 0.95, 0.995):
        # Bisection stops at a relative width of 1e-9.
        expected = stats.t.ppf(probability, freedom)
        assert student_quantile(probability, freedom) == pytest.approx(expected, rel=1e-7, abs=1e-7)


def test_audit_noise_is_the_standard_error_of_the_logarithm():
    assert audit_noise(0.1, 0.1 * math.exp(1.2816 * 0.07), 0.9) == pytest.approx(0.07, rel=1e-4)
    assert audit_noise(0.1, None, 0.9) == 0.0
