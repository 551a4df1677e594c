"""Ends processes at bad moments, so that tests can look at what is left."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

#: Ends the process before its k-th operation on files. fsync raises no audit event, so it is wrapped.
_EXIT_AT = """
import os, sys
from pathlib import Path
left = int(sys.argv[1])
armed = False
def step():
    global left
    if armed:
        left -= 1
        if left < 0:
            os._exit(77)
def hook(event, args):
    if event in ("open", "os.rename", "os.link", "os.remove", "os.mkdir", "os.truncate", "sqlite3.connect"):
        step()
sys.addaudithook(hook)
real_fsync = os.fsync
def fsync(descriptor):
    step()
    real_fsync(descriptor)
os.fsync = fsync
"""


def exits_before(operation: int, imports: str, body: str, *arguments: object) -> bool:
    """Runs ``body`` (its arguments are in sys.argv[2:]) and ends it before its n-th file operation.

    Returns:
        Whether it was ended; False if it has fewer operations and finished.
    """
    script = f"{_EXIT_AT}\n{imports}\narmed = True\n{body}\narmed = False\n"
    command = [sys.executable, "-c", script, str(operation), *map(str, arguments)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert result.returncode in (0, 77), result.stderr
    return result.returncode == 77


def acknowledged_before_kill(script: str, seconds: float, *arguments: object) -> list[str]:
    """Runs ``script``, kills it with SIGKILL after its first line and some seconds; returns the whole lines it said."""
    process = subprocess.Popen([sys.executable, "-c", script, *map(str, arguments)], stdout=subprocess.PIPE, text=True)
    with process:
        assert process.stdout is not None
        first = process.stdout.readline()
        time.sleep(seconds)
        os.kill(process.pid, signal.SIGKILL)
        text = first + process.stdout.read()
    return [line.strip() for line in text.splitlines(keepends=True) if line.endswith("\n")]


def temporaries(folder: Path) -> list[Path]:
    """Temporary files anywhere below a folder."""
    return [path for path in folder.rglob("*") if ".tmp" in path.name]
