"""The descriptor against torchani's, and its written-out derivatives against autograd; all in float64."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import molecule

from alpot.config import Descriptor
from alpot.potential.aev_reference import ReferenceKernels
from alpot.potential.batch import Batch
from alpot.potential.descriptor import AevSettings, Environments, element_pair_table
from alpot.potential.kernels import Geometry
from alpot.potential.neighbors import NeighborSearch

ANI_AL = AevSettings.from_config(Descriptor(radial_eta=43.9, angular_eta=6.5, angular_zeta=69.4))
ELEMENTS = [("Al",), ("Al", "Ni"), ("Al", "Ni", "Cu")]


def environments_of(ensemble, frames, find_species, *, differentiable=False, **settings) -> Environments:
    batch = Batch.from_atoms(frames)
    species = torch.cat([find_species(atoms, ensemble.elements) for atoms in frames])
    geometry = Geometry.of(batch, species, NeighborSearch(ensemble.cutoff).pairs(batch), "cpu")
    kernels = ReferenceKernels(ensemble.aev, len(ensemble.elements), ensemble.dtype)
    found = kernels.environments(geometry, 0, batch.n_atoms)
    return Environments(
        ensemble.aev,
        len(ensemble.elements),
        batch.n_atoms,
        found.center,
        species[found.neighbor],
        found.vectors.requires_grad_(differentiable),
    )


def torchani_features(aev: AevSettings, elements, atoms: Atoms, find_species) -> np.ndarray:
    from torchani.aev import AEVComputer

    computer = AEVComputer.from_constants(
        radial_cutoff=aev.radial_cutoff,
        angular_cutoff=aev.angular_cutoff,
        radial_eta=aev.radial_eta,
        radial_shifts=aev.radial_shifts,
        angular_eta=aev.angular_eta,
        angular_zeta=aev.angular_zeta,
        angular_shifts=aev.angular_shifts,
        sections=aev.angle_sections,
        num_species=len(elements),
    ).double()
    # torchani has rounded its constants to float32, which changes features by 1e-7.
    for term, name, exact in (
        (computer.radial, "eta", [aev.radial_eta]),
        (computer.radial, "shifts", aev.radial_shifts),
        (computer.angular, "eta", [aev.angular_eta]),
        (computer.angular, "zeta", [aev.angular_zeta]),
        (computer.angular, "shifts", aev.angular_shifts),
        (computer.angular, "sections", aev.angle_sections),
    ):
        setattr(term, name, torch.tensor(exact, dtype=torch.float64))
    periodic = {}
    if atoms.pbc.all():
        periodic = {"cell": torch.from_numpy(atoms.cell.array), "pbc": torch.ones(3, dtype=torch.bool)}
    positions = torch.from_numpy(atoms.get_positions(wrap=bool(atoms.pbc.all())))
    return computer(find_species(atoms, elements)[None], positions[None], **periodic)[0].numpy()


@pytest.mark.parametrize("pbc", [False, True], ids=["molecule", "periodic"])
@pytest.mark.parametrize("elements", ELEMENTS, ids=len)
def test_features_are_torchanis(make_ensemble, make_frame, find_species, elements, pbc):
    ensemble = make_ensemble(elements)
    frames = [make_frame(14, elements, seed=seed, pbc=pbc) for seed in (1, 2)]
    features = environments_of(ensemble, frames, find_species).features.numpy()
    expected = np.concatenate([torchani_features(ensemble.aev, elements, atoms, find_species) for atoms in frames])
    assert features.shape == expected.shape and expected.max() > 0.1
    # Sums of some hundred terms of order 1 in float64: rounding errors below 1e-13; both compute the same formula.
    np.testing.assert_allclose(features, expected, atol=1e-12)


def test_features_of_ani_al_settings(make_ensemble, make_frame, find_species):
    """The published settings, a small cell (images within the cutoff) and a compressed one."""
    aev = ANI_AL
    assert (aev.n_radial, aev.n_angular, aev.n_features(1)) == (32, 64, 96)
    ensemble = make_ensemble(aev=aev, members=1)
    for atoms in (make_frame(3, seed=4), make_frame(12, seed=5, volume_per_atom=9.0)):
        features = environments_of(ensemble, [atoms], find_species).features.numpy()
        # Exponents are cut at e⁻⁸⁰; that and rounding stay below 1e-12.
        expected = torchani_features(aev, ("Al",), atoms, find_species)
        np.testing.assert_allclose(features, expected, atol=1e-12)


def test_a_real_molecule(make_ensemble, find_species):
    elements, atoms = ("H", "C", "O"), molecule("CH3CH2OH")
    ensemble = make_ensemble(elements)
    features = environments_of(ensemble, [atoms], find_species).features.numpy()
    expected = torchani_features(ensemble.aev, elements, atoms, find_species)
    np.testing.assert_allclose(features, expected, atol=1e-12)  # as above


@pytest.mark.parametrize("elements", ELEMENTS, ids=len)
def test_pair_gradients_are_those_of_autograd(make_ensemble, make_frame, find_species, elements):
    ensemble = make_ensemble(elements)
    frames = [make_frame(6, elements, seed=1), make_frame(9, elements, seed=2, pbc=(True, False, True))]
    environments = environments_of(ensemble, frames, find_species, differentiable=True)
    features = environments.features
    generator = torch.Generator().manual_seed(0)
    weights = torch.randn(len(features), 3, features.shape[1], generator=generator, dtype=torch.float64)
    gradients = environments.pair_gradients(weights)
    for member in range(3):
        total = (features * weights[:, member]).sum()
        (expected,) = torch.autograd.grad(total, environments.vectors, retain_graph=True)
        # Two ways of the same sum in float64; gradients are of order 1 to 100.
        torch.testing.assert_close(gradients[:, member], expected, rtol=1e-10, atol=1e-10)


def test_second_derivatives_exist(make_ensemble, make_frame, find_species):
    """Autograd differentiates the features twice, and agrees with finite differences."""
    ensemble = make_ensemble(("Al", "Ni"))
    environments = environments_of(ensemble, [make_frame(3, ("Al", "Ni"), seed=6, pbc=False)], find_species)

    def features(vectors):
        return Environments(ensemble.aev, 2, 3, environments.center, environments._neighbor_species, vectors).features

    vectors = environments.vectors.detach().requires_grad_()
    # Steps of 1e-6 Å: second derivatives of order 100 are found to 1e-8 relative to them.
    assert torch.autograd.gradgradcheck(features, (vectors,), eps=1e-6, atol=1e-5, rtol=1e-5)


def test_features_do_not_depend_on_the_order_of_the_pairs_of_a_center(make_ensemble, make_frame, find_species):
    ensemble = make_ensemble(("Al", "Ni"))
    environments = environments_of(ensemble, [make_frame(8, ("Al", "Ni"), seed=7)], find_species)
    rng = np.random.default_rng(0)
    order = np.lexsort((rng.random(len(environments.center)), environments.center.numpy()))
    shuffled = Environments(
        ensemble.aev,
        2,
        8,
        environments.center[order],
        environments._neighbor_species[order],
        environments.vectors[order],
    )
    torch.testing.assert_close(shuffled.features, environments.features, rtol=1e-12, atol=1e-13)  # order of sums


@pytest.mark.parametrize(
    "atoms",
    [
        Atoms("Al"),
        Atoms("Al2", positions=[[0, 0, 0], [0, 0, 2.5]]),  # radial terms, no triple
        Atoms("Al2", positions=[[0, 0, 0], [0, 0, 4.5]]),  # beyond the angular cutoff
        Atoms("Al3", positions=[[0, 0, 0], [0, 0, 2.5], [0, 0, 5.0]]),  # collinear: θ = 0 and π
    ],
    ids=["alone", "dimer", "far dimer", "collinear"],
)
def test_sparse_neighborhoods(make_ensemble, find_species, atoms):
    ensemble = make_ensemble(("Al", "Ni"))
    environments = environments_of(ensemble, [atoms], find_species, differentiable=True)
    features = environments.features
    weights = torch.ones((len(atoms), 2, features.shape[1]), dtype=torch.float64)
    gradients = environments.pair_gradients(weights)
    assert all(torch.isfinite(x).all() for x in (features, gradients))
    if len(environments.vectors):
        (expected,) = torch.autograd.grad(features.sum(), environments.vectors)
        torch.testing.assert_close(gradients[:, 0], expected, rtol=1e-10, atol=1e-12)  # rounding
    else:
        assert (features == 0).all()


def test_very_narrow_functions_stay_finite_in_float32(make_ensemble, make_frame, find_species):
    """Exponents far below the smallest number: neither 0/0 nor the slow path of the exponential."""
    aev = replace(ANI_AL, radial_eta=5e3, angular_zeta=500.0, angular_eta=2e3)
    ensemble = make_ensemble(aev=aev, dtype=torch.float32)
    environments = environments_of(ensemble, [make_frame(8, seed=8)], find_species)
    gradients = environments.pair_gradients(torch.ones((8, 1, aev.n_features(1))))
    assert torch.isfinite(environments.features).all() and torch.isfinite(gradients).all()


def test_order_of_the_element_pairs():
    assert element_pair_table(3).tolist() == [[0, 1, 2], [1, 3, 4], [2, 4, 5]]  # torchani's, as its paper says


def test_default_shifts_are_ani_als():
    aev = AevSettings.from_config(Descriptor())
    # The published file rounds to 8 digits.
    np.testing.assert_allclose(aev.radial_shifts[:3], [1.25, 1.4296875, 1.609375], atol=1e-8)
    np.testing.assert_allclose(aev.angular_shifts[-1], 4.53125, atol=1e-8)
    np.testing.assert_allclose(aev.angle_sections[::7], [0.19634954, 2.9452431], atol=1e-7)
