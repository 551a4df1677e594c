#!/usr/bin/env python3
"""Measures the engine against torchani, an older revision of itself and NEP, and prints what is met of the targets.

Both sides of a ratio take turns in one process, on the same frames and with the same weights: the published ANI-Al
from ``../shared/ani-al`` where it is, else random weights of that shape. Each process is started with one thread, and
with default or tuned malloc. Usage: ``scripts/bench_engine.py [--quick] [--large] [--output FILE.json]``.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from statistics import median
from typing import Any

import psutil
from engine_benchmarks.frames import write_frames
from engine_benchmarks.inference import CONTESTANTS
from engine_benchmarks.isolation import ROOT, MeasurementError, run_isolated, run_rows
from engine_benchmarks.measuring import Ratio, Row, Timings
from engine_benchmarks.quickstart import compare_revisions
from engine_benchmarks.report import machine_facts, print_rows

GROUPS = ("inference", "stages", "dynamics", "training", "quickstart", "nep", "threads", "cold", "large")
ANI_AL = ROOT.parent / "shared" / "ani-al"
#: Repetitions of the cubic cell: 1,000,188 atoms.
MILLION = 63
GIB = 2**30


def main() -> None:
    """Measure what the arguments ask for."""
    arguments = parse_arguments()
    weights = str(ANI_AL) if ANI_AL.is_dir() else None
    facts = machine_facts() | {"weights": "ANI-Al" if weights else "random (../shared/ani-al is not there)"}
    print(", ".join(f"{name} {value}" for name, value in facts.items()), "\n", flush=True)
    groups: dict[str, list[Row]] = {}
    with tempfile.TemporaryDirectory() as frames:
        write_frames(Path(frames), sizes_of(arguments))
        for group in arguments.only:
            groups[group] = measure(group, arguments, {"weights": weights, "frames": frames})
            print_rows(group, groups[group])
    if wanted := [row for rows in groups.values() for row in rows if row.must is not None]:
        print_rows("what is asked for", wanted)
    if arguments.output:
        rows = {group: [row.to_json() for row in rows] for group, rows in groups.items()}
        arguments.output.write_text(json.dumps({"machine": facts, "rows": rows}, indent=1, ensure_ascii=False) + "\n")


def parse_arguments() -> argparse.Namespace:
    """Options; ``--large`` and ``--only`` settle which groups are measured."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--quick", action="store_true", help="108 atoms, few repeats, tuned malloc: a minute or two")
    parser.add_argument("--large", action="store_true", help="a million atoms too: minutes, and gigabytes")
    parser.add_argument("--only", nargs="+", choices=GROUPS, help="measure these groups only")
    parser.add_argument("--baseline", default="72ee752", help="git revision that the quickstart's training is held to")
    parser.add_argument("--nep", help="file of UNEP-v1; without it one of its shape is written with random numbers")
    parser.add_argument("--output", type=Path, help="write all figures to this file as JSON")
    arguments = parser.parse_args()
    arguments.only = arguments.only or [group for group in GROUPS if group != "large" or arguments.large]
    return arguments


def sizes_of(arguments: argparse.Namespace) -> list[int]:
    """Numbers of atoms of the frames; the targets are for the first."""
    return [108] if arguments.quick else [108, 500, 4000]


def measure(group: str, arguments: argparse.Namespace, common: dict[str, Any]) -> list[Row]:
    """The rows of one group."""
    quick, sizes = arguments.quick, sizes_of(arguments)
    repeats, weights = 3 if quick else 9, {"weights": common["weights"]}
    if group == "inference":
        job = {**common, "repeats": repeats, "budget_s": 5.0 if quick else 20.0}
        return [row for n_atoms in sizes for row in inference_rows(n_atoms, quick, job)]
    if group == "stages":
        return run_rows("stages", {**common, "n_atoms": sizes[-1], "repeats": repeats})
    if group == "dynamics":
        return run_rows("dynamics", {**common, "sizes": sizes[:2], "malloc": "tuned", "repeats": 3 if quick else 5})
    if group == "training":
        job = {**weights, "n_frames": 40 if quick else 400, "epochs": 3}
        return run_rows("training_epoch", job)
    if group == "quickstart":
        return compare_revisions(arguments.baseline, repeats=1 if quick else 3)
    if group == "nep":
        job = {**common, "sizes": sizes, "malloc": "tuned", "model": arguments.nep}
        return run_rows("nep", {**job, "repeats": repeats})
    if group == "threads":
        return thread_rows(weights, repetitions=5 if quick else 10, rounds=1 if quick else 3)
    if group == "cold":
        return cold_rows(common)
    return large_rows(weights)


def inference_rows(n_atoms: int, quick: bool, job: dict[str, Any]) -> list[Row]:
    """All contestants on the frames of one size, if they agree; what takes minutes there is left out of the largest."""
    is_large = n_atoms > 500
    contestants = [name for name in CONTESTANTS if name != "separate" or not is_large]
    mallocs = ("tuned",) if quick or is_large else ("tuned", "default")
    frames = {name: job[name] for name in ("weights", "frames")} | {"n_atoms": n_atoms}
    try:
        problem = run_isolated("agreement", frames)
    except MeasurementError as error:
        problem = str(error)
    if problem:
        return [Row(what=f"inference, {n_atoms} atoms", reason=problem)]
    return [
        row
        for malloc in mallocs
        for name in contestants
        for row in run_rows(
            "inference", {**job, "n_atoms": n_atoms, "contestant": name, "malloc": malloc}, malloc=malloc
        )
    ]


def thread_rows(weights: dict[str, Any], *, repetitions: int, rounds: int) -> list[Row]:
    """Wall time of one evaluation with one and with two threads, in processes that take turns."""
    wall = {1: Timings(), 2: Timings()}
    try:
        for _ in range(rounds):
            for threads, timings in wall.items():
                answer = run_isolated("scale", {**weights, "repetitions": repetitions, "repeats": 5}, threads=threads)
                timings.add(cpu=answer["wall"], wall=answer["wall"])
    except MeasurementError as error:
        return [Row(what="two threads / one", malloc="tuned", reason=str(error))]
    return [thread_row(int(answer["n_atoms"]), wall[2], wall[1])]


def thread_row(n_atoms: int, two: Timings, one: Timings) -> Row:
    """Two threads (first figure) against one; wall time in both ratios, because more threads cost processor time."""
    return Row(
        what=f"rattled {n_atoms}: alpot's calculator, mean forces, wall, two threads / one",
        malloc="tuned",
        unit="µs/atom",
        ours=median(two.wall) / n_atoms * 1e6,
        other=median(one.wall) / n_atoms * 1e6,
        ratio=Ratio.of(two, one),
    )


def cold_rows(common: dict[str, Any]) -> list[Row]:
    """The first call of a process, with nothing compiled and with what an earlier process has left on disk."""
    rows = []
    with tempfile.TemporaryDirectory() as empty:
        for state in ("nothing compiled yet", "compiled code on disk"):
            try:
                spent = run_isolated("cold_start", common, environment={"NUMBA_CACHE_DIR": empty})
            except MeasurementError as error:
                return [Row(what="cold start", malloc="tuned", reason=str(error))]
            rows += [
                Row(what=f"cold start, {state}: {name}", malloc="tuned", unit="s", ours=value)
                for name, value in spent.items()
            ]
    return rows


def large_rows(weights: dict[str, Any]) -> list[Row]:
    """A million atoms in one call: memory with one thread, and what two threads gain."""
    what = "1,000,188 atoms in one call, mean forces: memory held at the most, above that before the call"
    # Beyond twice of what is asked for the figure is of no interest, and the machine may not be ours alone.
    limit = min(psutil.virtual_memory().available - 2 * GIB, 16 * GIB)
    job = {**weights, "repetitions": MILLION, "repeats": 1}
    answers = {}
    for threads in (1, 2):
        try:
            answers[threads] = run_isolated("scale", job, threads=threads, memory_limit=limit)
        except MeasurementError as error:
            return [Row(what=what, malloc="tuned", must=8.0, aim=4.0, reason=str(error))]
    one, two = (Timings([answer["wall"]], [answer["wall"]]) for answer in answers.values())
    peak, before = answers[1]["peak"] / GIB, answers[1]["before"] / GIB
    return [
        Row(
            what=f"{what} ({before:.2f} GiB before, {peak:.2f} GiB at the most)",
            malloc="tuned",
            unit="GiB",
            ours=peak - before,
            must=8.0,
            aim=4.0,
        ),
        thread_row(int(answers[1]["n_atoms"]), two, one),
    ]


if __name__ == "__main__":
    main()
