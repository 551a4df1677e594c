"""Draws the learning curves for the README."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from active_learning.results import Run, by_policy, curve_of

_NAMES = {
    "random": "random frames",
    "paper": "fixed thresholds (ALF)",
    "paper-loose": "fixed thresholds (ALF, loose)",
    "dpgen": "trust levels (DP-GEN)",
    "fps": "farthest points",
    "alpot": "alpot",
}
#: Okabe and Ito's colors, which people of all kinds of color vision tell apart.
_COLORS = {
    "random": "#999999",
    "paper": "#D55E00",
    "paper-loose": "#CC79A7",
    "dpgen": "#009E73",
    "fps": "#E69F00",
    "alpot": "#0072B2",
}


def plot(runs: Sequence[Run], reference: str, path: Path) -> None:
    """The median over seeds of the force error against labels, with the range of all seeds; without ablations."""
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = "alpot"  # the same figure gives the same file
    from matplotlib.figure import Figure
    from matplotlib.ticker import NullFormatter, ScalarFormatter

    figure = Figure(figsize=(6.4, 4.2), layout="constrained")
    axes = figure.subplots()
    policies = by_policy([run for run in runs if run["reference"] == reference])
    for name in (name for name in _NAMES if name in policies):
        curves = [curve_of(run) for run in policies[name]]
        shared = sorted(set.intersection(*(set(labels) for labels, _ in curves)))
        errors = 1e3 * np.array([[dict(zip(*curve, strict=True))[n] for n in shared] for curve in curves])
        wide = 2.6 if name == "alpot" else 1.4
        axes.plot(shared, np.median(errors, axis=0), "o-", ms=4, lw=wide, color=_COLORS[name], label=_NAMES[name])
        axes.fill_between(shared, errors.min(axis=0), errors.max(axis=0), color=_COLORS[name], alpha=0.15, lw=0)
    axes.set(xscale="log", yscale="log", xlabel="labels paid for", ylabel="force error on the hidden bench (meV/Å)")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(ScalarFormatter())
        axis.set_minor_formatter(NullFormatter())
    ticks = sorted({point["labels"] for mine in policies.values() for run in mine for point in run["curve"]})
    axes.set_xticks(ticks, [f"{tick}" for tick in ticks])
    low, high = axes.get_ylim()
    axes.set_yticks([tick for tick in (20, 30, 40, 50, 60, 80, 100, 150, 200, 300, 500) if low <= tick <= high])
    axes.grid(alpha=0.3)
    axes.legend(frameon=False, fontsize=9)
    figure.savefig(path, metadata={"Date": None})
