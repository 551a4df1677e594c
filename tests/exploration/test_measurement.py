"""The numbers that walkers are judged by."""

import numpy as np
import pytest
import torch
from ase import Atoms, units
from ase.geometry import get_distances

from alpot.exploration import measurement
from alpot.exploration.kept_pairs import KeptPairs, search_on_host
from alpot.exploration.measurement import measure, touching
from alpot.exploration.phase_space import PhaseSpace
from alpot.exploration.uncertainty import force_deviation
from alpot.exploration.walker import Walker
from alpot.structures.contacts import contact_distance


def prepare(settings_of, frames: list[Atoms]) -> tuple[PhaseSpace, KeptPairs]:
    space = PhaseSpace(torch.device("cpu"))
    walkers = [Walker.begin(atoms, settings_of(), np.random.default_rng(i)) for i, atoms in enumerate(frames)]
    space.append(walkers, torch.zeros(sum(map(len, walkers))))
    pairs = KeptPairs(space, search_on_host, 4.5, 0.5)
    pairs.append()
    return space, pairs


@pytest.mark.parametrize("first", [0, 1])
def test_each_walker_is_measured_by_itself(settings_of, crystal, first):
    frames = [crystal(0), crystal(1, (2, 1, 1)), Atoms("Al")]
    space, pairs = prepare(settings_of, frames)
    generator = torch.Generator().manual_seed(0)
    begin, _ = space.span(first)
    forces = torch.randn((3, 13 - begin, 3), generator=generator, dtype=torch.float64)
    found = measure(space, first, pairs.geometry(first), forces, 0.5)
    assert len(found) == 3 - first
    for slot, row in enumerate(found, start=first):
        own = slice(*(end - begin for end in space.span(slot)))
        deviation = force_deviation(forces[:, own].numpy())
        assert row.mean_deviation == pytest.approx(deviation.mean(), rel=1e-12)
        assert row.max_deviation == pytest.approx(deviation.max(), rel=1e-12)
        assert row.farthest == np.abs(frames[slot].positions).max()
        assert row.kinetic_temperature == pytest.approx(space.walkers[slot].start.get_temperature(), rel=1e-12)
        assert not row.in_contact


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_not_a_number_is_seen_where_it_is(settings_of, crystal, value):
    space, pairs = prepare(settings_of, [crystal(0), crystal(1), crystal(2)])
    geometry = pairs.geometry()
    forces = torch.zeros((3, 12, 3), dtype=torch.float64)
    forces[1, 5] = value
    space.atoms.positions[9, 1] = -value
    found = measure(space, 0, geometry, forces, 0.5)
    assert np.isfinite([row.max_deviation for row in found]).tolist() == [True, False, True]
    assert np.isfinite([row.farthest for row in found]).tolist() == [True, True, False]


def test_kinetic_temperature_of_known_velocities(settings_of, crystal):
    space, pairs = prepare(settings_of, [crystal(0)])
    space.atoms.velocities.copy_((units.kB * 700.0 / space.atoms.masses).sqrt())  # kT in each of the three directions
    (row,) = measure(space, 0, pairs.geometry(), torch.zeros((3, 4, 3), dtype=torch.float64), 0.5)
    assert row.kinetic_temperature == pytest.approx(700.0)


@pytest.mark.parametrize("pairs_per_pass", [7, 2**18])
def test_contacts_by_element_and_minimum_image(monkeypatch, settings_of, pairs_per_pass):
    """H–H at 0.55 Å is no contact at a factor of 0.6, Al–Al at 1.4 Å is; C–H lies between."""
    monkeypatch.setattr(measurement, "_PAIRS_PER_PASS", pairs_per_pass)
    limits = {pair: float(contact_distance(*pair, 0.6)) for pair in [(1, 1), (1, 6), (13, 13)]}
    assert limits[1, 1] == pytest.approx(0.372) and limits[13, 13] == pytest.approx(1.452)
    frames = []
    for (a, b), limit in limits.items():
        for factor in (0.99, 1.01):
            # Neighbors through the boundary of the cell.
            atoms = Atoms([a, b], positions=[[0.1, 4, 4], [8.1 - factor * limit, 4, 4]], cell=[8.0] * 3, pbc=True)
            assert get_distances(*atoms.positions, atoms.cell, True)[1][0, 0] == pytest.approx(factor * limit)
            frames.append(atoms)
    open_boundary = frames[0].copy()
    open_boundary.pbc = False
    # An atom too close to its own images, and nothing at all to be close to.
    frames += [open_boundary, Atoms("Al", cell=[1.4, 9, 9], pbc=True), Atoms("Al")]
    space, pairs = prepare(settings_of, frames)
    found = touching(pairs.geometry(), space.atoms.radii, 0.6)
    assert found.tolist() == [True, True, False, False] * 3 + [False, False, True, False]


def test_no_pairs_no_contact(settings_of):
    space, pairs = prepare(settings_of, [Atoms("Al"), Atoms("Al")])
    assert touching(pairs.geometry(), space.atoms.radii, 0.6).tolist() == [False, False]
