"""Conservation of energy: the drift of a microcanonical run, which shows forces that are not those of the energy."""

from __future__ import annotations

import numpy as np
from ase import Atoms, units
from ase.calculators.calculator import BaseCalculator
from ase.md.verlet import VelocityVerlet

from alpot.errors import NonFiniteError
from alpot.validation.dynamics import set_velocities, time_step_fs
from alpot.validation.properties import Measured, PropertyValue, attached

_SAMPLE_INTERVAL = 10


def energy_drift(
    calculator: BaseCalculator, start: Atoms, temperature: float, rng: np.random.Generator, *, time_ps: float = 10.0
) -> Measured:
    """How far the total energy drifts in a run, meV/atom: the slope of a straight line through it, times the time.

    The bounded oscillation of a symplectic integrator averages out.

    Args:
        calculator: any ASE calculator.
        start: a crystal with atoms at their sites, so that half of the kinetic energy becomes potential.
        temperature: K, about the mean of the run.
        rng: first velocities.
        time_ps: length of the run.

    Raises:
        NonFiniteError: the total energy became NaN or infinite.
    """
    atoms = attached(calculator, start)
    set_velocities(atoms, 2 * temperature, rng)
    step_fs = time_step_fs(atoms)
    dynamics = VelocityVerlet(atoms, timestep=step_fs * units.fs)
    times, energies = [], []
    for sample in range(round(1000 * time_ps / step_fs / _SAMPLE_INTERVAL)):
        dynamics.run(_SAMPLE_INTERVAL)
        times.append((sample + 1) * _SAMPLE_INTERVAL * step_fs / 1000)
        energies.append(1000 * atoms.get_total_energy() / len(atoms))
        if not np.isfinite(energies[-1]):
            raise NonFiniteError(f"the total energy was {energies[-1]} after {times[-1]:.2f} ps at {temperature:.0f} K")
    slope = np.polynomial.polynomial.polyfit(times, energies, 1)[1]
    drift = PropertyValue(name="NVE energy drift", value=float(abs(slope) * time_ps), unit="meV/atom")
    return Measured(values=(drift,))
