"""Failures of real programs, decided from how they end and from what they write."""

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, ClassVar

import psutil
import pytest
from ase import Atoms
from ase.calculators.calculator import FileIOCalculator, ReadError

from alpot.config import Reference
from alpot.errors import FailureClass, ReferenceError
from alpot.reference import label
from alpot.reference.ase_reference import AseReference
from alpot.reference.failures import SAYINGS, classify

EMT = Reference(code="emt")


class Program(FileIOCalculator):
    """A code that is a program; what it leaves behind is never read."""

    implemented_properties: ClassVar[list[str]] = ["energy", "forces"]

    def __init__(self, command: str, **kwargs: Any) -> None:
        super().__init__(command=command, **kwargs)


class Reader(Program):
    """One that looks for its output."""

    def read_results(self) -> None:
        if not (Path(self.directory) / "out.xml").exists():
            raise ReadError("no out.xml")


def fail(command: str, atoms: Atoms, directory: Path, kind: type[Program] = Program, **settings: Any) -> ReferenceError:
    reference = AseReference(name="code", make=kind, arguments={"command": command})
    with pytest.raises(ReferenceError) as caught:
        label(reference, Reference(code="emt", **settings), atoms, directory)
    return caught.value


@pytest.mark.parametrize(
    ("command", "failure", "told"),
    [
        ("no-such-program", FailureClass.MISSING_PROGRAM, "not found"),
        ("touch x; ./x", FailureClass.MISSING_PROGRAM, "denied"),
        (
            f"{sys.executable} -c 'import ctypes; ctypes.CDLL(\"libnone.so\")'",
            FailureClass.MISSING_PROGRAM,
            "shared object",
        ),
        (
            f"ulimit -v 400000; {sys.executable} -c 'x = bytearray(10**9)'",
            FailureClass.OUT_OF_MEMORY,
            "MemoryError",
        ),
        ("kill -KILL $$", FailureClass.OUT_OF_MEMORY, "SIGKILL"),
        ("echo 'slurmstepd: error: Detected 1 oom_kill event' >&2; exit 1", FailureClass.OUT_OF_MEMORY, "oom_kill"),
        ("echo 'srun: error: CANCELLED DUE TO TIME LIMIT' >&2; exit 1", FailureClass.WALLTIME, "TIME LIMIT"),
        ("ulimit -S -t 1; while :; do :; done", FailureClass.WALLTIME, "SIGXCPU"),
        ("echo 'srun: error: CANCELLED DUE TO NODE FAILURE' >&2; exit 1", FailureClass.NODE_LOST, "NODE FAILURE"),
        ("cat /proc/self/status > /dev/full", FailureClass.NODE_LOST, "No space left"),
        ("kill -TERM $$", FailureClass.NODE_LOST, "SIGTERM"),
        ("echo 'convergence NOT achieved after 100 iterations' > out; exit 3", FailureClass.NOT_CONVERGED, "100"),
        ("echo 'SCF run NOT converged' > cp2k.out; exit 1", FailureClass.NOT_CONVERGED, "cp2k.out"),
        ("echo 'atoms 1 and 2 are too close' > log; exit 1", FailureClass.UNPHYSICAL_GEOMETRY, "too close"),
        ("kill -SEGV $$", FailureClass.UNKNOWN, "SIGSEGV"),
        ("echo 'something else' >&2; exit 7", FailureClass.UNKNOWN, "something else"),
        ("true", FailureClass.BAD_OUTPUT, ""),
    ],
)
def test_what_happened_to_a_program(
    command: str, failure: FailureClass, told: str, aluminum: Atoms, tmp_path: Path
) -> None:
    error = fail(command, aluminum, tmp_path)
    assert (error.failure, told in error.evidence) == (failure, True), error.evidence


def test_a_missing_output_is_explained_by_what_the_code_said(aluminum: Atoms, tmp_path: Path) -> None:
    assert fail("true", aluminum, tmp_path, Reader).failure is FailureClass.BAD_OUTPUT
    error = fail("echo 'SCF did not converge' > log", aluminum, tmp_path, Reader)
    assert error.failure is FailureClass.NOT_CONVERGED


def test_atoms_that_only_begin_a_density_are_not_too_close(aluminum: Atoms, tmp_path: Path) -> None:
    """So VASP tells where every calculation starts."""
    error = fail("echo ' charge density of overlapping atoms calculated' > OUTCAR; exit 1", aluminum, tmp_path)
    assert error.failure is FailureClass.UNKNOWN


def test_what_a_program_kept_of_its_output_counts(tmp_path: Path) -> None:
    with pytest.raises(subprocess.CalledProcessError) as caught:
        subprocess.run(["sh", "-c", "echo 'bus: Cannot allocate memory' >&2; exit 1"], capture_output=True, check=True)
    assert classify(caught.value, tmp_path) is FailureClass.OUT_OF_MEMORY


def test_a_full_disk_belongs_to_the_node(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No space") as caught, Path("/dev/full").open("w") as full:
        full.write("x")
        full.flush()
    assert classify(caught.value, tmp_path) is FailureClass.NODE_LOST


def test_every_class_that_can_be_said_is_in_the_table() -> None:
    said = {failure for _, failure in SAYINGS}
    # A code's full disk is the scratch of its node; that of the campaign is noticed by alpot itself.
    not_said = {FailureClass.BAD_OUTPUT, FailureClass.BUG, FailureClass.UNKNOWN, FailureClass.DISK_FULL}
    not_said.add(FailureClass.WRONG_INPUT)  # which words tell of it is each code's own; its ladder has them
    assert said == set(FailureClass) - not_said


def test_programs_that_work_elsewhere_end_with_the_time_limit(aluminum: Atoms, tmp_path: Path) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    command = f"cd {tmp_path}; sleep 30 & echo $! > pid; wait"
    with pytest.warns(ResourceWarning, match="still running"):
        error = fail(command, aluminum, scratch, time_limit=0.5)
        error.__traceback__ = error.__cause__ = error.__context__ = None
    assert error.failure is FailureClass.WALLTIME
    program = int((tmp_path / "pid").read_text())
    deadline = time.monotonic() + 5.0
    while psutil.pid_exists(program) and psutil.Process(program).status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_standard_error_is_given_back(aluminum: Atoms, tmp_path: Path) -> None:
    before = os.fstat(2)
    fail("echo words >&2; exit 1", aluminum, tmp_path)
    assert os.fstat(2) == before
    assert "words" in (tmp_path / "standard_error.txt").read_text()
