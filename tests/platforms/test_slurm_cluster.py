"""The script that starts a real Slurm on this machine leaves nothing running, and says what it lacks."""

import re
import socket
import subprocess
from pathlib import Path

import psutil
import pytest

pytestmark = pytest.mark.slow


def members(directory: Path) -> list[str]:
    """Names of the processes of a cluster."""
    mark = str(directory)
    found = psutil.process_iter(["name", "environ"])
    return [process.name() for process in found if (process.info["environ"] or {}).get("ALPOT_SLURM_CLUSTER") == mark]


def test_start_twice_and_stop_with_a_job_running(slurm_cluster, tmp_path, monkeypatch):
    other = type(slurm_cluster)(tmp_path / "other")  # beside the session's: they do not disturb each other
    monkeypatch.setenv("SLURM_CONF", str(other.configuration))
    other.script("start")
    daemons = sorted(members(other.directory))
    assert daemons.count("slurmd") == 3 and {"munged", "slurmctld"} <= set(daemons)
    other.script("start")
    assert sorted(members(other.directory)) == daemons
    other.script("status")
    partitions = other.ask("sinfo", "--noheader", "--format=%R %N %G").splitlines()
    assert partitions == ["cpu cpu[1-2] (null)", "gpu gpu1 gpu:2"]
    other.ask("sbatch", "--output=/dev/null", "--wrap=trap '' TERM; sleep 600")
    assert (
        other.ask("srun", "--ntasks=1", "--partition=gpu", "--gres=gpu:2", "printenv", "CUDA_VISIBLE_DEVICES") == "0,1"
    )
    other.script("stop")
    assert members(other.directory) == []
    assert len(members(slurm_cluster.directory)) >= 5
    other.script("stop")  # does no harm


def test_ports_that_others_use_are_left_to_them(slurm_cluster, tmp_path, monkeypatch):
    """CI failed once, most likely because an outgoing connection of another program had the port of a daemon."""
    other = type(slurm_cluster)(tmp_path / "other")
    monkeypatch.setenv("SLURM_CONF", str(other.configuration))

    def controller_port() -> int:
        other.script("start")
        configuration = other.configuration.read_text()
        other.script("stop")
        return int(re.search(r"^SlurmctldPort=(\d+)$", configuration, re.MULTILINE)[1])

    first = controller_port()
    with Path("/proc/sys/net/ipv4/ip_local_port_range").open() as kernel:
        assert first + 3 < int(kernel.read().split()[0])
    with socket.create_server(("127.0.0.1", first + 2), backlog=5):
        assert controller_port() != first


def test_a_cluster_that_is_not_there(tmp_path):
    script = Path(__file__).parents[2] / "scripts" / "slurm-cluster"
    command = [script, "status", "--directory", tmp_path / "nothing"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1 and f"no cluster answers in {tmp_path}" in done.stderr
    assert subprocess.run([script, "begin"], capture_output=True, check=False).returncode == 2
