#!/usr/bin/env python3
"""Whether rare environments should weigh more in the loss: errors on common and on rare kinds of aluminum frames.

An atom's weight is its leverage among all atoms of the labels, in the space of standardised features, to some power;
between 1/3 and 3, and 1 on average. Usage:
``scripts/bench_rare_environments.py [--weights ../shared/ani-al] [--seeds 3] [--output FILE.json]``.
"""

from __future__ import annotations

import argparse
import json
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from training_benchmarks.aluminum import RARE, SHARES, Aluminum, errors_of, kinds_of, rmse
from training_benchmarks.descent import fitted

from alpot.config import Training
from alpot.potential.calculator import AlpotCalculator
from alpot.potential.frame_cache import FrameCache

HIDDEN, MEMBERS = (48, 32), 4
POWERS = (0.0, 0.5, 1.0)
#: Fresh frames of all kinds with their shares; 15 of each rare kind besides.
COMMON = 80
#: Of the mean square of the features: directions in which the environments hardly differ say nothing.
_RIDGE = 1e-3
_LEAST, _MOST = 1.0 / 3.0, 3.0


def rarity(power: float, cache: FrameCache) -> NDArray[np.float64]:
    """(n_atoms,) weights of standardised frames."""
    features = cache.features[:, cache.columns].astype(np.float64)
    covariance = features.T @ features / len(features)
    covariance += _RIDGE * np.trace(covariance) / len(covariance) * np.eye(len(covariance))
    leverage = np.einsum("nf,nf->n", features, np.linalg.solve(covariance, features.T).T)
    weights = np.clip((leverage / np.median(leverage)) ** power, _LEAST, _MOST)
    return weights / weights.mean()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", type=Path, default=Path("../shared/ani-al"), help="folder of ANI-Al")
    parser.add_argument("--labels", type=int, default=150, help="to train on")
    parser.add_argument("--epochs", type=int, default=60, help="passes through the data")
    parser.add_argument("--seeds", type=int, default=3, help="sets of labels and weights")
    parser.add_argument("--output", type=Path, help="write all figures to this file as JSON")
    options = parser.parse_args()
    aluminum, rng, rows = Aluminum(options.weights), np.random.default_rng(10_000), []
    fresh = aluminum.labels(COMMON, rng) + [aluminum.label_of(kind, rng) for kind in RARE for _ in range(15)]
    of_atoms = np.repeat(kinds_of(fresh), [len(label.atoms) for label in fresh])
    settings = Training(max_epochs=options.epochs, learning_rate=4e-3)
    for seed in range(options.seeds):
        labels = aluminum.labels(options.labels, np.random.default_rng(seed))
        for power in POWERS:
            everywhere = np.ones((MEMBERS, len(labels)))
            ensemble = fitted(labels, HIDDEN, everywhere, settings, seed, partial(rarity, power))
            energies, forces = errors_of(AlpotCalculator(ensemble, mean_forces_only=True), fresh)
            row: dict[str, Any] = {"seed": seed, "power": power, "energy": rmse(energies[:COMMON])}
            row["force"] = rmse(forces[: sum(len(label.atoms) for label in fresh[:COMMON])])
            row |= {f"force_{kind}": rmse(forces[of_atoms == kind]) for kind in SHARES}
            row |= {f"energy_{kind}": rmse(energies[kinds_of(fresh) == kind]) for kind in SHARES}
            rows.append(row)
            print(json.dumps(row), flush=True)
    table = Table(title=f"{options.labels} labels, {options.epochs} epochs; means over {options.seeds} seeds, meV/Å")
    names = ["force", *(f"force_{kind}" for kind in SHARES)]
    for heading in ("power", "meV/atom", "all", *SHARES):
        table.add_column(heading, justify="right")
    for power in POWERS:
        own = [row for row in rows if row["power"] == power]
        means = [1e3 * float(np.mean([row[name] for row in own])) for name in ("energy", *names)]
        table.add_row(f"{power:g}", *(f"{mean:.2f}" for mean in means))
    Console(width=120).print(table)
    if options.output:
        facts = {key: value for key, value in vars(options).items() if key not in ("weights", "output")}
        facts |= {"hidden": HIDDEN, "members": MEMBERS, "training": settings.model_dump(mode="json")}
        options.output.write_text(json.dumps({"settings": facts, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
