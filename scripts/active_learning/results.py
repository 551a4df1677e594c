"""Results of all runs in one file, and the figure of merit: labels needed for the same error."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

#: Between the error that all reach and the one that alpot ends with, on a logarithmic scale: two levels are looked at.
_LEVELS = (0.0, 0.6)

Run = dict[str, Any]


def with_settings(run: Run, settings: dict[str, Any]) -> dict[str, Any]:
    """A part of the file: one run, and the settings under the hash by which the run names them."""
    text = json.dumps(settings, sort_keys=True, separators=(",", ":"))
    name = hashlib.sha256(text.encode()).hexdigest()[:12]
    return {"settings": {name: settings}, "runs": [run | {"settings": name}]}


def merge(known: dict[str, Any], parts: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """All runs, each once: of the same reference, policy and seed the last part counts."""
    runs = {_identity(run): run for run in known.get("runs", [])}
    settings = dict(known.get("settings", {}))
    for part in parts:
        runs |= {_identity(run): run for run in part["runs"]}
        settings |= part["settings"]
    used = {run["settings"] for run in runs.values()}
    return {
        "settings": {name: settings[name] for name in sorted(used)},
        "runs": [runs[key] for key in sorted(runs)],
    }


def _identity(run: Run) -> tuple[str, str, int]:
    return run["reference"], run["policy"], run["seed"]


def read(path: Path) -> dict[str, Any]:
    """The file's content; nothing where there is none."""
    return dict(json.loads(path.read_text())) if path.exists() else {}


def write(path: Path, content: dict[str, Any]) -> None:
    """One line for each run, so that versions can be compared."""
    path.parent.mkdir(parents=True, exist_ok=True)
    settings = ",\n".join(f"{json.dumps(name)}: {json.dumps(value)}" for name, value in content["settings"].items())
    runs = ",\n".join(json.dumps(run) for run in content["runs"])
    path.write_text(f'{{"settings": {{\n{settings}\n}},\n"runs": [\n{runs}\n]}}\n')


def needed(amounts: Sequence[float], errors: Sequence[float], error: float) -> float | None:
    """How much is needed until an error is reached for the first time, between measurements on a log-log scale.

    Args:
        amounts: (n,) of labels or seconds, increasing.
        errors: (n,) measured there.
        error: that is to be reached.

    Returns:
        The first amount where it was reached already; None where it never was.
    """
    below = [index for index, value in enumerate(errors) if value <= error]
    if not below:
        return None
    last = below[0]
    if last == 0:
        return float(amounts[0])
    (x0, x1), (y0, y1) = np.log(amounts[last - 1 : last + 1]), np.log(errors[last - 1 : last + 1])
    return float(np.exp(x0 + (x1 - x0) * (np.log(error) - y0) / (y1 - y0)))


def curve_of(run: Run, name: str = "force") -> tuple[list[float], list[float]]:
    """Labels and errors of a run."""
    return [point["labels"] for point in run["curve"]], [point[name] for point in run["curve"]]


def levels(runs: Sequence[Run]) -> list[float]:
    """Two force errors, eV/Å: one that every policy reaches in the median, and one nearer to alpot's last."""
    last = {name: median(run["curve"][-1]["force"] for run in of) for name, of in by_policy(runs).items()}
    worst, best = max(last.values()), last.get("alpot", min(last.values()))
    return [float(worst * (best / worst) ** share) for share in _LEVELS]


def by_policy(runs: Sequence[Run]) -> dict[str, list[Run]]:
    """Runs of each policy."""
    found: dict[str, list[Run]] = {}
    for run in runs:
        found.setdefault(run["policy"], []).append(run)
    return found


def needs(runs: Sequence[Run], error: float, amount: str = "labels") -> list[float | None]:
    """What each run needed for an error: "labels", or "reference_s" (core-seconds)."""
    found = []
    for run in runs:
        labels, errors = curve_of(run)
        amounts = labels if amount == "labels" else [point["costs"][amount] for point in run["curve"]]
        found.append(needed(amounts, errors, error))
    return found


def median_need(runs: Sequence[Run], error: float, amount: str = "labels") -> float | None:
    """The median over runs; None where half of them never got there."""
    values = sorted(float("inf") if value is None else value for value in needs(runs, error, amount))
    middle = median(values)
    return middle if np.isfinite(middle) else None
