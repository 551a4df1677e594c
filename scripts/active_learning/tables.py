"""Prints what came of the runs."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import mean, median

import numpy as np
from rich.console import Console
from rich.table import Table

from active_learning.results import Run, by_policy, levels, median_need

_WIDTH = 160


def print_results(runs: Sequence[Run]) -> None:
    """All tables, for each reference by itself."""
    console = Console(width=max(_WIDTH, Console().width))  # in a file, too
    for reference in dict.fromkeys(run["reference"] for run in runs):
        mine = [run for run in runs if run["reference"] == reference]
        for table in (_merit(mine, reference), _errors(mine), _life(mine), _accounts(mine)):
            console.print(table)
            console.print()


def _table(title: str, columns: Sequence[str]) -> Table:
    table = Table(title=title, title_justify="left", box=None, pad_edge=False, header_style="bold")
    for index, name in enumerate(columns):
        table.add_column(name, justify="right" if index else "left", no_wrap=index == 0)
    return table


def _merit(runs: Sequence[Run], reference: str) -> Table:
    at = levels(runs)
    columns = ["policy", "seeds"]
    for error in at:
        columns += [f"labels to {1e3 * error:.0f} meV/Å", "/ alpot's", "core-s", "/ alpot's"]
    table = _table(f"reference {reference}: what is needed for the same force error (median over seeds)", columns)
    policies = by_policy(runs)
    for name, mine in policies.items():
        row = [name, str(len(mine))]
        for error in at:
            for amount, digits in (("labels", 0), ("reference_s", 2)):
                need = median_need(mine, error, amount)
                ours = median_need(policies.get("alpot", []), error, amount) if "alpot" in policies else None
                most = f"> {median(run['labels'] for run in mine):.0f}" if amount == "labels" else "–"
                row.append(most if need is None else f"{need:.{digits}f}")
                row.append("–" if need is None or ours is None else f"{need / ours:.2f}")
        table.add_row(*row)
    return table


def _errors(runs: Sequence[Run]) -> Table:
    groups = list(runs[0]["curve"][-1]["groups"])
    table = _table(
        "force error at the end, meV/Å (median over seeds); 99 %: of an atom",
        ["policy", "labels", "all", "99 %", "meV/atom", "covered", *groups],
    )
    for name, mine in by_policy(runs).items():
        last = [run["curve"][-1] for run in mine]
        covered = [point["coverage"] for point in last if point["coverage"] is not None]
        table.add_row(
            name,
            f"{median(run['labels'] for run in mine):.0f}",
            *(f"{1e3 * median(point[key] for point in last):.0f}" for key in ("force", "force_99")),
            f"{1e3 * median(point['energy'] for point in last):.1f}",
            f"{100 * mean(covered):.0f} %" if covered else "–",
            *(f"{1e3 * median(point['groups'][group]['force'] for point in last):.0f}" for group in groups),
        )
    return table


def _life(runs: Sequence[Run]) -> Table:
    properties = list(runs[0]["properties"])
    table = _table(
        "molecular dynamics from states of the bench, and errors of properties in % (median over seeds of the size)",
        ["policy", "failed", "ps per failure", *properties],
    )
    for name, mine in by_policy(runs).items():
        lives = [life for run in mine for life in run["stability"]]
        failed = sum(life["ended"] is not None for life in lives)
        simulated = sum(life["time"] for life in lives)
        cells = []
        for key in properties:
            known = [abs(run["properties"][key]) for run in mine if run["properties"][key] is not None]
            cells.append(f"{100 * median(known):.1f}" if 2 * len(known) > len(mine) else "fails")
        table.add_row(name, f"{failed} of {len(lives)}", f"{simulated / failed:.1f}" if failed else "–", *cells)
    return table


def _accounts(runs: Sequence[Run]) -> Table:
    table = _table(
        "what else was spent and found (sums over seeds, of dropped frames means)",
        [
            "policy",
            "walkers",
            "ps",
            "explore core-s",
            "train core-s",
            "rejected",
            "filled",
            "same frame",
            "alike",
            "dropped",
            "of them known",
        ],
    )
    for name, mine in by_policy(runs).items():
        costs = [run["curve"][-1]["costs"] for run in mine]

        def total(key: str, costs: list[dict[str, float]] = costs) -> str:
            return f"{sum(cost[key] for cost in costs):.0f}"

        shares = [run["facts"]["dropped_share"] for run in mine if run["facts"].get("dropped_share") is not None]
        known = [run["facts"]["dropped_known"] for run in mine if run["facts"].get("dropped_known") is not None]
        table.add_row(
            name,
            *(total(key) for key in ("walkers", "simulated_ps", "exploring_s", "training_s", "rejected", "filled")),
            *(str(sum(run["duplicates"][key] for run in mine)) for key in ("exact", "near")),
            f"{100 * np.mean(shares):.0f} %" if shares else "–",
            f"{100 * np.mean(known):.0f} %" if known else "–",
        )
    return table
