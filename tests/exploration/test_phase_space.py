"""The integrator where the answers are known, its noise, and the density."""

import numpy as np
import pytest
import torch
from ase import Atoms, units

from alpot.exploration.phase_space import PhaseSpace
from alpot.exploration.schedules import Schedule
from alpot.exploration.walker import Walker
from alpot.structures.density import density_of

STIFFNESS = 2.0  # eV/Å²; aluminum then vibrates with ω = (k/m)^½ and a period of 23 fs


def cloud(n_atoms: int) -> Atoms:
    """Atoms that do not know of each other; each will be tied to its own place."""
    return Atoms(np.full(n_atoms, 13), positions=np.zeros((n_atoms, 3)))


def constant(value: float) -> Schedule:
    return Schedule(start=value, end=value, amplitude=0.0, period=1.0, duration=1e6)


def space_of(walkers: list[Walker]) -> PhaseSpace:
    space = PhaseSpace(torch.device("cpu"))
    space.append(walkers, torch.zeros(sum(map(len, walkers))))
    return space


def harmonic_steps(space: PhaseSpace, n_steps: int):
    """Whole steps with harmonic forces; after each, velocities belong to the time of the positions."""
    course = space.course(n_steps)
    space.atoms.forces.copy_(-STIFFNESS * space.atoms.positions)
    for step in range(n_steps):
        space.kick()
        space.move(course, step)
        space.atoms.forces.copy_(-STIFFNESS * space.atoms.positions)
        space.kick()
        yield
    for walker in space.walkers:
        walker.step += n_steps


@pytest.mark.parametrize("friction", [0.02, 0.2])
def test_langevin_samples_the_canonical_distribution(settings_of, friction):
    """BAOAB is exact for positions in a harmonic well, and its velocities are off by a known factor.

    Leimkuhler & Matthews, J. Chem. Phys. 138, 174102 (2013): ⟨k x²⟩ = kT and ⟨m v²⟩ = kT (1 − (ω Δt/2)²). With
    ω Δt = 0.54 the latter is 7 %, so that a wrong order of the steps would be seen in either. Two walkers, each at its
    own temperature.
    """
    targets, timestep = (600.0, 1500.0), 2.0
    walkers = [
        Walker.begin(cloud(500), settings_of(timestep=timestep, friction=friction), np.random.default_rng(i))
        for i in (1, 2)
    ]
    for walker, target in zip(walkers, targets, strict=True):
        walker.temperature = constant(target)
    space = space_of(walkers)
    for _ in harmonic_steps(space, 150):  # from the well's bottom to equilibrium: several times 1/friction and period
        pass
    squares, kinetic = [], []
    for _ in harmonic_steps(space, 600):
        squares.append(STIFFNESS * space.atoms.positions.square())
        kinetic.append(space.atoms.masses * space.atoms.velocities.square())
    omega = np.sqrt(STIFFNESS / float(space.atoms.masses[0]))
    for values, expected in (
        (squares, 1.0),
        (kinetic, 1.0 - (0.5 * omega * timestep * units.fs) ** 2),
    ):
        for of_walker, target in zip(torch.stack(values).mean(0).numpy().reshape(2, -1), targets, strict=True):
            # 1500 coordinates are independent of each other; each gives one average over time.
            averages = of_walker / (units.kB * target)
            error = averages.std(ddof=1) / np.sqrt(len(averages))
            assert error < 0.02
            assert abs(averages.mean() - expected) < 4 * error


def test_without_friction_energy_is_conserved(settings_of):
    walker = Walker.begin(cloud(50), settings_of(timestep=1.0, friction=1e-300), np.random.default_rng(2))
    walker.temperature = constant(500.0)
    space = space_of([walker])
    energies = []
    for _ in harmonic_steps(space, 2000):
        potential = 0.5 * STIFFNESS * space.atoms.positions.square().sum()
        energies.append(float(potential + 0.5 * (space.atoms.masses * space.atoms.velocities.square()).sum()))
    # Verlet's energy oscillates by (ω Δt)²/4 = 2 % of itself here, less over 150 coordinates; it never drifts.
    assert np.ptp(energies) < 0.02 * np.mean(energies)
    assert abs(np.mean(energies[-500:]) / np.mean(energies[:500]) - 1.0) < 1e-3


def test_a_lone_atom_starts_at_rest_and_is_heated(settings_of):
    walker = Walker.begin(Atoms("Al", cell=[9.0] * 3, pbc=True), settings_of(), np.random.default_rng(4))
    space = space_of([walker])
    assert (space.atoms.velocities == 0).all()
    space.move(space.course(1), 0)
    assert space.atoms.positions.isfinite().all() and (space.atoms.velocities != 0).all()


def test_noise_is_each_walkers_own(settings_of, crystal):
    """Whoever comes first, stays or goes; only the lengths of the courses count."""
    settings = settings_of()
    walkers = {
        i: Walker.begin(crystal(i, size), settings, np.random.default_rng(i))
        for i, size in enumerate([(1, 1, 1), (2, 1, 1), (2, 2, 1)])
    }
    alone = space_of([walkers[1]])
    expected = [alone.course(n).kicks for n in (10, 16, 4)]
    together = space_of(list(walkers.values()))
    kicks = [together.course(10).kicks[:, 4:12]]
    together.keep([1, 2])
    kicks.append(together.course(16).kicks[:, :8])
    together.append([walkers[0]], torch.zeros(4))
    kicks.append(together.course(4).kicks[:, :8])
    for mine, other in zip(expected, kicks, strict=True):
        torch.testing.assert_close(mine, other, rtol=0, atol=0)
    assert not torch.equal(expected[0][0], expected[0][1])


def test_density_follows_its_schedule(settings_of, crystal):
    settings = settings_of(density_end=(3.5, 3.5), density_amplitude=(0.2, 0.2), density_period=(0.03, 0.03))
    atoms = crystal(size=(2, 1, 1))
    walkers = [Walker.begin(atoms, changed, np.random.default_rng(5)) for changed in (settings, settings_of())]
    for walker in walkers:
        walker.temperature = constant(0.0)
    space = space_of(walkers)
    space.atoms.velocities.zero_()
    walker = walkers[0]
    assert walker.density.start == pytest.approx(density_of(atoms.numbers, atoms.get_volume()))
    scaled = atoms.get_scaled_positions(wrap=False)
    for _ in range(6):
        course = space.course(10)
        for step in range(10):
            space.move(course, step)
            walker.step += 1
            _, cell = space.frame(0)
            volume = np.linalg.det(cell)
            assert density_of(atoms.numbers, volume) == pytest.approx(walker.density.at(walker.time), rel=1e-10)
            assert volume / atoms.get_volume() == pytest.approx(
                space.scales[0, 0] ** 3 * walker.density.start, rel=1e-10
            )
    # Isotropic: the shape is kept, and atoms at rest keep their scaled positions.
    positions, cell = space.frame(0)
    assert abs(volume / atoms.get_volume() - 1) > 0.1
    np.testing.assert_allclose(cell / volume ** (1 / 3), atoms.cell.array / atoms.get_volume() ** (1 / 3), atol=1e-12)
    np.testing.assert_allclose(np.linalg.solve(cell.T, positions.T).T, scaled, atol=1e-12)
    # The other walker's density is constant, and its cell is not touched.
    np.testing.assert_array_equal(space.frame(1)[1], atoms.cell.array)
    np.testing.assert_array_equal(space.frame(1)[0], atoms.positions)


def test_walkers_are_dropped_with_all_that_is_known_of_them(settings_of, crystal):
    sizes = [(1, 1, 1), (2, 1, 1), (1, 1, 1), (3, 1, 1)]
    walkers = [Walker.begin(crystal(i, s), settings_of(), np.random.default_rng(i)) for i, s in enumerate(sizes)]
    space = space_of(walkers)
    space.note_good()
    space.atoms.positions.add_(0.1)
    space.keep([1, 3])
    assert space.walkers == [walkers[1], walkers[3]]
    assert space.offsets.tolist() == [0, 8, 20] and space.walker.tolist() == [0] * 8 + [1] * 12
    for slot, i in enumerate([1, 3]):
        start = walkers[i].start
        np.testing.assert_array_equal(space.frame(slot)[0], start.positions + 0.1)
        np.testing.assert_array_equal(space.good_frame(slot)[0], start.positions)
        np.testing.assert_array_equal(space.frame(slot)[1], start.cell.array)
        begin, end = space.span(slot)
        np.testing.assert_allclose(space.atoms.velocities[begin:end], start.get_velocities(), rtol=1e-15)


def test_what_was_saved_comes_back(settings_of, crystal):
    walkers = [Walker.begin(crystal(i), settings_of(density_end=(3.0, 4.0)), np.random.default_rng(i)) for i in (0, 1)]
    space = space_of(walkers)
    saved = space.saved()
    course = space.course(5)
    for step in range(5):
        space.move(course, step)
    moved = space.frame(0)
    space.restore(saved)
    for step in range(5):
        space.move(course, step)
    for mine, other in zip(space.frame(0), moved, strict=True):
        np.testing.assert_array_equal(mine, other)


def test_a_cell_is_compressed_along_one_of_its_vectors(settings_of, crystal):
    """What is perpendicular to it stays as it is; ρ(t) comes on top; the others do not notice."""
    still = {
        "temperature_start": (1e-12, 1e-12),
        "temperature_end": (1e-12, 1e-12),
        "temperature_amplitude": (0.0, 0.0),
    }
    skewed = crystal(1, (2, 1, 1))
    skewed.set_cell(skewed.cell.array + np.diag([0.5, -0.4], k=1), scale_atoms=True)
    growing = skewed.copy()
    for atoms in (skewed, growing):
        atoms.info["compression"] = 0.25
    quiet, rising = settings_of(**still), settings_of(**still, density_end=(4.0, 4.0))
    starts = [crystal(0), skewed, growing]
    walkers = [
        Walker.begin(atoms, settings, np.random.default_rng(i))
        for i, (atoms, settings) in enumerate(zip(starts, (quiet, quiet, rising), strict=True))
    ]
    space = space_of(walkers)
    space.atoms.velocities.zero_()
    for _ in range(5):
        course = space.course(10)
        for step in range(10):
            space.move(course, step)
        for walker in walkers:
            walker.step += 10
        share = walkers[0].time / 0.05
        for slot, (walker, atoms) in enumerate(zip(walkers, starts, strict=True)):
            axis = atoms.cell.array[walker.axis] / np.linalg.norm(atoms.cell.array[walker.axis])
            squeeze = 1.0 if slot == 0 else 1.0 - 0.25 * share
            growth = 1.0 if slot < 2 else np.cbrt(walker.density.start / walker.density.at(walker.time))
            deform = growth * (np.eye(3) + (squeeze - 1.0) * np.outer(axis, axis))
            positions, cell = space.frame(slot)
            # At 1e-12 K an atom goes 1e-6 Å in 50 fs at most.
            np.testing.assert_allclose(positions, atoms.positions @ deform, atol=1e-5)
            np.testing.assert_allclose(cell, atoms.cell.array @ deform, atol=1e-12)
    assert share == pytest.approx(1.0)
    np.testing.assert_array_equal(space.frame(0)[1], starts[0].cell.array)


def test_each_walker_has_its_own_time_step_and_friction(settings_of):
    """As if it were alone, or all had what it has."""
    walkers = [
        Walker.begin(cloud(20), settings_of(timestep=timestep, friction=friction), np.random.default_rng(1))
        for timestep, friction in [(1.0, 0.02), (0.3, 0.001)]
    ]
    together, *alone = space_of(walkers), space_of(walkers[:1]), space_of(walkers[1:])
    for space in (together, *alone):
        for walker in space.walkers:
            walker.step = 0
        for _ in harmonic_steps(space, 10):
            pass
    expected = torch.cat([space.atoms.positions for space in alone])
    torch.testing.assert_close(together.atoms.positions, expected, rtol=0, atol=1e-14)
    assert together.timesteps == pytest.approx([1.0 * units.fs, 0.3 * units.fs])


def test_the_pace_changes_where_the_cascade_ends(settings_of):
    """From one course to the next; the noise belongs to the friction then."""
    atoms = cloud(20)
    atoms.info["recoil"] = 100.0
    walker = Walker.begin(atoms, settings_of(timestep=1.0, friction=0.02), np.random.default_rng(1))
    space = space_of([walker])
    short = walker.pace.timestep
    assert space.timesteps == pytest.approx([short * units.fs])
    assert short < 0.5
    quiet = space.course(5).kicks.std()
    walker.step = walker.cascade_steps
    loud = space.course(5).kicks.std()
    assert space.timesteps == pytest.approx([units.fs])
    # Variances 2 γ Δt; 300 numbers give each deviation to 4 %.
    assert loud / quiet == pytest.approx(np.sqrt(0.02 * 1.0 / (0.001 * short)), rel=0.25)
