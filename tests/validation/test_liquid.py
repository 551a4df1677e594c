from __future__ import annotations

import numpy as np
import pytest
from ase import units
from ase.md.verlet import VelocityVerlet

from alpot.errors import FailureClass, PotentialError, ReferenceError
from alpot.validation.dynamics import set_velocities, time_step_fs
from alpot.validation.lattice import Equilibrium, equilibrium
from alpot.validation.liquid import liquid_properties
from alpot.validation.properties import Measured, PropertyValue, attached
from alpot.validation.runs import at_zero_pressure, melt, run_checked, settle
from tests.validation.fast_emt import FastEMT
from tests.validation.fast_lennard_jones import FastLennardJones

SIGMA, EPSILON = 2.6, 0.2
#: T* = 0.7, a little above melting.
TEMPERATURE = 0.7 * EPSILON / units.kB


@pytest.fixture(scope="module")
def pairs() -> FastLennardJones:
    return FastLennardJones(SIGMA, EPSILON)


@pytest.fixture(scope="module")
def crystal(pairs: FastLennardJones) -> Equilibrium:
    return equilibrium(pairs, "Al", "fcc")


@pytest.fixture(scope="module")
def measured(pairs: FastLennardJones, crystal: Equilibrium) -> Measured:
    return liquid_properties(pairs, crystal, TEMPERATURE, np.random.default_rng(0), time_ps=8.0)


def value(measured: Measured, name: str) -> PropertyValue:
    return next(value for value in measured.values if value.name == f"liquid {name}")


@pytest.mark.slow
def test_density_and_structure_are_those_of_another_thermostat(
    pairs: FastLennardJones, crystal: Equilibrium, measured: Measured
) -> None:
    # The independent route: constant energy at the density that was found; its pressure and diffusion.
    density = value(measured, "density")
    atoms = attached(pairs, crystal.supercell(250))
    volume = atoms.get_masses().sum() * units._amu * 1e27 / density.value
    atoms.set_cell(atoms.cell.array * np.cbrt(volume / atoms.cell.volume), scale_atoms=True)
    rng = np.random.default_rng(1)
    melt(atoms, TEMPERATURE, rng, "test")
    set_velocities(atoms, TEMPERATURE, rng)
    step_fs = time_step_fs(atoms)
    dynamics = VelocityVerlet(atoms, timestep=step_fs * units.fs)
    pressures, temperatures, path = [], [], []

    def sample() -> None:
        pressures.append(-atoms.get_stress(include_ideal_gas=True)[:3].mean())
        temperatures.append(atoms.get_temperature())
        path.append(atoms.positions.copy())

    run_checked(dynamics, atoms, 8.0, "test", temperature=TEMPERATURE, sample=sample, interval=20)
    # Liquids of this kind have a compressibility of some 0.06 σ³/ε (0.9 % of volume per 0.15 ε/σ³).
    assert np.mean(pressures) * SIGMA**3 / EPSILON == pytest.approx(0.0, abs=0.15)
    assert np.mean(temperatures) == pytest.approx(TEMPERATURE, rel=0.05)
    lag = round(1000 / (20 * step_fs))
    moves = np.array(path)
    squares = [((moves[k:] - moves[:-k]) ** 2).sum(axis=2).mean() for k in (lag, 2 * lag)]
    diffusion = 10 * (squares[1] - squares[0]) / 6  # lags of 1 and 2 ps
    found = value(measured, "self-diffusion")
    # 5 % in temperature are 10 % in diffusion; each run has about as much noise.
    assert found.noise is not None
    assert found.value == pytest.approx(diffusion, rel=0.3)


@pytest.mark.slow
def test_the_numbers_are_those_of_a_simple_liquid_near_its_melting_point(measured: Measured) -> None:
    mass = 26.9815385
    density = value(measured, "density").value / (units._amu * 1e27) / mass * SIGMA**3
    # Davidchack and Laird (2003): ρ* = 0.828 in the liquid that coexists at T* = 0.617 (about 0.83 − 0.08 here).
    assert 0.72 < density < 0.82
    reduced_time = SIGMA * np.sqrt(mass / EPSILON) / (1000 * units.fs)  # ps
    diffusion = value(measured, "self-diffusion").value / 10 * reduced_time / SIGMA**2
    # Lennard-Jones liquids near the triple point: D* = 0.03 to 0.06.
    assert 0.025 < diffusion < 0.08
    # g(r) of dense simple liquids: first peak at 1.07 to 1.1 σ, 2.5 to 3 high, twelve to thirteen neighbors below it.
    assert value(measured, "first-neighbor distance").value / SIGMA == pytest.approx(1.085, abs=0.02)
    assert 2.3 < value(measured, "first-peak height").value < 3.1
    assert 11.0 < value(measured, "coordination number").value < 14.0
    (curve,) = measured.curves
    distribution = np.array(curve.lines[curve.name])
    assert distribution[np.array(curve.x) < 0.8 * SIGMA].max() == 0.0
    assert distribution[-20:].mean() == pytest.approx(1.0, abs=0.08)


@pytest.mark.slow
def test_the_noise_of_the_structure_is_that_of_its_blocks(measured: Measured) -> None:
    largest_of = {"first-neighbor distance": 0.01, "first-peak height": 0.03, "coordination number": 0.05}
    for name, largest in largest_of.items():
        found = value(measured, name)
        assert found.noise is not None
        assert 0 < found.noise / found.value < largest, name


def test_at_zero_pressure_atoms_have_the_temperature_that_was_asked_for(
    pairs: FastLennardJones, crystal: Equilibrium
) -> None:
    """Of 32 atoms whose center of mass rests; ASE's temperature counts it, and is lower by 1/32."""
    atoms = attached(pairs, crystal.supercell(30))
    set_velocities(atoms, 2 * 300.0, np.random.default_rng(0))
    dynamics = at_zero_pressure(atoms, 300.0, pressure_fs=300.0)
    dynamics.run(500)
    found = []
    for _ in range(1000):
        dynamics.run(5)
        found.append(atoms.get_temperature())
    assert np.abs(atoms.get_momenta().sum(axis=0)).max() < 1e-6
    # Ten picoseconds know the mean to a per cent; half of 1/32.
    assert np.mean(found) * 32 / 31 == pytest.approx(300.0, rel=0.5 / 32)


def test_a_crystal_far_below_its_melting_point_is_no_liquid(pairs: FastLennardJones, crystal: Equilibrium) -> None:
    with pytest.raises(PotentialError, match=r"liquid Al at 464 K is not a liquid: within .* it froze"):
        liquid_properties(pairs, crystal, 464.0, np.random.default_rng(0), minimum_atoms=100, time_ps=3.0)


def test_a_run_that_explodes_says_when_and_why(crystal: Equilibrium) -> None:
    class Exploding(FastLennardJones):
        calls = 0

        def calculate(self, *args: object, **kwargs: object) -> None:
            super().calculate(*args, **kwargs)
            self.calls += 1
            if self.calls > 900:
                self.results["forces"] = 50 * self.results["forces"]

    with pytest.raises(PotentialError, match=r"the run of liquid Al at 1625 K failed after .* ps: "):
        liquid_properties(
            Exploding(SIGMA, EPSILON), crystal, TEMPERATURE, np.random.default_rng(0), minimum_atoms=30, time_ps=1.0
        )


def test_a_calculator_that_raises_is_quoted(crystal: Equilibrium) -> None:
    class Failing(FastLennardJones):
        def calculate(self, *args: object, **kwargs: object) -> None:
            raise RuntimeError("no convergence")

    with pytest.raises(PotentialError, match="RuntimeError: no convergence"):
        liquid_properties(Failing(SIGMA, EPSILON), crystal, TEMPERATURE, np.random.default_rng(0), minimum_atoms=30)


def test_a_liquid_above_its_boiling_point_evaporates(pairs: FastLennardJones, crystal: Equilibrium) -> None:
    with pytest.raises(PotentialError, match="it evaporates"):
        liquid_properties(pairs, crystal, 3 * TEMPERATURE, np.random.default_rng(0), minimum_atoms=100, time_ps=5.0)


def test_a_program_that_is_missing_is_not_told_as_a_run_that_failed(crystal: Equilibrium) -> None:
    class Missing(FastLennardJones):
        def calculate(self, *args: object, **kwargs: object) -> None:
            raise ReferenceError("pw.x is not installed", failure=FailureClass.MISSING_PROGRAM)

    with pytest.raises(ReferenceError, match=r"pw\.x is not installed"):
        liquid_properties(Missing(SIGMA, EPSILON), crystal, TEMPERATURE, np.random.default_rng(0), minimum_atoms=30)


@pytest.mark.slow
def test_density_is_converged_with_the_size_of_the_cell() -> None:
    crystal = equilibrium(FastEMT(), "Al", "fcc")
    found = {
        atoms: liquid_properties(FastEMT(), crystal, 1026.0, np.random.default_rng(2), minimum_atoms=atoms, time_ps=5.0)
        for atoms in (250, 500)
    }
    small, large = (value(measured, "density").value for measured in found.values())
    # Half of a per cent: the noise of 5 ps, and far below the 2 % that density-functional codes differ by.
    assert small == pytest.approx(large, rel=0.007)
    peaks = [value(measured, "first-neighbor distance").value for measured in found.values()]
    assert peaks[0] == pytest.approx(peaks[1], abs=0.03)


def test_settling_leaves_atoms_at_zero_pressure(fcc_aluminum: Equilibrium) -> None:
    atoms = attached(FastEMT(), fcc_aluminum.supercell(30))
    atoms.set_cell(atoms.cell.array * 0.97, scale_atoms=True)
    set_velocities(atoms, 600.0, np.random.default_rng(0))
    before = atoms.get_stress(include_ideal_gas=True)[:3]
    settle(atoms, 300.0, fcc_aluminum.bulk_modulus, 2.0, "test")
    after = atoms.get_stress(include_ideal_gas=True)[:3]
    # What is left is the fluctuation of 32 atoms' pressure, one GPa.
    assert np.abs(after.mean()) < 0.3 * np.abs(before.mean())
