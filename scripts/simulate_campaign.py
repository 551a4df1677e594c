#!/usr/bin/env python3
"""Runs whole campaigns of thousands of workers on a cluster in virtual time, and prints what was promised and kept.

alpot's own controller, policy, state and ledger run unchanged; tasks, nodes and failures are drawn from the
distributions in ``simulation/workload.py``. The same cluster then runs a generation-synchronous loop in DP-GEN's order,
and ALF's rules. Usage: ``scripts/simulate_campaign.py [--workers N] [--labels M] [--rules all] [--json FILE]``.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from simulation.alf_rules import run_alf
from simulation.alpot_rules import run_alpot
from simulation.ledger_check import measure_replay
from simulation.measures import Run
from simulation.plan import Plan
from simulation.report import Promise, print_promises, print_runs, promises
from simulation.synchronous_rules import run_synchronous

#: Rounds of the synchronous loop that are larger than a generation of alpot: more labels per hour, from staler models.
_LARGER = 4


def main() -> int:
    """Simulates what the arguments ask for; 1 if a promise was not kept."""
    arguments = parse_arguments()
    plan = Plan(workers=arguments.workers, labels=arguments.labels, seed=arguments.seed)
    began = time.perf_counter()
    runs: list[Run] = []
    kept: list[Promise] = []
    more: dict[str, Any] = {}
    if arguments.rules in ("alpot", "all"):
        with tempfile.TemporaryDirectory(prefix="simulated-campaign-", dir=arguments.ledger_directory) as folder:
            runs.append(run_alpot(plan, Path(folder) / "campaign"))
            more["peak_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
            ledger = Path(folder) / "campaign" / "ledger.sqlite"
            more["ledger_mb"] = ledger.stat().st_size / 1e6
            more["replay"] = measure_replay(ledger)
    if arguments.rules in ("synchronous", "all"):
        runs += [run_synchronous(plan), run_synchronous(plan, larger=_LARGER)]
    if arguments.rules in ("alf", "all"):
        runs.append(run_alf(plan))
    more["seconds"] = time.perf_counter() - began
    print(f"{plan.workers:,} workers, {plan.labels:,} label calculations; simulated in {more['seconds']:.0f} s\n")
    print_runs(runs)
    if "replay" in more:
        kept = promises(runs, more["replay"], more["ledger_mb"])
        print_promises(kept)
    if arguments.json:
        content = {"plan": asdict(plan), "workload": asdict(plan.world().workload)} | more
        content |= {"promises": [one.to_json() for one in kept], "runs": [run.to_json() for run in runs]}
        arguments.json.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n")
    return 0 if all(one.is_kept for one in kept) else 1


def parse_arguments() -> argparse.Namespace:
    """Options."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--workers", type=int, default=1000, help="label and explore workers")
    parser.add_argument("--labels", type=int, default=100_000, help="label calculations that the budget allows")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--rules", choices=("alpot", "synchronous", "alf", "all"), default="all")
    parser.add_argument("--ledger-directory", type=Path, help="where the campaign directory is made, e.g. /dev/shm")
    parser.add_argument("--json", type=Path, help="write all figures to this file")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
