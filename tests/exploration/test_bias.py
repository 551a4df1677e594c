"""The bias is what the paper says, its forces are its derivative, and it leads where the members disagree."""

import numpy as np
import pytest
import torch
from ase import Atoms

from alpot.exploration.bias import bias_energies, bias_forces, width_for
from alpot.exploration.dynamics import Dynamics
from alpot.exploration.walker import Walker
from alpot.potential.batch import Batch
from alpot.potential.neighbors import NeighborSearch

HEIGHTS = torch.tensor([2.0, 0.0, 0.5], dtype=torch.float64)


@pytest.fixture
def frames(crystal) -> list[Atoms]:
    return [crystal(0), crystal(1, (2, 1, 1)), crystal(2, (2, 2, 1))]


def evaluated(ensemble, frames):
    batch = Batch.from_atoms(frames)
    result = ensemble.evaluate(batch, NeighborSearch(ensemble.cutoff).pairs(batch))
    return batch, torch.from_numpy(result.energies), torch.from_numpy(result.forces)


def energies_of(ensemble, frames, width) -> np.ndarray:
    batch, energies, _ = evaluated(ensemble, frames)
    return bias_energies(energies, torch.from_numpy(np.diff(batch.offsets)), HEIGHTS, width).numpy()


def deviations_of(energies, counts) -> np.ndarray:
    """s of the paper's formula, eV: of the members' energies per root of an atom."""
    return np.asarray(energies).std(axis=0) / np.sqrt(np.asarray(counts))


def test_the_energy_is_that_of_the_paper():
    energies = torch.tensor([[1.0, 5.0], [2.0, 5.0], [4.0, 5.0]], dtype=torch.float64)
    counts, heights = torch.tensor([4, 8]), torch.tensor([3.0, 3.0], dtype=torch.float64)
    squares = 0.5 * ((1 - 7 / 3) ** 2 + (2 - 7 / 3) ** 2 + (4 - 7 / 3) ** 2)
    expected = [3.0 * (np.exp(-squares / (3 * 4 * 0.7**2)) - 1.0), 0.0]
    np.testing.assert_allclose(bias_energies(energies, counts, heights, 0.7), expected, rtol=1e-14)
    # However far apart the members are, it is bounded.
    assert bias_energies(1e6 * energies, counts, heights, 0.7).tolist() == [-3.0, 0.0]


@pytest.mark.parametrize("share", [0.3, 1.0, 2.0])
def test_forces_are_the_derivative(make_ensemble, frames, share):
    """Inside the well of width B, at its steepest, and outside of it."""
    ensemble = make_ensemble(strength=0.5, spread=0.5)
    batch, energies, forces = evaluated(ensemble, frames)
    counts = torch.from_numpy(np.diff(batch.offsets))
    width = float(deviations_of(energies, counts)[0]) / share
    frame = torch.repeat_interleave(torch.arange(3), counts)
    found = bias_forces(energies, forces, frame, counts, HEIGHTS, width)
    assert (found[frame == 1] == 0).all()
    assert found.abs().max() > 1e-3
    step = 1e-5
    for slot, atom, axis in [(0, 0, 0), (0, 3, 2), (2, 5, 1), (2, 15, 0)]:
        values = []
        for sign in (1.0, -1.0):
            moved = [atoms.copy() for atoms in frames]
            moved[slot].positions[atom, axis] += sign * step
            values.append(energies_of(ensemble, moved, width)[slot])
        derivative = (values[0] - values[1]) / (2 * step)
        # Rounding: 1e-16 of some eV in the members' energies over the step; truncation is below it.
        assert float(found[int(batch.offsets[slot]) + atom, axis]) == pytest.approx(-derivative, rel=1e-5, abs=1e-8)


@pytest.fixture
def walkers_of(settings_of, crystal):
    def make(bias: float, **changes) -> tuple[list[Walker], object]:
        cold = {"temperature_start": (300.0, 300.0), "temperature_end": (300.0, 300.0)}
        settings = settings_of(temperature_amplitude=(0.0, 0.0), contact_factor=0.1, **(cold | changes))
        walkers = []
        for seed in range(6):
            atoms = crystal(seed, (2, 1, 1))
            atoms.info["bias"] = bias
            walkers.append(Walker.begin(atoms, settings, np.random.default_rng(seed)))
        return walkers, settings

    return make


def frames_of(dynamics: Dynamics) -> list[Atoms]:
    frames = []
    for slot, walker in enumerate(dynamics.walkers):
        positions, cell = dynamics.space.frame(slot)
        frames.append(Atoms(walker.start.numbers, positions=positions, cell=cell, pbc=True))
    return frames


def test_walkers_are_drawn_to_where_the_members_disagree(make_ensemble, walkers_of):
    """All of them, with the same random numbers, sooner and on average.

    At 300 K, 8 atoms have a kinetic energy of 0.3 eV; the bias adds up to 1 eV.
    """
    ensemble = make_ensemble(strength=0.5, spread=0.5)
    seen = []
    for bias in (0.0, 1.0):
        walkers, settings = walkers_of(bias)
        dynamics = Dynamics(ensemble, settings, accepted_deviation=0.2)
        dynamics.add(walkers)
        dynamics.advance(200)  # the lattice, where they disagree by chance, is left behind
        deviations = []
        for _ in range(50):
            dynamics.advance(5)
            deviations.append(evaluated(ensemble, frames_of(dynamics))[1].numpy().std(axis=0))
        seen.append(np.array(deviations))
    free, biased = seen
    assert (biased.mean(0) > free.mean(0)).all()
    assert biased.mean() > 1.3 * free.mean()  # 1.7 seen
    # The first check at which a walker is where the free ones are in one of ten checks only.
    limit = np.quantile(free, 0.9)
    first_free, first_biased = (np.append(each > limit, np.ones((1, 6)), axis=0).argmax(0) for each in seen)
    assert (first_biased <= first_free).all()
    assert first_biased.mean() < 0.7 * first_free.mean()


def test_what_the_bias_gives_is_bounded(make_ensemble, walkers_of):
    """Without friction, kinetic energy, mean energy and bias add up to a constant; so the first two gain A at most."""
    ensemble = make_ensemble(strength=0.5, spread=0.5)
    height = 1.0
    walkers, settings = walkers_of(height, friction=1e-300)
    dynamics = Dynamics(ensemble, settings, accepted_deviation=0.2)
    dynamics.add(walkers)
    physical, biased = [], []
    for _ in range(30):
        batch, energies, _ = evaluated(ensemble, frames_of(dynamics))
        atoms = dynamics.space.atoms
        kinetic = 0.5 * (atoms.masses * atoms.velocities.square()).sum(1)
        total = energies.mean(0) + torch.segment_reduce(kinetic, "sum", offsets=dynamics.space.offsets)
        counts = torch.from_numpy(np.diff(batch.offsets))
        bias = bias_energies(energies, counts, dynamics.space.biases, width_for(0.2))
        physical.append(total.numpy())
        biased.append((total + bias).numpy())
        dynamics.advance(5)
    # Verlet's energy oscillates with (ω Δt)², by some 1e-4 of the kinetic energy of 0.3 eV (1e-5 eV seen).
    assert np.ptp(biased, axis=0).max() < 1e-4
    assert np.ptp(physical, axis=0).max() > 0.1
    assert np.ptp(physical, axis=0).max() <= height


@pytest.mark.parametrize("accepted", [0.0, -0.1, np.inf, np.nan])
def test_without_an_accepted_deviation_there_is_no_bias(make_ensemble, walkers_of, accepted):
    ensemble = make_ensemble(strength=0.5, spread=0.5)
    paths = []
    for bias in (0.0, 1.0):
        walkers, settings = walkers_of(bias)
        dynamics = Dynamics(ensemble, settings, accepted_deviation=accepted)
        dynamics.add(walkers)
        dynamics.advance(10)
        paths.append(dynamics.space.atoms.positions.numpy().copy())
    np.testing.assert_array_equal(*paths)


def test_a_biased_neighbor_disturbs_nobody(make_ensemble, walkers_of):
    """The members' forces are asked for one by one then; their mean is the same but for rounding."""
    ensemble = make_ensemble(strength=0.5, spread=0.5)
    (free, *_), settings = walkers_of(0.0)
    alone = Dynamics(ensemble, settings, accepted_deviation=0.2)
    alone.add([free])
    (again, *_), _ = walkers_of(0.0)
    together = Dynamics(ensemble, settings, accepted_deviation=0.2)
    together.add([walkers_of(1.0)[0][1], again])
    for dynamics in (alone, together):
        for _ in range(3):
            dynamics.advance(10)
    np.testing.assert_allclose(together.space.frame(1)[0], alone.space.frame(0)[0], atol=1e-10)
