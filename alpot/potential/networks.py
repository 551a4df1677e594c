"""Networks of all members of an ensemble, evaluated as batched matrix products with their input gradient.

The gradient is written out, not left to autograd: inference needs no graph. This is the version for GPUs, and what the
compiled one for the CPU (``networks_cpu.py``) is tested against.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn

Activation = Literal["celu", "silu"]

#: torchani's CELU has this α.
CELU_ALPHA = 0.1
#: A network with a weight beyond this has exploded: features are of order 1, and float32 resolves 10⁻⁷ of its terms.
LARGEST_WEIGHT = 1e8


def are_sound(weights: Tensor) -> Tensor:
    """(n_members,) whether all of a member's weights (n_members, ...) are numbers that a network can work with."""
    return (weights.abs() <= LARGEST_WEIGHT).flatten(1).all(dim=1)  # NaN is not


def activate(name: Activation, z: Tensor) -> tuple[Tensor, Tensor]:
    """Value and derivative of an activation function."""
    if name == "celu":
        negative = torch.exp(torch.clamp(z, max=0.0) / CELU_ALPHA)
        return torch.clamp(z, min=0.0) + CELU_ALPHA * (negative - 1.0), negative
    sigmoid = torch.sigmoid(z)
    value = z * sigmoid
    return value, sigmoid + value * (1.0 - sigmoid)


class ElementNetworks(nn.Module):
    """One fully connected network per member, for the atoms of one element.

    Args:
        n_members: number of networks.
        widths: layer widths, the features first and 1 last.
        activation: of the hidden layers.
    """

    def __init__(self, n_members: int, widths: Sequence[int], activation: Activation) -> None:
        super().__init__()
        self.activation: Activation = activation
        self.weights = nn.ParameterList(nn.Parameter(torch.zeros(n_members, a, b)) for a, b in pairwise(widths))
        self.biases = nn.ParameterList(nn.Parameter(torch.zeros(n_members, 1, b)) for b in widths[1:])

    @torch.no_grad()
    def initialize(self, member: int, generator: torch.Generator) -> None:
        """Draw the weights of one member (He et al., ICCV 2015, normal, fan-in); biases are zero."""
        for depth, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            gain = 1.0 if depth == len(self.weights) - 1 else 2.0
            std = (gain / weight.shape[1]) ** 0.5
            drawn = torch.randn(weight.shape[1:], generator=generator, dtype=torch.float64) * std
            weight[member] = drawn.to(weight)
            bias[member] = 0.0

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Outputs and their gradients.

        Args:
            features: (n_atoms, n_features).

        Returns:
            (M, n_atoms) outputs and (M, n_atoms, n_features) derivatives with respect to the features.
        """
        # Unpacked once: each slice of a ParameterList is a new module.
        *weights, last_weight = self.weights
        *biases, last_bias = self.biases
        x = features.expand(len(last_weight), *features.shape)
        slopes = []
        for weight, bias in zip(weights, biases, strict=True):
            x, slope = activate(self.activation, torch.baddbmm(bias, x, weight))
            slopes.append(slope)
        output = torch.baddbmm(last_bias, x, last_weight)[..., 0]
        gradient = last_weight.transpose(1, 2)
        for weight, slope in zip(reversed(weights), reversed(slopes), strict=True):
            gradient = torch.bmm(gradient * slope, weight.transpose(1, 2))
        return output, gradient
