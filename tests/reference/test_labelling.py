import gc
import pickle
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import psutil
import pytest
import tblib.pickling_support
from ase import Atoms
from ase.calculators.calculator import FileIOCalculator, ReadError, SCFError

from alpot.config import Reference
from alpot.errors import ConfigError, FailureClass, ReferenceError
from alpot.reference import ReferenceResult, label, open_reference
from alpot.reference.ase_reference import AseReference
from alpot.reference.failures import classify

EMT = Reference(code="emt")


class Scripted(AseReference):
    """A reference whose computation is what a test gives it."""

    script: Callable[[Atoms, Path], ReferenceResult]

    def compute(self, atoms: Atoms, directory: Path) -> ReferenceResult:
        return type(self).script(atoms, directory)


def scripted(script: Callable[[Atoms, Path], ReferenceResult]) -> AseReference:
    kind = type("Scripted", (Scripted,), {"script": staticmethod(script)})
    return kind(name="scripted", make=dict)


def failure_of(reference: AseReference, atoms: Atoms, directory: Path, settings: Reference = EMT) -> ReferenceError:
    with pytest.raises(ReferenceError) as caught:
        label(reference, settings, atoms, directory)
    return caught.value


def test_sound_label(aluminum: Atoms, tmp_path: Path) -> None:
    before = aluminum.copy()
    result = label(open_reference(EMT, base_directory=tmp_path), EMT, aluminum, tmp_path)
    assert np.isfinite(result.energy)
    assert result.forces.shape == (4, 3)
    assert result.stress is not None
    assert result.details["wall_s"] >= 0.0
    assert aluminum == before
    assert aluminum.calc is None


class Slow(FileIOCalculator):
    """A program that takes too long; ASE leaves such a one running when it is interrupted."""

    implemented_properties: ClassVar[list[str]] = ["energy", "forces"]

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(command="echo iteration 7 > out.log; echo $$ > pid; sleep 30; true", **kwargs)


def test_time_limit_ends_the_program_and_leaves_no_alarm(aluminum: Atoms, tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGALRM)
    with subprocess.Popen(["sleep", "30"]) as bystander:
        begin = time.monotonic()
        slow = AseReference(name="slow", make=Slow)
        # ASE does not wait for the program that it started, which Python mentions when the object goes.
        with pytest.warns(ResourceWarning, match="still running"):
            error = failure_of(slow, aluminum, tmp_path, Reference(code="emt", time_limit=0.5))
            error.__traceback__ = error.__cause__ = error.__context__ = None
            gc.collect()
        assert bystander.poll() is None
        bystander.kill()
    assert time.monotonic() - begin < 10.0
    assert error.failure is FailureClass.WALLTIME
    assert "0.5 s" in str(error)
    assert "sleep" not in [child.name() for child in psutil.Process().children() if child.is_running()]
    program = int((tmp_path / "pid").read_text())
    assert not psutil.pid_exists(program) or psutil.Process(program).status() == psutil.STATUS_ZOMBIE
    assert signal.getsignal(signal.SIGALRM) is before
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


def test_code_that_swallows_exceptions_cannot_swallow_the_time_limit(aluminum: Atoms, tmp_path: Path) -> None:
    def run(atoms: Atoms, directory: Path) -> ReferenceResult:
        while True:
            try:
                time.sleep(0.01)
            except Exception:  # noqa: BLE001 - the habit under test
                continue

    error = failure_of(scripted(run), aluminum, tmp_path, Reference(code="emt", time_limit=0.1))
    assert error.failure is FailureClass.WALLTIME


def test_labels_outside_the_main_thread(aluminum: Atoms, tmp_path: Path) -> None:
    results: list[ReferenceResult] = []
    reference = open_reference(EMT, base_directory=tmp_path)
    thread = threading.Thread(target=lambda: results.append(label(reference, EMT, aluminum, tmp_path)))
    thread.start()
    thread.join()
    assert len(results) == 1


@pytest.mark.parametrize(
    ("error", "failure"),
    [
        (MemoryError(), FailureClass.OUT_OF_MEMORY),
        (SCFError("no"), FailureClass.NOT_CONVERGED),
        (type("KohnShamConvergenceError", (RuntimeError,), {})("no"), FailureClass.NOT_CONVERGED),
        (ReadError("no"), FailureClass.BAD_OUTPUT),
        (ImportError("no"), FailureClass.MISSING_PROGRAM),
        (FileNotFoundError(2, "no", "pw.x"), FailureClass.MISSING_PROGRAM),
        (subprocess.CalledProcessError(127, "pw.x"), FailureClass.MISSING_PROGRAM),
        (subprocess.CalledProcessError(-9, "pw.x"), FailureClass.OUT_OF_MEMORY),
        (ConfigError("no"), FailureClass.WRONG_INPUT),
        (ZeroDivisionError("why"), FailureClass.UNKNOWN),
    ],
)
def test_failures_have_names(error: Exception, failure: FailureClass, aluminum: Atoms, tmp_path: Path) -> None:
    def fail(atoms: Atoms, directory: Path) -> ReferenceResult:
        raise error

    raised = failure_of(scripted(fail), aluminum, tmp_path)
    assert raised.failure is failure
    assert "'scripted'" in str(raised)
    assert type(error).__name__ in raised.evidence


def test_missing_output_file_is_bad_output(tmp_path: Path) -> None:
    try:
        (tmp_path / "out.xml").read_text()
    except FileNotFoundError as error:
        assert classify(error, tmp_path) is FailureClass.BAD_OUTPUT


def result(**changes: object) -> Callable[[Atoms, Path], ReferenceResult]:
    sound = {"energy": 1.0, "forces": np.zeros((4, 3)), "stress": np.zeros(6)}
    return lambda atoms, directory: ReferenceResult(**(sound | changes))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"energy": np.nan}, "energy nan"),
        ({"forces": np.zeros((3, 3))}, r"shape \(3, 3\), not \(4, 3\)"),
        ({"forces": np.full((4, 3), np.inf)}, "on atom 0"),
        ({"stress": np.zeros((3, 3))}, r"stress of shape \(3, 3\)"),
        ({"stress": np.full(6, np.nan)}, "stress"),
    ],
)
def test_unsound_results_are_no_labels(
    changes: dict[str, object], message: str, aluminum: Atoms, tmp_path: Path
) -> None:
    error = failure_of(scripted(result(**changes)), aluminum, tmp_path)
    assert error.failure is FailureClass.BAD_OUTPUT
    with pytest.raises(ReferenceError, match=message):
        raise error


def test_large_forces_are_unphysical(aluminum: Atoms, tmp_path: Path) -> None:
    aluminum.positions[1] = aluminum.positions[0] + (0.5, 0.0, 0.0)
    error = failure_of(open_reference(EMT, base_directory=tmp_path), aluminum, tmp_path)  # type: ignore[arg-type]
    assert error.failure is FailureClass.UNPHYSICAL_GEOMETRY
    assert "max_force = 50" in str(error)


@pytest.mark.parametrize("defect", ["empty", "nan", "flat"])
def test_frames_that_cannot_be_labelled(defect: str, aluminum: Atoms, tmp_path: Path) -> None:
    if defect == "empty":
        aluminum = aluminum[:0]
    elif defect == "nan":
        aluminum.positions[2, 1] = np.nan
    else:
        aluminum.cell[2] = 0.0
    error = failure_of(open_reference(EMT, base_directory=tmp_path), aluminum, tmp_path)  # type: ignore[arg-type]
    assert error.failure is FailureClass.UNPHYSICAL_GEOMETRY


def test_the_cost_is_that_of_all_cores_of_the_worker(aluminum: Atoms, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setenv("ALPOT_CORES", "8")

    def idle(atoms: Atoms, directory: Path) -> ReferenceResult:
        time.sleep(0.05)
        return ReferenceResult(energy=0.0, forces=np.zeros((len(atoms), 3)))

    details = label(scripted(idle), EMT, aluminum, tmp_path).details
    # The wall time is rounded to 1e-4 s.
    assert details["core_seconds"] == pytest.approx(8 * details["wall_s"], abs=8e-4) and details["core_seconds"] >= 0.4


def test_a_reference_that_says_what_it_cost_is_believed(aluminum: Atoms, tmp_path: Path) -> None:
    def says(atoms: Atoms, directory: Path) -> ReferenceResult:
        return ReferenceResult(energy=0.0, forces=np.zeros((len(atoms), 3)), details={"core_seconds": 1234.5})

    assert label(scripted(says), EMT, aluminum, tmp_path).details["core_seconds"] == 1234.5


@pytest.mark.parametrize("known", [None, 77.0])
def test_a_failure_says_what_it_cost(aluminum: Atoms, tmp_path: Path, known: float | None) -> None:
    def fail(atoms: Atoms, directory: Path) -> ReferenceResult:
        time.sleep(0.02)
        raise ReferenceError("no", failure=FailureClass.NOT_CONVERGED, core_seconds=known)

    error = failure_of(scripted(fail), aluminum, tmp_path)
    copy = pickle.loads(pickle.dumps(error))
    assert error.core_seconds == copy.core_seconds
    assert (0.02 <= copy.core_seconds < 60.0) if known is None else (copy.core_seconds == known)


def test_a_failure_travels_with_what_caused_it(aluminum: Atoms, tmp_path: Path) -> None:
    """Parsl pickles exceptions with their causes, which must come to an end."""
    tblib.pickling_support.install(ReferenceError)

    def fail(atoms: Atoms, directory: Path) -> ReferenceResult:
        raise ReferenceError("no", failure=FailureClass.BAD_OUTPUT) from SCFError("why")

    copy = pickle.loads(pickle.dumps(failure_of(scripted(fail), aluminum, tmp_path)))
    assert isinstance(copy.__cause__, SCFError) and copy.failure is FailureClass.BAD_OUTPUT
