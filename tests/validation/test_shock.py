from __future__ import annotations

import numpy as np
import pytest
from ase.units import GPa

from alpot.errors import PotentialError
from alpot.validation.lattice import Equilibrium, equilibrium
from alpot.validation.properties import Measured, attached
from alpot.validation.shock import _temperature, shock
from tests.validation.fast_emt import FastEMT
from tests.validation.fast_lennard_jones import FastLennardJones

#: By how much the edges of EMT's aluminum are longer at 300 K than at rest.
EXPANSION = 1.0083
#: km/s.
VELOCITIES = (1.0, 1.5, 2.0)


def values(measured: Measured) -> dict[str, float]:
    return {value.name.removeprefix("shock "): value.value for value in measured.values}


@pytest.fixture(scope="module")
def shocks(fcc_aluminum: Equilibrium) -> dict[float, Measured]:
    return {
        velocity: shock(FastEMT(), fcc_aluminum, np.random.default_rng(3), piston_velocity=velocity, minimum_atoms=800)
        for velocity in VELOCITIES
    }


@pytest.mark.slow
@pytest.mark.parametrize("velocity", VELOCITIES)
def test_mass_and_momentum_are_conserved_across_the_front(
    shocks: dict[float, Measured], fcc_aluminum: Equilibrium, velocity: float
) -> None:
    # Velocity, compression and pressure are measured independently of each other.
    found = values(shocks[velocity])
    # Distances of layers are known to a tenth of a percent.
    assert found["compression"] == pytest.approx(found["velocity"] / (found["velocity"] - velocity), rel=0.015)
    # The force on the wall rings by some 6 %.
    density = 26.98 / EXPANSION**3 * 1.66054 / fcc_aluminum.volume  # g/cm³; times km²/s² it is GPa
    assert found["pressure"] == pytest.approx(density * found["velocity"] * velocity, rel=0.06)
    assert shocks[velocity].remarks == ()


@pytest.mark.slow
def test_shock_velocity_is_linear_in_the_velocity_of_the_piston(shocks: dict[float, Measured]) -> None:
    found = [values(measured)["velocity"] for measured in shocks.values()]
    (slope, _), residuals, *_ = np.polyfit(VELOCITIES, found, 1, full=True)
    # s of U_s = c + s u_p lies between 1.2 and 1.6 for most metals (Marsh, LASL Shock Hugoniot Data, 1980).
    assert np.sqrt(residuals[0] / 3) < 0.05
    assert 1.0 < slope < 1.7


@pytest.mark.slow
@pytest.mark.parametrize("velocity", VELOCITIES)
def test_pressure_is_the_static_stress_of_the_compressed_crystal_and_that_of_its_heat(
    shocks: dict[float, Measured], fcc_aluminum: Equilibrium, velocity: float
) -> None:
    found = values(shocks[velocity])

    def static_pressure(compression: float) -> float:
        atoms = attached(FastEMT(), fcc_aluminum.supercell(100))
        atoms.set_cell(atoms.cell.array * EXPANSION / [[1], [1], [compression]], scale_atoms=True)
        return float(-atoms.get_stress()[2] / GPa)

    # At 300 K, thermal pressure holds the expanded crystal against its static tension; it grows with the temperature.
    thermal = -static_pressure(1.0) * found["temperature"] / 300
    # The Grüneisen parameter of the compressed crystal may differ by half: some 5 % of the pressure.
    assert found["pressure"] == pytest.approx(static_pressure(found["compression"]) + thermal, rel=0.08)


@pytest.mark.slow
def test_a_shock_heats_and_leaves_the_crystal_ahead_of_it_alone(shocks: dict[float, Measured]) -> None:
    temperatures = [values(measured)["temperature"] for measured in shocks.values()]
    assert temperatures == sorted(temperatures)
    assert temperatures[0] > 320
    (curve,) = shocks[1.5].curves
    velocity = np.array(curve.lines[curve.name])
    assert velocity[3:15].mean() == pytest.approx(1.5, abs=0.05)
    # A layer of 18 atoms at 300 K moves by 0.07 km/s to and fro.
    assert velocity[-3:].mean() == pytest.approx(0.0, abs=0.2)


def test_the_verdict_of_an_ensemble_is_the_bound_on_the_errors_of_the_shocked_atoms(fcc_aluminum: Equilibrium) -> None:
    class Ensemble(FastEMT):
        def calculate(self, *args: object, **kwargs: object) -> None:
            super().calculate(*args, **kwargs)
            self.results["forces_bound"] = np.full(len(self.results["forces"]), 0.6)

    measured = shock(
        FastEMT(),
        fcc_aluminum,
        np.random.default_rng(0),
        piston_velocity=1.4,
        minimum_atoms=500,
        uncertainty=Ensemble(),
    )
    found = values(measured)
    assert found["force error bound, mean"] == pytest.approx(0.6)
    assert found["force error bound, largest"] == pytest.approx(0.6)
    assert measured.remarks[-1].startswith("100 % of the ")
    assert measured.remarks[-1].endswith("may have a force error above 0.5 eV/Å, by the potential's own bound.")


@pytest.mark.slow
def test_averages_over_the_run_have_an_error(shocks: dict[float, Measured]) -> None:
    for measured in shocks.values():
        noise = {value.name.removeprefix("shock "): value.noise for value in measured.values}
        found = values(measured)
        # Per cent; temperature, of some hundred atoms, and the pressure of a wall that rings, are the noisiest.
        for name in ("velocity", "pressure", "compression", "temperature"):
            assert noise[name] is not None
            assert 1e-4 < noise[name] / found[name] < 0.06, name


@pytest.mark.slow
def test_the_noise_is_that_of_other_random_numbers(fcc_aluminum: Equilibrium) -> None:
    runs = [shock(FastEMT(), fcc_aluminum, np.random.default_rng(seed), minimum_atoms=300) for seed in range(6)]
    for number in (1, 2, 3):
        each = [run.values[number] for run in runs]
        scatter = np.std([value.value for value in each], ddof=1)
        told = np.mean([value.noise for value in each])
        # Six runs know their scatter to a third; what one short run can tell of its own is good to a factor of three.
        assert 1 / 3 < told / scatter < 3, each[0].name


def test_soft_elements_begin_as_crystals() -> None:
    assert {name: _temperature(name) for name in ("Al", "C")} == {"Al": 300.0, "C": 300.0}
    assert _temperature("Ar") == pytest.approx(0.6 * 84)
    argon = FastLennardJones(3.4, 0.0104)
    crystal = equilibrium(argon, "Ar", "fcc")
    measured = shock(argon, crystal, np.random.default_rng(0), piston_velocity=0.5, minimum_atoms=500)
    found = values(measured)
    assert found["compression"] == pytest.approx(found["velocity"] / (found["velocity"] - 0.5), rel=0.02)
    assert 60 < found["temperature"] < 300


def test_a_melt_ahead_of_the_front_is_refused() -> None:
    # At 300 K k_B T is 1.1 ε; these crystals melt at 0.7 ε.
    soft = FastLennardJones(2.6, 0.024)
    with pytest.raises(PotentialError, match=r"atoms ahead of the front have lost the order of the crystal at 300 K"):
        shock(soft, equilibrium(soft, "Al", "fcc"), np.random.default_rng(0), minimum_atoms=500)


def test_what_the_function_is_given_stays_as_it_is_and_the_seed_decides(fcc_aluminum: Equilibrium) -> None:
    calculator = FastEMT()
    first, second = (
        values(shock(calculator, fcc_aluminum, np.random.default_rng(5), minimum_atoms=300)) for _ in range(2)
    )
    assert first == second


def test_a_crystal_that_does_not_resist_has_no_front(fcc_aluminum: Equilibrium) -> None:
    class Ghost(FastEMT):
        def calculate(self, *args: object, **kwargs: object) -> None:
            super().calculate(*args, **kwargs)
            self.results["forces"] = np.zeros_like(self.results["forces"])
            self.results["stress"] = np.zeros(6)

    with pytest.raises(PotentialError, match=r"shock of 1\.0 km/s in Al"):
        shock(Ghost(), fcc_aluminum, np.random.default_rng(0), minimum_atoms=300)
