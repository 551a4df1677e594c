#!/usr/bin/env python3
"""Counts the labels that active learners need for the same true error, on one engine, from the same first labels.

The truth is a reference that costs nothing: the published ANI-Al from ``../shared/ani-al``, EMT, or an embedded-atom
file. The error is that on frames of the reference's own dynamics, which no policy sees (``active_learning/frames.py``);
the rules are in ``active_learning/policies.py`` and ``alpot_policy.py``. Each run leaves a part in the folder
``--work``; parts are merged into ``--output``, from which tables and the figure beside it follow. Usage:
``scripts/bench_active_learning.py [--reference ani] [--policies all] [--seeds 0 1 2] [--labels 135] [--processes 2]``.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import tempfile
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any

from active_learning.plan import Plan, full, quick
from active_learning.plot import plot
from active_learning.results import merge, read, with_settings, write
from active_learning.run import ABLATIONS, POLICIES, open_bench, reference_settings, run_policy
from active_learning.tables import print_results
from engine_benchmarks.report import machine_facts

ROOT = Path(__file__).parents[1]
OUTPUT = ROOT / "reference_data" / "benchmarks" / "active_learning.json"
#: One thread per process, and a malloc that gives nothing back: torch then takes half to two thirds of the time.
_ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "MALLOC_MMAP_THRESHOLD_": "4000000000",
    "MALLOC_TRIM_THRESHOLD_": "4000000000",
}


def main() -> None:
    """Run what the arguments ask for, then merge, print and draw all that there is."""
    arguments = parse_arguments()
    parts = arguments.work / "parts"
    parts.mkdir(parents=True, exist_ok=True)
    if not arguments.summarise:
        os.environ.update(_ENVIRONMENT)
        plan = (quick if arguments.quick else full)(arguments.labels)
        policies = [*arguments.policies, *(ABLATIONS if arguments.ablations else ())]
        with ProcessPoolExecutor(
            arguments.processes, mp_context=multiprocessing.get_context("spawn"), max_tasks_per_child=1
        ) as pool:
            # The bench is made by one, and read by all.
            pool.submit(
                open_bench, reference_settings(arguments.reference), arguments.folder, arguments.work, plan
            ).result()
            runs = {
                pool.submit(one_run, name, seed, plan, arguments.reference, arguments.folder, arguments.work): name
                for seed in arguments.seeds
                for name in policies
            }
            for run in as_completed(runs):
                print(run.result(), flush=True)
    content = merge(read(arguments.output), [json.loads(path.read_text()) for path in sorted(parts.glob("*.json"))])
    write(arguments.output, content)
    print_results(content["runs"])
    plot(content["runs"], arguments.reference, arguments.output.with_suffix(".svg"))


def one_run(name: str, seed: int, plan: Plan, reference: str, folder: Path, work: Path) -> str:
    """One policy at one seed; leaves its part, and says how it went."""
    import torch

    torch.set_num_threads(1)
    settings = reference_settings(reference)
    bench = open_bench(settings, folder, work, plan)
    with tempfile.TemporaryDirectory() as scratch:
        run: dict[str, Any] = {"reference": reference, **run_policy(name, seed, plan, bench, Path(scratch))}
    facts = machine_facts()
    run |= {"commit": facts.pop("revision"), "machine": facts}
    part = with_settings(run, {"reference": settings.model_dump(mode="json"), **plan.to_json()})
    path = work / "parts" / f"{Path(reference).stem}-{name}-{seed}.json"
    path.write_text(json.dumps(part))
    errors = ", ".join(f"{point['labels']}: {1e3 * point['force']:.0f}" for point in run["curve"])
    return f"{name}, seed {seed}: {run['seconds']:.0f} core-s; labels: force error in meV/Å = {errors}"


def parse_arguments() -> argparse.Namespace:
    """What is asked for on the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--reference", default="ani", help="ani, emt, or an embedded-atom file within --folder")
    parser.add_argument("--folder", type=Path, default=ROOT.parent / "shared", help="where the reference's files are")
    parser.add_argument("--policies", nargs="+", default=list(POLICIES), choices=[*POLICIES], metavar="POLICY")
    parser.add_argument("--ablations", action="store_true", help="and alpot without each of its parts")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2], metavar="SEED")
    parser.add_argument("--labels", type=int, default=135, help="budget of each run")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--quick", action="store_true", help="a smoke test: tiny networks, a few frames")
    parser.add_argument("--summarise", action="store_true", help="run nothing; merge, print and draw what is there")
    parser.add_argument(
        "--work", type=Path, default=ROOT / "build" / "active_learning", help="bench, and parts of runs"
    )
    parser.add_argument("--output", type=Path, default=OUTPUT)
    return parser.parse_args()


if __name__ == "__main__":
    main()
