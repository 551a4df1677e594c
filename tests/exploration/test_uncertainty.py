import numpy as np
import pytest
import torch

from alpot.exploration.uncertainty import calibration_factor, force_deviation


def test_force_deviation_is_the_norm_of_the_standard_deviations():
    forces = np.zeros((3, 2, 3))
    forces[:, 0, 0] = [1.0, 2.0, 3.0]  # deviation 1
    forces[:, 0, 2] = [0.0, 2.0, 4.0]  # deviation 2
    np.testing.assert_allclose(force_deviation(forces), [np.sqrt(5.0), 0.0])


def test_nan_stays_nan():
    forces = np.zeros((3, 2, 3))
    forces[1, 1, 0] = np.nan
    deviation = force_deviation(forces)
    assert deviation[0] == 0.0 and np.isnan(deviation[1])


def test_calibration_finds_the_factor():
    """Errors that are normal with σ_i = 3 s_i: the factor is 3, within its own error of 1 % for 20,000 components."""
    rng = np.random.default_rng(0)
    predicted = rng.uniform(0.01, 0.2, 20_000)
    actual = np.abs(rng.normal(0, 3 * predicted))
    assert calibration_factor(predicted, actual) == pytest.approx(3.0, rel=0.05)


@pytest.mark.parametrize(
    ("predicted", "actual", "factor"),
    [([], [], 1.0), ([0.0, 0.0], [0.1, 0.2], 1.0), ([0.2, 0.2], [0.1, 0.1], 1.0), ([0.1, 0.1], [0.2, 0.2], 2.0)],
    ids=["nothing", "no deviation", "over-estimated", "under-estimated"],
)
def test_calibration_is_never_below_one(predicted, actual, factor):
    assert calibration_factor(np.array(predicted), np.array(actual)) == pytest.approx(factor)


def test_one_wild_frame_does_not_rule_the_calibration():
    rng = np.random.default_rng(1)
    predicted = np.full(1000, 0.1)
    actual = np.abs(rng.normal(0, 0.2, 1000))
    calm = calibration_factor(predicted, actual)
    actual[:20] = 50.0
    assert calibration_factor(predicted, actual) == pytest.approx(calm, rel=0.1)


def test_an_error_that_is_not_finite_is_never_trusted():
    assert calibration_factor(np.array([0.1, 0.1]), np.array([0.1, np.nan])) == np.inf


def test_tensors_and_arrays_give_the_same():
    forces = np.random.default_rng(0).normal(size=(5, 7, 3))
    expected = np.linalg.norm(forces.std(0, ddof=1), axis=1)
    np.testing.assert_allclose(force_deviation(forces), expected, rtol=1e-12)
    np.testing.assert_allclose(force_deviation(torch.from_numpy(forces)).numpy(), expected, rtol=1e-12)
