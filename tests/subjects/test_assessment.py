import dataclasses

import numpy as np
import pytest
from tiny_campaign import emt_labels

from alpot.potential.calculator import AlpotCalculator
from alpot.potential.calibration import ErrorBound
from alpot.potential.saved import load_potential
from alpot.subjects.assessment import AuditErrors, Coverage, audit_errors, is_worse, prospective_coverage


def errors(squares) -> AuditErrors:
    squares = np.array(squares, float)
    return AuditErrors(
        force_squares=squares,
        energy_errors=np.zeros(len(squares)),
        energy_deviations=np.ones(len(squares)),
        counts=np.full(len(squares), 4),
        forces=np.zeros((4 * len(squares), 3)),
        predicted=np.ones(4 * len(squares)),
        actual=np.full(4 * len(squares), 3.0),
    )


def test_errors_are_those_of_the_calculator(finished):
    """Frame by frame through ASE, with more frames than one batch holds."""
    labels = emt_labels(18)
    found = audit_errors(load_potential(finished.model_path(1))[0], labels)
    calculator = AlpotCalculator.load(finished.model_path(1))
    force_squares, energy_errors, energy_deviations, deviations, misfits = [], [], [], [], []
    for label in labels:
        atoms = label.atoms.copy()
        atoms.calc = calculator
        misfit = atoms.get_forces() - label.forces
        force_squares.append(np.mean(misfit**2))
        energy_errors.append((atoms.get_potential_energy() - label.energy) / len(atoms))
        energy_deviations.append(calculator.results["energy_std"] / len(atoms))
        deviations.append(np.linalg.norm(calculator.results["forces_std"], axis=1))
        misfits.append(np.linalg.norm(misfit, axis=1))
    # Training works in single precision, the calculator in double.
    np.testing.assert_allclose(found.force_squares, force_squares, rtol=1e-3)
    np.testing.assert_allclose(found.energy_errors, energy_errors, atol=1e-5)
    np.testing.assert_allclose(found.energy_deviations, energy_deviations, atol=1e-5)
    assert found.counts.tolist() == [len(label.atoms) for label in labels]
    np.testing.assert_allclose(found.actual, np.concatenate(misfits), rtol=1e-3, atol=1e-5)
    assert found.predicted.shape == np.concatenate(deviations).shape
    assert found.force == pytest.approx(np.sqrt(np.mean(force_squares)), rel=1e-3)


def test_an_answer_that_is_not_finite_is_noticed():
    assert errors([1.0, 2.0]).is_finite and not errors([1.0, np.nan]).is_finite


def test_without_labels_nothing_is_known(finished):
    found = audit_errors(load_potential(finished.model_path(1))[0], [])
    assert (found.force, found.energy, found.calibration) == (None, None, 1.0)
    assert not is_worse(found, found)


def test_calibration_never_shrinks():
    assert errors([1.0]).calibration == pytest.approx(3.0)


def test_bounds_are_learned_from_frames():
    bound = errors([1.0] * 12).force_bound(0.9)
    assert bound.n_frames == 12 and bound.of(1.0) == pytest.approx(3.0)
    assert errors([1.0] * 2).force_bound(0.9) == ErrorBound()
    energy = errors([1.0] * 12).energy_bound(0.8)
    assert (energy.n_frames, energy.confidence, energy.of(1.0)) == (12, 0.8, 0.0)


def test_coverage_is_that_of_new_labels():
    found, is_new = errors([1.0] * 20), np.arange(20) >= 15
    found.actual[:] = np.where(np.repeat(is_new, 4), 5.0, 3.0)
    found.actual[-3:] = 1.0
    assert prospective_coverage(found, is_new, ErrorBound(slope=3.0, n_frames=15, is_audited=True)) == Coverage(
        share=3 / 20, n_atoms=20, n_frames=5
    )
    assert prospective_coverage(found, np.zeros(20, dtype=bool), ErrorBound()) is None


def test_a_bound_that_knew_the_new_labels_is_not_tested_with_them():
    """It was learned by an attempt at the same assessment that was lost."""
    found, is_new = errors([1.0] * 20), np.arange(20) >= 15
    found.actual[:] = np.where(np.repeat(is_new, 4), 5.0, 3.0)
    too_late = dataclasses.replace(found.force_bound(0.9), is_audited=True)
    assert too_late.of(1.0) == pytest.approx(5.0)
    assert prospective_coverage(found, is_new, too_late).share == 0.0


def test_worse_by_more_than_chance():
    rng = np.random.default_rng(3)
    old = rng.uniform(1.0, 2.0, 40)
    assert is_worse(errors(old + 0.5), errors(old))
    assert not is_worse(errors(old), errors(old))
    assert not is_worse(errors(old - 0.5), errors(old))
    noise = rng.normal(0.0, 1.0, 40)
    noise += 0.5 * noise.std(ddof=1) / np.sqrt(40) - noise.mean()  # worse by half its own standard error
    assert not is_worse(errors(old + noise), errors(old))
    assert is_worse(errors(old + 4 * noise.std() / np.sqrt(40) + noise), errors(old))


def test_one_label_decides_by_itself():
    assert is_worse(errors([2.0]), errors([1.0]))
    assert not is_worse(errors([1.0]), errors([2.0]))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_an_error_that_is_not_finite_is_worse(value):
    assert is_worse(errors([1.0, value, 1.0]), errors([1.0, 1.0, 1.0]))
    assert is_worse(errors([value]), errors([1.0]))
    assert not is_worse(errors([1.0]), errors([value]))
