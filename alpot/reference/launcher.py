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

#: A JSON list of arguments. ``{node}`` in an argument stands for the name of the node that the worker runs on.
VARIABLE = "ALPOT_LAUNCHER"
#: Processor cores of one worker; not set where a worker has one.
CORES = "ALPOT_CORES"


def with_launcher(command: Sequence[str]) -> list[str]:
    """The command that runs a reference code on the ranks that its worker was given.

    Args:
        command: program and arguments, as for a single process.

    Returns:
        The same with the platform's launcher before it; unchanged where there is none.

    Raises:
        UsageError: the environment variable is not a list of arguments.
    """
    text = os.environ.get(VARIABLE, "[]")
    try:
        prefix = json.loads(text)
    except ValueError:
        prefix = None
    if not isinstance(prefix, list) or not all(isinstance(argument, str) for argument in prefix):
        raise UsageError(f'the environment variable {VARIABLE} is {text!r}; it must be a JSON list, e.g. ["mpirun"]')
    node = os.environ.get("SLURMD_NODENAME") or socket.gethostname()
    return [argument.replace("{node}", node) for argument in prefix] + list(command)


def allotted_cores() -> int:
    """The processor cores that a calculation of this worker occupies, whether or not the code makes use of them.

    Raises:
        UsageError: the environment variable is not a count.
    """
    text = os.environ.get(CORES, "1")
    if not (text.isascii() and text.isdigit() and int(text) > 0):
        raise UsageError(f"the environment variable {CORES} is {text!r}; it must be a number of cores, 1 or more")
    return int(text)
