"""Programs are run and ended: with what they cost, and with all that they have started."""

import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
from ase import Atoms

from alpot.config import Reference
from alpot.errors import FailureClass, ReferenceError
from alpot.reference.labelling import label
from alpot.reference.program import STANDARD_ERROR, Run, run_program
from alpot.reference.protocol import ReferenceResult
from tests.reference.dft_codes import need, open_code, rattled

ROOT = Path(__file__).parents[2]

#: A program that has a child, a grandchild in a session of its own, and a daemon whose parents are gone; none of them
#: minds SIGTERM. They say who they are in the file ``family``.
FAMILY = """
import os, signal, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
def join():
    with open("family", "a") as file:
        file.write(f"{os.getpid()}\\n")
    time.sleep(600)
if os.fork() == 0:
    if os.fork() == 0:
        os.setsid()
        join()
    join()
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        join()
    os._exit(0)
os.wait() if len(sys.argv) > 1 else None
join()
"""


def script(directory: Path, text: str, *arguments: str) -> list[str]:
    """The command that runs some Python."""
    path = directory / "program.py"
    path.write_text(textwrap.dedent(text))
    return [sys.executable, "-I", "-S", str(path), *arguments]


def run(directory: Path, text: str) -> Run:
    return run_program(script(directory, text), directory, directory / "said")


def lives(number: int) -> bool:
    try:
        return psutil.Process(number).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def wait_until(condition: Callable[[], bool], seconds: float = 20.0) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.02)
    return condition()


def family(directory: Path) -> list[int]:
    file = directory / "family"
    return [int(line) for line in file.read_text().split()] if file.exists() else []


@pytest.mark.parametrize("status", [0, 1, 3, 127])
def test_exit_codes(status: int, tmp_path: Path) -> None:
    assert run(tmp_path, f"raise SystemExit({status})").status == status


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV, signal.SIGTERM, signal.SIGXFSZ])
def test_signals(number: signal.Signals, tmp_path: Path) -> None:
    text = (
        f"import os, signal\nsignal.signal({int(signal.SIGXFSZ)}, signal.SIG_DFL)\nos.kill(os.getpid(), {int(number)})"
    )
    assert run(tmp_path, text).status == -number


def test_what_it_says_is_kept(tmp_path: Path) -> None:
    run(
        tmp_path, "import sys\nprint('to out')\nprint('to err', file=sys.stderr)\nprint(sys.stdin.read() or 'no input')"
    )
    assert (tmp_path / "said").read_text() == "to out\nno input\n"
    assert (tmp_path / STANDARD_ERROR).read_text() == "to err\n"


def test_it_runs_in_its_directory_and_sees_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    run(tmp_path, "import os\nprint(os.getcwd(), os.environ['OMP_NUM_THREADS'])")
    assert (tmp_path / "said").read_text() == f"{tmp_path.resolve()} 7\n"


def test_a_program_that_is_not_there(tmp_path: Path) -> None:
    # setpriv says so with a status; without it the system raises.
    try:
        status = run_program(["no-such-program"], tmp_path, tmp_path / "said").status
    except FileNotFoundError:
        return
    assert status == 127


def test_costs(tmp_path: Path) -> None:
    """CPU time and memory of children count too."""
    spent = run(
        tmp_path,
        """
        import os, time
        block = b"x" * 200_000_000
        if os.fork() == 0:
            while time.process_time() < 0.3: pass
            os._exit(0)
        os.wait()
        while time.process_time() < 0.3: pass
        """,
    )
    assert 0.55 < spent.cpu_s < 2.0
    assert spent.wall_s >= spent.cpu_s / 2 - 0.05
    assert spent.peak_memory_MB is not None
    assert 390 < spent.peak_memory_MB < 600  # the child has the block, too; this process itself is not counted


def test_a_small_program_of_a_large_process_is_small(tmp_path: Path) -> None:
    ballast = bytearray(300_000_000)
    spent = run(tmp_path, "import time; time.sleep(0.3)")
    assert spent.peak_memory_MB is not None and spent.peak_memory_MB < 100 < len(ballast)


def test_nothing_is_left_when_the_program_ends_before_its_children(tmp_path: Path) -> None:
    text = FAMILY.replace("join()\n", "join()\n").rsplit("join()", 1)[0] + (
        "import pathlib\nwhile not os.path.exists('family') or len(open('family').readlines()) < 3: time.sleep(0.01)\n"
    )
    assert run(tmp_path, text).status == 0
    assert len(family(tmp_path)) == 3
    assert not any(map(lives, family(tmp_path)))


@dataclass
class Runs:
    """A reference that runs one command."""

    command: Sequence[str]
    name: str = "runs"
    is_cheap: bool = False

    def compute(self, atoms: Atoms, directory: Path) -> ReferenceResult:
        run_program(self.command, directory, directory / "said")
        raise AssertionError("it should not end by itself")


def test_the_time_limit_ends_a_hanging_program_with_all_that_it_has_started(tmp_path: Path) -> None:
    reference = Runs(script(tmp_path, FAMILY))
    settings = Reference(code="emt", time_limit=2.0)
    with subprocess.Popen(["sleep", "60"]) as bystander:
        begin = time.monotonic()
        with pytest.raises(ReferenceError) as caught:
            label(reference, settings, rattled(1), tmp_path)  # type: ignore[arg-type]
        assert time.monotonic() - begin < 10.0
        assert caught.value.failure is FailureClass.WALLTIME
        assert len(family(tmp_path)) == 4
        assert not any(map(lives, family(tmp_path)))
        assert bystander.poll() is None
        bystander.kill()


def test_the_alarm_does_not_interrupt_the_killing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It rings each second; on a node with many processes it takes longer to look through them."""
    look = psutil.process_iter
    monkeypatch.setattr(psutil, "process_iter", lambda: (time.sleep(2.5), look())[1])
    with pytest.raises(ReferenceError, match="ended after 2 s"):
        label(Runs(script(tmp_path, FAMILY)), Reference(code="emt", time_limit=2.0), rattled(1), tmp_path)  # type: ignore[arg-type]
    assert len(family(tmp_path)) == 4
    assert not any(map(lives, family(tmp_path)))


def test_two_runs_at_once_do_not_end_each_other(tmp_path: Path) -> None:
    from threading import Thread

    (tmp_path / "slow").mkdir()
    statuses: list[int] = []
    command = script(tmp_path, "import time\ntime.sleep(1.0)")
    slow = Thread(
        target=lambda: statuses.append(run_program(command, tmp_path / "slow", tmp_path / "slow" / "said").status)
    )
    slow.start()
    run(tmp_path, "pass")
    slow.join()
    assert statuses == [0]


WORKER = """
import sys
from pathlib import Path
from alpot.reference.program import run_program
run_program(sys.argv[2:], Path(sys.argv[1]), Path(sys.argv[1]) / "said")
"""


def worker(directory: Path, command: Sequence[str]) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen([sys.executable, "-c", WORKER, str(directory), *command], env=environment)


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="the guard looks through /proc")
def test_nothing_is_left_when_the_worker_is_killed(tmp_path: Path) -> None:
    with worker(tmp_path, script(tmp_path, FAMILY)) as process:
        assert wait_until(lambda: len(family(tmp_path)) == 4)
        process.kill()
    assert wait_until(lambda: not any(map(lives, family(tmp_path))))


def pw_processes(directory: Path) -> list[psutil.Process]:
    """The processes of pw.x that work in a directory."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.name() == "pw.x" and Path(process.cwd()) == directory:
                found.append(process)
        except psutil.Error:
            continue
    return found


@pytest.mark.slow
@pytest.mark.parametrize("end", ["time limit", "worker killed"])
def test_ranks_of_mpi_end_too(end: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    need("pw.x", "apt-get install quantum-espresso quantum-espresso-data")
    need("mpirun", "apt-get install openmpi-bin")
    for variable in ("OMPI_ALLOW_RUN_AS_ROOT", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM"):
        monkeypatch.setenv(variable, "1")
    long = open_code(
        "espresso", functional="LDA", cutoff=600.0, kpoint_density=60.0, pseudopotentials={"Al": "Al.pz-vbc.UPF"}
    )
    calculation = long.calculation(rattled(8), tmp_path.resolve())
    long.code.write(calculation)
    pw = shutil.which("pw.x")
    assert pw is not None
    command = ["mpirun", "--oversubscribe", "-n", "2", *long.code.command(calculation, pw)]
    directory = calculation.directory
    if end == "time limit":
        with pytest.raises(ReferenceError) as caught:
            label(Runs(command), Reference(code="emt", time_limit=6.0), rattled(8), directory)  # type: ignore[arg-type]
        assert caught.value.failure is FailureClass.WALLTIME
    else:
        with worker(directory, command) as process:
            assert wait_until(lambda: len(pw_processes(directory)) == 2)
            process.kill()
    assert wait_until(lambda: not pw_processes(directory))
