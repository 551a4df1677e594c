"""Prints the table, and the facts of the machine that it was measured on."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from rich.console import Console
from rich.table import Table

from engine_benchmarks.isolation import ROOT
from engine_benchmarks.measuring import Row

_PACKAGES = ("numpy", "torch", "numba", "vesin", "torchani", "ase", "calorine")


def machine_facts() -> dict[str, str]:
    """What a figure depends on besides the code."""
    facts = {"processor": _processor(), "cores": str(os.cpu_count()), "load": f"{os.getloadavg()[0]:.1f}"}
    facts["python"] = platform.python_version()
    for package in _PACKAGES:
        try:
            facts[package] = version(package)
        except PackageNotFoundError:
            facts[package] = "not installed"
    revision = subprocess.run(
        ["git", "-C", str(ROOT), "describe", "--always", "--dirty"], capture_output=True, text=True, check=False
    )
    facts["revision"] = revision.stdout.strip() or "unknown"
    return facts


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")


def print_rows(title: str, rows: Sequence[Row]) -> None:
    """One table; a row without figures says why."""
    table = Table(title=title, title_justify="left", box=None, pad_edge=False, header_style="bold")
    table.add_column("measured", overflow="fold", ratio=1)
    for name in ("malloc", "alpot", "other", "unit", "× CPU", "(spread)", "× wall", "must", "aim", "met"):
        table.add_column(name, justify="left" if name in ("malloc", "unit", "met") else "right", no_wrap=True)
    for row in rows:
        if row.reason:
            table.add_row(f"{row.what}: not measured: {row.reason}", row.malloc)
            continue
        ratio = row.ratio
        table.add_row(
            row.what,
            row.malloc,
            _number(row.ours),
            _number(row.other),
            row.unit,
            _number(ratio.cpu) if ratio else "",
            f"{_number(ratio.cpu_low)}–{_number(ratio.cpu_high)}" if ratio else "",
            _number(ratio.wall) if ratio else "",
            _number(row.must),
            _number(row.aim),
            row.verdict,
        )
    console = Console()
    if not console.is_terminal:
        console = Console(width=170)
    console.print(table)
    console.print()


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.0f}" if value >= 100 else f"{value:.3g}"
