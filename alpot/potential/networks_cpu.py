"""Networks of all members on the CPU without autograd: what exploration and calculators evaluate."""

from __future__ import annotations

import numpy as np
import torch
from numba import njit
from torch import Tensor

from alpot.potential.double_backward import Activity, Array, NetworkShape, evaluate_network, transpose_weights
from alpot.potential.matrix_tiles import COLUMNS, COMPILE, ROWS
from alpot.potential.networks import ElementNetworks
from alpot.potential.scratch import scratch


def _padded(size: int, unit: int) -> int:
    return -(-size // unit) * unit


@njit(**COMPILE)
def _evaluate_members(
    parameters: Array, transposed: Array, shape: NetworkShape, x: Array, activity: Activity, outputs: Array, g: Array,
    own: Array,
) -> None:  # fmt: skip
    """Outputs (M, n) of all members, and their input gradients (K, n, width): of each, or the mean where K = 1."""
    n_members, is_mean = len(parameters), len(g) == 1
    if is_mean:
        g[:] = 0.0
    for m in range(n_members):
        target = own if is_mean else g[m]
        evaluate_network(parameters[m], transposed[m], shape, x, activity, outputs[m], target)
        if is_mean:
            for i in range(len(own)):
                for f in range(own.shape[1]):
                    g[0, i, f] += own[i, f]
    if is_mean:
        share = outputs.dtype.type(1.0) / outputs.dtype.type(n_members)
        for i in range(len(own)):
            for f in range(own.shape[1]):
                g[0, i, f] *= share


class CpuNetworks:
    """The networks of one element, packed for the kernels; good until their weights change.

    Args:
        networks: whose weights are copied.
    """

    def __init__(self, networks: ElementNetworks) -> None:
        self._sources = [*networks.weights, *networks.biases]
        self._state = self._state_of_sources()
        weights, biases = [[p.detach().numpy() for p in ps] for ps in (networks.weights, networks.biases)]
        self.n_features = weights[0].shape[1]
        n_members = len(weights[0])
        self.shape = NetworkShape.of([_padded(w.shape[1], COLUMNS) for w in weights], networks.activation)
        self._parameters = np.zeros((n_members, self.shape.size), weights[0].dtype)
        for layer, (weight, bias) in enumerate(zip(weights[:-1], biases[:-1], strict=True)):
            rows, columns = self.shape.widths[layer], self.shape.widths[layer + 1]
            start, own_bias = self.shape.weight[layer], self.shape.bias[layer]
            matrix = self._parameters[:, start : start + rows * columns].reshape(n_members, rows, columns)
            matrix[:, : weight.shape[1], : weight.shape[2]] = weight
            self._parameters[:, own_bias : own_bias + weight.shape[2]] = bias[:, 0]
        last = self.shape.output
        self._parameters[:, last : last + weights[-1].shape[1]] = weights[-1][:, :, 0]
        self._parameters[:, last + self.shape.widths[-1]] = biases[-1][:, 0, 0]
        self._transposed = np.zeros_like(self._parameters)
        for parameters, transposed in zip(self._parameters, self._transposed, strict=True):
            transpose_weights(parameters, self.shape, transposed)

    @property
    def is_current(self) -> bool:
        """Whether the weights are still those that were copied."""
        return self._state == self._state_of_sources()

    def _state_of_sources(self) -> list[tuple[int, int, torch.dtype]]:
        return [(p.data_ptr(), p._version, p.dtype) for p in self._sources]

    def evaluate(self, features: Tensor, *, mean_only: bool) -> tuple[Tensor, Tensor]:
        """Outputs and input gradients; both are overwritten by this thread's next call.

        Args:
            features: (n_atoms, n_features), standardised.
            mean_only: gradients of the mean over the members, K = 1 instead of M.

        Returns:
            (M, n_atoms) and (K, n_atoms, n_features).
        """
        n_atoms, dtype, n_members = len(features), features.dtype, len(self._parameters)
        n, width = _padded(n_atoms, ROWS), int(self.shape.widths[0])
        x = scratch("x", (n, width), dtype)
        x[:n_atoms, : self.n_features] = features
        x[n_atoms:] = 0.0
        x[:, self.n_features :] = 0.0
        neurons = n * int(self.shape.widths[1:].sum())
        activity = Activity(*(scratch(name, (neurons,), dtype).numpy() for name in Activity._fields))
        outputs = scratch("outputs", (n_members, n), dtype)
        g = scratch("g", (1 if mean_only else n_members, n, width), dtype)
        own = scratch("own g", (n, width), dtype)
        _evaluate_members(
            self._parameters, self._transposed, self.shape, x.numpy(), activity, outputs.numpy(), g.numpy(), own.numpy()
        )
        return outputs[:, :n_atoms], g[:, :n_atoms, : self.n_features]
