#!/usr/bin/env python3
"""Whether a generation should continue from the last one's weights: growing sets of labels, fresh frames, equal cost.

Each way of fitting continues from its own fit of the last generation, as a campaign does. Cost is passes through the
data. Usage: ``scripts/bench_warm_start.py [--weights ../shared/ani-al] [--seeds 2] [--output FILE.json]``.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table
from scipy.stats import spearmanr
from training_benchmarks.aluminum import SHARES, Aluminum, errors_of, kinds_of, rmse

from alpot.config import Potential, Training
from alpot.potential.calculator import AlpotCalculator
from alpot.potential.ensemble import Ensemble
from alpot.potential.training import train
from alpot.store.labels import Label

POTENTIAL = Potential(members=4, hidden=(48, 32))
#: Fits that are compared: whether they continue, share of the epochs, factor on the peak learning rate (which
#: ``training.train`` lowers to a third where it continues).
FITS: Mapping[str, tuple[bool, float, float]] = {
    "scratch": (False, 1.0, 1.0),
    "scratch, twice the epochs": (False, 2.0, 1.0),
    "warm": (True, 1.0, 1.0),
    "warm, full rate": (True, 1.0, 3.0),
    "warm, full rate, half the epochs": (True, 0.5, 3.0),
}


def fit_to(
    labels: Sequence[Label], fresh: Sequence[Label], settings: Training, parent: Ensemble | None, seed: int
) -> tuple[Ensemble, dict[str, Any]]:
    """A fit and its row: errors on ``fresh`` in eV/Å and eV/atom, validation loss, processor seconds."""
    begin = time.process_time()
    result = train(labels, ["Al"], POTENTIAL, settings, seed=seed, parent=parent)
    seconds = time.process_time() - begin
    calculator = AlpotCalculator(result.ensemble)
    energies, forces = errors_of(calculator, fresh)
    deviations = np.concatenate([calculator.get_property("forces_std", label.atoms) for label in fresh])
    rank = spearmanr(np.linalg.norm(deviations, axis=1), np.linalg.norm(forces, axis=1)).statistic
    kinds = kinds_of(fresh)
    of_atoms = np.repeat(kinds, [len(label.atoms) for label in fresh])
    return result.ensemble, {
        "force": rmse(forces),
        "energy": rmse(energies),
        "force_by_kind": {kind: rmse(forces[of_atoms == kind]) for kind in SHARES if (kinds == kind).any()},
        "validation_loss": float(np.mean(result.history[-1].validation_loss)),
        "rank_correlation": float(rank),
        "ratio_of_error_to_deviation": rmse(forces) / rmse(deviations),
        "cpu_s": seconds,
    }


def measure(
    aluminum: Aluminum, sizes: Sequence[int], fits: Sequence[str], epochs: int, n_fresh: int, seed: int
) -> list[dict[str, Any]]:
    """All fits of one seed."""
    rng = np.random.default_rng(seed)
    fresh, pool = aluminum.labels(n_fresh, rng), aluminum.labels(max(sizes), rng)
    settings, rows = Training(max_epochs=epochs, learning_rate=4e-3), []
    parents: dict[str, Ensemble] = {}
    for generation, size in enumerate(sizes):
        labels, parents_of_next = pool[:size], dict[str, Ensemble]()
        for name in fits:
            is_warm, share, rate = FITS[name]
            if generation == 0 and is_warm:
                parents_of_next[name] = parents_of_next["scratch"]
                continue
            changed = settings.model_copy(
                update={"max_epochs": round(share * epochs), "learning_rate": rate * settings.learning_rate}
            )
            parent = parents[name] if is_warm else None
            parents_of_next[name], row = fit_to(labels, fresh, changed, parent, 100 * seed + generation)
            rows.append({"seed": seed, "labels": size, "fit": name, **row})
            print(json.dumps(rows[-1]), flush=True)
        parents = parents_of_next
    return rows


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", type=Path, default=Path("../shared/ani-al"), help="folder of ANI-Al")
    parser.add_argument("--labels", type=int, nargs="+", default=[75, 150, 300], help="of the generations")
    parser.add_argument("--epochs", type=int, default=100, help="passes through the data of the fit from scratch")
    parser.add_argument("--fits", nargs="+", choices=FITS, default=list(FITS), help="measure these only")
    parser.add_argument("--fresh", type=int, default=150, help="frames to measure errors on")
    parser.add_argument("--seeds", type=int, default=2, help="sets of labels and weights")
    parser.add_argument("--output", type=Path, help="write all figures to this file as JSON")
    options = parser.parse_args()
    if options.fits[0] != "scratch":
        parser.error("--fits begins with scratch, which gives the first generation")
    aluminum, rows = Aluminum(options.weights), []
    for seed in range(options.seeds):
        rows += measure(aluminum, options.labels, options.fits, options.epochs, options.fresh, seed)
    table = Table(title=f"{options.epochs} epochs, {options.fresh} fresh frames; medians over {options.seeds} seeds")
    for heading in ("labels", "fit", "forces meV/Å", "energies meV/atom", "validation loss", "CPU s"):
        table.add_column(heading, justify="right")
    for size in options.labels:
        for name in FITS:
            own = [row for row in rows if (row["labels"], row["fit"]) == (size, name)]
            if own:
                force, energy, loss, seconds = (
                    float(np.median([row[key] for row in own]))
                    for key in ("force", "energy", "validation_loss", "cpu_s")
                )
                table.add_row(
                    str(size), name, f"{1e3 * force:.1f}", f"{1e3 * energy:.2f}", f"{loss:.3f}", f"{seconds:.0f}"
                )
    Console(width=120).print(table)
    if options.output:
        options.output.write_text(
            json.dumps({"settings": vars(options) | {"weights": "ANI-Al"}, "rows": rows}, default=str, indent=1) + "\n"
        )


if __name__ == "__main__":
    main()
