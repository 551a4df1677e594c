#!/usr/bin/env python3
"""Few labels of aluminum: what a potential learns from them alone, and as the correction to a cheap baseline.

The reference is the published ANI-Al potential, near DFT, if its folder is there, otherwise EMT. Baselines are EMT (of
another cutoff where it is the reference, too) and a Lennard-Jones potential that is fitted to the same labels.
Usage: ``scripts/bench_baseline.py [--weights ../shared/ani-al] [--labels 20 60] [--seeds 3]``.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from alpot.config import Material, Potential, Reference, Training
from alpot.potential.baseline import Baseline
from alpot.potential.calculator import AlpotCalculator
from alpot.potential.residuals import Residuals
from alpot.potential.training import train
from alpot.reference import ReferenceCalculator, label, level_of_theory, open_cheap, open_reference
from alpot.store.labels import Label, label_key
from alpot.structures import draw_start

MATERIAL = Material.model_validate(
    {
        "elements": ["Al"],
        "starts": [
            {"kind": "crystal", "prototypes": ["fcc", "bcc", "hcp"], "atoms": [16, 32], "rattle": [0.0, 0.4]},
            {"kind": "packing", "atoms": [16, 32], "density": [2.2, 3.0]},
        ],
    }
)
POTENTIAL = Potential(members=4, hidden=(32, 32))
TRAINING = Training(max_epochs=150, learning_rate=5e-3)
FRESH = 60
#: Å; where the Lennard-Jones potential crosses zero is looked for here.
SIGMAS = np.arange(2.2, 2.9, 0.05)
LJ_CUTOFF = 6.5


def labels_of(reference: ReferenceCalculator, count: int, seed: int) -> list[Label]:
    """Labelled starts; those with forces above 10 eV/Å are passed over."""
    rng, level, found = np.random.default_rng(seed), level_of_theory(reference), []
    settings = Reference(code=reference.name, max_force=1e6)
    with tempfile.TemporaryDirectory() as scratch:
        while len(found) < count:
            atoms = draw_start(MATERIAL, rng, base_directory=Path())
            result = label(reference, settings, atoms, Path(scratch))
            if np.linalg.norm(result.forces, axis=1).max() <= 10.0:
                found.append(
                    Label(
                        key=label_key(atoms, level),
                        atoms=atoms,
                        energy=result.energy,
                        forces=result.forces,
                        stress=result.stress,
                        level_of_theory=level,
                    )
                )
    return found


def open_baseline(code: str, arguments: dict[str, Any]) -> Baseline:
    """A baseline as a campaign file would name it."""
    table = {"code": "emt", "cheap": {"code": code, "arguments": arguments, "use": ["baseline"]}}
    cheap = open_cheap(Reference.model_validate(table), base_directory=Path())
    baseline = cheap.baseline(Path()) if cheap is not None else None
    assert baseline is not None
    return baseline


def fitted_lj(labels: Sequence[Label]) -> Baseline:
    """The Lennard-Jones potential whose forces are nearest to those of the labels: forces are linear in epsilon."""
    best, truth = (np.inf, {}), np.concatenate([item.forces for item in labels])
    for sigma in map(float, SIGMAS):
        arguments = {"sigma": sigma, "epsilon": 1.0, "rc": LJ_CUTOFF}
        answers = [open_baseline("lj", arguments).answer(item.atoms) for item in labels]
        forces = np.concatenate([answer.forces for answer in answers if answer is not None])
        epsilon = float((forces * truth).sum() / np.square(forces).sum())
        misfit = float(np.square(epsilon * forces - truth).mean())
        if epsilon > 0 and misfit < best[0]:
            best = (misfit, {**arguments, "epsilon": epsilon})
    return open_baseline("lj", best[1])


def force_rmse(labels: Sequence[Label], training: Sequence[Label], baseline: Baseline | None, seed: int) -> float:
    """eV/Å on ``labels`` after a fit to ``training``."""
    residuals = None if baseline is None else Residuals(baseline)
    result = train(training, ["Al"], POTENTIAL, TRAINING, seed=seed, residuals=residuals)
    calculator = AlpotCalculator(result.ensemble, mean_forces_only=True)
    return rmse([calculator.get_property("forces", item.atoms) - item.forces for item in labels])


def rmse(errors: Sequence[np.ndarray]) -> float:
    """Over all components of all frames."""
    return float(np.sqrt(np.square(np.concatenate(errors)).mean()))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", type=Path, default=Path("../shared/ani-al"), help="folder of ANI-Al")
    parser.add_argument("--labels", type=int, nargs="+", default=[20, 60], help="numbers of labels to train on")
    parser.add_argument("--seeds", type=int, default=3, help="sets of labels and weights")
    options = parser.parse_args()
    is_ani = options.weights.is_dir()
    chosen = Reference(code="ani", arguments={"folder": str(options.weights)}) if is_ani else Reference(code="emt")
    reference = open_reference(chosen, base_directory=Path())
    fresh = labels_of(reference, FRESH, seed=10_000)
    size = rmse([item.forces for item in fresh])
    table = Table(title=f"reference {chosen.code}, {FRESH} fresh frames, forces {1e3 * size:.0f} meV/Å rms; meV/Å")
    for name in ("labels", "seed", "baseline", "baseline alone", "without", "with", "ratio", "s"):
        table.add_column(name, justify="right")
    for count in options.labels:
        for seed in range(options.seeds):
            training = labels_of(reference, count, seed)
            without = force_rmse(fresh, training, None, seed)
            for baseline in (open_baseline("emt", {"asap_cutoff": not is_ani}), fitted_lj(training[:20])):
                begin = time.perf_counter()
                answers = [(baseline.answer(item.atoms), item.forces) for item in fresh]
                alone = rmse([answer.forces - forces for answer, forces in answers if answer is not None])
                both = force_rmse(fresh, training, baseline, seed)
                figures = [f"{1e3 * value:.0f}" for value in (alone, without, both)]
                ratio, seconds = f"{both / without:.2f}", f"{time.perf_counter() - begin:.0f}"
                table.add_row(str(count), str(seed), str(baseline.level["code"]), *figures, ratio, seconds)
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
