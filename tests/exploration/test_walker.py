"""The integrator where the answers are known, the start, and the density."""

import numpy as np
import pytest
from ase import Atoms, units

from alpot.exploration.schedules import Schedule
from alpot.exploration.walker import Walker
from alpot.structures.density import density_of

STIFFNESS = 2.0  # eV/Å²; aluminum then vibrates with ω = (k/m)^½ and a period of 23 fs


def cloud(n_atoms: int) -> Atoms:
    """Atoms that do not know of each other; each will be tied to its own place."""
    return Atoms(np.full(n_atoms, 13), positions=np.zeros((n_atoms, 3)))


def constant(value: float) -> Schedule:
    return Schedule(start=value, end=value, amplitude=0.0, period=1.0, duration=1e6)


def step(walker: Walker, friction: float) -> None:
    """One whole step with harmonic forces; velocities belong to the time of the positions afterwards."""
    walker.kick(-STIFFNESS * walker.positions)
    walker.move(friction)
    walker.kick(-STIFFNESS * walker.positions)


@pytest.mark.parametrize("friction", [0.02, 0.2])
def test_langevin_samples_the_canonical_distribution(settings_of, friction):
    """BAOAB is exact for positions in a harmonic well, and its velocities are off by a known factor.

    Leimkuhler & Matthews, J. Chem. Phys. 138, 174102 (2013): ⟨k x²⟩ = kT and ⟨m v²⟩ = kT (1 − (ω Δt/2)²). With
    ω Δt = 0.54 the latter is 7 %, so that a wrong order of the steps would be seen in either.
    """
    target, timestep = 600.0, 2.0
    settings = settings_of(timestep=timestep)
    walker = Walker.begin(cloud(500), settings, np.random.default_rng(1))
    walker.temperature = constant(target)
    for _ in range(150):  # from the well's bottom to equilibrium: several times 1/friction and the period
        step(walker, friction)
    squares, kinetic = [], []
    for _ in range(600):
        step(walker, friction)
        squares.append(STIFFNESS * walker.positions**2)
        kinetic.append(walker.masses * walker.velocities**2)
    omega = np.sqrt(STIFFNESS / walker.masses[0, 0])
    for values, expected in (
        (squares, 1.0),
        (kinetic, 1.0 - (0.5 * omega * timestep * units.fs) ** 2),
    ):
        # 1500 coordinates are independent of each other; each gives one average over time.
        averages = np.mean(values, axis=0).ravel() / (units.kB * target)
        error = averages.std(ddof=1) / np.sqrt(len(averages))
        assert error < 0.02
        assert abs(averages.mean() - expected) < 4 * error


def test_without_friction_energy_is_conserved(settings_of):
    settings = settings_of(timestep=1.0)
    walker = Walker.begin(cloud(50), settings, np.random.default_rng(2))
    walker.temperature = constant(500.0)
    energies = []
    for _ in range(2000):
        step(walker, 1e-15)
        potential = 0.5 * STIFFNESS * (walker.positions**2).sum()
        energies.append(potential + 0.5 * (walker.masses * walker.velocities**2).sum())
    # Verlet's energy oscillates by (ω Δt)²/4 = 2 % of itself here, less over 150 coordinates; it never drifts.
    assert np.ptp(energies) < 0.02 * np.mean(energies)
    assert abs(np.mean(energies[-500:]) / np.mean(energies[:500]) - 1.0) < 1e-3


def test_start_is_maxwell_boltzmann_without_drift(settings_of):
    settings = settings_of(temperature_start=(450.0, 450.0))
    atoms = Atoms(["Al", "Au"] * 3000, positions=np.zeros((6000, 3)))
    walker = Walker.begin(atoms, settings, np.random.default_rng(3))
    for symbol in ("Al", "Au"):
        own = atoms.symbols == symbol
        temperature = (walker.masses[own] * walker.velocities[own] ** 2).mean() / units.kB
        # 9000 squares of normal numbers: relative error (2/9000)^½ = 1.5 %; four of them.
        assert temperature == pytest.approx(450.0, rel=0.06)
    np.testing.assert_allclose((walker.masses * walker.velocities).sum(0), 0.0, atol=1e-9)  # rounding


def test_a_lone_atom_starts_at_rest_and_is_heated(settings_of):
    walker = Walker.begin(Atoms("Al", cell=[9.0] * 3, pbc=True), settings_of(), np.random.default_rng(4))
    assert (walker.velocities == 0).all()
    walker.move(0.02)
    assert np.isfinite(walker.positions).all() and (walker.velocities != 0).all()


def test_density_follows_its_schedule(settings_of, crystal):
    settings = settings_of(density_end=(3.5, 3.5), density_amplitude=(0.2, 0.2), density_period=(0.03, 0.03))
    atoms = crystal(size=(2, 1, 1))
    walker = Walker.begin(atoms, settings, np.random.default_rng(5))
    walker.velocities[:] = 0.0
    walker.temperature = constant(0.0)
    scaled = np.linalg.solve(walker.cell.T, walker.positions.T).T
    assert walker.density.start == pytest.approx(density_of(atoms.numbers, atoms.get_volume()))
    shape = walker.cell / np.linalg.det(walker.cell) ** (1 / 3)
    for _ in range(60):
        walker.move(0.02)
        volume = abs(np.linalg.det(walker.cell))
        assert density_of(walker.numbers, volume) == pytest.approx(walker.density.at(walker.time), rel=1e-10)
    # Isotropic: the shape is kept, and atoms at rest keep their scaled positions.
    np.testing.assert_allclose(walker.cell / volume ** (1 / 3), shape, atol=1e-12)
    np.testing.assert_allclose(np.linalg.solve(walker.cell.T, walker.positions.T).T, scaled, atol=1e-12)
    assert walker.snapshot(0.0, 0.0).density == pytest.approx(walker.density.at(walker.time))


def test_a_cell_of_constant_density_is_not_touched(settings_of, crystal):
    atoms = crystal()
    walker = Walker.begin(atoms, settings_of(), np.random.default_rng(6))
    walker.move(0.02)
    np.testing.assert_array_equal(walker.cell, atoms.cell.array)


@pytest.mark.parametrize("pbc", [False, (True, True, False)])
def test_no_density_without_full_periodicity(settings_of, crystal, pbc):
    atoms = crystal()
    atoms.pbc = pbc
    walker = Walker.begin(atoms, settings_of(density_end=(9.0, 9.0)), np.random.default_rng(7))
    walker.move(0.02)
    assert walker.density is None and walker.snapshot(0.0, 0.0).density is None
    np.testing.assert_array_equal(walker.cell, atoms.cell.array)


def test_snapshots_are_wrapped_copies(settings_of, crystal):
    walker = Walker.begin(crystal(), settings_of(), np.random.default_rng(8))
    walker.positions += 50.0
    snapshot = walker.snapshot(0.1, 0.2)
    before = snapshot.atoms.copy()
    walker.positions += 1.0
    walker.cell *= 2.0
    assert snapshot.atoms == before
    assert ((before.get_scaled_positions(wrap=False) > -1e-9) & (before.get_scaled_positions(wrap=False) < 1)).all()
    assert (snapshot.mean_error, snapshot.max_error) == (0.1, 0.2)
    assert snapshot.atoms.info["start"] == "crystal 0"


@pytest.mark.parametrize("position", [np.nan, np.inf, -np.inf, 1e9])
def test_lost_atoms_are_noticed(settings_of, crystal, position):
    walker = Walker.begin(crystal(), settings_of(), np.random.default_rng(9))
    assert not walker.is_lost
    walker.positions[2, 1] = position
    assert walker.is_lost


def test_the_share_of_audited_walkers(settings_of, crystal):
    atoms, settings = crystal(), settings_of(audit_share=0.3)
    times = [Walker.begin(atoms, settings, np.random.default_rng(seed)).audit_time for seed in range(1000)]
    drawn = np.array([time for time in times if time is not None])
    # Binomial: 300 ± 14.5; four deviations.
    assert abs(len(drawn) - 300) < 60
    assert drawn.min() >= 0.0 and drawn.max() <= settings.max_time
    # Uniform over the run: the mean of 300 has an error of 0.289/300^½ = 1.7 %.
    assert drawn.mean() == pytest.approx(0.5 * settings.max_time, rel=0.14)


def test_an_exploding_walker_is_lost_although_every_number_is_finite(settings_of):
    walker = Walker.begin(cloud(8), settings_of(), np.random.default_rng(0))
    walker.temperature = constant(300.0)
    assert not walker.is_lost
    # 1 keV on each atom: what a hole in the repulsion gives within a few steps.
    walker.velocities[:] = np.sqrt(2.0 * 1000.0 / walker.masses)
    assert np.isfinite(walker.positions).all()
    assert walker.is_lost


def test_kinetic_temperature_of_known_velocities(settings_of):
    walker = Walker.begin(cloud(5), settings_of(), np.random.default_rng(0))
    walker.velocities[:] = np.sqrt(units.kB * 700.0 / walker.masses)  # kT in each of the three directions
    assert walker.kinetic_temperature == pytest.approx(700.0)
