"""The map of configuration space: geometry against geometry, and what its points say of their labels."""

from collections import Counter

import numpy as np
import pytest
import torch
from ase.build import bulk
from tiny_campaign import emt_labels, last_assessment, state_of

from alpot.potential.aev_reference import ReferenceKernels
from alpot.potential.batch import Batch
from alpot.potential.kernels import Geometry
from alpot.potential.neighbors import NeighborSearch
from alpot.potential.saved import load_potential
from alpot.store.labels import Label, read_label
from alpot.subjects import configuration_map as module
from alpot.subjects.configuration_map import Known, draw_map, known_labels, mean_environments, projected


def label_with(atoms, key: str = "", **provenance) -> Label:
    forces = np.zeros((len(atoms), 3))
    return Label(key=key, atoms=atoms, energy=0.0, forces=forces, level_of_theory="none", provenance=provenance)


@pytest.fixture(scope="module")
def ensemble(finished):
    return load_potential(finished.model_path(1))[0]


def test_a_mean_environment_is_that_of_the_oracle(ensemble):
    frames = [label.atoms for label in emt_labels(20)]  # more than one batch
    found = mean_environments(ensemble, frames)
    oracle = ReferenceKernels(ensemble.aev, 1, torch.float64)
    for atoms, mean in zip(frames, found, strict=True):
        batch = Batch.from_atoms([atoms])
        species = torch.zeros(batch.n_atoms, dtype=torch.int32)
        geometry = Geometry.of(batch, species, NeighborSearch(ensemble.cutoff).pairs(batch), "cpu")
        features = oracle.environments(geometry, 0, batch.n_atoms).features.detach().numpy()
        np.testing.assert_allclose(mean, features.mean(axis=0), rtol=1e-4, atol=1e-5)  # ours are in single precision


def test_a_supercell_lies_where_its_cell_lies(ensemble):
    atoms = bulk("Al", cubic=True)
    atoms.rattle(0.1, seed=3)
    small, large = mean_environments(ensemble, [atoms, atoms * (2, 1, 3)])
    np.testing.assert_allclose(small, large, rtol=1e-5, atol=1e-5)


def test_the_projection_is_that_of_a_singular_value_decomposition():
    vectors = np.random.default_rng(1).normal(size=(60, 12)) * np.linspace(3.0, 0.1, 12)
    centered = vectors - vectors.mean(axis=0)
    left, values, axes = np.linalg.svd(centered, full_matrices=False)
    found = projected(vectors)
    for axis in (0, 1):
        sign = np.sign(axes[axis][np.abs(axes[axis]).argmax()])
        np.testing.assert_allclose(found[:, axis], sign * left[:, axis] * values[axis], atol=1e-10)
    # A plane shows distances shortened or as they are; the first two components keep as much as any plane can.
    distances = [np.linalg.norm(rows[:, None] - rows, axis=2) for rows in (found, vectors)]
    assert (distances[0] <= distances[1] + 1e-10).all()


@pytest.mark.parametrize("count", [0, 1, 2])
def test_few_points_have_places_too(count):
    found = projected(np.eye(5)[:count])
    assert found.shape == (count, 2) and np.isfinite(found).all()
    np.testing.assert_allclose(found.sum(axis=0), 0.0, atol=1e-12)


def test_phases_lie_apart(ensemble):
    """Rattled fcc and bcc of the same density: two clouds, farther apart than they are wide."""
    frames = []
    for seed in range(12):
        for name, a in (("fcc", 4.05), ("bcc", 4.05 / 2 ** (1 / 3))):
            atoms = bulk("Al", name, a=a, cubic=True) * (2, 2, 2)
            atoms.rattle(0.05, seed=seed)
            frames.append(atoms)
    places = projected(mean_environments(ensemble, frames))
    fcc, bcc = places[::2], places[1::2]
    apart = np.linalg.norm(fcc.mean(axis=0) - bcc.mean(axis=0))
    assert apart > 3 * max(fcc.std(axis=0).max(), bcc.std(axis=0).max())


def test_points_say_what_their_labels_say(finished):
    found, state = last_assessment(finished), state_of(finished)
    keys = sorted({*state.dataset.training.loose, *state.dataset.audit.loose} - state.dataset.refused.keys())
    for point, key in zip(found.map, keys, strict=True):  # they are in the order of their keys
        label = read_label(finished.label_path(key))
        assert point.energy == pytest.approx(label.energy / len(label.atoms), abs=1e-6)
        assert point.audit == (key in state.dataset.audit.loose)
        assert (point.n_atoms, point.reason) == (len(label.atoms), label.provenance["reason"])
        grams_per_cm3 = 26.982 * len(label.atoms) / label.atoms.get_volume() / 0.602214
        assert point.density == pytest.approx(grams_per_cm3, rel=1e-4)
        if "generation" in label.provenance:
            assert point.generation == label.provenance["generation"] + 1 >= 2
            assert point.temperature == pytest.approx(label.provenance["temperature_K"], rel=1e-4)
        else:
            assert (point.generation, point.temperature) == (0, None)
    assert {point.generation for point in found.map} >= {0, 2}


def test_a_large_campaign_shows_a_lasting_share(ensemble, monkeypatch):
    monkeypatch.setattr(module, "MAX_MAP", 5)
    labels = sorted(emt_labels(14), key=lambda label: label.atoms.positions[0, 0])  # in no order of their keys
    known = [Known(label, audit=False, imported=False) for label in labels]

    def energies(groups):
        points, total = draw_map(ensemble, groups)
        assert total == sum(map(len, groups)) and len(points) == min(total, 5)
        return Counter(point.energy for point in points)

    shown = energies([known[:8]])
    later = energies([known[:8], known[8:]])
    newcomers = Counter(round(item.label.energy / 4, 6) for item in known[8:])
    assert later - newcomers <= shown  # nothing returns that was not shown
    assert later == energies([known[8:], known[:3], known[3:8]])  # however the labels are stored


def test_labels_that_were_brought_along_belong_to_no_generation(ensemble):
    """A fork's labels name generations of the campaign that it came from, and a user's whatever they like."""
    atoms = bulk("Al", cubic=True)
    molecule = atoms.copy()
    molecule.pbc = False
    known = [
        Known(label_with(atoms, "a", generation=7, reason="uncertain", temperature_K=812.5), False, imported=True),
        Known(label_with(molecule, "b", generation="new", temperature_K="hot"), False, imported=True),
        Known(label_with(atoms, "c", generation=7, reason="uncertain", temperature_K=812.5), False, imported=False),
    ]
    points, _ = draw_map(ensemble, [known])
    assert [(p.generation, p.reason, p.temperature) for p in points] == [
        (0, "uncertain", 812.5),
        (0, "imported", None),
        (8, "uncertain", 812.5),
    ]
    assert points[1].density is None  # there is no volume that it fills
    assert points[0].density == pytest.approx(2.70, abs=0.02)  # aluminum


def test_an_older_assessment_names_no_labels_to_train_on(campaign):
    keys = list(state_of(campaign).dataset.audit.loose)
    spec = {"audit_shards": [], "audit_labels": keys, "refused": keys[:1]}
    groups = list(known_labels(campaign, spec, refused=keys[1:2]))
    assert [item.label.key for group in groups for item in group] == keys[2:]
    assert all(item.audit for group in groups for item in group)
