"""Melting point: the temperature at which crystal and liquid, side by side in one box, keep each other."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from ase import Atoms, units
from ase.calculators.calculator import BaseCalculator
from ase.md.melchionna import MelchionnaNPT
from numpy.typing import NDArray

from alpot.errors import PotentialError
from alpot.validation.averages import standard_error
from alpot.validation.bars import build_bar
from alpot.validation.crystallinity import crystalline_share, lateral_wave_vectors
from alpot.validation.dynamics import set_velocities, time_step_fs
from alpot.validation.lattice import Equilibrium
from alpot.validation.melting import melting_temperature
from alpot.validation.properties import Curve, Measured, PropertyValue, attached
from alpot.validation.runs import hold, melt, run_checked, settle

#: Length of the box in units of its width.
_ELONGATION = 3.0
#: The crystal takes its volume at this share of the temperature: it must not melt if the guess is too high.
_SOLID_TEMPERATURE = 0.85
_SOLID_PS, _SETTLING_PS = 1.5, 1.2
#: Room that is given to the half that melts; metals need half of it, rare gases all.
_LIQUID_EXPANSION = 1.12
#: Period of the box's breathing.
_BOX_FS = 300.0
_SAMPLE_INTERVAL = 25
#: Shares of crystal beyond which a phase counts as lost: less than two layers of it are left.
_ONE_PHASE = (0.12, 0.88)
#: Between two looks at whether a phase is used up.
_LOOK_PS = 1.0
#: A run that has not settled is continued, at most so often.
_PERIODS = 4
#: Corrections of the starting temperature before giving up; one that is wrong by half its value needs two or three.
_ATTEMPTS = 6
#: Two halves of a settled run agree within so many standard errors.
_AGREEMENT = 2.0


@dataclass(frozen=True, kw_only=True)
class _Run:
    """What was sampled at equal intervals after the start.

    Attributes:
        interval_ps: between samples.
        temperatures: (n_samples,) K.
        shares: (n_samples,) of layers that are crystalline.
    """

    interval_ps: float
    temperatures: NDArray[np.float64]
    shares: NDArray[np.float64]


def melting_point(
    calculator: BaseCalculator,
    crystal: Equilibrium,
    rng: np.random.Generator,
    *,
    guess: float | None = None,
    minimum_atoms: int = 600,
    settling_ps: float = 10.0,
    time_ps: float = 20.0,
) -> Measured:
    """Melting temperature at zero pressure, from the coexistence of crystal and liquid at constant enthalpy.

    Morris and Song, J. Chem. Phys. 116, 9352 (2002): half of a long box is melted, and the whole is left to itself at
    constant enthalpy and zero pressure, its three edges free (equations of Melchionna et al., Mol. Phys. 78, 533
    (1993), without thermostat). Too hot, and crystal melts, which takes up heat; too cold, and liquid freezes, which
    gives it: the temperature goes to the melting point by itself, within some ten picoseconds for a metal. Where one
    phase is used up before, the temperature that was reached is a better guess, and everything begins again with it.

    The interface is normal to the long axis, [001] of the conventional cell (the c axis of hcp). The first
    ``settling_ps`` do not count; the run goes on in periods of ``time_ps`` until the two halves of the last period
    agree.

    Args:
        calculator: any ASE calculator with stress.
        crystal: at equilibrium according to the same calculator.
        rng: first velocities and random forces.
        guess: temperature in K of the first start; by default the experimental melting temperature.
        minimum_atoms: the box has at least so many.
        settling_ps: of a run that do not count.
        time_ps: period over which the temperature is averaged.

    Raises:
        PotentialError: a run fails; or one phase was used up in every attempt; or no first guess is known.
    """
    temperature = melting_temperature([crystal.element]) if guess is None else guess
    remarks: list[str] = []
    reached: dict[str, float] = {}
    for _ in range(_ATTEMPTS):
        box = build_bar(crystal.supercell(1), minimum_atoms, _ELONGATION)
        atoms = _half_melted(calculator, box, crystal, temperature, rng)
        run, settled = _coexist(atoms, crystal, temperature, settling_ps, time_ps, lateral_wave_vectors(box))
        phase = _only_phase(run)
        if phase is None:
            return _measured(run, crystal, settled, time_ps, len(atoms), remarks)
        reached[phase] = float(run.temperatures[-max(1, round(1 / run.interval_ps)) :].mean())
        # Latent heat drives each run towards the melting point; once from both sides, it lies between.
        better = float(np.mean(list(reached.values())))
        remarks.append(
            f"A start at {temperature:.0f} K became all {phase} after {len(run.shares) * run.interval_ps:.0f} ps and"
            f" was repeated at {better:.0f} K."
        )
        temperature = better
    raise PotentialError(
        f"crystal and liquid {crystal.element} did not stay side by side in {_ATTEMPTS} attempts. {' '.join(remarks)}"
        " More atoms keep a phase longer"
    )


def _half_melted(
    calculator: BaseCalculator, box: Atoms, crystal: Equilibrium, temperature: float, rng: np.random.Generator
) -> Atoms:
    """The box, its upper half liquid, both halves at the temperature (K) and the whole at zero pressure."""
    what = f"crystal and liquid {crystal.element} started at {temperature:.0f} K"
    atoms = attached(calculator, box)
    upper = atoms.positions[:, 2] > (0.5 - 1e-6) * atoms.cell[2, 2]
    set_velocities(atoms, 2 * _SOLID_TEMPERATURE * temperature, rng)
    settle(atoms, _SOLID_TEMPERATURE * temperature, crystal.bulk_modulus, _SOLID_PS, what)
    solid_momenta = atoms.get_momenta()[~upper]

    middle = atoms.cell[2, 2] / 2
    atoms.positions[upper, 2] = middle + (atoms.positions[upper, 2] - middle) * _LIQUID_EXPANSION
    atoms.set_cell(atoms.cell.array * [[1], [1], [(1 + _LIQUID_EXPANSION) / 2]])
    hold(atoms, ~upper)
    melt(atoms, temperature, rng, what)
    atoms.set_constraint()
    momenta = atoms.get_momenta()
    momenta[~upper] = solid_momenta
    atoms.set_momenta(momenta)
    settle(atoms, temperature, crystal.bulk_modulus, _SETTLING_PS, what)
    return atoms


def _coexist(
    atoms: Atoms,
    crystal: Equilibrium,
    start: float,
    settling_ps: float,
    time_ps: float,
    wave_vectors: NDArray[np.int64],
) -> tuple[_Run, bool]:
    """Run at constant enthalpy until the temperature has settled or one phase is used up; all samples, and if so."""
    what = f"crystal and liquid {crystal.element} started at {start:.0f} K"
    step_fs = time_step_fs(atoms)
    interval_ps = step_fs * _SAMPLE_INTERVAL / 1000
    atoms.set_momenta(atoms.get_momenta() - atoms.get_momenta().mean(axis=0))
    dynamics = MelchionnaNPT(
        atoms,
        timestep=step_fs * units.fs,
        temperature_K=start,
        externalstress=0.0,
        ttime=None,
        pfactor=(_BOX_FS * units.fs) ** 2 * crystal.bulk_modulus * units.GPa,
        mask=np.eye(3),
    )
    temperatures: list[float] = []
    shares: list[float] = []

    def sample() -> None:
        # The center of mass is at rest: 3 N − 3 degrees of freedom.
        temperatures.append(atoms.get_temperature() * len(atoms) / (len(atoms) - 1))
        shares.append(crystalline_share(atoms, wave_vectors))

    def run() -> _Run:
        return _Run(interval_ps=interval_ps, temperatures=np.array(temperatures), shares=np.array(shares))

    for period in range(_PERIODS + 1):
        while len(shares) * interval_ps < settling_ps + period * time_ps:
            run_checked(dynamics, atoms, _LOOK_PS, what, temperature=start, sample=sample, interval=_SAMPLE_INTERVAL)
            if _only_phase(run()) is not None:
                return run(), False
        if period and _has_settled(_last(run(), time_ps)):
            return run(), True
    return run(), False


def _only_phase(run: _Run) -> str | None:
    """The phase that has used up the other, or None; judged on the last half picosecond."""
    share = run.shares[-max(1, round(0.5 / run.interval_ps)) :].mean()
    return "liquid" if share < _ONE_PHASE[0] else "crystal" if share > _ONE_PHASE[1] else None


def _last(run: _Run, time_ps: float) -> NDArray[np.float64]:
    return run.temperatures[-round(time_ps / run.interval_ps) :]


def _has_settled(temperatures: NDArray[np.float64]) -> bool:
    first, second = np.array_split(temperatures, 2)
    error = np.hypot(standard_error(first), standard_error(second))
    return abs(float(first.mean() - second.mean())) < _AGREEMENT * error


def _error(temperatures: NDArray[np.float64]) -> float:
    """Standard error of the mean; the interface moves so slowly that halves of a run may differ by more than chance."""
    first, second = np.array_split(temperatures, 2)
    return float(np.hypot(standard_error(temperatures), (first.mean() - second.mean()) / 2))


def _measured(
    run: _Run, crystal: Equilibrium, settled: bool, time_ps: float, atoms: int, remarks: list[str]
) -> Measured:
    counted = _last(run, time_ps)
    times = (np.arange(len(run.temperatures)) + 1) * run.interval_ps
    return Measured(
        values=(
            PropertyValue(
                name="melting point",
                value=float(counted.mean()),
                unit="K",
                noise=_error(counted),
                shortfall=None if settled else f"the temperature still drifted after {times[-1]:.0f} ps",
            ),
        ),
        curves=(
            Curve(
                name="coexistence temperature",
                x_label="time (ps)",
                y_label="temperature (K)",
                x=tuple(times.tolist()),
                lines={"coexistence temperature": tuple(run.temperatures.tolist())},
            ),
        ),
        remarks=(
            *remarks,
            f"{crystal.structure} {crystal.element} and its liquid stood side by side in a box of {atoms} atoms, on"
            f" average {100 * run.shares[-len(counted) :].mean():.0f} % of it crystal.",
        ),
    )
