"""What is measured of a potential: errors on the hidden bench, stability of molecular dynamics, properties."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.calculator import BaseCalculator
from numpy.typing import NDArray

from active_learning.frames import in_groups
from active_learning.plan import Plan
from active_learning.walking import Walk, walk_together
from alpot.config import Exploration
from alpot.errors import AlpotError
from alpot.exploration.explorer import Ending
from alpot.exploration.uncertainty import force_deviation
from alpot.exploration.walker import Walker
from alpot.potential.batch import Batch
from alpot.potential.calculator import AlpotCalculator
from alpot.potential.calibration import ErrorBound
from alpot.potential.ensemble import Ensemble
from alpot.potential.neighbors import NeighborSearch
from alpot.validation.elastic import elastic_constants
from alpot.validation.lattice import equilibrium
from alpot.validation.properties import Measured
from alpot.validation.vacancy import vacancy_formation_energy

_FRAMES_PER_BATCH = 16
#: eV/Å: molecular dynamics has failed where the potential's force on an atom is wrong by more: ten times what is good,
#: half of what acts on atoms of the melt.
WRONG_FORCE = 1.0
#: ps between the frames of a stability run whose true forces are looked at.
_LOOK_INTERVAL = 0.1
#: Atoms of the cell of the vacancy: 32 sites of fcc, which potential and reference share.
_VACANCY_ATOMS = 32


def bench_errors(ensemble: Ensemble, frames: Sequence[Atoms], bound: ErrorBound | None) -> dict[str, Any]:
    """Errors on labelled frames: forces in eV/Å, energies in eV/atom.

    Returns:
        JSON-able: "force" (root mean square of components), "force_99" (99th percentile of the norms of atoms),
        "energy" (root mean square per atom), "coverage" (share of atoms whose error the bound covers, None without
        one) and "groups" (the same of each group).
    """
    misfits: list[NDArray[np.float64]] = []
    deviations: list[NDArray[np.float64]] = []
    energies: list[float] = []
    for begin in range(0, len(frames), _FRAMES_PER_BATCH):
        chunk = frames[begin : begin + _FRAMES_PER_BATCH]
        batch = Batch.from_atoms(chunk)
        result = ensemble.evaluate(batch, NeighborSearch(ensemble.cutoff).pairs(batch))
        misfit = result.forces.mean(axis=0) - np.concatenate([frame.arrays["REF_forces"] for frame in chunk])
        misfits += np.split(misfit, batch.offsets[1:-1])
        deviations += np.split(force_deviation(result.forces), batch.offsets[1:-1])
        truth = np.array([frame.info["REF_energy"] for frame in chunk])
        energies += list((result.energies.mean(axis=0) - truth) / batch.counts)

    def of(indices: NDArray[np.int64]) -> dict[str, float | None]:
        misfit = np.concatenate([misfits[i] for i in indices])
        norms = np.linalg.norm(misfit, axis=1)
        deviation = np.concatenate([deviations[i] for i in indices])
        return {
            "force": float(np.sqrt(np.square(misfit).mean())),
            "force_99": float(np.quantile(norms, 0.99)),
            "energy": float(np.sqrt(np.square([energies[i] for i in indices]).mean())),
            "coverage": None if bound is None else bound.coverage(deviation, norms),
        }

    groups = {name: of(indices) for name, indices in in_groups(frames).items()}
    return {**of(np.arange(len(frames))), "groups": groups}


def stability(
    ensemble: Ensemble, frames: Sequence[Atoms], calculator: BaseCalculator, plan: Plan, rng: np.random.Generator
) -> list[dict[str, Any]]:
    """How long molecular dynamics from states of the bench lives, at the temperature of each and at constant cell.

    A run has failed where atoms touch, where it explodes, or where the reference says that a force is wrong by more
    than ``WRONG_FORCE``.

    Args:
        ensemble: what moves the atoms.
        frames: the bench; the first of each group's last runs are where it begins.
        calculator: of the reference.
        plan: of the benchmark.
        rng: velocities and noise.

    Returns:
        For each run its "group", the "time" in ps that it lived, and what "ended" it, or None.
    """
    starts = [
        frames[index]
        for indices in in_groups(frames).values()
        for index in indices[:: plan.bench.frames][-plan.stability_runs :]
    ]
    settings = plan.exploration.model_copy(update={"max_time": plan.stability_time})
    every = max(1, round(1e3 * _LOOK_INTERVAL / settings.timestep / settings.check_interval))
    walkers = [Walker.begin(start, _constant(settings, start.info["temperature"]), rng) for start in starts]
    walks = walk_together(ensemble, settings, walkers, record_every=every)
    return [
        {"group": start.info["group"], **_life(one, ensemble, calculator)}
        for start, one in zip(starts, walks, strict=True)
    ]


def _constant(settings: Exploration, temperature: float) -> Exploration:
    """Constant temperature (K) and density."""
    at = (temperature, temperature)
    constant = {"temperature_start": at, "temperature_end": at, "temperature_amplitude": (0.0, 0.0)}
    return settings.model_copy(update={**constant, "density_end": None, "density_amplitude": (0.0, 0.0)})


def _life(one: Walk, ensemble: Ensemble, calculator: BaseCalculator) -> dict[str, Any]:
    for passed in one.passed:
        batch = Batch.from_atoms([passed.atoms])
        forces = ensemble.evaluate(batch, NeighborSearch(ensemble.cutoff).pairs(batch), mean_only=True).forces[0]
        truth = calculator.get_property("forces", passed.atoms)
        if not np.linalg.norm(forces - truth, axis=1).max() <= WRONG_FORCE:
            return {"time": passed.time, "ended": "wrong force"}
    ended = None if one.ending is Ending.FINISHED else str(one.ending.value)
    return {"time": one.time, "ended": ended}


def properties(calculator: BaseCalculator) -> dict[str, float | None]:
    """Cheap properties of fcc aluminum: Å, GPa, eV; None where the potential has no crystal to measure them of."""
    found: dict[str, float | None] = dict.fromkeys(("lattice constant", "bulk modulus", "C11", "C12", "C44", "vacancy"))
    try:
        crystal = equilibrium(calculator, "Al", "fcc")
    except AlpotError:
        return found
    found |= {"lattice constant": crystal.lattice_constant, "bulk modulus": crystal.bulk_modulus}
    elastic = _measured(lambda: elastic_constants(calculator, crystal))
    found |= {name: elastic.get(name) for name in ("C11", "C12", "C44")}
    vacancy = _measured(lambda: vacancy_formation_energy(calculator, crystal, minimum_atoms=_VACANCY_ATOMS))
    return found | {"vacancy": vacancy.get("vacancy formation energy")}


def _measured(measure: Callable[[], Measured]) -> dict[str, float | None]:
    """Values by name; none where the potential fails."""
    try:
        return {value.name: value.value for value in measure().values}
    except AlpotError:
        return {}


def property_errors(ensemble: Ensemble, truth: dict[str, float | None]) -> dict[str, float | None]:
    """Relative errors of ``properties``."""
    found = properties(AlpotCalculator(ensemble, mean_forces_only=True))
    errors: dict[str, float | None] = {}
    for name, true in truth.items():
        value = found[name]
        errors[name] = None if value is None or not true else value / true - 1.0
    return errors
