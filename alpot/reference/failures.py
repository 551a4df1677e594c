"""Gives every failure of a reference code its class; what follows from the class is the policy's matter.

ASE's calculators fail in many ways: some raise ASE's own exceptions, some those of ``subprocess``, some their own.
"""

from __future__ import annotations

import re
import subprocess
import traceback
from pathlib import Path

from ase.calculators.calculator import BadConfiguration, CalculationFailed, EnvironmentError, ReadError, SCFError

from alpot.errors import FailureClass, ReferenceError

#: Lines of traceback and of the code's newest file that are kept as evidence.
EVIDENCE_LINES = 20
#: Bytes at the end of the newest file that are looked at.
_TAIL_BYTES = 8192


def as_reference_error(error: Exception, directory: Path, *, name: str) -> ReferenceError:
    """Names a failure.

    Args:
        error: whatever the code raised.
        directory: the scratch directory; the end of the newest file in it becomes evidence.
        name: name of the reference.

    Returns:
        The exception to raise ``from error``; ``error`` itself where it is one already.
    """
    if isinstance(error, ReferenceError):
        return error
    failure = classify(error, directory)
    cause = str(error).strip() or "no message"
    message = f"reference {name!r} failed ({failure.value}): {type(error).__name__}: {cause}"
    return ReferenceError(message, failure=failure, evidence=evidence(error, directory))


def classify(error: Exception, directory: Path) -> FailureClass:
    """The class of an exception of a code that worked in ``directory``."""
    if isinstance(error, MemoryError):
        return FailureClass.OUT_OF_MEMORY
    # GPAW and others have their own exceptions for this; their names are the only thing they share.
    if isinstance(error, SCFError) or any("Convergence" in kind.__name__ for kind in type(error).__mro__):
        return FailureClass.NOT_CONVERGED
    if isinstance(error, ReadError):
        return FailureClass.BAD_OUTPUT
    if isinstance(error, (BadConfiguration, EnvironmentError, ImportError)):
        return FailureClass.MISSING_PROGRAM
    if isinstance(error, FileNotFoundError):
        # Only a file within the scratch directory is something that the code itself should have written.
        missing = Path(str(error.filename)).resolve()
        is_output = error.filename is not None and missing.is_relative_to(directory.resolve())
        return FailureClass.BAD_OUTPUT if is_output else FailureClass.MISSING_PROGRAM
    return _of_exit_status(_exit_status(error))


def _exit_status(error: Exception) -> int | None:
    if isinstance(error, subprocess.CalledProcessError):
        return error.returncode
    # ASE's FileIOCalculator wraps the error of subprocess, or of a missing program, or only tells the status.
    if isinstance(error, CalculationFailed):
        told = re.search(r"with error code (-?\d+)\s*$", str(error))
        if told:
            return int(told[1])
        if isinstance(error.__cause__, subprocess.CalledProcessError):
            return error.__cause__.returncode
        if isinstance(error.__cause__, FileNotFoundError):
            return 127
    return None


def _of_exit_status(status: int | None) -> FailureClass:
    # 126 and 127: a shell could not start the program. SIGKILL comes from the kernel when memory has run out.
    if status in (126, 127):
        return FailureClass.MISSING_PROGRAM
    if status in (-9, 137):
        return FailureClass.OUT_OF_MEMORY
    return FailureClass.UNKNOWN


def evidence(error: BaseException, directory: Path) -> str:
    """The last lines of the traceback and of the newest file in the scratch directory."""
    lines = "".join(traceback.format_exception(error)).strip().splitlines()[-EVIDENCE_LINES:]
    try:
        files = [path for path in directory.iterdir() if path.is_file() and path.stat().st_size > 0]
        newest = max(files, key=lambda path: path.stat().st_mtime, default=None)
        if newest is not None:
            lines += [f"--- end of {newest.name}", *_tail(newest)]
    except OSError as problem:
        lines.append(f"--- the scratch directory could not be read: {problem}")
    return "\n".join(lines)


def _tail(path: Path) -> list[str]:
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - _TAIL_BYTES))
        content = file.read()
    if b"\0" in content:
        return ["(not text)"]
    return content.decode(errors="replace").splitlines()[-EVIDENCE_LINES:]
