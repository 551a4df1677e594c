"""Adam for an ensemble: every member has its own learning rate, and one that diverges does not touch the others."""

from __future__ import annotations

import math
from typing import Any

import torch
from numba import njit
from torch import Tensor

from alpot.potential.simd import FASTMATH, typed


class MemberwiseAdam:
    """Adam (Kingma & Ba, arXiv:1412.6980) on the weights of all members, one row per member.

    With weight decay, decoupled from the gradient (AdamW; Loshchilov & Hutter, arXiv:1711.05101).

    Args:
        parameters: (n_members, n_weights), changed in place.
        betas: decay rates of the two moments.
        epsilon: added to the root of the second moment.
        weight_decay: share of itself, per unit of the learning rate, that a weight loses in each step.
        largest_gradient: the gradient of a member is scaled down to this norm where it is larger.
    """

    def __init__(
        self,
        parameters: Tensor,
        *,
        betas: tuple[float, float] = (0.9, 0.999),
        epsilon: float = 1e-8,
        weight_decay: float = 0.0,
        largest_gradient: float = 10.0,
    ) -> None:
        self.parameters = parameters
        self.betas = betas
        self.epsilon = epsilon
        self.weight_decay = weight_decay
        self.largest_gradient = largest_gradient
        self._first = torch.zeros_like(parameters)
        self._second = torch.zeros_like(parameters)
        self._steps = 0

    @torch.no_grad()
    def step(self, gradient: Tensor, learning_rates: Tensor) -> None:
        """One update.

        Args:
            gradient: as ``parameters``.
            learning_rates: (n_members,); a member with rate 0 stands still.
        """
        self._steps += 1
        beta1, beta2 = self.betas
        correction1, correction2 = 1.0 - beta1**self._steps, 1.0 - beta2**self._steps
        rates = learning_rates.to(self.parameters)
        if _is_on_cpu(self.parameters):
            _update(
                *(x.numpy() for x in (self.parameters, gradient, self._first, self._second, rates)),
                beta1, beta2, correction1, correction2, self.epsilon, self.weight_decay, self.largest_gradient,
            )  # fmt: skip
            return
        squares = gradient.square().sum(1, keepdim=True)
        # A member whose gradient is not finite stands still; its loss is not finite either and it will be retrained.
        sound = torch.isfinite(squares)
        clip = (self.largest_gradient / squares.sqrt().clamp(min=1e-30)).clamp(max=1.0)
        clipped = torch.where(sound, gradient * clip, 0.0)
        self._first.mul_(beta1).add_(clipped, alpha=1.0 - beta1)
        self._second.mul_(beta2).addcmul_(clipped, clipped, value=1.0 - beta2)
        update = (self._first / correction1) / ((self._second / correction2).sqrt() + self.epsilon)
        self.parameters.sub_((update + self.weight_decay * self.parameters) * rates[:, None] * sound)


def _is_on_cpu(tensor: Tensor) -> bool:
    return tensor.device.type == "cpu"


@njit(cache=True, nogil=True, error_model="numpy", fastmath=FASTMATH)
def _update(
    parameters: Any, gradient: Any, firsts: Any, seconds: Any, rates: Any, beta1: float, beta2: float,
    correction1: float, correction2: float, epsilon: float, weight_decay: float, largest_gradient: float,
) -> None:  # fmt: skip
    """The same in two sweeps, of which the first finds the norm."""
    for m in range(len(parameters)):
        row, slope, first, second = parameters[m], gradient[m], firsts[m], seconds[m]
        rate, zero = rates[m], typed(0.0, rates[m])
        squares = zero
        for k in range(len(row)):
            squares += slope[k] * slope[k]
        is_sound = math.isfinite(squares)
        clip = typed(min(largest_gradient / max(math.sqrt(squares), 1e-30), 1.0), zero)
        keep1, keep2 = typed(beta1, zero), typed(beta2, zero)
        add1, add2 = typed(1.0 - beta1, zero), typed(1.0 - beta2, zero)
        per_correction1, per_correction2 = typed(1.0 / correction1, zero), typed(1.0 / correction2, zero)
        small, decay = typed(epsilon, zero), typed(weight_decay, zero)
        if not is_sound:
            rate = zero
        for k in range(len(row)):
            g = slope[k] * clip if is_sound else zero
            first[k] = keep1 * first[k] + add1 * g
            second[k] = keep2 * second[k] + add2 * g * g
            update = first[k] * per_correction1 / (math.sqrt(second[k] * per_correction2) + small)
            row[k] -= (update + decay * row[k]) * rate
