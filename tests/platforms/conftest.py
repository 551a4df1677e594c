import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent / "campaign")]  # campaigns in other processes; the fake subject

SCRIPT = HERE.parents[1] / "scripts" / "slurm-cluster"


class SlurmCluster:
    """A real Slurm on this machine."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.configuration = directory / "slurm.conf"

    def script(self, verb: str) -> None:
        """Runs ``scripts/slurm-cluster``; its daemons must not hold our pipes."""
        with tempfile.TemporaryFile() as log:
            done = subprocess.run([SCRIPT, verb, "--directory", self.directory], stdout=log, stderr=log, check=False)
            log.seek(0)
            assert done.returncode == 0, log.read().decode()

    def ask(self, *command: str) -> str:
        """The output of one of Slurm's programs."""
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


@pytest.fixture(scope="session")
def running_cluster() -> Iterator[SlurmCluster]:
    missing = [name for name in ("sbatch", "squeue", "srun") if shutil.which(name) is None]
    if missing:
        reason = f"{missing[0]} is not installed; `scripts/slurm-cluster start --install` does it"
        if "ALPOT_REQUIRE_PROGRAMS" in os.environ:
            pytest.fail(reason)
        pytest.skip(reason)
    with tempfile.TemporaryDirectory(prefix="alpot-slurm-") as folder:
        cluster = SlurmCluster(Path(folder) / "cluster")
        cluster.script("start")
        yield cluster
        cluster.script("stop")


@pytest.fixture
def slurm_cluster(running_cluster: SlurmCluster, monkeypatch) -> SlurmCluster:
    """The cluster with all its nodes, and the environment by which programs find it."""
    monkeypatch.setenv("SLURM_CONF", str(running_cluster.configuration))
    running_cluster.script("start")
    return running_cluster
