"""Adam for an ensemble: every member has its own learning rate, and one that diverges does not touch the others."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from numba import njit
from torch import Tensor

from alpot.potential.matrix_tiles import COMPILE_INNER
from alpot.potential.simd import typed


class AdamSettings(NamedTuple):
    """Adam (Kingma & Ba, arXiv:1412.6980), with decoupled weight decay (Loshchilov & Hutter, arXiv:1711.05101).

    Attributes:
        weight_decay: share of itself, per unit of the learning rate, that a weight loses in each step.
        largest_gradient: the gradient of a member is scaled down to this norm where it is larger.
        beta1, beta2: decay rates of the two moments.
        epsilon: added to the root of the second moment.
    """

    weight_decay: float = 0.0
    largest_gradient: float = 10.0
    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8


class MemberwiseAdam:
    """Adam on the weights of all members, one row per member.

    Args:
        parameters: (n_members, n_weights), changed in place.
        settings: see there.

    Attributes:
        first, second: moments, as ``parameters``.
        steps: that have been made.
    """

    def __init__(self, parameters: Tensor, settings: AdamSettings) -> None:
        self.parameters, self.settings = parameters, settings
        self.first, self.second = torch.zeros_like(parameters), torch.zeros_like(parameters)
        self.steps = 0

    @torch.no_grad()
    def step(self, gradient: Tensor, learning_rates: Tensor) -> None:
        """One update, on any device; ``update_members`` is the same compiled for the CPU.

        Args:
            gradient: as ``parameters``.
            learning_rates: (n_members,); a member with rate 0 stands still.
        """
        self.steps += 1
        s = self.settings
        squares = gradient.square().sum(1, keepdim=True)
        # A member whose gradient is not finite stands still; its loss is not finite either and it will be retrained.
        sound = torch.isfinite(squares)
        clip = (s.largest_gradient / squares.sqrt().clamp(min=1e-30)).clamp(max=1.0)
        clipped = torch.where(sound, gradient * clip, 0.0)
        self.first.mul_(s.beta1).add_(clipped, alpha=1.0 - s.beta1)
        self.second.mul_(s.beta2).addcmul_(clipped, clipped, value=1.0 - s.beta2)
        first, second = self.first / (1.0 - s.beta1**self.steps), self.second / (1.0 - s.beta2**self.steps)
        update = first / (second.sqrt() + s.epsilon) + s.weight_decay * self.parameters
        self.parameters.sub_(update * learning_rates.to(update)[:, None] * sound)


@njit(**COMPILE_INNER)
def update_members(
    parameters: Any, gradient: Any, firsts: Any, seconds: Any, rates: Any, settings: AdamSettings, steps: int
) -> None:
    """Step number ``steps`` of ``MemberwiseAdam`` in two sweeps, of which the first finds the norms.

    Args:
        parameters, gradient, firsts, seconds: (M, n_weights) arrays.
        rates: (M,) learning rates.
        settings: of Adam.
        steps: 1 for the first.
    """
    s = settings
    for m in range(len(parameters)):
        row, slope, first, second = parameters[m], gradient[m], firsts[m], seconds[m]
        zero = typed(0.0, row[0])
        squares = zero
        for k in range(len(row)):
            squares += slope[k] * slope[k]
        is_sound = math.isfinite(squares)
        clip = typed(min(s.largest_gradient / max(math.sqrt(squares), 1e-30), 1.0), zero)
        keep1, keep2 = typed(s.beta1, zero), typed(s.beta2, zero)
        add1, add2 = typed(1.0 - s.beta1, zero), typed(1.0 - s.beta2, zero)
        per_correction1 = typed(1.0 / (1.0 - s.beta1**steps), zero)
        per_correction2 = typed(1.0 / (1.0 - s.beta2**steps), zero)
        small, decay = typed(s.epsilon, zero), typed(s.weight_decay, zero)
        rate = typed(rates[m], zero) if is_sound else zero
        for k in range(len(row)):
            g = slope[k] * clip if is_sound else zero
            first[k] = keep1 * first[k] + add1 * g
            second[k] = keep2 * second[k] + add2 * g * g
            update = first[k] * per_correction1 / (math.sqrt(second[k] * per_correction2) + small)
            row[k] -= (update + decay * row[k]) * rate
