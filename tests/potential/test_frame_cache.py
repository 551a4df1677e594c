"""Forces and stresses from cached Jacobians equal those of the ensemble, and so do the gradients of the loss."""

import numpy as np
import pytest
import torch
from ase import Atoms

from alpot.config import Training
from alpot.potential.batch import Batch
from alpot.potential.descriptor import Environments
from alpot.potential.frame_cache import cache_frames
from alpot.potential.neighbors import NeighborSearch
from alpot.potential.training import (
    ENERGY_UNIT,
    FORCE_UNIT,
    RELATIVE_FORCE_ERROR,
    VIRIAL_UNIT,
    _Fit,
)

ELEMENTS = ("Al", "Ni")
VOIGT = [(0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1)]


@pytest.fixture(scope="module")
def frames(make_frame, make_label):
    """All kinds of boundaries and sizes, atoms without neighbors included."""
    atoms = [
        make_frame(6, ELEMENTS, seed=1),
        make_frame(1, ELEMENTS, seed=2),
        make_frame(5, ELEMENTS, seed=3, pbc=(True, False, True)),
        make_frame(4, ["Ni"], seed=4),
        Atoms("Al", cell=[15.0] * 3, pbc=True),
        Atoms("AlNi", positions=[[0, 0, 0], [0, 0, 2.4]], cell=[15.0] * 3),
        Atoms("AlAl", positions=[[0, 0, 0], [0, 0, 8.0]], cell=[15.0] * 3),
    ]
    return [make_label(frame, seed=index, stress=index != 0) for index, frame in enumerate(atoms)]


@pytest.mark.parametrize("elements", [ELEMENTS, ("Ni", "Cu", "Al")], ids=len)
def test_predictions_from_the_cache_are_the_ensembles(make_ensemble, frames, elements):
    ensemble = make_ensemble(elements)
    for frame, cached in zip(frames, cache_frames(ensemble, frames), strict=True):
        batch = Batch.from_atoms([frame.atoms])
        expected = ensemble.evaluate(batch, NeighborSearch(ensemble.cutoff).pairs(batch))
        with torch.no_grad():
            energies, gradients = ensemble.atom_outputs(cached.species, cached.features)
            forces = cached.predicted_forces(gradients).permute(2, 0, 1).numpy()
            virials = cached.predicted_virial(gradients).numpy()
        shift = ensemble.self_energies[ensemble.species(frame.atoms.numbers)].sum()
        # Float64, the same sums in another order.
        np.testing.assert_allclose(energies.sum(1).numpy() + shift, expected.energies[:, 0], atol=1e-10)
        np.testing.assert_allclose(forces, expected.forces, atol=1e-10)
        np.testing.assert_allclose(virials, [[v[i] for i in VOIGT] for v in expected.virials[:, 0]], atol=1e-10)
        assert cached.energy == pytest.approx(frame.energy - shift, abs=1e-12)
        if frame.stress is not None:
            np.testing.assert_allclose(cached.virial, frame.stress * frame.atoms.get_volume(), atol=1e-12)


def loss_by_autograd(ensemble, frame, settings) -> torch.Tensor:
    """(n_members,) losses, with forces and virial by automatic differentiation of the energy through the descriptor."""
    batch = Batch.from_atoms([frame.atoms])
    geometry = ensemble.geometry(batch, NeighborSearch(ensemble.cutoff).pairs(batch))
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
        loss = settings.energy_weight * ((energy - frame.energy) / (n_atoms * ENERGY_UNIT)) ** 2
        loss = loss + settings.force_weight * ((-gradient - true_forces) ** 2 / unit).mean()
        if frame.stress is not None:
            virial = torch.stack([by_strain[i] for i in VOIGT])
            off = (virial - torch.from_numpy(frame.stress * frame.atoms.get_volume())) / (n_atoms * VIRIAL_UNIT)
            loss = loss + settings.stress_weight * (off**2).mean()
        losses.append(loss)
    return torch.stack(losses)


@pytest.mark.parametrize("activation", ["celu", "silu"])
def test_gradients_of_the_loss_are_those_of_double_backward(make_ensemble, frames, activation):
    ensemble = make_ensemble(ELEMENTS, activation=activation)
    settings = Training(energy_weight=0.7, force_weight=1.3, stress_weight=0.4)
    fit = _Fit(ensemble, cache_frames(ensemble, frames), np.zeros((3, len(frames)), int), settings, torch.Generator())
    losses = fit._losses(fit.frames)
    expected = torch.stack([loss_by_autograd(ensemble, frame, settings) for frame in frames], dim=1)
    torch.testing.assert_close(losses, expected, rtol=1e-10, atol=1e-10)  # float64, another order of sums
    # Weights that differ from frame to frame, so that no frame can stand in for another.
    weights = torch.linspace(0.5, 1.5, len(frames), dtype=torch.float64)
    gradients = torch.autograd.grad((losses * weights).sum(), fit.parameters)
    by_autograd = torch.autograd.grad((expected * weights).sum(), fit.parameters)
    for gradient, other in zip(gradients, by_autograd, strict=True):
        # What is asked of it; both are exact, so in float64 far less would do.
        torch.testing.assert_close(gradient, other, rtol=1e-6, atol=1e-6 * float(other.abs().max()))


def test_the_cache_is_in_the_type_of_the_ensemble(make_ensemble, frames):
    cached = cache_frames(make_ensemble(ELEMENTS, dtype=torch.float32), frames)
    assert {cached[0].features.dtype, cached[0].angular_jacobian.dtype, cached[0].forces.dtype} == {torch.float32}
    assert cached[0].virial is None and cached[1].virial.dtype == torch.float32
