"""Walkers together and alone, stretches long and short, pairs kept and searched anew: the paths are the same."""

import numpy as np
import pytest
import torch
from ase import Atoms, units

from alpot.exploration import dynamics as module
from alpot.exploration.dynamics import Dynamics
from alpot.exploration.kept_pairs import search_on_host
from alpot.exploration.walker import Walker
from alpot.potential.batch import Batch
from alpot.potential.ensemble import EnsembleResult
from alpot.potential.neighbors import NeighborSearch

SIZES = [(1, 1, 1), (2, 1, 1), (1, 1, 1), (2, 2, 1)]
#: How the walkers move besides; the bias needs the deviation that is accepted (eV/Å).
MOTIONS = [{}, {"recoil": 60.0}, {"bias": 1.0}, {"compression": 0.3}]
BIASED, ACCEPTED = 2, 0.1
#: Sums in another order: 1e-15 Å, which chaos multiplies at most by e per 10 steps.
ROUNDING = 1e-10


class Counted:
    """A search that counts the frames it was asked for."""

    def __init__(self) -> None:
        self.n_frames = 0

    def __call__(self, positions, cells, pbc, counts, cutoff):
        self.n_frames += len(counts)
        return search_on_host(positions, cells, pbc, counts, cutoff)


@pytest.fixture
def hot(settings_of):
    """Up to 30,000 K and 0.2 Å per step, and cells that breathe: some pairs serve for a step or two only."""
    return settings_of(
        temperature_start=(300.0, 3e4),
        temperature_end=(300.0, 3e4),
        density_end=(2.0, 4.0),
        density_amplitude=(-0.3, 0.3),
        density_period=(0.02, 0.1),
        check_interval=10,
    )


@pytest.fixture
def walkers_of(crystal):
    def make(settings, chosen=range(4), motions=({},) * 4) -> list[Walker]:
        walkers = []
        for i in chosen:
            atoms = crystal(i, SIZES[i])
            atoms.info |= motions[i]
            walkers.append(Walker.begin(atoms, settings, np.random.default_rng([7, i])))
        return walkers

    return make


@pytest.fixture
def hot_walkers(hot, walkers_of):
    """Of all kinds."""
    return lambda chosen=range(4): walkers_of(hot, chosen, MOTIONS)


def positions_of(dynamics: Dynamics) -> list[np.ndarray]:
    return [dynamics.space.frame(slot)[0] for slot in range(len(dynamics.walkers))]


def evaluated(ensemble, dynamics: Dynamics) -> EnsembleResult:
    """What the ensemble says of the present frames, with pairs searched now."""
    frames = []
    for slot, walker in enumerate(dynamics.walkers):
        positions, cell = dynamics.space.frame(slot)
        frames.append(Atoms(walker.start.numbers, positions=positions, cell=cell, pbc=walker.start.pbc))
    batch = Batch.from_atoms(frames)
    return ensemble.evaluate(batch, NeighborSearch(ensemble.cutoff).pairs(batch))


@pytest.fixture
def reference_path(make_ensemble, hot, hot_walkers):
    """Where hot walkers are after 40 steps with pairs searched in each of them."""
    dynamics = Dynamics(make_ensemble(strength=0.5), hot, ACCEPTED, skin=0.0)
    dynamics.add(hot_walkers())
    for _ in range(4):
        dynamics.advance(10)
    return positions_of(dynamics)


@pytest.mark.parametrize("foresight", [0.0, 1.25])
@pytest.mark.parametrize(("stretch", "skin"), [(1, 0.5), (1, 0.05), (3, 0.3), (10, 0.5), (10, 0.1), (16, 1.0)])
def test_paths_do_not_depend_on_stretches_and_skins(
    monkeypatch, make_ensemble, hot, hot_walkers, reference_path, stretch, skin, foresight
):
    """Without foresight the skin is outrun all the time, and stretches are repeated."""
    monkeypatch.setattr(module, "_FORESIGHT", foresight)
    ensemble = make_ensemble(strength=0.5)
    dynamics = Dynamics(ensemble, hot, ACCEPTED, skin=skin, stretch=stretch)
    dynamics.add(hot_walkers())
    restored = []
    real = dynamics.space.restore
    monkeypatch.setattr(dynamics.space, "restore", lambda saved: (restored.append(1), real(saved)))
    for _ in range(4):
        dynamics.advance(10)
        # At a check, all members' forces are those of pairs searched now.
        expected = evaluated(ensemble, dynamics).forces
        np.testing.assert_allclose(dynamics._member_forces.numpy(), expected, atol=1e-10)
        differs = (np.abs(dynamics.space.atoms.forces.numpy() - expected.mean(0)) > 1e-10).any(1)
        assert set(dynamics.space.walker.numpy()[differs]) == {BIASED}
    for mine, other in zip(positions_of(dynamics), reference_path, strict=True):
        np.testing.assert_allclose(mine, other, atol=ROUNDING)
    assert bool(restored) == (stretch > 1 and foresight == 0.0)


def test_a_walker_alone_goes_the_way_it_goes_in_a_batch(make_ensemble, hot, hot_walkers):
    ensemble = make_ensemble(strength=0.5)
    together = Dynamics(ensemble, hot, ACCEPTED, stretch=5)
    together.add(hot_walkers())
    alone = []
    for i in range(4):
        dynamics = Dynamics(ensemble, hot, ACCEPTED, stretch=5)
        dynamics.add(hot_walkers([i]))
        alone.append(dynamics)
    for _ in range(5):
        measured = together.advance(10)
        for dynamics, positions, row in zip(alone, positions_of(together), measured, strict=True):
            (mine,) = dynamics.advance(10)
            np.testing.assert_allclose(positions_of(dynamics)[0], positions, atol=ROUNDING)
            assert mine.mean_deviation == pytest.approx(row.mean_deviation, rel=1e-8)
            assert mine.kinetic_temperature == pytest.approx(row.kinetic_temperature, rel=1e-8)


def test_walkers_come_and_go(make_ensemble, hot, hot_walkers):
    """The others do not notice, and no memory is asked for as long as there is room."""
    ensemble = make_ensemble(strength=0.5)
    undisturbed = Dynamics(ensemble, hot, ACCEPTED)
    undisturbed.add(hot_walkers())
    expected = []
    for _ in range(4):
        undisturbed.advance(10)
        expected.append(positions_of(undisturbed))

    dynamics = Dynamics(ensemble, hot, ACCEPTED)
    dynamics.add(hot_walkers())
    dynamics.advance(10)
    place = dynamics.space.atoms.positions.data_ptr()
    dynamics.keep([1, 3])
    dynamics.add(hot_walkers([0]))  # begins once more
    for step in (1, 2, 3):
        dynamics.advance(10)
        for mine, other in zip(
            positions_of(dynamics), (expected[step][1], expected[step][3], expected[step - 1][0]), strict=True
        ):
            np.testing.assert_allclose(mine, other, atol=ROUNDING)
    assert dynamics.space.atoms.positions.data_ptr() == place
    assert [walker.step for walker in dynamics.walkers] == [40, 40, 30]


def test_checks_may_be_rare(make_ensemble, settings_of, walkers_of):
    """Noise is drawn in parts then; the parts depend on the interval only."""
    settings = settings_of(temperature_start=(3e3, 1e4), check_interval=40)
    ensemble = make_ensemble(strength=0.5)
    paths = []
    for stretch in (1, 7, 100):
        dynamics = Dynamics(ensemble, settings, stretch=stretch)
        dynamics.add(walkers_of(settings))
        dynamics.advance(40)
        np.testing.assert_allclose(dynamics._member_forces.numpy(), evaluated(ensemble, dynamics).forces, atol=1e-10)
        paths.append(np.concatenate(positions_of(dynamics)))
    for other in paths[1:]:
        np.testing.assert_allclose(paths[0], other, atol=ROUNDING)


def test_without_friction_energy_is_conserved(make_ensemble, settings_of, walkers_of):
    settings = settings_of(
        friction=1e-300, temperature_start=(400.0, 401.0), temperature_amplitude=(0.0, 0.0), contact_factor=0.1
    )
    ensemble = make_ensemble(strength=0.5)
    dynamics = Dynamics(ensemble, settings, stretch=5)
    dynamics.add(walkers_of(settings))
    totals = []
    for _ in range(60):
        dynamics.advance(5)
        potential = evaluated(ensemble, dynamics).energies.mean(0)
        atoms = dynamics.space.atoms
        kinetic = 0.5 * (atoms.masses * atoms.velocities.square()).sum(1)
        totals.append(potential + torch.segment_reduce(kinetic, "sum", offsets=dynamics.space.offsets).numpy())
    counts = np.diff(dynamics.space.offsets)
    # Verlet's energy oscillates with (ω Δt)², here by some 1e-4 of kT; it must not drift (2e-5 seen).
    drift = np.abs(np.mean(totals[-20:], axis=0) - np.mean(totals[:20], axis=0)) / counts
    assert drift.max() < 1e-4 * units.kB * 400.0


@pytest.mark.parametrize("stretch", [1, 10])
@pytest.mark.parametrize("position", [np.nan, np.inf, 1e9])
def test_who_leaves_is_put_to_rest(make_ensemble, hot, hot_walkers, reference_path, position, stretch):
    """At rest where it was last in order, known as lost; the others go on as ever."""
    dynamics = Dynamics(make_ensemble(strength=0.5), hot, ACCEPTED, stretch=stretch)
    dynamics.add(hot_walkers())
    dynamics.advance(10)
    begin, _ = dynamics.space.span(2)
    dynamics.space.atoms.positions[begin + 1, 2] = position
    for _ in range(3):
        measured = dynamics.advance(10)
    assert [walker.has_left for walker in dynamics.walkers] == [False, False, True, False]
    assert all(np.isfinite(row.max_deviation) for row in measured)
    for slot in (0, 1, 3):
        np.testing.assert_allclose(positions_of(dynamics)[slot], reference_path[slot], atol=ROUNDING)


def test_calm_walkers_are_searched_now_and_then_only(make_ensemble, settings_of, walkers_of):
    """At 200 K atoms move by 0.25 Å in 50 fs or so, if they ever do."""
    settings = settings_of(temperature_start=(200.0, 200.0), temperature_end=(200.0, 200.0))
    for stretch in (1, 10):
        search = Counted()
        dynamics = Dynamics(make_ensemble(), settings, search=search, stretch=stretch)
        dynamics.add(walkers_of(settings))
        for _ in range(10):
            dynamics.advance(10)
        assert search.n_frames <= 4 * (1 + 5)
