"""Conversion to torchani and back; torchani as an oracle for ensembles of several elements."""

import numpy as np
import pytest
import torch
from ase import units

from alpot.errors import PotentialError
from alpot.potential.batch import Batch
from alpot.potential.neighbors import NeighborSearch
from alpot.potential.torchani_bridge import from_torchani, to_torchani

ELEMENTS = ("Al", "Ni")


def evaluate(ensemble, atoms):
    batch = Batch.from_atoms([atoms])
    return ensemble.evaluate(batch, NeighborSearch(ensemble.cutoff).pairs(batch))


@pytest.mark.parametrize("pbc", [False, True], ids=["molecule", "periodic"])
@pytest.mark.parametrize("activation", ["celu", "silu"])
def test_members_are_those_of_torchani(make_ensemble, make_frame, activation, pbc):
    ensemble = make_ensemble(ELEMENTS, activation=activation)
    atoms = make_frame(12, ELEMENTS, seed=1, pbc=pbc)
    result = evaluate(ensemble, atoms)
    periodic = {"cell": torch.from_numpy(atoms.cell.array), "pbc": torch.ones(3, dtype=torch.bool)} if pbc else {}
    positions = torch.from_numpy(atoms.get_positions(wrap=pbc))[None].requires_grad_()
    species = torch.from_numpy(atoms.numbers)[None]
    energies = to_torchani(ensemble)((species, positions), **periodic, ensemble_values=True).energies[:, 0]
    # Both in float64 with the same constants, energies of about 50 eV.
    np.testing.assert_allclose(result.energies[:, 0], energies.detach().numpy() * units.Hartree, atol=1e-10)
    for member in range(ensemble.n_members):
        (gradient,) = torch.autograd.grad(energies[member], positions, retain_graph=True)
        # torch keeps CELU's α in float32 in its derivative: relative errors of 1.5e-8 in forces of about 10 eV/Å.
        np.testing.assert_allclose(result.forces[member], -gradient[0].numpy() * units.Hartree, atol=1e-6)


@pytest.mark.parametrize("activation", ["celu", "silu"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_there_and_back(make_ensemble, make_frame, activation, dtype):
    ensemble = make_ensemble(ELEMENTS, activation=activation, dtype=dtype)
    back = from_torchani(to_torchani(ensemble))
    assert (back.elements, back.n_members, back.hidden) == (ensemble.elements, ensemble.n_members, ensemble.hidden)
    assert (back.activation, back.dtype) == (activation, dtype)
    precision = torch.finfo(dtype).eps
    for name, value in vars(ensemble.aev).items():
        np.testing.assert_allclose(getattr(back.aev, name), value, rtol=precision)
    atoms = make_frame(9, ELEMENTS, seed=2)
    before, after = evaluate(ensemble, atoms), evaluate(back, atoms)
    # Folding the scales rounds weights once; sums of some hundred terms lose two digits.
    tolerance = 1e3 * precision * np.abs(before.atom_energies).max()
    np.testing.assert_allclose(after.atom_energies, before.atom_energies, atol=tolerance)
    np.testing.assert_allclose(after.forces, before.forces, atol=1e3 * precision * np.abs(before.forces).max())


def test_back_and_there_again_is_exact(make_ensemble):
    """Without scales left to fold nothing is rounded, but for the change from Hartree to eV and back."""
    once = from_torchani(to_torchani(make_ensemble(ELEMENTS)))
    twice = from_torchani(to_torchani(once))
    assert once.aev == twice.aev
    np.testing.assert_allclose(twice.self_energies, once.self_energies, rtol=1e-15)
    for (name, value), again in zip(once.state_dict().items(), twice.state_dict().values(), strict=True):
        torch.testing.assert_close(again, value, rtol=1e-15, atol=0.0, msg=name)


def small_model(**changes):
    """A torchani model that differs in one thing from what an ensemble can be."""
    from torchani.aev import AEVComputer
    from torchani.arch import ANI
    from torchani.nn import ANINetworks, AtomicNetwork, Ensemble, TightCELU
    from torchani.sae import SelfEnergy

    settings = {"cutoff": "cosine", "activation": TightCELU(), "bias": True, "hidden": [(4,), (4,)]} | changes
    computer = AEVComputer.from_constants(
        5.0, 3.5, 16.0, [1.0, 2.0], 8.0, 8.0, [1.0], [0.5, 1.5], 2, cutoff_fn=settings["cutoff"]
    )
    members = [
        ANINetworks(
            {
                symbol: AtomicNetwork(
                    (computer.out_dim, *hidden, 1), activation=settings["activation"], bias=settings["bias"]
                )
                for symbol, hidden in zip(ELEMENTS, settings["hidden"], strict=True)
            }
        )
        for _ in range(2)
    ]
    return ANI(
        symbols=ELEMENTS,
        aev_computer=computer,
        neural_networks=Ensemble(members),
        energy_shifter=SelfEnergy(ELEMENTS, [0.0, 0.0]),
        periodic_table_index=True,
    )


def test_a_plain_torchani_model_can_be_converted():
    assert from_torchani(small_model()).n_members == 2


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"cutoff": "smooth"}, "cosine"),
        ({"activation": torch.nn.GELU()}, "GELU"),
        ({"bias": False}, "biases"),
        ({"hidden": [(4,), (6,)]}, "widths"),
    ],
)
def test_models_that_are_not_the_same_potential_are_refused(changes, expected):
    with pytest.raises(PotentialError, match=expected):
        from_torchani(small_model(**changes))
