"""How a walker begins, what counts as lost, and what is kept of it."""

import numpy as np
import pytest
from ase import Atoms, units
from ase.calculators.emt import EMT
from ase.md.verlet import VelocityVerlet

from alpot.exploration.walker import Check, Walker
from alpot.structures.density import density_of


def cloud(n_atoms: int) -> Atoms:
    return Atoms(np.full(n_atoms, 13), positions=np.zeros((n_atoms, 3)))


def test_start_is_maxwell_boltzmann_without_drift(settings_of):
    settings = settings_of(temperature_start=(450.0, 450.0))
    atoms = Atoms(["Al", "Au"] * 3000, positions=np.zeros((6000, 3)))
    start = Walker.begin(atoms, settings, np.random.default_rng(3)).start
    masses, velocities = start.get_masses()[:, None], start.get_velocities()
    for symbol in ("Al", "Au"):
        own = atoms.symbols == symbol
        temperature = (masses[own] * velocities[own] ** 2).mean() / units.kB
        # 9000 squares of normal numbers: relative error (2/9000)^½ = 1.5 %; four of them.
        assert temperature == pytest.approx(450.0, rel=0.06)
    np.testing.assert_allclose((masses * velocities).sum(0), 0.0, atol=1e-9)  # rounding


def test_a_start_is_a_copy(settings_of, crystal):
    atoms = crystal()
    walker = Walker.begin(atoms, settings_of(), np.random.default_rng(0))
    assert not atoms.has("momenta")
    before = walker.start.positions.copy()
    atoms.positions += 1.0
    np.testing.assert_array_equal(walker.start.positions, before)
    assert len(walker) == len(atoms) and walker.start.info == {"start": "crystal 0"}


@pytest.mark.parametrize("pbc", [False, (True, True, False)])
def test_no_density_without_full_periodicity(settings_of, crystal, pbc):
    atoms = crystal()
    atoms.pbc = pbc
    walker = Walker.begin(atoms, settings_of(density_end=(9.0, 9.0)), np.random.default_rng(7))
    snapshot = walker.snapshot(atoms.positions, atoms.cell.array, Check(time=0.0, mean_error=0.0, max_error=0.0))
    assert walker.density is None and snapshot.density is None


def test_snapshots_are_wrapped_copies(settings_of, crystal):
    walker = Walker.begin(crystal(), settings_of(), np.random.default_rng(8))
    positions, cell = crystal().positions + 50.0, crystal().cell.array.copy()
    snapshot = walker.snapshot(positions, cell, Check(time=0.01, mean_error=0.1, max_error=0.2))
    before = snapshot.atoms.copy()
    positions += 1.0
    cell *= 2.0
    assert snapshot.atoms == before
    assert ((before.get_scaled_positions(wrap=False) > -1e-9) & (before.get_scaled_positions(wrap=False) < 1)).all()
    assert (snapshot.time, snapshot.mean_error, snapshot.max_error) == (0.01, 0.1, 0.2)
    assert snapshot.temperature == walker.temperature.at(0.01)
    assert snapshot.density == pytest.approx(density_of(before.numbers, before.get_volume()))
    assert snapshot.atoms.info["start"] == "crystal 0" and not snapshot.atoms.has("momenta")


@pytest.mark.parametrize("farthest", [np.nan, np.inf, 1e9])
def test_lost_atoms_are_noticed(settings_of, crystal, farthest):
    walker = Walker.begin(crystal(), settings_of(), np.random.default_rng(9))
    assert not walker.is_lost(10.0, 200.0)
    assert walker.is_lost(farthest, 200.0)
    walker.has_left = True
    assert walker.is_lost(10.0, 200.0)


@pytest.mark.parametrize("temperature", [np.nan, np.inf, 1e7])
def test_an_exploding_walker_is_lost_although_its_atoms_are_near(settings_of, temperature):
    """1 keV on each atom, what a hole in the repulsion gives within a few steps, is 8 million K."""
    walker = Walker.begin(cloud(8), settings_of(), np.random.default_rng(0))
    assert walker.is_lost(10.0, temperature)


def test_the_share_of_audited_walkers(settings_of, crystal):
    atoms, settings = crystal(), settings_of(audit_share=0.3)
    times = [Walker.begin(atoms, settings, np.random.default_rng(seed)).audit_time for seed in range(1000)]
    drawn = np.array([time for time in times if time is not None])
    # Binomial: 300 ± 14.5; four deviations.
    assert abs(len(drawn) - 300) < 60
    assert drawn.min() >= 0.0 and drawn.max() <= settings.max_time
    # Uniform over the run: the mean of 300 has an error of 0.289/300^½ = 1.7 %.
    assert drawn.mean() == pytest.approx(0.5 * settings.max_time, rel=0.14)


def test_an_audit_is_wanted_once_from_its_time_on(settings_of, crystal):
    walker = Walker.begin(crystal(), settings_of(audit_share=0.999), np.random.default_rng(0))
    walker.audit_time = 0.0105
    assert not walker.wants_audit
    walker.step = 11
    assert walker.wants_audit
    frame = crystal()
    walker.audit = walker.snapshot(frame.positions, frame.cell.array, Check(time=0.011, mean_error=0.0, max_error=0.0))
    assert not walker.wants_audit


def started_with(atoms: Atoms, settings, seed: int = 3, **motion: float) -> Walker:
    atoms.info |= motion
    return Walker.begin(atoms, settings, np.random.default_rng(seed))


def test_a_recoil_comes_on_top_of_the_heat(settings_of, crystal):
    """Of 100 eV in 32 equal atoms at rest, 31/32 are left in the frame in which all are at rest as a whole."""
    settings = settings_of(temperature_start=(1e-9, 1e-9), audit_share=0.5)
    walker = started_with(crystal(size=(2, 2, 2)), settings, recoil=100.0)
    masses, velocities = walker.start.get_masses(), walker.start.get_velocities()
    kinetic = 0.5 * masses * (velocities**2).sum(1)
    assert kinetic.sum() == pytest.approx(100.0 * 31 / 32, rel=1e-5)  # 1e-9 K: 1e-6 of the recoil's speed
    assert np.sort(kinetic)[-2] < 0.2 < 90.0 < kinetic.max()
    np.testing.assert_allclose(masses @ velocities, 0.0, atol=1e-9)
    # All else is what it is without the recoil.
    calm = started_with(crystal(size=(2, 2, 2)), settings)
    same = ("temperature", "density", "seed", "audit_time", "compression", "bias")
    assert all(getattr(calm, name) == getattr(walker, name) for name in same)
    assert walker.start.info == {"start": "crystal 0", "recoil": 100.0}


def test_recoils_go_in_all_directions_from_any_atom(settings_of, crystal):
    settings = settings_of(temperature_start=(1e-9, 1e-9))
    starts = [started_with(crystal(), settings, seed, recoil=10.0).start for seed in range(400)]
    struck = [int(np.square(start.get_velocities()).sum(1).argmax()) for start in starts]
    assert set(struck) == {0, 1, 2, 3}
    directions = np.array([start.get_velocities()[atom] for start, atom in zip(starts, struck, strict=True)])
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    # 400 unit vectors: the mean of each component is 0 ± 0.029, of its square 1/3 ± 0.015; four deviations.
    np.testing.assert_allclose(directions.mean(0), 0.0, atol=0.12)
    np.testing.assert_allclose((directions**2).mean(0), 1 / 3, atol=0.06)


@pytest.mark.parametrize(("energy", "timestep"), [(5.0, 1.0), (100.0, 0.3740), (1000.0, 0.1183)])
def test_a_recoil_goes_a_tenth_of_an_angstrom_per_step_at_most(settings_of, crystal, energy, timestep):
    """100 eV on Al are 0.267 Å/fs; a slow one needs no shorter step than the others."""
    walker = started_with(crystal(size=(3, 3, 3)), settings_of(timestep=1.0, friction=0.02), recoil=energy)
    assert walker.pace.timestep == pytest.approx(timestep, rel=2e-3)
    assert walker.pace.friction == 0.001  # 1/fs: after the 0.2 ps of the collisions, a third of the energy is gone
    assert started_with(crystal(), settings_of(friction=1e-4), recoil=energy).pace.friction == 1e-4


def test_after_the_cascade_a_walker_goes_at_the_usual_pace(settings_of, crystal):
    walker = started_with(crystal(), settings_of(timestep=1.0, friction=0.02, check_interval=7), recoil=100.0)
    short = walker.pace.timestep
    times = []
    for walker.step in range(0, 7 * 1000, 7):
        times.append(walker.time)
        if walker.pace.timestep == 1.0:
            break
    assert 2.0 <= walker.time < 2.0 + 7 * short * 1e-3
    np.testing.assert_allclose(np.diff(times), 7 * short * 1e-3)
    assert (walker.pace.timestep, walker.pace.friction) == (1.0, 0.02)
    end = walker.time
    walker.step += 70
    assert walker.time == pytest.approx(end + 0.07)


def test_the_time_step_of_a_recoil_is_safe(settings_of, crystal):
    """100 eV through hard atoms (effective medium theory of Al): without a heat bath, energy is conserved."""
    walker = started_with(crystal(size=(2, 2, 2)), settings_of(timestep=1.0), recoil=100.0)
    atoms = walker.start
    atoms.calc = EMT()
    dynamics = VelocityVerlet(atoms, walker.pace.timestep * units.fs)
    energies = [atoms.get_total_energy()]
    for _ in range(40):
        dynamics.run(5)
        energies.append(atoms.get_total_energy())
    # In the collisions it is off by less than 0.1 % (0.04 eV of 100 eV seen), a thermal energy of one atom.
    assert np.ptp(energies) < 0.1


def test_the_heat_of_a_recoil_is_no_explosion(settings_of, crystal):
    settings = settings_of(temperature_start=(300.0, 300.0), temperature_end=(300.0, 300.0))
    walker = started_with(crystal(), settings, recoil=500.0)
    velocities = walker.start.get_velocities()
    kinetic_temperature = (27.0 * velocities**2).sum() / (3 * units.kB * len(walker))
    assert kinetic_temperature > 5e5
    assert not walker.is_lost(10.0, kinetic_temperature)
    assert walker.is_lost(10.0, 3 * kinetic_temperature)
    assert started_with(crystal(), settings).is_lost(10.0, kinetic_temperature)


def test_a_compression_is_along_a_periodic_vector(settings_of, crystal):
    settings = settings_of(max_time=2.0)
    axes = set()
    for seed in range(20):
        atoms = crystal()
        atoms.pbc = (True, False, True)
        walker = started_with(atoms, settings, seed, compression=0.2)
        axes.add(walker.axis)
        assert walker.compression is not None
        assert [walker.compression.at(time) for time in (0.0, 1.0, 2.0, 3.0)] == pytest.approx([1.0, 0.9, 0.8, 0.8])
    assert axes == {0, 2}
    cluster = crystal()
    cluster.pbc = False
    assert started_with(cluster, settings, compression=0.2).compression is None
