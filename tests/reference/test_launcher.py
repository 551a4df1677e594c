"""Commands of reference codes under the launcher that the platform chose."""

import json

import pytest

from alpot.config import Pool
from alpot.errors import UsageError
from alpot.platforms.job_script import launch_prefix
from alpot.reference.launcher import VARIABLE, allotted_cores, with_launcher


def test_without_a_launcher(monkeypatch):
    monkeypatch.delenv(VARIABLE, raising=False)
    assert with_launcher(["pw.x", "-in", "a b"]) == ["pw.x", "-in", "a b"]


def test_a_launcher_comes_first_and_knows_the_node(monkeypatch):
    monkeypatch.setenv(VARIABLE, json.dumps(["srun", "--nodelist={node}", "-n", "4"]))
    monkeypatch.setenv("SLURMD_NODENAME", "n17")
    assert with_launcher(("pw.x",)) == ["srun", "--nodelist=n17", "-n", "4", "pw.x"]


@pytest.mark.parametrize("text", ["mpirun -n 4", '"mpirun"', "[1]", '{"a": 1}'])
def test_what_is_not_a_list_of_arguments(monkeypatch, text):
    monkeypatch.setenv(VARIABLE, text)
    with pytest.raises(UsageError, match="must be a JSON list"):
        with_launcher(["pw.x"])


@pytest.mark.parametrize(
    ("pool", "prefix"),
    [
        ({}, []),
        ({"mpi": "mpirun"}, ["mpirun", "-n", "1"]),  # asked for, also for one rank
        ({"ranks": 4, "mpi": "mpirun"}, ["mpirun", "-n", "4"]),
        ({"ranks": 4, "threads_per_rank": 2, "mpi": "aprun"}, ["aprun", "-n", "4", "-d", "2"]),
        ({"ranks": 4, "mpi": "jsrun"}, ["jsrun", "--nrs=4", "--tasks_per_rs=1", "--cpu_per_rs=1"]),
    ],
)
def test_prefixes(pool, prefix):
    assert launch_prefix(Pool.model_validate(pool), "srun") == prefix


def test_srun_within_one_node_of_the_block():
    prefix = launch_prefix(Pool(ranks=6, threads_per_rank=2), "srun")
    assert prefix[0] == "srun" and {"--nodes=1", "--ntasks=6", "--cpus-per-task=2", "--exact"} <= set(prefix)
    assert "--nodelist={node}" not in prefix
    assert "--nodelist={node}" in launch_prefix(Pool(ranks=6, nodes=2), "srun")


def test_cores_of_a_worker(monkeypatch):
    monkeypatch.delenv("ALPOT_CORES", raising=False)
    assert allotted_cores() == 1
    monkeypatch.setenv("ALPOT_CORES", "48")
    assert allotted_cores() == 48
    for wrong in ("", "0", "-2", "many", "1.5"):
        monkeypatch.setenv("ALPOT_CORES", wrong)
        with pytest.raises(UsageError, match="ALPOT_CORES"):
            allotted_cores()
