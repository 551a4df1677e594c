"""Stability: whether a hot run at constant temperature lives to its end."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from ase import Atoms, units
from ase.calculators.calculator import BaseCalculator
from ase.md.langevin import Langevin

from alpot.validation.dynamics import failure_of, set_velocities, time_step_fs
from alpot.validation.properties import Measured, PropertyValue, attached
from alpot.validation.runs import RUN_FAILURES

_FRICTION = 0.01 / units.fs  # thermalises within 0.1 ps
_CHECK_INTERVAL = 10
#: A run this many times hotter than its thermostat has exploded.
_EXPLOSION = 5.0


@dataclass(frozen=True, kw_only=True)
class LangevinRun:
    """How a run went.

    Attributes:
        time_ps: how long it lived.
        mean_temperature: K, over the second half of the time that it lived; NaN where it never was sampled.
        ended_by: why it ended early, or None.
    """

    time_ps: float
    mean_temperature: float
    ended_by: str | None


def run_langevin(
    calculator: BaseCalculator, start: Atoms, temperature: float, rng: np.random.Generator, *, time_ps: float = 20.0
) -> LangevinRun:
    """Run Langevin dynamics until the end, or until an explosion, a collapse, or a value that is not finite.

    Args:
        calculator: any ASE calculator; one of ``RUN_FAILURES`` that it raises on the way ends the run and is recorded.
        start: first positions.
        temperature: of the thermostat, K.
        rng: first velocities and random forces.
        time_ps: length of the run.
    """
    atoms = attached(calculator, start)
    set_velocities(atoms, temperature, rng)
    step_fs = time_step_fs(atoms)
    # fixcm=False: all 3 N degrees of freedom are thermalised, which is the exact ensemble.
    dynamics = Langevin(
        atoms, timestep=step_fs * units.fs, temperature_K=temperature, friction=_FRICTION, fixcm=False, rng=rng
    )
    checks = round(1000 * time_ps / step_fs / _CHECK_INTERVAL)
    temperatures: list[float] = []
    ended_by: str | None = None
    for _ in range(checks):
        try:
            dynamics.run(_CHECK_INTERVAL)
            ended_by = failure_of(atoms, _EXPLOSION * temperature)
        except RUN_FAILURES as error:
            ended_by = f"{type(error).__name__}: {error}"
        if ended_by is not None:
            break
        temperatures.append(float(atoms.get_temperature()))
    late = temperatures[len(temperatures) // 2 :]
    return LangevinRun(
        time_ps=time_ps * len(temperatures) / checks,
        mean_temperature=float(np.mean(late)) if late else float("nan"),
        ended_by=ended_by,
    )


def stability(
    calculator: BaseCalculator, start: Atoms, temperature: float, rng: np.random.Generator, *, time_ps: float = 20.0
) -> Measured:
    """How long a hot run lives, and its temperature; arguments as of :func:`run_langevin`."""
    run = run_langevin(calculator, start, temperature, rng, time_ps=time_ps)
    ended = f"ended after {run.time_ps:.2f} ps: {run.ended_by}" if run.ended_by else None
    return Measured(
        values=(
            PropertyValue(name="Langevin run survived", value=run.time_ps, unit="ps", shortfall=ended),
            PropertyValue(name="Langevin mean temperature", value=run.mean_temperature, unit="K"),
        )
    )
