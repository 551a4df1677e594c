"""Losses and their gradients against automatic differentiation, twice, of the energy through the plain descriptor."""

from functools import partial

import numpy as np
import pytest
import torch
from ase import Atoms

from alpot.config import Training
from alpot.potential.aev_reference import ReferenceKernels
from alpot.potential.batch import Batch
from alpot.potential.descriptor import Environments
from alpot.potential.ensemble_gradient import CpuGradient, PackedWeights
from alpot.potential.fit import ENERGY_UNIT, FORCE_UNIT, RELATIVE_FORCE_ERROR, VIRIAL_UNIT, loss_targets
from alpot.potential.frame_cache import FrameCache
from alpot.potential.jacobian import VOIGT
from alpot.potential.kernels import Geometry
from alpot.potential.neighbors import NeighborSearch
from alpot.potential.torch_gradient import TorchGradient

SETTINGS = Training(energy_weight=0.7, force_weight=1.3, stress_weight=0.4)


def all_kinds(make_frame, make_label, elements):
    """All kinds of boundaries and sizes, atoms without neighbors included, and frames that lack an element."""
    one, two = elements[0], elements[-1]
    atoms = [
        make_frame(6, elements, seed=1),
        make_frame(1, elements, seed=2),
        make_frame(5, elements, seed=3, pbc=(True, False, True)),
        make_frame(4, [two], seed=4),
        make_frame(40, elements, seed=5),
        Atoms(one, cell=[15.0] * 3, pbc=True),
        Atoms(one + two, positions=[[0, 0, 0], [0, 0, 2.4]], cell=[15.0] * 3),
        Atoms(one + one, positions=[[0, 0, 0], [0, 0, 8.0]], cell=[15.0] * 3),
        make_frame(130, elements, seed=6),
    ]
    return [make_label(frame, seed=index, stress=index != 0) for index, frame in enumerate(atoms)]


def losses_by_autograd(ensemble, frame) -> torch.Tensor:
    """(3, n_members) losses, forces and virial being derivatives of the energy through the descriptor."""
    batch = Batch.from_atoms([frame.atoms])
    oracle = ReferenceKernels(ensemble.aev, len(ensemble.elements), ensemble.dtype)
    pairs = NeighborSearch(ensemble.cutoff).pairs(batch)
    atoms_and_pairs = Geometry.of(batch, torch.from_numpy(ensemble.species(batch.numbers)), pairs, "cpu")
    geometry = oracle.environments(atoms_and_pairs, 0, batch.n_atoms)
    n_atoms = batch.n_atoms
    moves = torch.zeros((n_atoms, 3), dtype=torch.float64, requires_grad=True)
    strain = torch.zeros((3, 3), dtype=torch.float64, requires_grad=True)
    vectors = geometry.vectors + moves[geometry.neighbor] - moves[geometry.center]
    vectors = vectors + vectors @ (0.5 * (strain + strain.T))
    species = torch.from_numpy(ensemble.species(batch.numbers))
    environments = Environments(
        ensemble.aev, len(ensemble.elements), n_atoms, geometry.center, species[geometry.neighbor], vectors
    )
    atom_energies, _ = ensemble.atom_outputs(species, environments.features)
    energies = atom_energies.sum(1) + float(ensemble.self_energies[species.numpy()].sum())
    true_forces = torch.from_numpy(frame.forces)
    unit = FORCE_UNIT**2 + RELATIVE_FORCE_ERROR**2 * true_forces.square().sum(1, keepdim=True)
    losses = []
    for energy in energies:
        gradient, by_strain = torch.autograd.grad(energy, (moves, strain), create_graph=True, materialize_grads=True)
        by_energy = SETTINGS.energy_weight * ((energy - frame.energy) / (n_atoms * ENERGY_UNIT)) ** 2
        by_forces = SETTINGS.force_weight * ((-gradient - true_forces) ** 2 / unit).mean()
        by_virial = torch.zeros_like(energy)
        if frame.stress is not None:
            virial = torch.stack([by_strain[i] for i in VOIGT])
            off = (virial - torch.from_numpy(frame.stress * frame.atoms.get_volume())) / (n_atoms * VIRIAL_UNIT)
            by_virial = SETTINGS.stress_weight * (off**2).mean()
        losses.append(torch.stack([by_energy, by_forces, by_virial]))
    return torch.stack(losses, dim=1)


def gradient_of(ensemble, frames, members, engine=CpuGradient, memory_share=0.5):
    cache = FrameCache.of(ensemble, frames, memory_share)
    assert (cache.jacobian is None) == (memory_share == 0.0)
    cache.scale(ensemble.feature_mean.numpy(), ensemble.feature_scale.numpy(), ensemble.energy_scale.numpy())
    return engine(ensemble, cache, loss_targets(cache, SETTINGS), members)


#: What runs on a GPU is tested on the CPU.
ENGINES = [CpuGradient, partial(TorchGradient, device="cpu")]


def parameters_of(ensemble) -> list[torch.Tensor]:
    return [p for networks in ensemble.networks for p in networks.parameters()]


@pytest.mark.parametrize("elements", [("Al",), ("Al", "Ni"), ("Ni", "Cu", "Al")], ids=len)
@pytest.mark.parametrize("activation", ["celu", "silu"])
@pytest.mark.parametrize("engine", ENGINES, ids=["numba", "torch"])
def test_losses_and_gradients_are_those_of_double_backward(
    make_ensemble, make_frame, make_label, elements, activation, engine
):
    ensemble = make_ensemble(elements, activation=activation, members=3, hidden=(10, 17, 7))
    frames = all_kinds(make_frame, make_label, elements)
    engine = gradient_of(ensemble, frames, range(3), engine)
    # Shares that differ from member to member and frame to frame, so that none can stand in for another; some are 0.
    shares = np.random.default_rng(0).uniform(0.5, 1.5, (3, len(frames)))
    shares[1, 2:5] = shares[2, 4] = shares[:, 3] = 0.0
    chosen = np.random.default_rng(1).permutation(len(frames))
    losses = engine.losses(chosen, np.ascontiguousarray(shares[:, chosen]))
    expected = torch.stack([losses_by_autograd(ensemble, frame) for frame in frames], dim=2)
    # Float64, another order of sums.
    np.testing.assert_allclose(losses, expected.detach().numpy()[:, :, chosen], rtol=1e-9, atol=1e-9)
    total = (expected.sum(0) * torch.from_numpy(shares)).sum()
    by_autograd = torch.autograd.grad(total, parameters_of(ensemble))
    with torch.no_grad():
        for parameter, gradient in zip(parameters_of(ensemble), by_autograd, strict=True):
            parameter.copy_(gradient)
    packed = engine._packed.pack(ensemble, range(3))
    # 1e-6 is what is asked of it; both are exact, and in float64 they agree to rounding.
    torch.testing.assert_close(engine.gradient, packed, rtol=1e-9, atol=1e-9 * float(packed.abs().max()))


@pytest.mark.parametrize("engine", ENGINES, ids=["numba", "torch"])
def test_recomputed_derivatives_give_the_same(make_ensemble, make_frame, make_label, engine):
    elements = ("Al", "Ni")
    ensemble = make_ensemble(elements)
    frames = all_kinds(make_frame, make_label, elements)
    stored, recomputed = (gradient_of(ensemble, frames, range(3), engine, share) for share in (0.5, 0.0))
    for chosen in (np.arange(len(frames)), np.array([8, 0]), np.array([4, 1, 5])):
        shares = np.ones((3, len(chosen)))
        np.testing.assert_array_equal(stored.losses(chosen, shares), recomputed.losses(chosen, shares))
        assert torch.equal(stored.gradient, recomputed.gradient)


def test_members_do_not_depend_on_each_other(make_ensemble, make_frame, make_label):
    """Any subset, in any order, gives the same numbers; a member that has diverged spoils no other."""
    ensemble = make_ensemble(members=6)
    frames = all_kinds(make_frame, make_label, ("Al",))
    chosen, shares = np.arange(len(frames)), np.ones((6, len(frames)))
    every = gradient_of(ensemble, frames, range(6))
    losses = every.losses(chosen, shares)
    some = gradient_of(ensemble, frames, [4, 1])
    np.testing.assert_array_equal(some.losses(chosen, shares[:2]), losses[:, [4, 1]])
    assert torch.equal(some.gradient, every.gradient[[4, 1]])
    with torch.no_grad():
        ensemble.networks[0].weights[1][2] = torch.nan
    spoiled = gradient_of(ensemble, frames, range(6))
    sound = [0, 1, 3, 4, 5]
    spoiled_losses = spoiled.losses(chosen, shares)
    assert np.isnan(spoiled_losses[0, 2]).all() and not torch.isfinite(spoiled.gradient[2]).all()
    np.testing.assert_array_equal(spoiled_losses[:, sound], losses[:, sound])
    assert torch.equal(spoiled.gradient[sound], every.gradient[sound])


def test_weights_go_back_where_they_came_from(make_ensemble):
    ensemble, other = make_ensemble(("Al", "Ni"), seed=1), make_ensemble(("Al", "Ni"), seed=2)
    columns = np.arange(ensemble.feature_mean.shape[1])
    packing = PackedWeights(ensemble, columns, -(-len(columns) // 16) * 16)
    packed = packing.pack(ensemble, [2, 0])
    packing.unpack(packed, other, [2, 0])
    for parameter, copied in zip(parameters_of(ensemble), parameters_of(other), strict=True):
        assert torch.equal(parameter[[0, 2]], copied[[0, 2]])
        assert not torch.equal(parameter[1], copied[1])


def test_both_engines_descend_alike(make_ensemble, make_frame, make_label):
    """Three batches, the last one smaller; losses are those before each step."""
    elements = ("Al", "Ni")
    ensemble, frames = make_ensemble(elements), all_kinds(make_frame, make_label, elements)[:7]
    order, rng = np.array([6, 0, 3, 5, 1, 2, 4]), np.random.default_rng(0)
    shares, rates = rng.uniform(0.1, 0.5, (3, 7)), rng.uniform(1e-3, 1e-2, (3, 3))
    compiled, plain = (gradient_of(ensemble, frames, range(3), engine) for engine in ENGINES)
    start, before = compiled.parameters.clone(), compiled.losses(order[:3], shares[:, :3])
    for epoch in range(2):
        losses = compiled.descend(order, 3, shares, rates)
        # Float64, another order of sums.
        np.testing.assert_allclose(losses, plain.descend(order, 3, shares, rates), rtol=1e-9)
        torch.testing.assert_close(compiled.parameters, plain.parameters, rtol=0, atol=1e-9)
        assert np.array_equal(losses[:, :, :3], before) == (epoch == 0)
    assert float((compiled.parameters - start).abs().max()) > 0.01


def test_threads_do_not_change_anything(make_ensemble, make_frame, make_label):
    ensemble, frames = make_ensemble(members=6), all_kinds(make_frame, make_label, ("Al",))
    order, shares, rates = np.arange(len(frames)), np.ones((6, len(frames))), np.full((3, 6), 1e-3)
    alone = gradient_of(ensemble, frames, range(6))
    threads = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        together = gradient_of(ensemble, frames, range(6))
        losses = together.descend(order, 4, shares, rates)
    finally:
        torch.set_num_threads(threads)
    np.testing.assert_array_equal(losses, alone.descend(order, 4, shares, rates))
    assert torch.equal(together.parameters, alone.parameters)
