#!/usr/bin/env python3
"""Breaks campaigns in every way that is known, and prints what was promised, how it was tried, and what was seen.

Usage: ``scripts/crash_suite.py [--quick] [--only ROW ...] [--json FILE] [--allow-missing-slurm]``. It exits with 0 only
if every row holds. ``--quick``: a sample of each row in about a minute, for CI; without it everything, which takes more
than half an hour on two cores. Progress and complaints go to stdout as they come.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import sys
import tempfile
import textwrap
import time
import traceback
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = "1"

from crash.place import in_a_process
from crash.row import Row

#: Name on the command line, and module of ``crash`` that tries it.
ROWS = {
    "operations": "every_operation",
    "kills": "kills",
    "resume": "resume",
    "damage": "damage",
    "disk-full": "disk_full",
    "scheduler": "scheduler",
    "races": "races",
    "bad-labels": "bad_labels",
    "resume-time": "resume_time",
}
#: Rows whose campaigns run in processes forked from this one.
_SMALL = {"operations", "resume", "damage", "disk-full", "races"}
#: Rows that mostly wait: they run beside the others.
_WAITING = {"kills", "scheduler"}
#: Rows that measure time.
_TIMED = frozenset({"resume-time"})
_SHOWN = 5
_WIDTHS = (24, 34, 26, 48, 7)


def main() -> int:
    """Try what the arguments ask for; returns the exit code."""
    arguments = parse_arguments()
    begun = time.monotonic()
    if _SMALL & set(arguments.only):
        from crash.small_campaign import get_ready

        get_ready()
    with tempfile.TemporaryDirectory(prefix="alpot-crash-", dir=_memory()) as folder:
        rows = try_all(arguments.only, Path(folder), quick=arguments.quick, processes=arguments.processes)
    print_table(rows)
    print(f"\n{time.monotonic() - begun:.0f} s")
    if arguments.json:
        text = json.dumps({name: row.dump() for name, row in rows.items()}, indent=1, ensure_ascii=False)
        arguments.json.write_text(f"{text}\n")
    return 0 if all(is_accepted(name, row, arguments) for name, row in rows.items()) else 1


def parse_arguments() -> argparse.Namespace:
    """Options."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--quick", action="store_true", help="a sample of each row, about a minute")
    parser.add_argument("--only", nargs="+", choices=ROWS, default=list(ROWS), metavar="ROW", help=", ".join(ROWS))
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all that was counted to this file")
    parser.add_argument("--allow-missing-slurm", action="store_true", help="do not insist on the row `scheduler`")
    parser.add_argument("--processes", type=int, default=len(os.sched_getaffinity(0)), help="how many trials at a time")
    return parser.parse_args()


def try_all(names: list[str], folder: Path, *, quick: bool, processes: int) -> dict[str, Row]:
    """Tries rows, each in a process of its own; in a sample, as many at a time as there are processors."""
    at_a_time = processes if quick else 1

    def attempt(name: str) -> Row:
        print(f"{name} ...", flush=True)
        row = try_row(name, folder, quick=quick, processes=1 if quick else processes)
        print(f"{name}: {row.verdict} after {row.seconds:.0f} s: {row.seen}", flush=True)
        for complaint in row.complaints[:_SHOWN]:
            print(textwrap.indent(complaint, "  - "), flush=True)
        if len(row.complaints) > _SHOWN:
            print(f"  ... and {len(row.complaints) - _SHOWN} more", flush=True)
        return row

    with ThreadPoolExecutor(at_a_time) as busy, ThreadPoolExecutor(len(_WAITING)) as waiting:
        pending = {
            name: (waiting if name in _WAITING else busy).submit(attempt, name) for name in names if name not in _TIMED
        }
        rows = {name: future.result() for name, future in pending.items()}
    rows |= {name: attempt(name) for name in names if name in _TIMED}  # alone: others would take its time
    return {name: rows[name] for name in names}


def try_row(name: str, folder: Path, *, quick: bool, processes: int) -> Row:
    """Tries one row in a process of its own, whose answer comes as a file."""
    place, answer = folder / name, folder / f"{name}.json"
    place.mkdir()

    def body() -> int:
        begun = time.monotonic()
        try:
            row = importlib.import_module(f"crash.{ROWS[name]}").run(place, quick=quick, processes=processes)
        except Exception as error:  # noqa: BLE001 - the other rows go on
            row = Row(name, "", "", seen=f"{type(error).__name__}: {error}", complaints=[traceback.format_exc()])
        row.seconds = round(time.monotonic() - begun, 1)
        answer.write_text(json.dumps(row.dump()))
        return 0

    code = in_a_process(body)
    if not answer.exists():
        return Row(name, "", "", seen=f"the trial itself was ended ({code})")
    return Row.load(json.loads(answer.read_text()))


def is_accepted(name: str, row: Row, arguments: argparse.Namespace) -> bool:
    """Whether a row holds, or need not be tried here."""
    if row.holds is None and name == "scheduler":
        return bool(arguments.allow_missing_slurm or row.figures.get("left out"))
    return row.holds is True


def print_table(rows: dict[str, Row]) -> None:
    """The table of the promises."""
    print()
    lines = [("promise", "test", "target", "seen", "verdict")]
    lines += [(row.promise, row.test, row.target, row.seen, row.verdict) for row in rows.values()]
    for line in lines:
        cells = [textwrap.wrap(cell, width) or [""] for cell, width in zip(line, _WIDTHS, strict=True)]
        for index in range(max(map(len, cells))):
            texts = [cell[index] if index < len(cell) else "" for cell in cells]
            print("  ".join(text.ljust(width) for text, width in zip(texts, _WIDTHS, strict=True)).rstrip())
        print("  ".join("-" * width for width in _WIDTHS))


def _memory() -> str | None:
    """A folder in memory, if there is one: processes die here, not disks."""
    return "/dev/shm" if os.access("/dev/shm", os.W_OK) else None


if __name__ == "__main__":
    sys.exit(main())
