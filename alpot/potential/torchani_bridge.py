"""Conversion between an ensemble and the equivalent torchani model: for users of torchani, and an oracle for tests.

torchani is heavy, so it is imported here only, when a conversion is asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from ase import units
from torch import nn

from alpot.errors import PotentialError
from alpot.potential.descriptor import AevSettings
from alpot.potential.ensemble import Ensemble
from alpot.potential.networks import Activation

if TYPE_CHECKING:
    from torchani.arch import ANI
    from torchani.nn import AtomicNetwork


def to_torchani(ensemble: Ensemble) -> ANI:
    """The same potential as a torchani model (energies in Hartree, self energies included).

    The scaling of features and energies is folded into the first and last layers, exactly.

    Raises:
        PotentialError: the potential is the correction to a baseline, which torchani has no place for.
    """
    if ensemble.baseline is not None:
        raise PotentialError(
            f"this potential is the correction to the baseline {ensemble.baseline}; a torchani model would give the"
            " correction alone. Set ensemble.baseline = None to convert that, and add the baseline yourself"
        )
    from torchani.aev import AEVComputer
    from torchani.arch import ANI
    from torchani.nn import ANINetworks, AtomicNetwork, TightCELU
    from torchani.nn import Ensemble as TorchaniEnsemble
    from torchani.sae import SelfEnergy

    aev = ensemble.aev
    computer = AEVComputer.from_constants(
        radial_cutoff=aev.radial_cutoff,
        angular_cutoff=aev.angular_cutoff,
        radial_eta=aev.radial_eta,
        radial_shifts=aev.radial_shifts,
        angular_eta=aev.angular_eta,
        angular_zeta=aev.angular_zeta,
        angular_shifts=aev.angular_shifts,
        sections=aev.angle_sections,
        num_species=len(ensemble.elements),
        neighborlist="all_pairs",
    )
    activation = TightCELU() if ensemble.activation == "celu" else nn.SiLU()
    widths = (aev.n_features(len(ensemble.elements)), *ensemble.hidden, 1)
    members = []
    for member in range(ensemble.n_members):
        networks = {}
        for index, symbol in enumerate(ensemble.elements):
            network = AtomicNetwork(widths, activation=activation, bias=True).double()
            for layer, (weight, bias) in zip(
                [*network.layers, network.final_layer], _folded_layers(ensemble, index, member), strict=True
            ):
                layer.weight.data, layer.bias.data = weight.T.contiguous(), bias
            networks[symbol] = network
        members.append(ANINetworks(networks))
    self_energy = SelfEnergy(ensemble.elements, list(ensemble.self_energies / units.Hartree))
    model = ANI(
        symbols=ensemble.elements,
        aev_computer=computer,
        neural_networks=TorchaniEnsemble(members),
        energy_shifter=self_energy,
        periodic_table_index=True,
    )
    model = model.to(dtype=ensemble.dtype, device=ensemble.device)
    _restore_constants(model, ensemble)
    return model


def _restore_constants(model: ANI, ensemble: Ensemble) -> None:
    """Put exact constants in place of those that torchani has rounded to float32, whatever the type of the model."""
    aev, radial, angular = ensemble.aev, model.aev_computer.radial, model.aev_computer.angular
    for rounded, exact in (
        (radial.eta, [aev.radial_eta]),
        (radial.shifts, aev.radial_shifts),
        (angular.eta, [aev.angular_eta]),
        (angular.zeta, [aev.angular_zeta]),
        (angular.shifts, aev.angular_shifts),
        (angular.sections, aev.angle_sections),
        (model.energy_shifter.self_energies, ensemble.self_energies / units.Hartree),
    ):
        rounded.copy_(torch.tensor(np.asarray(exact)))


def _folded_layers(ensemble: Ensemble, element: int, member: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """(n_in, n_out) weights and (n_out,) biases in Hartree for unscaled features, float64."""
    networks = ensemble.networks[element]
    mean = ensemble.feature_mean[element].detach().double()
    scale = ensemble.feature_scale[element].detach().double()
    layers = [
        (weight[member].detach().double(), bias[member, 0].detach().double())
        for weight, bias in zip(networks.weights, networks.biases, strict=True)
    ]
    weight, bias = layers[0]
    layers[0] = (weight / scale[:, None], bias - (mean / scale) @ weight)
    weight, bias = layers[-1]
    factor = float(ensemble.energy_scale[element]) / units.Hartree
    layers[-1] = (weight * factor, bias * factor)
    return layers


def from_torchani(model: ANI) -> Ensemble:
    """The same potential as an alpot ensemble, in the model's floating-point type.

    Raises:
        PotentialError: the model has parts that an alpot ensemble does not have.
    """
    from torchani.cutoffs import CutoffCosine
    from torchani.nn import Ensemble as TorchaniEnsemble

    potentials = model.potentials
    if set(potentials) - {"nnp", "energy_shifter"} or not isinstance(model.neural_networks, TorchaniEnsemble):
        raise PotentialError(
            f"only a plain ANI ensemble can be converted; this model has the potentials {sorted(potentials)}"
        )
    members = list(model.neural_networks.members)
    hidden, activation = _architecture([member[symbol] for member in members for symbol in model.symbols])
    radial, angular = model.aev_computer.radial, model.aev_computer.angular
    if not isinstance(radial.cutoff_fn, CutoffCosine):
        raise PotentialError(f"only the cosine cutoff can be converted; this model has {radial.cutoff_fn}")
    aev = AevSettings(
        radial_cutoff=float(radial.cutoff),
        radial_eta=float(radial.eta),
        radial_shifts=tuple(radial.shifts.double().tolist()),
        angular_cutoff=float(angular.cutoff),
        angular_eta=float(angular.eta),
        angular_zeta=float(angular.zeta),
        angular_shifts=tuple(angular.shifts.double().tolist()),
        angle_sections=tuple(angular.sections.double().tolist()),
    )
    dtype = members[0][model.symbols[0]].final_layer.weight.dtype
    ensemble = Ensemble(model.symbols, aev, len(members), hidden, activation).to(dtype)
    with torch.no_grad():
        for m, member in enumerate(members):
            for networks, symbol in zip(ensemble.networks, model.symbols, strict=True):
                source = member[symbol]
                for depth, layer in enumerate([*source.layers, source.final_layer]):
                    networks.weights[depth][m] = layer.weight.T
                    networks.biases[depth][m, 0] = layer.bias
    ensemble.energy_scale.fill_(units.Hartree)
    shifts = model.energy_shifter.self_energies
    ensemble.self_energies = np.array(shifts.detach().double().tolist()) * units.Hartree
    return ensemble


def _architecture(networks: list[AtomicNetwork]) -> tuple[tuple[int, ...], Activation]:
    """Hidden widths and activation that all networks share; raises ``PotentialError`` where they do not."""
    from torchani.nn import TightCELU

    names: dict[type, Activation] = {TightCELU: "celu", nn.SiLU: "silu"}
    activations = {type(network.activation) for network in networks}
    widths = {tuple(layer.out_features for layer in network.layers) for network in networks}
    if len(widths) > 1 or len(activations) > 1 or not activations <= set(names):
        raise PotentialError(
            f"networks of hidden widths {sorted(widths)} with {sorted(kind.__name__ for kind in activations)} cannot be"
            " converted: all elements must have the same widths, and TightCELU or SiLU"
        )
    if not all(network.has_biases for network in networks):
        raise PotentialError("networks without biases cannot be converted")
    return widths.pop(), names[activations.pop()]
