"""The part of a job script that is ours: environment of the workers, then the user's own lines, each quoted once."""

from __future__ import annotations

import json
import os
import shlex
import sys
from pathlib import Path

from alpot.config import Pool, Starter

#: Environment of every worker: one thread each (oversubscription costs 20 to 50 times), and a malloc that keeps memory
#: instead of returning it to the system after each step, which makes torch on a CPU up to twice as fast.
WORKER_ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MALLOC_MMAP_THRESHOLD_": "4000000000",
    "MALLOC_TRIM_THRESHOLD_": "4000000000",
}
#: Open MPI counts the job's tasks, of which there is one, and pins all programs of a node to the same first cores.
_MPI_ENVIRONMENT = {
    "OMPI_MCA_rmaps_base_oversubscribe": "1",
    "OMPI_MCA_hwloc_base_binding_policy": "none",
    "PRTE_MCA_rmaps_default_mapping_policy": ":oversubscribe",
    "PRTE_MCA_hwloc_default_binding_policy": "none",
}


def worker_lines() -> list[str]:
    """Shell lines that every worker needs, on any platform."""
    # Parsl finds its worker's program by PATH, and the environment need not be activated.
    lines = [f"export PATH={shlex.quote(str(Path(sys.executable).parent))}:$PATH"]
    if path := os.environ.get("PYTHONPATH"):  # not every scheduler hands the environment on
        lines.append(f"export PYTHONPATH={shlex.quote(path)}")
    return lines


def environment_lines(environment: dict[str, str]) -> list[str]:
    """Shell lines that export variables."""
    return [f"export {name}={shlex.quote(value)}" for name, value in environment.items()]


def block_lines(pool: Pool, starter: Starter) -> list[str]:
    """All lines that the job of a block runs before it starts its workers.

    Args:
        pool: the block's pool; its ``worker_init`` is copied verbatim.
        starter: what starts MPI ranks, unless the pool says otherwise.
    """
    prefix = launch_prefix(pool, starter)
    environment = WORKER_ENVIRONMENT | {"OMP_NUM_THREADS": str(pool.threads_per_rank)}
    if prefix and prefix[0] in ("mpirun", "mpiexec"):
        environment |= _MPI_ENVIRONMENT
    return [
        f"export ALPOT_JOB_END=$(( $(date +%s) + {pool.walltime_s} ))",
        # What the scheduler signals before it kills is for the tasks, which save themselves; if the job's own processes
        # died of it, the tasks would be killed at once.
        "trap '' TERM",
        *environment_lines(environment),
        *pool.worker_init,
        *worker_lines(),
        *environment_lines({"ALPOT_LAUNCHER": json.dumps(prefix), "ALPOT_CORES": str(pool.cores)}),
    ]


def launch_prefix(pool: Pool, starter: Starter) -> list[str]:
    """How a reference code is started on the ranks of one worker: the beginning of a command.

    Args:
        pool: ranks, threads and nodes.
        starter: the program that does it, unless the pool says otherwise.

    Returns:
        A list of arguments, empty where the code is started as it is; ``{node}`` stands for the worker's node.
    """
    program = pool.mpi or (starter if pool.ranks > 1 else None)
    if program is None:
        return []
    ranks = str(pool.ranks)
    if program == "srun":
        return ["srun", *_srun_arguments(pool)]
    if program == "jsrun":
        return ["jsrun", f"--nrs={ranks}", "--tasks_per_rs=1", f"--cpu_per_rs={pool.threads_per_rank}"]
    if program == "aprun":
        return ["aprun", "-n", ranks, "-d", str(pool.threads_per_rank)]
    return [program, "-n", ranks]


def is_spanning(pool: Pool) -> bool:
    """Whether one worker has all nodes of its block for its MPI ranks."""
    return pool.nodes > 1 and pool.launcher == "single"


def _srun_arguments(pool: Pool) -> list[str]:
    nodes = pool.nodes if is_spanning(pool) else 1
    arguments = [
        f"--nodes={nodes}",
        f"--ntasks={pool.ranks}",
        f"--ntasks-per-node={-(-pool.ranks // nodes)}",  # the job's own value would be inherited: 1
        f"--cpus-per-task={pool.threads_per_rank}",
        "--exact",  # cores of its own for each of the labels that run side by side
        "--mem=0",  # or the first would hold all memory, and the others wait for it
    ]
    return arguments if nodes == pool.nodes else [*arguments, "--nodelist={node}"]
