from __future__ import annotations

import numpy as np
import pytest
from ase import units
from ase.md.langevin import Langevin

from alpot.validation.averages import standard_error
from alpot.validation.dynamics import set_velocities, time_step_fs
from alpot.validation.hot_crystal import hot_crystal
from alpot.validation.lattice import equilibrium
from alpot.validation.properties import attached
from tests.validation.fast_lennard_jones import FastLennardJones

#: Melts at about T* = 0.69.
SIGMA, EPSILON = 2.6, 0.2
MELTING = 0.69 * EPSILON / units.kB


def test_at_the_lattice_constant_that_was_found_there_is_no_pressure() -> None:
    """The independent route: another thermostat at constant volume, and the pressure from the virial."""
    pairs = FastLennardJones(SIGMA, EPSILON)
    crystal = equilibrium(pairs, "Al", "fcc")
    measured = hot_crystal(pairs, crystal, MELTING, np.random.default_rng(0))
    length, expansion = measured.values
    temperature = 300 / 933 * MELTING
    # Rare-gas crystals expand by 4 to 5 % in length until they melt.
    assert 0.02 < 1e-6 * expansion.value * MELTING < 0.08
    assert length.noise is not None and expansion.noise is not None
    assert expansion.noise < 0.1 * expansion.value

    atoms = attached(pairs, crystal.supercell(100))
    atoms.set_cell(atoms.cell.array * length.value / crystal.lattice_constant, scale_atoms=True)
    rng = np.random.default_rng(1)
    set_velocities(atoms, 2 * temperature, rng)
    step = time_step_fs(atoms) * units.fs
    dynamics = Langevin(atoms, step, temperature_K=temperature, friction=0.01 / units.fs, fixcm=False, rng=rng)
    dynamics.run(1000)
    pressures = []
    for _ in range(800):
        dynamics.run(5)
        pressures.append(-atoms.get_stress(include_ideal_gas=True)[:3].mean() / units.GPa)
    # dP = 3 B da/a, B about that at rest: the two runs' errors together, of which both are estimates.
    error = np.hypot(standard_error(pressures), 3 * crystal.bulk_modulus * length.noise / length.value)
    assert np.mean(pressures) == pytest.approx(0.0, abs=3 * error)
    assert error < 0.01 * crystal.bulk_modulus
