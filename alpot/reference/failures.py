"""Gives every failure of a reference code its class; what follows from the class is the policy's matter.

ASE's calculators fail in many ways: some raise ASE's own exceptions, some those of ``subprocess``, some their own. An
exception that says what happened decides; then the last lines that the code has written; then how it ended.
"""

from __future__ import annotations

import errno
import re
import signal
import subprocess
import traceback
from pathlib import Path

from ase.calculators.calculator import BadConfiguration, CalculationFailed, EnvironmentError, ReadError, SCFError

from alpot.errors import ConfigError, FailureClass, ReferenceError, UsageError

#: Lines of traceback and of the code's newest file that are kept as evidence.
EVIDENCE_LINES = 20
#: Files, the newest first, whose ends are kept as evidence, and whose ends are searched for what a code says.
_FILES_SHOWN, _FILES_READ = 2, 4
#: Bytes at the end of a file that are looked at.
_TAIL_BYTES = 8192
#: Error numbers that tell of the node's disks, not of the structure.
BROKEN_STORAGE = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS, errno.ESTALE})


_Sayings = tuple[tuple[str, FailureClass], ...]

#: What kernels, batch systems, allocators and disks say when they end or hinder a program, and what it means. Patterns
#: are looked for in single lines, whatever their case; the first that is found counts.
INFRASTRUCTURE: _Sayings = (
    (r"out of memory|out-of-memory|\boom[- ]kill|oom_kill", FailureClass.OUT_OF_MEMORY),
    (r"cannot allocate memory|std::bad_alloc|memoryerror|insufficient memory", FailureClass.OUT_OF_MEMORY),
    (r"(virtual memory|memory allocation|allocation of .*|\ballocate\b.*) failed", FailureClass.OUT_OF_MEMORY),
    (r"exceeded (job |step )?memory limit", FailureClass.OUT_OF_MEMORY),
    (r"due to time limit|maximum (cpu|wall) ?time exceeded|walltime .*exceeded", FailureClass.WALLTIME),
    (r"due to node failure|node_fail|lost connection to (node|daemon)|no route to host", FailureClass.NODE_LOST),
    # A full or broken disk belongs to the node, not to the structure.
    (
        r"no space left on device|disk quota exceeded|input/output error|i/o error|stale file handle",
        FailureClass.NODE_LOST,
    ),
    (r"read-only file system|transport endpoint is not connected", FailureClass.NODE_LOST),
)
#: What shells, loaders and launchers say of a program that cannot be started.
PROGRAMS: _Sayings = (
    (r"error while loading shared libraries|cannot open shared object file", FailureClass.MISSING_PROGRAM),
    (r"command not found|: not found$|execvp error|could not be (found|executed)$", FailureClass.MISSING_PROGRAM),
    (r"unable to (locate|launch|find) .*executable", FailureClass.MISSING_PROGRAM),
    (r"license (is |has )?(not |expired|denied|unavailable)", FailureClass.MISSING_PROGRAM),
)
#: What codes say of themselves, as far as many say it alike.
_CODES: _Sayings = (
    # self-consistency: Quantum ESPRESSO, CP2K, VASP, ABINIT, GPAW, ORCA, FHI-aims, SIESTA, xtb
    # (pw.x counts eigenvalues that are not converged yet in the midst of sound runs)
    (
        r"convergence not achieved|(?<!eigenvalues )not converged|did not converge|failed to converge",
        FailureClass.NOT_CONVERGED,
    ),
    (r"scf (run )?not converge|no convergence|convergence failure|unconverged", FailureClass.NOT_CONVERGED),
    (
        r"too many scf|maximum number of (scf|electronic|self-consistency).*(reached|exceeded)",
        FailureClass.NOT_CONVERGED,
    ),
    (r"diagonali[sz]ation .*fail|error in routine c_bands|edddav: call to zhegv failed", FailureClass.NOT_CONVERGED),
    # structures
    # VASP starts from a charge density of overlapping atoms.
    (
        r"atoms? .*(too close|overlap|coincide)|(?<!density of )(overlapping|coinciding) atoms",
        FailureClass.UNPHYSICAL_GEOMETRY,
    ),
)
SAYINGS: _Sayings = (*INFRASTRUCTURE, *PROGRAMS, *_CODES)
_SAYINGS = tuple((re.compile(pattern, re.IGNORECASE), failure) for pattern, failure in SAYINGS)


def as_reference_error(error: Exception, directory: Path, *, name: str) -> ReferenceError:
    """Names a failure.

    Args:
        error: whatever the code raised, but no ``ReferenceError``, which has its name and must not be its own cause.
        directory: the scratch directory; the end of the newest file in it becomes evidence.
        name: name of the reference.

    Returns:
        The exception to raise ``from error``.
    """
    if isinstance(error, UsageError):  # no other frame would fare better before the user has mended it
        return ReferenceError(
            f"reference {name!r} cannot work here: {error}",
            failure=FailureClass.WRONG_INPUT if isinstance(error, ConfigError) else FailureClass.MISSING_PROGRAM,
            evidence=evidence(error, directory),
        )
    failure = classify(error, directory)
    cause = str(error).strip() or "no message"
    message = f"reference {name!r} failed ({failure.value}): {type(error).__name__}: {cause}"
    return ReferenceError(message, failure=failure, evidence=evidence(error, directory))


def classify(error: BaseException, directory: Path) -> FailureClass:
    """The class of an exception of a code that worked in ``directory``."""
    told = _of_exception(error, directory)
    if told is FailureClass.UNKNOWN:
        told = _of_lines(_last_lines(error, directory))
    if told is FailureClass.UNKNOWN:
        told = of_exit_status(_exit_status(error))
    return told


def _of_exception(error: BaseException, directory: Path) -> FailureClass:
    if isinstance(error, MemoryError):
        return FailureClass.OUT_OF_MEMORY
    # GPAW and others have their own exceptions for this; their names are the only thing they share.
    if isinstance(error, SCFError) or any("Convergence" in kind.__name__ for kind in type(error).__mro__):
        return FailureClass.NOT_CONVERGED
    if isinstance(error, subprocess.TimeoutExpired):
        return FailureClass.WALLTIME
    if isinstance(error, OSError) and error.errno in BROKEN_STORAGE:
        return FailureClass.NODE_LOST
    if isinstance(error, OSError) and error.errno == errno.ENOMEM:
        return FailureClass.OUT_OF_MEMORY
    if isinstance(error, (BadConfiguration, EnvironmentError, ImportError)):
        return FailureClass.MISSING_PROGRAM
    if isinstance(error, FileNotFoundError):
        # Only a file within the scratch directory is something that the code itself should have written.
        missing = Path(str(error.filename)).resolve()
        is_output = error.filename is not None and missing.is_relative_to(directory.resolve())
        return _why_no_output(error, directory) if is_output else FailureClass.MISSING_PROGRAM
    if isinstance(error, ReadError):
        return _why_no_output(error, directory)
    return FailureClass.UNKNOWN


def _why_no_output(error: BaseException, directory: Path) -> FailureClass:
    """A missing or broken output is what one sees; what the code said before is why."""
    told = _of_lines(_last_lines(error, directory))
    return FailureClass.BAD_OUTPUT if told is FailureClass.UNKNOWN else told


def _last_lines(error: BaseException, directory: Path) -> list[str]:
    """The exception's own words, what it kept of the program's output, and the ends of the files in the directory."""
    lines = str(error).splitlines()
    for kept in (getattr(error, "stderr", None), getattr(error, "stdout", None)):
        text = kept.decode(errors="replace") if isinstance(kept, bytes) else kept
        lines += (text or "").splitlines()[-EVIDENCE_LINES:]
    for path in _newest_files(directory)[:_FILES_READ]:
        lines += _tail(path)
    return lines


def _of_lines(lines: list[str]) -> FailureClass:
    for pattern, failure in _SAYINGS:
        if any(pattern.search(line) for line in lines):
            return failure
    return FailureClass.UNKNOWN


def _exit_status(error: BaseException) -> int | None:
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


def of_exit_status(status: int | None) -> FailureClass:
    """The class that the way in which a program ended suggests; −n: by signal n."""
    # 126 and 127: a shell could not start the program. SIGKILL comes from the kernel when memory has run out. A code
    # that died of any other signal (a segmentation fault, say) has a reason that nobody knows.
    if status in (126, 127):
        return FailureClass.MISSING_PROGRAM
    if status in (-signal.SIGKILL, 128 + signal.SIGKILL):
        return FailureClass.OUT_OF_MEMORY
    if status in (-signal.SIGXCPU, 128 + signal.SIGXCPU):
        return FailureClass.WALLTIME
    # Nobody but the end of the job asks a program to stop (a time limit of ours kills it).
    if status in (-signal.SIGTERM, 128 + signal.SIGTERM):
        return FailureClass.NODE_LOST
    return FailureClass.UNKNOWN


def evidence(error: BaseException, directory: Path) -> str:
    """The last lines of the traceback and of the newest files in the scratch directory, and how the program ended."""
    lines = "".join(traceback.format_exception(error)).strip().splitlines()[-EVIDENCE_LINES:]
    status = _exit_status(error)
    if status is not None:
        lines.append(f"--- {_words_of(status)}")
    try:
        newest = _newest_files(directory)[:_FILES_SHOWN]
    except OSError as problem:
        newest = []
        lines.append(f"--- the scratch directory could not be read: {problem}")
    for path in newest:
        lines += [f"--- end of {path.name}", *_tail(path)]
    return "\n".join(lines)


def _words_of(status: int) -> str:
    number = -status if status < 0 else status - 128
    try:
        return f"the program was ended by {signal.Signals(number).name}"
    except ValueError:
        return f"the program ended with status {status}"


def _newest_files(directory: Path) -> list[Path]:
    """The files in a directory that hold something, the newest first."""
    dated = []
    for path in directory.iterdir():
        try:
            facts = path.stat()
        except FileNotFoundError:
            continue
        if path.is_file() and facts.st_size > 0:
            dated.append((facts.st_mtime, path))
    return [path for _, path in sorted(dated, reverse=True)]


def _tail(path: Path) -> list[str]:
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - _TAIL_BYTES))
        content = file.read()
    if b"\0" in content:
        return ["(not text)"]
    return content.decode(errors="replace").splitlines()[-EVIDENCE_LINES:]
