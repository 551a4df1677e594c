"""MemberwiseAdam against torch's Adam, and members that stand still."""

import numpy as np
import pytest
import torch
from numba import njit

from alpot.config import Training
from alpot.potential.matrix_tiles import COMPILE
from alpot.potential.optimizer import AdamSettings, MemberwiseAdam, update_members
from alpot.potential.schedule import LearningRates

RATES = torch.tensor([1e-2, 3e-3, 1e-1], dtype=torch.float64)
N_WEIGHTS = 21


def draw(generator) -> torch.Tensor:
    return torch.randn((3, N_WEIGHTS), generator=generator, dtype=torch.float64)


@njit(**COMPILE)
def update(parameters, gradient, first, second, rates, settings, steps):
    """``update_members`` is for other kernels only: a kernel around it."""
    update_members(parameters, gradient, first, second, rates, settings, steps)


class CompiledAdam(MemberwiseAdam):
    def step(self, gradient, learning_rates):
        self.steps += 1
        tensors = self.parameters, gradient, self.first, self.second, learning_rates
        update(*(tensor.numpy() for tensor in tensors), self.settings, self.steps)


both = pytest.mark.parametrize("make_adam", [MemberwiseAdam, CompiledAdam])


@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
@both
def test_each_member_is_trained_by_adam(make_adam, weight_decay):
    generator = torch.Generator().manual_seed(0)
    parameters = draw(generator)
    singles = [row.clone().requires_grad_() for row in parameters]
    references = [
        torch.optim.AdamW([row], lr=float(rate), weight_decay=weight_decay)
        for row, rate in zip(singles, RATES, strict=True)
    ]
    adam = make_adam(parameters, AdamSettings(weight_decay=weight_decay, largest_gradient=1e9))
    for _ in range(20):
        gradient = draw(generator)
        adam.step(gradient, RATES)
        for row, own, reference in zip(singles, gradient, references, strict=True):
            row.grad = own.clone()
            reference.step()
    torch.testing.assert_close(parameters, torch.stack(singles).detach(), rtol=1e-12, atol=1e-12)  # rounding


def run(make_adam, change=None, rates=RATES, steps=5):
    generator = torch.Generator().manual_seed(1)
    parameters = draw(generator)
    start = parameters.clone()
    adam = make_adam(parameters, AdamSettings())
    for _ in range(steps):
        gradient = draw(generator)
        if change is not None:
            change(gradient)
        adam.step(gradient, rates)
    return start, parameters


@pytest.mark.parametrize("value", [torch.nan, torch.inf, 1e200])
@both
def test_a_member_with_gradients_that_are_not_finite_stands_still(make_adam, value):
    """1e200 is finite, but its square is not."""

    def poison(gradient):
        gradient[1, 3] = value

    _, expected = run(make_adam)
    start, actual = run(make_adam, poison)
    assert torch.equal(actual[1], start[1])
    assert torch.equal(actual[[0, 2]], expected[[0, 2]])


@both
def test_one_bad_batch_is_passed_over(make_adam):
    """Momentum does not carry the member on, and afterwards it goes on."""
    generator = torch.Generator().manual_seed(1)
    parameters = draw(generator)
    adam = make_adam(parameters, AdamSettings())
    for step in range(4):
        gradient = draw(generator)
        if step == 2:
            gradient[1, 3] = torch.nan
        before = parameters.clone()
        adam.step(gradient, RATES)
        assert torch.equal(before[1], parameters[1]) == (step == 2)
        assert torch.isfinite(parameters).all() and (parameters[0] != before[0]).all()


@both
def test_a_member_with_rate_zero_stands_still(make_adam):
    _, expected = run(make_adam)
    start, actual = run(make_adam, rates=RATES * torch.tensor([1.0, 0.0, 1.0]))
    assert torch.equal(actual[1], start[1])
    assert torch.equal(actual[[0, 2]], expected[[0, 2]])


@both
def test_large_gradients_are_scaled_down_by_member(make_adam):
    first, second = draw(torch.Generator().manual_seed(2)), draw(torch.Generator().manual_seed(2))
    gradient = draw(torch.Generator().manual_seed(3))
    norms = gradient.norm(dim=1, keepdim=True)
    huge = torch.where(torch.arange(3)[:, None] == 1, gradient * 1e6 / norms, gradient)
    scaled = torch.where(torch.arange(3)[:, None] == 1, gradient * 10.0 / norms, gradient)
    plain, clipped = make_adam(first, AdamSettings()), make_adam(second, AdamSettings())
    # Adam's first step does not depend on the size of the gradient, the third remembers it.
    for own, other in ((scaled, huge), (gradient, gradient), (scaled, huge)):
        plain.step(own, RATES)
        clipped.step(other, RATES)
    torch.testing.assert_close(first, second, rtol=1e-12, atol=1e-12)  # rounding


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
    # The last weights count, better or not; a member that diverged has nothing to show.
    assert rates.record(np.array([1.0, 1.0])).all() and rates.record(np.array([np.nan, 2.0])).tolist() == [False, True]
    assert not rates.finished.any() and np.isnan(rates.best[0]) and rates.best[1] == 2.0


def test_energies_gain_weight_while_the_rate_falls():
    rates = LearningRates(Training(schedule="one-cycle", energy_weight_growth=8.0), 2)
    values = np.array([rates.energy_factor(p) for p in np.linspace(0.0, 1.0, 101)])
    assert (values[:21] == 1.0).all() and (np.diff(values[20:]) > 0).all() and values[-1] == pytest.approx(8.0)
    assert LearningRates(Training(schedule="plateau", energy_weight_growth=8.0), 2).energy_factor(1.0) == 1.0
