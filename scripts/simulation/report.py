"""Prints what came out, next to what was asked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.table import Table

from simulation.measures import Run

_BLOCKS = "▁▂▃▄▅▆▇█"


@dataclass(frozen=True)
class Promise:
    """A figure that was asked for."""

    what: str
    value: float
    target: float
    at_most: bool = True

    @property
    def is_kept(self) -> bool:
        """Whether it is as asked."""
        return self.value <= self.target if self.at_most else self.value >= self.target

    def to_json(self) -> dict[str, Any]:
        """For the file."""
        return {"what": self.what, "value": self.value, "target": self.target, "kept": self.is_kept}


def promises(runs: Sequence[Run], replay: dict[str, float], ledger_mb: float) -> list[Promise]:
    """What was asked of alpot, of those rules that were run."""
    alpot = runs[0]
    cost = alpot.more["controller"]
    resume = 5 * max(1.0, alpot.labels / 100_000)
    kept = [
        Promise("labels lost", alpot.lost, 0),
        Promise("labels recorded twice", alpot.recorded_twice, 0),
        Promise("labels recorded that nobody computed", alpot.more["unknown_labels"], 0),
        Promise("label pool busy in the steady state", alpot.busy("label"), 0.95, at_most=False),
        Promise("controller, wall time per event, ms", cost["all"]["wall"], 2),
        Promise("  the same, over the last tenth of the labels, ms", cost["last"]["wall"], 2),
        Promise("  CPU time, last tenth relative to the first", cost["last"]["cpu"] / cost["first"]["cpu"], 1.5),
        Promise("resume: replay of the ledger, s", replay["wall"], resume),
        Promise("  CPU time of it, s", replay["cpu"], resume),
        Promise("memory of a process that knows all of it, MB", replay["peak_mb"], 500),
        Promise("ledger per label, kB", 1e3 * ledger_mb / max(1, alpot.labels), 5),
    ]
    for run in runs[1:]:
        if run.rules == "synchronous":
            ratio = alpot.labels_per_hour / run.labels_per_hour
            kept.append(Promise("labels per hour, relative to synchronous", ratio, 2, at_most=False))
    return kept


def print_runs(runs: Sequence[Run]) -> None:
    """One column for each set of rules, and the ratio of the first to each."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("")
    for run in runs:
        table.add_column(run.rules, justify="right")
    rows: list[tuple[str, list[str]]] = [
        ("labels kept", [f"{run.labels:,}" for run in runs]),
        ("labels lost", [f"{run.lost:,}" for run in runs]),
        ("structures given up", [f"{run.given_up:,}" for run in runs]),
        ("most labels in memory only", [f"{run.held:,}" for run in runs]),
        ("trainings", [f"{run.generations:,}" for run in runs]),
        ("hours", [f"{run.hours:.1f}" for run in runs]),
        ("labels per hour", [f"{run.labels_per_hour:,.0f}" for run in runs]),
        (
            f"  {runs[0].rules} relative to it",
            [f"{runs[0].labels_per_hour / run.labels_per_hour:.2f} ×" for run in runs],
        ),
        ("  in the steady state", [f"{run.steady_labels_per_hour:,.0f}" for run in runs]),
        ("still news to the newest model", [f"{run.useful:.1%}" for run in runs]),
        ("such labels per hour", [f"{run.useful * run.labels_per_hour:,.0f}" for run in runs]),
        (f"  {runs[0].rules} relative to it", [f"{_useful(runs[0]) / _useful(run):.2f} ×" for run in runs]),
    ]
    for pool in ("label", "explore", "train"):
        rows.append((f"{pool} pool busy, steady state", [f"{run.busy(pool):.1%}" for run in runs]))
        if pool == "label":
            shares = [f"{run.busy(pool, of_paid=True):.1%}" for run in runs]
            rows.append(("  of all that was held, draining nodes too", shares))
    for name, values in rows:
        table.add_row(name, *values)
    for pool in ("label", "explore", "train"):
        table.add_row(f"{pool} pool over time", *(_sparkline(run.utilisation(pool)) for run in runs))
    _console().print(table, "")


def print_promises(kept: Sequence[Promise]) -> None:
    """What was asked for, and what came out."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("asked for", "figure", "target", ""):
        table.add_column(name, justify="left" if name in ("asked for", "") else "right")
    for one in kept:
        target = f"{'≤' if one.at_most else '≥'} {one.target:g}"
        table.add_row(one.what, f"{one.value:.4g}", target, "kept" if one.is_kept else "NOT KEPT")
    _console().print(table)


def _useful(run: Run) -> float:
    return run.useful * run.labels_per_hour


def _sparkline(shares: Sequence[float]) -> str:
    return "".join(_BLOCKS[min(len(_BLOCKS) - 1, int(share * len(_BLOCKS)))] for share in shares)


def _console() -> Console:
    console = Console()
    return console if console.is_terminal else Console(width=150)
