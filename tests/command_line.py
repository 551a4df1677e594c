"""The command line in processes of its own, and what a verb has said."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import psutil

#: Generous, because the machine may be busy; nothing waits for longer than it must.
PATIENCE_S = 120.0
COMMAND = [str(Path(sys.executable).with_name("alpot"))]


class Said(NamedTuple):
    code: int
    out: str
    err: str


class Run:
    """A verb in a process of its own, and all processes that it started."""

    def __init__(self, *arguments: object, cwd: Path, environment: Mapping[str, str] | None = None) -> None:
        self.mark = str(time.monotonic_ns())
        self.process = subprocess.Popen(
            [*COMMAND, *map(str, arguments)],
            cwd=cwd,
            env={**os.environ, **(environment or {}), "OMP_NUM_THREADS": "1", "ALPOT_TEST": self.mark},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def end(self) -> Said:
        out, err = self.process.communicate(timeout=PATIENCE_S)
        return Said(self.process.returncode, out, err)

    def descendants(self) -> list[psutil.Process]:
        found = []
        for process in psutil.process_iter():
            try:
                is_other = process.pid != self.process.pid and process.status() != psutil.STATUS_ZOMBIE
                if is_other and process.environ().get("ALPOT_TEST") == self.mark:
                    found.append(process)
            except psutil.Error:
                continue  # it has just ended, or is none of ours
        return found

    def clear(self) -> None:
        """Kills whatever is left."""
        self.process.kill()
        self.process.communicate()
        for process in self.descendants():
            process.kill()


def until(claim: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not claim():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.01)
