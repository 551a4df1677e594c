"""Runs one program and leaves nothing of it behind, whatever happens; tells what it cost."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

#: File beside the output that gets standard error.
STANDARD_ERROR = "standard_error_of_program.txt"


@dataclass(frozen=True)
class Run:
    """How a program ended and what it took.

    Attributes:
        status: exit code; −n if signal n ended it.
        wall_s: s.
        cpu_s: s, of all its processes on this machine.
        peak_memory_MB: MB, of the largest of them.
    """

    status: int
    wall_s: float
    cpu_s: float
    peak_memory_MB: float  # noqa: N815 - a unit


def run_program(command: Sequence[str], directory: Path, output: Path) -> Run:
    """Runs a program to its end in a session of its own.

    All processes of the session are killed when it ends, or when an exception (such as that of a time limit) comes in
    between: the ranks of MPI outlive their launcher. Should this process itself be killed, the kernel kills the
    program, where ``setpriv`` of util-linux is there to ask for it.

    Args:
        command: program and arguments; no shell sees them.
        directory: where it runs.
        output: file that gets its standard output.

    Raises:
        OSError: it cannot be started.
    """
    begin = time.monotonic()
    since = time.time()
    with output.open("wb") as out, (directory / STANDARD_ERROR).open("wb") as errors:
        process = subprocess.Popen(
            [*_bound_to_this_process(), *command],
            cwd=directory,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=errors,
            start_new_session=True,
        )
        try:
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
        finally:
            _end_session(process, since)
    return Run(
        status=process.returncode,
        wall_s=time.monotonic() - begin,
        cpu_s=usage.ru_utime + usage.ru_stime,
        peak_memory_MB=usage.ru_maxrss / 1024,
    )


def _bound_to_this_process() -> list[str]:
    setpriv = shutil.which("setpriv")
    return [setpriv, "--pdeathsig", "KILL", "--"] if setpriv else []


def _end_session(process: subprocess.Popen[bytes], since: float) -> None:
    """Kills all processes that belong to the program: those of its session, and its descendants wherever they are."""
    descendants: set[psutil.Process] = set()
    with suppress(psutil.Error):
        descendants = set(psutil.Process(process.pid).children(recursive=True))
    for member in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            # The time: numbers of processes are used again.
            if os.getsid(member.pid) == process.pid and member.create_time() >= since - 1.0:
                descendants.add(member)
    for member in descendants:
        with suppress(psutil.Error):
            member.kill()
    if process.returncode is None:
        process.wait()
