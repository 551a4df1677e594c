"""Batched networks against plain torch modules and autograd."""

import pytest
import torch
from torch import Tensor, nn

from alpot.potential.networks import ElementNetworks, activate


def celu(z: Tensor) -> Tensor:
    """By its definition: torch's own keeps α in float32 in its derivative, which is wrong by 1.5e-8."""
    return torch.where(z > 0, z, 0.1 * torch.expm1(z / 0.1))


REFERENCE = {"celu": celu, "silu": nn.SiLU()}


@pytest.mark.parametrize("name", ["celu", "silu"])
def test_activations_and_their_derivatives(name):
    z = torch.cat([torch.linspace(-30.0, 40.0, 401), torch.tensor([1e-9, -1e-9])]).double().requires_grad_()
    value, slope = activate(name, z)
    expected = REFERENCE[name](z)
    torch.testing.assert_close(value, expected, rtol=1e-12, atol=1e-12)  # rounding, of values up to 40
    (derivative,) = torch.autograd.grad(expected.sum(), z)
    torch.testing.assert_close(slope, derivative, rtol=1e-12, atol=1e-12)  # rounding


@pytest.mark.parametrize("name", ["celu", "silu"])
def test_slopes_can_be_trained_on(name):
    """The second derivative, by which force errors reach the weights."""
    z = torch.tensor([-2.0, -0.3, -0.01, 0.02, 0.4, 3.0], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda z: activate(name, z)[1], (z,), atol=1e-6)  # steps of 1e-6


@pytest.mark.parametrize("name", ["celu", "silu"])
def test_outputs_and_gradients_of_each_member(name):
    torch.manual_seed(0)
    networks = ElementNetworks(3, (6, 5, 4, 1), name).double()
    for parameter in networks.parameters():
        nn.init.normal_(parameter)
    features = torch.randn(7, 6, dtype=torch.float64, requires_grad=True)
    outputs, gradients = networks(features)
    for member in range(3):
        x = features
        for depth, (weight, bias) in enumerate(zip(networks.weights, networks.biases, strict=True)):
            x = x @ weight[member] + bias[member]
            x = REFERENCE[name](x) if depth < 2 else x
        torch.testing.assert_close(outputs[member], x[:, 0], rtol=1e-12, atol=1e-12)  # rounding
        (expected,) = torch.autograd.grad(x.sum(), features)
        torch.testing.assert_close(gradients[member], expected, rtol=1e-12, atol=1e-12)  # rounding


def test_initial_weights_belong_to_the_member_and_the_seed():
    networks = ElementNetworks(2, (50, 200, 1), "silu")
    networks.initialize(0, torch.Generator().manual_seed(1))
    assert (networks.weights[0][1] == 0).all()
    networks.initialize(1, torch.Generator().manual_seed(1))
    assert torch.equal(networks.weights[0][0], networks.weights[0][1])
    # 10,000 numbers of deviation (2/50)^½ = 0.2: their sample deviation is known to 0.7 %; 5 standard errors.
    assert float(networks.weights[0][0].detach().std()) == pytest.approx(0.2, rel=0.035)
    assert (networks.biases[0] == 0).all()
