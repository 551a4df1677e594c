from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms
from ase.calculators.emt import EMT

from alpot.errors import NonFiniteError
from alpot.validation.crystals import build_supercell
from alpot.validation.dynamics import time_step_fs
from alpot.validation.lattice import Equilibrium
from alpot.validation.nve import energy_drift


@pytest.fixture
def crystal(fcc_aluminum: Equilibrium) -> Atoms:
    return build_supercell("Al", "fcc", fcc_aluminum.volume, 30)


def test_emt_conserves_energy_and_the_start_is_left_alone(crystal: Atoms) -> None:
    before = crystal.copy()
    drift = energy_drift(EMT(), crystal, 600.0, np.random.default_rng(0), time_ps=0.8).values[0]
    # The slope of a short run still carries the oscillation of the integrator, some hundredths of a meV.
    assert drift.value < 0.1
    assert drift.unit == "meV/atom"
    assert crystal == before
    assert crystal.calc is None


def test_a_known_drift_is_found(einstein: EMT, crystal: Atoms) -> None:
    ramp = 0.002  # eV that the energy gains in each step

    class Leaking(type(einstein)):
        calls = 0

        def calculate(self, *args: object, **kwargs: object) -> None:
            super().calculate(*args, **kwargs)
            self.calls += 1
            self.results["energy"] += ramp * self.calls

    time_ps = 4.0
    steps = 1000 * time_ps / time_step_fs(crystal)
    drift = energy_drift(Leaking(), crystal, 300.0, np.random.default_rng(0), time_ps=time_ps).values[0]
    # The integrator's own bounded oscillation is below 1 % of this drift.
    assert drift.value == pytest.approx(1000 * ramp * steps / len(crystal), rel=0.01)


def test_a_run_that_is_lost_is_named(einstein: EMT, crystal: Atoms) -> None:
    class Lost(type(einstein)):
        def calculate(self, *args: object, **kwargs: object) -> None:
            super().calculate(*args, **kwargs)
            self.results["energy"] = np.nan

    with pytest.raises(NonFiniteError, match="total energy was nan after"):
        energy_drift(Lost(), crystal, 300.0, np.random.default_rng(0), time_ps=0.2)
