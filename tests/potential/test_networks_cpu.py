"""The compiled networks against the batched products of torch."""

import pytest
import torch

from alpot.potential.networks import ElementNetworks
from alpot.potential.networks_cpu import CpuNetworks


def networks_of(widths, activation, dtype, n_members=3) -> ElementNetworks:
    networks = ElementNetworks(n_members, widths, activation)
    generator = torch.Generator().manual_seed(0)
    for member in range(n_members):
        networks.initialize(member, generator)
    with torch.no_grad():
        for bias in networks.biases:
            bias.normal_(0.0, 0.3, generator=generator)
    return networks.to(dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("activation", ["celu", "silu"])
@pytest.mark.parametrize(
    ("n_atoms", "widths"), [(1, (5, 3, 1)), (4, (16, 16, 1)), (7, (33, 20, 17, 1)), (130, (96, 96, 96, 64, 1))]
)
def test_outputs_and_gradients_are_torchs(n_atoms, widths, activation, dtype):
    networks = networks_of(widths, activation, dtype)
    features = torch.randn((n_atoms, widths[0]), generator=torch.Generator().manual_seed(1)).to(dtype)
    outputs, gradients = networks(features)
    packed = CpuNetworks(networks)
    # Sums of up to a hundred products in another order; values of order 1.
    tolerance = {"rtol": 0, "atol": 300 * torch.finfo(dtype).eps}
    found = packed.evaluate(features, mean_only=False)
    torch.testing.assert_close(found[0], outputs.detach(), **tolerance)
    torch.testing.assert_close(found[1], gradients.detach(), **tolerance)
    found = packed.evaluate(features, mean_only=True)
    torch.testing.assert_close(found[0], outputs.detach(), **tolerance)
    torch.testing.assert_close(found[1], gradients.detach().mean(0, keepdim=True), **tolerance)


def test_changed_weights_are_noticed():
    networks = networks_of((6, 4, 1), "silu", torch.float32)
    packed = CpuNetworks(networks)
    assert packed.is_current
    with torch.no_grad():
        networks.weights[1][0] += 1.0
    assert not packed.is_current
    packed = CpuNetworks(networks)
    networks.double()
    assert not packed.is_current


def test_an_ensemble_sees_its_new_weights(make_ensemble):
    ensemble = make_ensemble()
    features = torch.rand((3, ensemble.aev.n_features(1)), dtype=torch.float64)
    species = torch.zeros(3, dtype=torch.int32)
    with torch.no_grad():
        before = ensemble.atom_outputs(species, features)[0].clone()
        ensemble.networks[0].biases[-1][:] += 2.0
        after = ensemble.atom_outputs(species, features)[0]
    torch.testing.assert_close(after, before + 2.0 * ensemble.energy_scale[0])


def test_nan_reaches_every_member():
    networks = networks_of((5, 4, 1), "celu", torch.float32)
    features = torch.ones((2, 5))
    features[0, 3] = float("nan")
    outputs, _ = CpuNetworks(networks).evaluate(features, mean_only=False)
    assert torch.isnan(outputs[:, 0]).all() and torch.isfinite(outputs[:, 1]).all()
