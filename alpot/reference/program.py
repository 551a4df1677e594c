"""Runs one program and leaves nothing of it behind, whatever happens; tells what it cost."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from alpot.reference import guard

#: s until the memory of a program is looked at first, and at most between two looks.
_FIRST_LOOK_S, _LONGEST_PAUSE_S = 0.01, 10.0
#: File beside the output that gets standard error.
STANDARD_ERROR = "standard_error_of_program.txt"


@dataclass(frozen=True)
class Run:
    """How a program ended and what it took.

    Attributes:
        status: exit code; −n if signal n ended it.
        wall_s: s.
        cpu_s: s, of all its processes on this machine.
        peak_memory_MB: MB, of all its processes on this machine together, as far as was seen: what it took after the
            last look, at most a quarter of its time, is missed. None for a program that ended within the first.
    """

    status: int
    wall_s: float
    cpu_s: float
    peak_memory_MB: float | None  # noqa: N815 - a unit


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
            peak = _watch_memory(process)
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
        finally:
            _end_session(process, since, mark)
    return Run(
        status=process.returncode,
        wall_s=time.monotonic() - begin,
        cpu_s=usage.ru_utime + usage.ru_stime,
        peak_memory_MB=peak,
    )


def _watch_memory(process: subprocess.Popen[bytes]) -> float | None:
    """Waits for the end of a program; returns the largest sum of its processes' high-water marks in MB.

    The kernel's own account of it would do, did it not begin with the memory of the process that was forked: this one.
    """
    peak = None
    pause = _FIRST_LOOK_S
    ended = _when_ended(process)
    while not ended.wait(pause):
        marks = [_high_water_mark(member) for member in _family(process)]
        peak = max(peak or 0.0, round(sum(marks), 1))
        pause = min(1.3 * pause, _LONGEST_PAUSE_S)
    return peak


def _when_ended(process: subprocess.Popen[bytes]) -> threading.Event:
    """Is set when a program has ended, which is still to be waited for. Not every Python has ``os.pidfd_open``."""
    ended = threading.Event()

    def watch() -> None:
        with suppress(ChildProcessError):  # somebody has waited for it already
            os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        ended.set()

    threading.Thread(target=watch, daemon=True).start()
    return ended


def _family(process: subprocess.Popen[bytes]) -> list[psutil.Process]:
    try:
        parent = psutil.Process(process.pid)
        return [parent, *parent.children(recursive=True)]
    except psutil.Error:
        return []


def _high_water_mark(process: psutil.Process) -> float:
    """MB; 0 for a process that has ended."""
    with suppress(OSError, IndexError, ValueError):
        for line in Path(f"/proc/{process.pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    return 0.0


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
    with _no_alarm():
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


@contextmanager
def _no_alarm() -> Iterator[None]:
    """Holds back the alarm of a time limit, which rings again and again, and would interrupt the killing."""
    left, interval = signal.setitimer(signal.ITIMER_REAL, 0.0)
    try:
        yield
    finally:
        if left > 0.0:
            signal.setitimer(signal.ITIMER_REAL, left, interval)
