"""Starts a reference code under MPI, in the way that the platform has chosen for its nodes.

The platform leaves the beginning of the command, e.g. ``srun -n 4``, in the worker's environment; the adapter of a code
puts it before its own command. Both are lists of arguments: no shell ever sees them.
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Sequence

from alpot.errors import UsageError

#: A JSON list of arguments, in which ``{node}`` stands for the node that the worker runs on, ``{ranks}`` for the number
#: of MPI ranks, and ``{ranks_per_node}`` for those on each of its nodes.
VARIABLE = "ALPOT_LAUNCHER"
#: The numbers of ranks and nodes that a worker has.
RANKS, NODES = "ALPOT_RANKS", "ALPOT_NODES"
#: The number of processor cores that a worker holds.
CORES = "ALPOT_CORES"


def with_launcher(command: Sequence[str], *, share: float = 1.0) -> list[str]:
    """The command that runs a reference code on the ranks that its worker was given.

    Args:
        command: program and arguments, as for a single process.
        share: of the ranks that are to be used; fewer need less memory.

    Returns:
        The same with the platform's launcher before it; unchanged where there is none.

    Raises:
        UsageError: an environment variable is not what the platform should have made of it.
    """
    text = os.environ.get(VARIABLE, "[]")
    try:
        prefix = json.loads(text)
    except ValueError:
        prefix = None
    if not isinstance(prefix, list) or not all(isinstance(argument, str) for argument in prefix):
        raise UsageError(f'the environment variable {VARIABLE} is {text!r}; it must be a JSON list, e.g. ["mpirun"]')
    nodes = _count(NODES)
    ranks = allotted_ranks(share)
    values = {
        "{node}": os.environ.get("SLURMD_NODENAME") or socket.gethostname(),
        "{ranks}": str(ranks),
        "{ranks_per_node}": str(-(-ranks // nodes)),
    }
    for name, value in values.items():
        prefix = [argument.replace(name, value) for argument in prefix]
    return [*prefix, *command]


def allotted_ranks(share: float = 1.0) -> int:
    """MPI ranks that this worker was given, or a share of them; at least one."""
    return max(1, round(share * _count(RANKS)))


def allotted_cores() -> int:
    """Processor cores that this worker holds, whether its calculation uses them or not."""
    return _count(CORES)


def _count(variable: str) -> int:
    text = os.environ.get(variable, "1")
    if not text.isdecimal() or int(text) < 1:
        raise UsageError(f"the environment variable {variable} is {text!r}; it must be a whole number above 0")
    return int(text)
