"""Adam for an ensemble: every member has its own learning rate, and one that diverges does not touch the others."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


class MemberwiseAdam:
    """Adam (Kingma & Ba, arXiv:1412.6980) on parameters whose first dimension is the member.

    With weight decay, decoupled from the gradient (AdamW; Loshchilov & Hutter, arXiv:1711.05101).

    Args:
        parameters: tensors (n_members, ...).
        n_members: number of members.
        betas: decay rates of the two moments.
        epsilon: added to the root of the second moment.
        weight_decay: share of itself, per unit of the learning rate, that a weight loses in each step.
        largest_gradient: the gradient of a member is scaled down to this norm where it is larger.
    """

    def __init__(
        self,
        parameters: Sequence[Tensor],
        n_members: int,
        *,
        betas: tuple[float, float] = (0.9, 0.999),
        epsilon: float = 1e-8,
        weight_decay: float = 0.0,
        largest_gradient: float = 10.0,
    ) -> None:
        self.parameters = list(parameters)
        self.n_members = n_members
        self.betas = betas
        self.epsilon = epsilon
        self.weight_decay = weight_decay
        self.largest_gradient = largest_gradient
        self._first = [torch.zeros_like(p) for p in self.parameters]
        self._second = [torch.zeros_like(p) for p in self.parameters]
        self._steps = 0

    @torch.no_grad()
    def step(self, gradients: Sequence[Tensor], learning_rates: Tensor) -> None:
        """One update.

        Args:
            gradients: as ``parameters``.
            learning_rates: (n_members,); a member with rate 0 stands still.
        """
        self._steps += 1
        squares = sum((g.flatten(1).square().sum(1) for g in gradients), torch.zeros_like(learning_rates))
        clip = (self.largest_gradient / squares.sqrt().clamp(min=1e-30)).clamp(max=1.0)
        # A member whose gradient is not finite stands still; its loss is not finite either and it will be retrained.
        sound = torch.isfinite(squares)
        beta1, beta2 = self.betas
        correction1, correction2 = 1.0 - beta1**self._steps, 1.0 - beta2**self._steps
        for parameter, gradient, first, second in zip(
            self.parameters, gradients, self._first, self._second, strict=True
        ):
            shape = (self.n_members,) + (1,) * (parameter.dim() - 1)
            clipped = torch.where(sound.view(shape), gradient * clip.view(shape), 0.0)
            first.mul_(beta1).add_(clipped, alpha=1.0 - beta1)
            second.mul_(beta2).addcmul_(clipped, clipped, value=1.0 - beta2)
            update = (first / correction1) / ((second / correction2).sqrt() + self.epsilon)
            parameter.sub_((update + self.weight_decay * parameter) * (learning_rates * sound).view(shape))
