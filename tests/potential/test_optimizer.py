"""MemberwiseAdam against torch's Adam, and members that stand still."""

import numpy as np
import pytest
import torch

from alpot.config import Training
from alpot.potential.optimizer import MemberwiseAdam
from alpot.potential.schedule import LearningRates

SHAPES = [(3, 4, 2), (3, 1, 2), (3, 5)]
RATES = torch.tensor([1e-2, 3e-3, 1e-1], dtype=torch.float64)


def draw(generator) -> list[torch.Tensor]:
    return [torch.randn(shape, generator=generator, dtype=torch.float64) for shape in SHAPES]


def test_each_member_is_trained_by_adam():
    generator = torch.Generator().manual_seed(0)
    parameters = draw(generator)
    singles = [[p[m].clone().requires_grad_() for p in parameters] for m in range(3)]
    references = [torch.optim.Adam(own, lr=float(rate)) for own, rate in zip(singles, RATES, strict=True)]
    adam = MemberwiseAdam(parameters, 3, largest_gradient=1e9)
    for _ in range(20):
        gradients = draw(generator)
        adam.step(gradients, RATES)
        for m, reference in enumerate(references):
            for own, gradient in zip(singles[m], gradients, strict=True):
                own.grad = gradient[m].clone()
            reference.step()
    for index, parameter in enumerate(parameters):
        for m in range(3):
            torch.testing.assert_close(parameter[m], singles[m][index].detach(), rtol=1e-12, atol=1e-12)  # rounding


def run(change=None, rates=RATES, steps=5):
    generator = torch.Generator().manual_seed(1)
    parameters = draw(generator)
    start = [p.clone() for p in parameters]
    adam = MemberwiseAdam(parameters, 3)
    for step in range(steps):
        gradients = draw(generator)
        if change is not None:
            change(step, gradients)
        adam.step(gradients, rates)
    return start, parameters


def poison(value):
    def change(step, gradients):
        gradients[1][1] = value

    return change


@pytest.mark.parametrize("value", [torch.nan, torch.inf, 1e200])
def test_a_member_with_gradients_that_are_not_finite_stands_still(value):
    """1e200 is finite, but its square is not."""
    _, expected = run()
    start, actual = run(poison(value))
    for before, after, undisturbed in zip(start, actual, expected, strict=True):
        assert torch.equal(after[1], before[1])
        assert torch.equal(after[[0, 2]], undisturbed[[0, 2]])


def test_one_bad_batch_is_passed_over():
    """Momentum does not carry the member on, and afterwards it goes on."""
    generator = torch.Generator().manual_seed(1)
    parameters = draw(generator)
    adam = MemberwiseAdam(parameters, 3)
    for step in range(4):
        gradients = draw(generator)
        if step == 2:
            gradients[1][1] = torch.nan
        before = [p.clone() for p in parameters]
        adam.step(gradients, RATES)
        for old, new in zip(before, parameters, strict=True):
            assert torch.equal(old[1], new[1]) == (step == 2)
            assert torch.isfinite(new).all() and not torch.equal(old[0], new[0])


def test_a_member_with_rate_zero_stands_still():
    _, expected = run()
    start, actual = run(rates=RATES * torch.tensor([1.0, 0.0, 1.0]))
    for before, after, undisturbed in zip(start, actual, expected, strict=True):
        assert torch.equal(after[1], before[1])
        assert torch.equal(after[[0, 2]], undisturbed[[0, 2]])


def test_large_gradients_are_scaled_down_by_member():
    first, second = draw(torch.Generator().manual_seed(2)), draw(torch.Generator().manual_seed(2))
    gradients = draw(torch.Generator().manual_seed(3))
    huge = [g.clone() for g in gradients]
    norm = torch.stack([g[1].square().sum() for g in gradients]).sum().sqrt()
    for g in huge:
        g[1] *= 1e6 / norm
    plain, clipped = MemberwiseAdam(first, 3), MemberwiseAdam(second, 3)
    # Adam's first step does not depend on the size of the gradient, the second remembers it.
    for _ in range(2):
        plain.step([g * torch.tensor([1, 10.0 / norm, 1]).view(3, *[1] * (g.dim() - 1)) for g in gradients], RATES)
        clipped.step(huge, RATES)
    for a, b in zip(first, second, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)  # rounding


def test_plateau_halves_the_rate_of_the_member_that_is_stuck():
    settings = Training(learning_rate=8e-3, patience=2, min_learning_rate=3e-3, schedule="plateau")
    rates = LearningRates(settings, 3)
    np.testing.assert_array_equal(rates.rates(0.0), [8e-3] * 3)
    losses = [[5, 5, 5], [4, 5, np.nan], [3, 6, 4], [2, 5, np.nan], [1, 5, 4.0], [0.5, 5, 4]]
    improved = [rates.record(np.array(row, float)).tolist() for row in losses]
    assert improved[0] == [True] * 3 and improved[2] == [True, False, True]
    assert [row[1] for row in improved[1:]] == [False] * 5
    np.testing.assert_array_equal(rates.best, [0.5, 5, 4])
    # The second waited 5 epochs: halved twice, which is below the least rate, so it has finished. The third was stuck
    # once (a NaN, then no gain).
    np.testing.assert_array_equal(rates.rates(0.9), [8e-3, 0.0, 4e-3])
    assert rates.finished.tolist() == [False, True, False]


def test_one_cycle_rises_and_falls():
    rates = LearningRates(Training(learning_rate=1e-2, schedule="one-cycle"), 2)
    progress = np.linspace(0.0, 1.0, 1001)
    values = np.array([rates.rates(p)[0] for p in progress])
    assert values[0] == pytest.approx(1e-3) and values[200] == pytest.approx(1e-2) and values[-1] == pytest.approx(1e-5)
    assert (np.diff(values[:201]) > 0).all() and (np.diff(values[200:]) < 0).all()
    assert np.abs(np.diff(values)).max() < 1e-4  # no jump
    rates.record(np.array([np.nan, 1.0]))
    assert not rates.finished.any() and rates.best.tolist() == [np.inf, 1.0]
