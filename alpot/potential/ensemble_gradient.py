"""Losses of the members of an ensemble on labelled frames, their gradients, and descent; weights as flat tensors."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from alpot.potential.batch_gradient import ATOMS_PER_CHUNK, Frames, Targets, Weights, Workspace, run_batches
from alpot.potential.double_backward import NetworkShape
from alpot.potential.ensemble import Ensemble
from alpot.potential.frame_cache import FrameCache
from alpot.potential.jacobian import padded
from alpot.potential.matrix_tiles import ROWS
from alpot.potential.networks import ElementNetworks
from alpot.potential.optimizer import AdamSettings, MemberwiseAdam
from alpot.potential.threads import in_order


def _in_order(networks: ElementNetworks) -> list[Tensor]:
    return [p for layer in zip(networks.weights, networks.biases, strict=True) for p in layer]


class PackedWeights:
    """How the weights of an ensemble lie in one row per member, padded to whole tiles.

    Args:
        ensemble: whose networks they are.
        columns: (n_features,) places of the features in a padded row.
        width: length of such a row.
    """

    def __init__(self, ensemble: Ensemble, columns: NDArray[np.int64], width: int) -> None:
        self.shape = NetworkShape.of([width, *map(padded, ensemble.hidden)], ensemble.activation)
        places, s = [], self.shape
        inputs = columns
        for layer, neurons in enumerate(ensemble.hidden):
            outputs = np.arange(neurons)
            places.append((s.weight[layer] + inputs[:, None] * s.widths[layer + 1] + outputs).ravel())
            places.append(s.bias[layer] + outputs)
            inputs = outputs
        places += [s.output + inputs, s.output + s.widths[-1:]]
        #: Place in an element's part of each weight, in the order of the networks' parameters.
        self._places = torch.from_numpy(np.concatenate(places))

    def pack(self, ensemble: Ensemble, members: Sequence[int]) -> Tensor:
        """(n_members, n_elements · size) weights of some members."""
        packed = torch.zeros((len(members), len(ensemble.elements), self.shape.size), dtype=ensemble.dtype)
        for element, networks in enumerate(ensemble.networks):
            rows = torch.cat([p.detach()[list(members)].flatten(1) for p in _in_order(networks)], dim=1)
            packed[:, element, self._places] = rows.cpu()
        return packed.flatten(1)

    @torch.no_grad()
    def unpack(self, packed: Tensor, ensemble: Ensemble, members: Sequence[int]) -> None:
        """Give the ensemble's members these weights."""
        parts = packed.view(len(members), len(ensemble.elements), self.shape.size).cpu()
        for element, networks in enumerate(ensemble.networks):
            parameters = _in_order(networks)
            sizes = [p[0].numel() for p in parameters]
            for parameter, values in zip(parameters, parts[:, element, self._places].split(sizes, dim=1), strict=True):
                parameter[list(members)] = values.view(-1, *parameter.shape[1:]).to(parameter)


class CpuGradient:
    """Losses, gradients and descent on the CPU, see ``batch_gradient``.

    Members are shared among as many threads as torch uses (``torch.set_num_threads``), whole tiles of them; results do
    not depend on their number.

    Args:
        ensemble: gives the weights.
        cache: the frames.
        targets: what they should have.
        members: which members of the ensemble.
        adam: settings of the optimizer.

    Attributes:
        parameters: (n_members, n_weights) weights.
        gradient: likewise; of the last batch.
        adam: the optimizer; its moments and ``parameters`` keep their places in memory.
    """

    def __init__(
        self,
        ensemble: Ensemble,
        cache: FrameCache,
        targets: Targets,
        members: Sequence[int],
        adam: AdamSettings = AdamSettings(),  # noqa: B008  (an immutable tuple)
    ) -> None:
        self._ensemble, self._members, self._targets = ensemble, list(members), targets
        self._packed = PackedWeights(ensemble, cache.columns, cache.functions.width)
        self.parameters = self._packed.pack(ensemble, self._members)
        self.gradient = torch.zeros_like(self.parameters)
        self.adam = MemberwiseAdam(self.parameters, adam)
        self._frames = Frames(
            offsets=cache.offsets,
            species=cache.geometry.species,
            features=cache.features,
            energy_scales=ensemble.energy_scale.numpy(),
            geometry=cache.geometry,
            functions=cache.functions,
            scales=cache.scales,
        )
        n_tiles = -(-len(self._members) // ROWS)
        self._groups = []
        for tiles in np.array_split(np.arange(n_tiles), min(torch.get_num_threads(), n_tiles)):
            rows = slice(int(tiles[0]) * ROWS, min((int(tiles[-1]) + 1) * ROWS, len(self._members)))
            self._groups.append(_Group(rows, self, cache))

    def losses(
        self, chosen: NDArray[np.int64], shares: NDArray[np.float64], targets: Targets | None = None
    ) -> NDArray[np.float64]:
        """Losses on some frames; ``gradient`` becomes that of the sum of shares · losses.

        Args:
            chosen: (n,) indices of frames.
            shares: (n_members, n).
            targets: other ones than those that are fitted to.

        Returns:
            (3, n_members, n): by energy, forces and virial.
        """
        return self._run(chosen, len(chosen), shares, np.zeros((0, len(self._members))), targets)

    def descend(
        self,
        order: NDArray[np.int64],
        batch_frames: int,
        shares: NDArray[np.float64],
        rates: NDArray[np.float64],
        targets: Targets | None = None,
    ) -> NDArray[np.float64]:
        """A step of the optimizer for each batch of frames.

        Args:
            order: (n,) indices of frames.
            batch_frames: that many of them make a batch.
            shares: (n_members, n) what each counts in the loss.
            rates: (n_batches, n_members) learning rates.
            targets: other ones than those that were given.

        Returns:
            (3, n_members, n) losses by energy, forces and virial, each before its batch's step.
        """
        losses = self._run(order, batch_frames, shares, rates, targets)
        self.adam.steps += len(rates)
        return losses

    def _run(
        self,
        order: NDArray[np.int64],
        batch_frames: int,
        shares: NDArray[np.float64],
        rates: NDArray[np.float64],
        targets: Targets | None,
    ) -> NDArray[np.float64]:
        def of_group(group: _Group) -> NDArray[np.float64]:
            losses = np.empty((len(order), 3, len(group.weights.parameters)))
            run_batches(
                group.weights, self._packed.shape, self._frames, targets or self._targets, order, batch_frames,
                np.ascontiguousarray(shares[group.rows].T), np.ascontiguousarray(rates[:, group.rows]),
                self.adam.settings, self.adam.steps, group.jacobian, group.is_stored, group.work, losses,
            )  # fmt: skip
            return losses

        by_group = list(in_order(of_group, self._groups, len(self._groups)))
        return np.concatenate(by_group, axis=2).transpose(1, 2, 0)

    def give(self, parameters: Tensor) -> None:
        """Give weights, such as ``parameters``, to the ensemble."""
        self._packed.unpack(parameters, self._ensemble, self._members)


class _Group:
    """Members that one thread works on, and its memory."""

    def __init__(self, rows: slice, engine: CpuGradient, cache: FrameCache) -> None:
        self.rows = rows
        adam = engine.adam
        parameters, gradient, first, second = (
            tensor.numpy()[rows] for tensor in (engine.parameters, engine.gradient, adam.first, adam.second)
        )
        self.weights = Weights(parameters, np.zeros_like(parameters), gradient, first, second)
        self.is_stored = cache.jacobian is not None
        self.jacobian = cache.jacobian if cache.jacobian is not None else cache.room_for_atoms(ATOMS_PER_CHUNK)
        self.work = Workspace.allocate(
            engine._frames, engine._packed.shape, len(parameters), cache.most_pairs, cache.most_items
        )
