"""Ends a program with all that it has started, wherever that went; also when nobody else is left to do so.

What a program starts inherits its environment, where a mark is put. So it is found even if it has begun a session of
its own and lost its parents, as daemons do. Linux only: elsewhere there is no ``/proc``, and nothing is found.

As a script it waits for its parent's death, and kills what the program has left; a parent that lives ends it when there
is nothing left to do. It needs nothing but the beginnings of the standard library, and so starts in some milliseconds.
"""

import contextlib
import os
import select
import signal
import sys

#: The environment variable that holds the mark.
VARIABLE = "ALPOT_RUN"
#: Rounds of looking and killing: what forks faster than it is killed has to be met several times.
_ROUNDS = 20
#: s between two looks whether the parent is still the same.
_INTERVAL_S = 2.0


def kill_marked(mark: str) -> None:
    """Kills all processes that carry the mark in their environment, until none is left; never this one."""
    for _ in range(_ROUNDS):
        found = [number for number in _processes() if number != os.getpid() and _is_marked(number, mark)]
        for number in found:
            with contextlib.suppress(OSError):
                os.kill(number, signal.SIGKILL)
        if not found:
            return


def _processes() -> list[int]:
    try:
        return [int(name) for name in os.listdir("/proc") if name.isdecimal()]  # noqa: PTH208 - pathlib starts slowly
    except OSError:
        return []


def _is_marked(number: int, mark: str) -> bool:
    try:
        with open(f"/proc/{number}/environ", "rb") as file:  # noqa: PTH123 - pathlib starts slowly
            return f"{VARIABLE}={mark}".encode() in file.read().split(b"\0")
    except OSError:
        return False


def _watch(mark: str, parent: int) -> None:
    while os.getppid() == parent:
        is_readable, _, _ = select.select([sys.stdin.fileno()], [], [], _INTERVAL_S)
        if is_readable:
            break  # nobody writes: the other end is closed
    kill_marked(mark)


if __name__ == "__main__":
    _watch(sys.argv[1], int(sys.argv[2]))
