from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms
from ase.calculators.calculator import Calculator

from alpot.errors import FailureClass, ReferenceError, UsageError
from alpot.validation.crystals import build_supercell
from alpot.validation.langevin import run_langevin
from alpot.validation.lattice import Equilibrium


@pytest.fixture
def crystal(fcc_aluminum: Equilibrium) -> Atoms:
    return build_supercell("Al", "fcc", fcc_aluminum.volume, 100)


def test_oscillators_take_the_temperature_of_the_thermostat(einstein: Calculator, crystal: Atoms) -> None:
    before = crystal.copy()
    run = run_langevin(einstein, crystal, 400.0, np.random.default_rng(3), time_ps=5.0)
    assert run.ended_by is None
    assert run.time_ps == 5.0
    # 324 momenta that forget themselves every 0.1 ps, over 2.5 ps: a standard error of 2 %.
    assert run.mean_temperature == pytest.approx(400.0, rel=0.06)
    assert crystal == before
    assert crystal.calc is None


def test_ends_are_found_and_named(einstein: Calculator, crystal: Atoms) -> None:
    class Ending(type(einstein)):
        """Harmonic for 50 calls, then something else."""

        def __init__(self, scale: float) -> None:
            super().__init__()
            self.scale, self.calls = scale, 0

        def calculate(self, *args: object, **kwargs: object) -> None:
            super().calculate(*args, **kwargs)
            self.calls += 1
            if self.calls > 50:
                if self.scale == 0:
                    raise RuntimeError("the code crashed")
                self.results["forces"] = self.scale * self.results["forces"]

    for scale, reason in (
        (-50.0, "temperature reached"),  # repelled from the sites: an explosion
        (float("nan"), "not finite"),
        (0.0, "RuntimeError: the code crashed"),
    ):
        run = run_langevin(Ending(scale), crystal, 400.0, np.random.default_rng(3), time_ps=1.0)
        assert reason in str(run.ended_by)
        assert 0.08 <= run.time_ps < 0.5  # 50 calls are 0.1 ps


@pytest.mark.parametrize(
    "error",
    [
        UsageError("no such model"),
        OSError("disk full"),
        MemoryError("no more"),
        ReferenceError("pw.x is not installed", failure=FailureClass.MISSING_PROGRAM),
    ],
)
def test_what_is_no_fault_of_the_potential_is_no_end_of_a_run(crystal: Atoms, error: Exception) -> None:
    class Broken(Calculator):
        implemented_properties: list[str] = ["energy", "forces"]  # noqa: RUF012

        def calculate(self, *args: object, **kwargs: object) -> None:
            raise error

    with pytest.raises(type(error)) as raised:
        run_langevin(Broken(), crystal, 400.0, np.random.default_rng(3), time_ps=0.1)
    assert raised.value is error


def test_a_collapse_is_found(crystal: Atoms) -> None:
    class Gravity(Calculator):
        """All atoms are drawn to the first one and pass through each other."""

        implemented_properties: list[str] = ["energy", "forces"]  # noqa: RUF012

        def calculate(self, *args: object, **kwargs: object) -> None:
            super().calculate(*args, **kwargs)
            towards = self.atoms.positions[0] - self.atoms.positions
            self.results = {"energy": 0.0, "forces": 0.02 * towards}

    run = run_langevin(Gravity(), crystal, 3000.0, np.random.default_rng(3), time_ps=5.0)
    assert "two atoms came within" in str(run.ended_by)
