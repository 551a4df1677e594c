"""Scheduler faults: scancel, a node that goes down, a walltime, a job without memory, on a real Slurm."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from crash.row import Row

_ROOT = Path(__file__).parents[2]
_TEST = "tests/platforms/test_slurm.py::test_scheduler_faults_are_named_and_cost_nothing"
#: s; jobs must come to their walltime, and Slurm must find out that a node is gone.
_PATIENCE_S = 1200.0


def run(folder: Path, *, quick: bool, processes: int) -> Row:
    """The row of the table; the test starts the cluster, and says in the ledger's words what it wants to see."""
    row = Row("scheduler faults", "scancel, node down, walltime, OOM", "each named, 0 lost")
    if missing := [name for name in ("sbatch", "squeue", "srun") if shutil.which(name) is None]:
        row.seen, row.holds = f"no Slurm: {missing[0]} is not installed (scripts/slurm-cluster start --install)", None
        return row
    if quick:
        row.seen, row.holds = "takes minutes, because a job must come to its walltime: left out of the sample", None
        row.figures = {"left out": True}
        return row
    command = [sys.executable, "-m", "pytest", "-q", "-x", "--no-header", "-p", "no:cacheprovider", _TEST]
    with (folder / "scheduler.log").open("w") as log:
        code = subprocess.run(command, cwd=_ROOT, stdout=log, stderr=log, timeout=_PATIENCE_S, check=False).returncode
    said = (folder / "scheduler.log").read_text().strip().splitlines()
    row.holds = code == 0 and " passed" in said[-1]
    row.seen = "each named in the ledger, 0 of 50 labels lost" if row.holds else said[-1]
    row.complaints = [] if row.holds else said[-25:]
    return row
