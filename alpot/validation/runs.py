"""Stretches of molecular dynamics that do not fail in silence: each is looked at on the way."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from ase import Atoms, units
from ase.constraints import FixAtoms
from ase.md.langevin import Langevin
from ase.md.md import MolecularDynamics
from ase.md.nose_hoover_chain import IsotropicMTKNPT
from ase.md.nptberendsen import Inhomogeneous_NPTBerendsen

from alpot.errors import PotentialError
from alpot.validation.dynamics import failure_of, set_velocities, time_step_fs
from alpot.validation.outcome import FINDINGS

#: What calculators raise in the wild configurations of a run that goes wrong (LinAlgError is a ValueError). The user's
#: mistakes, failures of files, programs and memory are none of these, and pass.
RUN_FAILURES = (*FINDINGS, ValueError, ArithmeticError, RuntimeError)

#: Steps between two looks, each of which costs as much as a few steps.
_CHECK_INTERVAL = 200
_SAMPLE_INTERVAL = 50
#: A run this many times hotter than it should be has exploded; one that fills this many times the volume at its start
#: has boiled.
_EXPLOSION = 6.0
_BOILING = 2.0

#: Liquids this many times hotter than melting lose all memory of the crystal within a picosecond.
_MELTING_RUN = 3.0
_MELTING_PS, _COOLING_PS = 1.0, 0.5
_FRICTION = 0.02 / units.fs
#: Time constants of the coupling that brings a system to its temperature, beyond a vibration, and of the weak one that
#: brings it to its volume.
_TEMPERATURE_FS, _PRESSURE_FS = 100.0, 300.0


def run_checked(
    dynamics: MolecularDynamics,
    atoms: Atoms,
    time_ps: float,
    what: str,
    *,
    temperature: float,
    sample: Callable[[], None] | None = None,
    interval: int = _SAMPLE_INTERVAL,
) -> None:
    """Run, and look at the atoms on the way.

    Args:
        dynamics: of ``atoms``.
        atoms: which move.
        time_ps: length of the run.
        what: for the error, such as "liquid Al at 1026 K".
        temperature: K, about that of the run; the limit of what is physical is a multiple.
        sample: called every ``interval`` steps.
        interval: steps.

    Raises:
        PotentialError: the run has exploded, boiled, or met values that are not finite; or the calculator raised one of
            ``RUN_FAILURES``.
    """
    step_ps = dynamics.dt / (1000 * units.fs)
    volume = atoms.cell.volume
    for _ in range(round(time_ps / step_ps / interval)):
        failure = None
        try:
            dynamics.run(interval)
            if dynamics.nsteps % _CHECK_INTERVAL < interval:
                failure = failure_of(atoms, _EXPLOSION * temperature)
        except RUN_FAILURES as error:
            raise PotentialError(
                f"the run of {what} ended after {dynamics.nsteps * step_ps:.2f} ps: {type(error).__name__}: {error}"
            ) from error
        if not atoms.cell.volume < _BOILING * volume:
            failure = f"its volume grew from {volume:.0f} to {atoms.cell.volume:.0f} Å³: it evaporates"
        if failure is not None:
            raise PotentialError(f"the run of {what} failed after {dynamics.nsteps * step_ps:.2f} ps: {failure}")
        if sample is not None:
            sample()


def melt(atoms: Atoms, temperature: float, rng: np.random.Generator, what: str) -> None:
    """Make a liquid of all atoms that are not fixed, in place and at constant volume; it ends at ``temperature`` (K).

    Args:
        atoms: with a calculator; the cell should have some room, a tenth of the crystal's volume.
        temperature: K.
        rng: first velocities and random forces.
        what: for the error.

    Raises:
        PotentialError: the run fails.
    """
    set_velocities(atoms, 2 * _MELTING_RUN * temperature, rng)
    for factor, time_ps in ((_MELTING_RUN, _MELTING_PS), (1.0, _COOLING_PS)):
        dynamics = Langevin(
            atoms,
            timestep=time_step_fs(atoms) * units.fs,
            temperature_K=factor * temperature,
            friction=_FRICTION,
            fixcm=False,
            rng=rng,
        )
        run_checked(dynamics, atoms, time_ps, what, temperature=2 * _MELTING_RUN * temperature)


def settle(
    atoms: Atoms,
    temperature: float,
    bulk_modulus: float,
    time_ps: float,
    what: str,
    *,
    sample: Callable[[], None] | None = None,
    interval: int = _SAMPLE_INTERVAL,
) -> None:
    """Bring atoms that move to their volume at a temperature and zero pressure, in place; edges relax one by one.

    Weak coupling (Berendsen et al., J. Chem. Phys. 81, 3684 (1984)) cannot oscillate, however far the start is from
    equilibrium. Averages of temperature and volume are right, fluctuations are not.

    Args:
        atoms: with a calculator and velocities, in a right-angled cell.
        temperature: K.
        bulk_modulus: GPa, roughly.
        time_ps: length of the run.
        what: for the error.
        sample, interval: as in :func:`run_checked`.

    Raises:
        PotentialError: the run fails.
    """
    dynamics = Inhomogeneous_NPTBerendsen(
        atoms,
        timestep=time_step_fs(atoms) * units.fs,
        temperature_K=temperature,
        pressure_au=0.0,
        taut=_TEMPERATURE_FS * units.fs,
        taup=_PRESSURE_FS * units.fs,
        compressibility_au=1 / (bulk_modulus * units.GPa),
    )
    run_checked(dynamics, atoms, time_ps, what, temperature=2 * temperature, sample=sample, interval=interval)


def at_zero_pressure(atoms: Atoms, temperature: float, *, pressure_fs: float) -> IsotropicMTKNPT:
    """Dynamics at constant temperature and zero pressure, the shape of the cell kept, with right fluctuations.

    By the equations of Martyna, Tobias and Klein, J. Chem. Phys. 101, 4177 (1994).

    Args:
        atoms: with a calculator that has stress, and velocities, at rest as a whole.
        temperature: K, of the 3 N − 3 degrees of freedom of atoms whose center of mass rests.
        pressure_fs: damping time of the barostat, beyond that of a sound wave through the cell.
    """
    # ASE's thermostat counts 3 N degrees of freedom, three of which are at rest: it would give the others too much.
    counted = temperature * (len(atoms) - 1) / len(atoms)
    return IsotropicMTKNPT(
        atoms,
        timestep=time_step_fs(atoms) * units.fs,
        temperature_K=counted,
        pressure_au=0.0,
        tdamp=_TEMPERATURE_FS * units.fs,
        pdamp=pressure_fs * units.fs,
    )


def hold(atoms: Atoms, fixed: np.ndarray) -> None:
    """Fix the atoms that ``fixed`` (n_atoms,) marks; their velocities become zero."""
    atoms.set_constraint(FixAtoms(mask=fixed))
    atoms.set_momenta(atoms.get_momenta())
