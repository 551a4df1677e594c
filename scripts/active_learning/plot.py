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
_TICKS = (20, 30, 40, 60, 90, 135, 200, 300, 400, 600, 900)


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
        # Where a policy asked for fewer labels than it was offered, its curves are measured at other places.
        shared = sorted({n for labels, _ in curves for n in labels if n <= min(labels[-1] for labels, _ in curves)})
        logs = [np.interp(np.log(shared), np.log(labels), np.log(errors)) for labels, errors in curves]
        errors = 1e3 * np.exp(logs)
        wide = 2.6 if name == "alpot" else 1.4
        axes.plot(shared, np.median(errors, axis=0), "o-", ms=4, lw=wide, color=_COLORS[name], label=_NAMES[name])
        axes.fill_between(shared, errors.min(axis=0), errors.max(axis=0), color=_COLORS[name], alpha=0.15, lw=0)
    axes.set(xscale="log", yscale="log", xlabel="labels paid for", ylabel="force error on the hidden bench (meV/Å)")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(ScalarFormatter())
        axis.set_minor_formatter(NullFormatter())
    for axis, (low, high) in ((axes.xaxis, axes.get_xlim()), (axes.yaxis, axes.get_ylim())):
        axis.set_ticks([tick for tick in _TICKS if low <= tick <= high])
    axes.grid(alpha=0.3)
    axes.legend(frameon=False, fontsize=9)
    figure.savefig(path, metadata={"Date": None})
