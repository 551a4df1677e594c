"""Runs one program and leaves nothing of it behind, whatever happens; tells what it cost."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from alpot.reference import guard

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

    All that it has started is killed when it ends, or when an exception (such as that of a time limit) comes in
    between: the ranks of MPI outlive their launcher. Should this process itself be killed, the kernel kills the
    program, where ``setpriv`` of util-linux is there to ask for it, and a guard kills what the program has started.

    Args:
        command: program and arguments; no shell sees them.
        directory: where it runs.
        output: file that gets its standard output.

    Raises:
        OSError: it cannot be started.
    """
    begin = time.monotonic()
    since = time.time()
    mark = uuid.uuid4().hex
    with (
        output.open("wb") as out,
        (directory / STANDARD_ERROR).open("wb") as errors,
        _guarded(mark),
        subprocess.Popen(
            [*_bound_to_this_process(), *command],
            cwd=directory,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=errors,
            start_new_session=True,
            env={**os.environ, guard.VARIABLE: mark},
        ) as process,
    ):
        try:
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
        finally:
            _end_session(process, since, mark)
    return Run(
        status=process.returncode,
        wall_s=time.monotonic() - begin,
        cpu_s=usage.ru_utime + usage.ru_stime,
        peak_memory_MB=usage.ru_maxrss / 1024,
    )


def _bound_to_this_process() -> list[str]:
    setpriv = shutil.which("setpriv")
    return [setpriv, "--pdeathsig", "KILL", "--"] if setpriv else []


@contextmanager
def _guarded(mark: str) -> Iterator[None]:
    """Has a guard in the meantime, in case that this process is killed."""
    with subprocess.Popen(
        [sys.executable, "-I", "-S", guard.__file__, mark, str(os.getpid())],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    ) as process:
        try:
            yield
        finally:
            process.kill()


def _end_session(process: subprocess.Popen[bytes], since: float, mark: str) -> None:
    """Kills all processes that belong to the program: those of its session, its descendants, and all with its mark."""
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
    guard.kill_marked(mark)
    if process.returncode is None:
        process.wait()
