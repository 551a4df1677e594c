"""Molecular dynamics through ASE, end to end: alpot's calculator against torchani's, each with its own skin list."""

from __future__ import annotations

from functools import partial

import numpy as np
from ase import units
from ase.md.velocitydistribution import MaxwellBoltzmannDistribution, Stationary
from ase.md.verlet import VelocityVerlet

from alpot.potential.calculator import AlpotCalculator
from engine_benchmarks.frames import read_frame
from engine_benchmarks.inference import per_atom
from engine_benchmarks.isolation import answer
from engine_benchmarks.measuring import Ratio, Row, interleave
from engine_benchmarks.potentials import TOLERANCE, TorchaniSide, load_ensemble

_TEMPERATURE, _TIMESTEP_FS = 600.0, 3.0
#: Steps of one measurement: long enough that each side's neighbor search comes as often as it does in the long run.
_STEPS = 40


def measure(weights: str | None, frames: str, sizes: list[int], malloc: str, repeats: int) -> list[Row]:
    """One row per size, the verdict on the smallest."""
    ensemble = load_ensemble(weights)
    torchani = TorchaniSide(weights, ensemble)
    rows = []
    for n_atoms in sizes:
        what = f"rattled {n_atoms}: NVE through ASE, {_STEPS} steps of {_TIMESTEP_FS:g} fs, {_TEMPERATURE:g} K"
        runs = {}
        calculators = {
            "alpot": AlpotCalculator(ensemble, mean_forces_only=True),
            "torchani": torchani.calculator_with_skin(),
        }
        for name, calculator in calculators.items():
            atoms = read_frame(frames, "rattled", n_atoms)
            MaxwellBoltzmannDistribution(atoms, temperature_K=_TEMPERATURE, rng=np.random.default_rng(0))
            Stationary(atoms)
            atoms.calc = calculator
            runs[name] = VelocityVerlet(atoms, timestep=_TIMESTEP_FS * units.fs)
        forces = [run.atoms.get_forces() for run in runs.values()]
        if not (worst := np.abs(forces[0] - forces[1]).max()) <= TOLERANCE:
            rows.append(Row(what=what, malloc=malloc, reason=f"no ratio of forces that differ by {worst:.1e} eV/Å"))
            continue
        calls = {name: partial(run.run, _STEPS) for name, run in runs.items()}
        timings = interleave(calls, repeats=repeats, budget_s=60.0)
        must, aim = (8.0, 15.0) if n_atoms == sizes[0] else (None, None)
        rows.append(
            Row(
                what=what,
                malloc=malloc,
                unit="µs/atom/step",
                ours=per_atom(timings["alpot"], n_atoms * _STEPS),
                other=per_atom(timings["torchani"], n_atoms * _STEPS),
                ratio=Ratio.of(timings["alpot"], timings["torchani"]),
                must=must,
                aim=aim,
            )
        )
    return rows


if __name__ == "__main__":
    answer(measure)
