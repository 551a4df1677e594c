"""Losses of the members of an ensemble and their gradients in plain torch, for a GPU.

The mathematics are those of ``double_backward`` and ``jacobian_products``, with whole batches instead of centers: every
product is one batched matrix product over all members, pairs or items.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from alpot.potential.batch_gradient import Targets
from alpot.potential.double_backward import NetworkShape
from alpot.potential.ensemble import Ensemble
from alpot.potential.ensemble_gradient import PackedWeights
from alpot.potential.frame_cache import MEMORY_SHARE, FrameCache
from alpot.potential.jacobian import Functions, Jacobian
from alpot.potential.networks import CELU_ALPHA
from alpot.potential.optimizer import AdamSettings, MemberwiseAdam


@dataclass(frozen=True, kw_only=True)
class _Derivatives:
    """``Jacobian`` of some centers as tensors on the device.

    Attributes:
        pair_center, pair_neighbor: (n_pairs,) indices of atoms.
        pair_block: (n_pairs,) element of the neighbor.
        pair_unit: (n_pairs, 3).
        pair_slope: (n_pairs, radial_width).
        item_center, item_neighbor: (n_items,) indices of atoms.
        item_block: (n_items,) pair of elements.
        item_slope: (n_items, 3, angular_width).
        strain: (n_atoms, 6, width).
    """

    pair_center: Tensor
    pair_neighbor: Tensor
    pair_block: Tensor
    pair_unit: Tensor
    pair_slope: Tensor
    item_center: Tensor
    item_neighbor: Tensor
    item_block: Tensor
    item_slope: Tensor
    strain: Tensor

    @classmethod
    def of(cls, jacobian: Jacobian, f: Functions, sizes: NDArray[np.int64], device: str) -> _Derivatives:
        """Of the frames of a Jacobian, which have so many atoms."""
        n_atoms, first_atom = int(sizes.sum()), np.repeat(np.cumsum(sizes) - sizes, sizes)

        def places(first: NDArray[np.int64], n_kinds: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
            """Center and kind of each pair or item."""
            segment = np.repeat(np.arange(n_atoms * n_kinds), np.diff(first[: n_atoms * n_kinds + 1]))
            return segment // n_kinds, segment % n_kinds

        pair_center, pair_block = places(jacobian.first_pair, f.n_elements)
        item_center, item_block = places(jacobian.first_item, f.n_blocks)
        n_pairs, n_items = len(pair_center), len(item_center)
        slopes = np.zeros((n_pairs, f.radial_width), jacobian.pair_slope.dtype)
        windows = jacobian.pair_window[:n_pairs, None] + np.arange(f.window)
        np.put_along_axis(slopes, windows, jacobian.pair_slope.reshape(-1, f.window)[:n_pairs], axis=1)
        n_strain = n_atoms if len(jacobian.strain) >= n_atoms * 6 * f.width else 0
        arrays = {
            "pair_center": pair_center,
            "pair_neighbor": jacobian.pair_neighbor[:n_pairs] + first_atom[pair_center],
            "pair_block": pair_block,
            "pair_unit": jacobian.pair_unit.reshape(-1, 3)[:n_pairs],
            "pair_slope": slopes,
            "item_center": item_center,
            "item_neighbor": jacobian.item_neighbor[:n_items] + first_atom[item_center],
            "item_block": item_block,
            "item_slope": jacobian.item_block[: n_items * 3 * f.angular_width].reshape(n_items, 3, f.angular_width),
            "strain": jacobian.strain[: n_strain * 6 * f.width].reshape(n_strain, 6, f.width),
        }
        return cls(**{name: torch.from_numpy(np.ascontiguousarray(array)).to(device) for name, array in arrays.items()})

    def of_frames(
        self, atoms: Sequence[slice], pairs: Sequence[slice], items: Sequence[slice], place_of: Tensor
    ) -> _Derivatives:
        """Of some frames; ``place_of`` (n_atoms,) gives the new indices of their atoms."""
        by_kind = {"pair": pairs, "item": items, "strain": atoms}
        tensors = {}
        for name, tensor in vars(self).items():
            parts = by_kind[name.split("_")[0]]
            tensors[name] = torch.cat([tensor[part] for part in parts])
            if name.endswith(("center", "neighbor")):
                tensors[name] = place_of[tensors[name]]
        return _Derivatives(**tensors)


class TorchGradient:
    """Losses and gradients on any device of torch; arguments and attributes as of ``CpuGradient``.

    Derivatives are kept on the device if they fit into a share of its free memory, otherwise those of each batch are
    brought there.
    """

    def __init__(
        self,
        ensemble: Ensemble,
        cache: FrameCache,
        targets: Targets,
        members: Sequence[int],
        adam: AdamSettings = AdamSettings(),  # noqa: B008  (an immutable tuple)
        *,
        device: str,
        memory_share: float = MEMORY_SHARE,
    ) -> None:
        self._ensemble, self._members, self._cache, self._device = ensemble, list(members), cache, device
        self._packed = PackedWeights(ensemble, cache.columns, cache.functions.width)
        self.parameters = self._packed.pack(ensemble, self._members).to(device)
        self.gradient = torch.zeros_like(self.parameters)
        self.adam = MemberwiseAdam(self.parameters, adam)
        self._features = torch.from_numpy(np.ascontiguousarray(cache.features)).to(device)
        self._species = torch.from_numpy(cache.geometry.species).to(device, torch.int64)
        self._energy_scales = ensemble.energy_scale.to(device)
        self._targets = targets
        self._stored = None
        if cache.jacobian is not None and _fits(cache, device, memory_share):
            self._stored = _Derivatives.of(cache.jacobian, cache.functions, np.diff(cache.offsets), device)
        self._place_of = torch.zeros(len(cache.features), dtype=torch.int64, device=device)

    def losses(
        self, chosen: NDArray[np.int64], shares: NDArray[np.float64], targets: Targets | None = None
    ) -> NDArray[np.float64]:
        """See ``CpuGradient.losses``."""
        cache, f, targets = self._cache, self._cache.functions, targets or self._targets
        atoms, pairs, items = (
            [slice(int(first[i]), int(first[i + 1])) for i in chosen]
            for first in (cache.offsets, cache.first_pair, cache.first_item)
        )
        sizes = np.diff(cache.offsets)[chosen]
        own = np.concatenate([np.arange(part.start, part.stop) for part in atoms])
        index = torch.from_numpy(own).to(self._device)
        self._place_of[index] = torch.arange(len(own), device=self._device)
        if self._stored is not None:
            derivatives = self._stored.of_frames(atoms, pairs, items, self._place_of)
        else:
            derivatives = _Derivatives.of(cache.derivatives_of(chosen), f, sizes, self._device)
        frame = torch.from_numpy(np.repeat(np.arange(len(chosen)), sizes)).to(self._device)
        scales = self._energy_scales[self._species[index]]
        features = self._features[index]
        # An element's rows: known on the host, so that the device is not waited for.
        networks = [
            (torch.from_numpy(found).to(self._device), _Networks(self.parameters, self._packed.shape, element))
            for element in range(f.n_elements)
            if len(found := np.flatnonzero(cache.geometry.species[own] == element))
        ]
        outputs = features.new_zeros((len(self._members), len(own)))
        g = features.new_zeros((len(own), len(self._members), f.width))
        for rows, network in networks:
            outputs[:, rows], gradient = network.evaluate(features[rows])
            g[rows] = gradient.transpose(0, 1)
        energies = torch.zeros((len(self._members), len(chosen)), dtype=torch.float64, device=self._device)
        energies.index_add_(1, frame, (outputs * scales).double())
        forces, virials = _forces(derivatives, f, g, frame, len(chosen))
        counts = torch.from_numpy(shares).to(self._device)
        losses = _score(targets, chosen, own, counts, frame, energies, forces, virials)
        self.gradient.zero_()
        if shares.any():
            v = _gradients_from_forces(derivatives, f, forces, virials, frame).transpose(0, 1)
            c = (energies[:, frame] * scales).to(features)
            for rows, network in networks:
                network.add_gradient(c[:, rows], v[:, rows], self.gradient)
        return losses.cpu().numpy()

    def descend(
        self,
        order: NDArray[np.int64],
        batch_frames: int,
        shares: NDArray[np.float64],
        rates: NDArray[np.float64],
        targets: Targets | None = None,
    ) -> NDArray[np.float64]:
        """See ``CpuGradient.descend``."""
        losses = []
        for batch, begin in enumerate(range(0, len(order), batch_frames)):
            part = slice(begin, begin + batch_frames)
            losses.append(self.losses(order[part], shares[:, part], targets))
            self.adam.step(self.gradient, torch.from_numpy(rates[batch]))
        return np.concatenate(losses, axis=2)

    def give(self, parameters: Tensor) -> None:
        """See ``CpuGradient.give``."""
        self._packed.unpack(parameters, self._ensemble, self._members)


def _fits(cache: FrameCache, device: str, memory_share: float) -> bool:
    if not device.startswith("cuda"):
        return memory_share > 0.0
    n_pairs, functions = int(cache.first_pair[-1]), cache.functions
    # Radial derivatives are stored for all shifts, and indices in 64 bits.
    more = n_pairs * (functions.radial_width * functions.radial_shifts.dtype.itemsize + 24)
    return cache.bytes_of_jacobian + more <= memory_share * torch.cuda.mem_get_info(device)[0]


class _Networks:
    """Networks of all members for one element; see ``double_backward`` for the notation."""

    def __init__(self, parameters: Tensor, shape: NetworkShape, element: int) -> None:
        self._shape, self._element = shape, element
        self._weights, self._biases, self._output, self._output_bias = self._parts(parameters)

    def _parts(self, flat: Tensor) -> tuple[list[Tensor], list[Tensor], Tensor, Tensor]:
        """Views of the weights, or of their gradients: (M, in, out), (M, 1, out), (M, 1, out), (M, 1)."""
        s, begin = self._shape, self._element * self._shape.size
        own = flat[:, begin : begin + s.size]
        weights, biases = [], []
        for layer, (weight, bias) in enumerate(zip(s.weight.tolist(), s.bias.tolist(), strict=True)):
            before, width = s.widths[layer : layer + 2].tolist()
            weights.append(own[:, weight : weight + before * width].unflatten(1, (before, width)))
            biases.append(own[:, None, bias : bias + width])
        last = s.output + int(s.widths[-1])
        return weights, biases, own[:, None, s.output : last], own[:, last : last + 1]

    def evaluate(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Outputs (M, n) and their gradients (M, n, width) by the features x (n, width)."""
        self._values = [x.expand(len(self._output), *x.shape)]
        self._slopes: list[Tensor] = []
        self._bends: list[Tensor] = []
        self._chains: list[Tensor] = []
        for weight, bias in zip(self._weights, self._biases, strict=True):
            value, slope, bend = _activate(torch.baddbmm(bias, self._values[-1], weight), self._shape.is_celu)
            self._values.append(value)
            self._slopes.append(slope)
            self._bends.append(bend)
        outputs = (self._values[-1] * self._output).sum(2) + self._output_bias
        p = self._output
        for layer in reversed(range(len(self._weights))):
            self._chains.insert(0, self._slopes[layer] * p)
            self._bends[layer] = self._bends[layer] * p
            p = self._chains[0] @ self._weights[layer].transpose(1, 2)
        return outputs, p

    def add_gradient(self, c: Tensor, v: Tensor, gradient: Tensor) -> None:
        """Add ∂/∂θ Σ (c o + v·g) for c (M, n) and v (M, n, width)."""
        weights, biases, output, output_bias = self._parts(gradient)
        tangent = v
        for layer, weight in enumerate(self._weights):
            weights[layer] += tangent.transpose(1, 2) @ self._chains[layer]
            change = tangent @ weight
            self._bends[layer] = self._bends[layer] * change
            tangent = self._slopes[layer] * change
        output += (tangent + c[:, :, None] * self._values[-1]).sum(1, keepdim=True)
        output_bias += c.sum(1, keepdim=True)
        adjoint = c[:, :, None] * self._output
        for layer in reversed(range(len(self._weights))):
            adjoint = adjoint * self._slopes[layer] + self._bends[layer]
            biases[layer] += adjoint.sum(1, keepdim=True)
            weights[layer] += self._values[layer].transpose(1, 2) @ adjoint
            adjoint = adjoint @ self._weights[layer].transpose(1, 2)


def _activate(z: Tensor, is_celu: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Value, derivative and second derivative of the activation."""
    if is_celu:
        decay = torch.exp(torch.clamp(z, max=0.0) / CELU_ALPHA)
        bend = torch.where(z < 0.0, decay / CELU_ALPHA, 0.0)
        return torch.clamp(z, min=0.0) + CELU_ALPHA * (decay - 1.0), decay, bend
    sigmoid = torch.sigmoid(z)
    rest = 1.0 - sigmoid
    return z * sigmoid, sigmoid + z * sigmoid * rest, sigmoid * rest * (2.0 + z * (rest - sigmoid))


def _forces(d: _Derivatives, f: Functions, g: Tensor, frame: Tensor, n_frames: int) -> tuple[Tensor, Tensor]:
    """Forces (n_atoms, 3, M) and virials (n_frames, 6, M) from gradients g (n_atoms, M, width)."""
    split = f.n_elements * f.radial_width
    radial = g[:, :, :split].unflatten(2, (f.n_elements, f.radial_width))[d.pair_center, :, d.pair_block]
    along = torch.bmm(radial, d.pair_slope[:, :, None])
    angular = g[:, :, split:].unflatten(2, (f.n_blocks, f.angular_width))[d.item_center, :, d.item_block]
    forces = g.new_zeros((len(g), 3, g.shape[1]))
    for center, neighbor, pulls in (
        (d.pair_center, d.pair_neighbor, d.pair_unit[:, :, None] * along.transpose(1, 2)),
        (d.item_center, d.item_neighbor, torch.bmm(d.item_slope, angular.transpose(1, 2))),
    ):
        forces.index_add_(0, center, pulls)
        forces.index_add_(0, neighbor, pulls, alpha=-1.0)
    virials = g.new_zeros((n_frames, 6, g.shape[1]))
    if len(d.strain):
        virials.index_add_(0, frame, torch.bmm(d.strain, g.transpose(1, 2)))
    return forces, virials


def _gradients_from_forces(
    d: _Derivatives, f: Functions, by_forces: Tensor, by_virials: Tensor, frame: Tensor
) -> Tensor:
    """v = dL/dg (n_atoms, M, width) from dL/dF and dL/dvirial, shaped as what ``_forces`` returns."""
    n_atoms, _, n_members = by_forces.shape
    pulls = by_forces[d.pair_center] - by_forces[d.pair_neighbor]
    along = (d.pair_unit[:, :, None] * pulls).sum(1)
    radial = by_forces.new_zeros((n_atoms * f.n_elements, n_members, f.radial_width))
    radial.index_add_(0, d.pair_center * f.n_elements + d.pair_block, along[:, :, None] * d.pair_slope[:, None])
    pulls = by_forces[d.item_center] - by_forces[d.item_neighbor]
    angular = by_forces.new_zeros((n_atoms * f.n_blocks, n_members, f.angular_width))
    angular.index_add_(0, d.item_center * f.n_blocks + d.item_block, torch.bmm(pulls.transpose(1, 2), d.item_slope))
    v = torch.cat(
        [
            part.view(n_atoms, -1, n_members, width).transpose(1, 2).flatten(2)
            for part, width in ((radial, f.radial_width), (angular, f.angular_width))
        ],
        dim=2,
    )
    if len(d.strain):
        v += torch.bmm(by_virials[frame].transpose(1, 2), d.strain)
    return v


def _score(
    targets: Targets,
    frames: NDArray[np.int64],
    atoms: NDArray[np.int64],
    shares: Tensor,
    frame: Tensor,
    energies: Tensor,
    forces: Tensor,
    virials: Tensor,
) -> Tensor:
    """(3, M, n) losses of some frames; energies, forces and virials become the derivatives of shares · losses."""

    def of(array: NDArray[np.float64], index: NDArray[np.int64], *shape: int) -> Tensor:
        return torch.from_numpy(array.reshape(*shape)[index]).to(forces.device)

    energies -= of(targets.energies, frames, -1)
    forces -= of(targets.forces, atoms, -1, 3)[:, :, None]
    virials -= of(targets.virials, frames, -1, 6)[:, :, None]
    energy_weights = of(targets.energy_weights, frames, -1)
    force_weights = of(targets.force_weights, atoms, -1)[:, None, None]
    virial_weights = of(targets.virial_weights, frames, -1).to(virials)[:, None, None]
    losses = energies.new_zeros((3, *energies.shape))
    losses[0] = energy_weights * energies.square()
    losses[1].index_add_(1, frame, (force_weights * forces.square()).sum(1).T.double())
    losses[2] = (virial_weights * virials.square()).sum(1).T
    energies *= 2.0 * energy_weights * shares
    forces *= 2.0 * force_weights * shares.T[frame].to(forces)[:, None]
    virials *= 2.0 * virial_weights * shares.T.to(virials)[:, None]
    return losses
