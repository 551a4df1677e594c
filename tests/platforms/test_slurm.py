"""Campaigns through Parsl's SlurmProvider on a real Slurm, and what schedulers do to them."""

import getpass
import json
import shlex
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from fake_campaign import SUBJECT
from patient_subject import STEPS
from running import FAKES, HERE, SMALL, Run, assert_complete, until

from alpot.config import Resources
from alpot.platforms.parsl_executor import Scaling
from alpot.platforms.registry import open_platform
from alpot.store.directory import CampaignDirectory

pytestmark = pytest.mark.slow

LABELS = {"partition": "cpu", "memory": 1, "blocks": [0, 2]}
RESOURCES = {
    "platform": "slurm",
    "interface": "lo",
    "poll_interval": 2,
    "explore": {"partition": "gpu", "memory": 1, "gpus_per_worker": 1},
    "label": LABELS,
}
PATIENCE_S = 120.0


@pytest.fixture
def start(slurm_cluster, tmp_path: Path) -> Iterator[Callable[..., Run]]:
    path = tmp_path / "campaign"
    runs: list[Run] = []

    def begin(settings: dict, label: dict | None = None, subject: str = SUBJECT, **config) -> Run:
        if not CampaignDirectory.is_campaign(path):
            CampaignDirectory.create(path, json.dumps(config).encode(), tmp_path / "campaign.toml")
        resources = RESOURCES | {"label": LABELS | (label or {})}
        runs.append(Run(CampaignDirectory.open(path), settings, resources, subject))
        return runs[-1]

    yield begin
    for run in runs:
        run.clear()
    slurm_cluster.ask("scancel", "--user", getpass.getuser())


def working(run: Run) -> dict:
    """The note of a worker that computes a label."""
    notes: list[dict] = []

    def found() -> bool:
        for path in run.directory.path.glob("tasks/label/*/worker.json"):
            note = json.loads(path.read_text())
            if psutil.pid_exists(note["pid"]):
                notes.append(note)
        return bool(notes)

    until(found, PATIENCE_S)
    return notes[-1]


def lost(run: Run, text: str, failure: str) -> Callable[[], bool]:
    """Whether the ledger names such a loss."""
    return lambda: any(text in loss["message"] and loss["failure"] == failure for loss in run.losses())


def happens(claim: Callable[[], bool], patience: float) -> bool:
    """Whether something happens in time."""
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline:
        if claim():
            return True
        time.sleep(0.5)
    return False


def jobs(cluster) -> list[str]:
    """States of jobs that have not ended."""
    return [line for line in cluster.ask("squeue", "--noheader", "--format=%T").split() if line != "COMPLETING"]


def test_a_campaign_with_separate_pools(slurm_cluster, start):
    run = start({"initial_labels": 4, "labels_per_generation": 3, "max_labels": 9}, {"workers_per_node": 2})
    note = working(run)
    assert note["host"] in ("cpu1", "cpu2")
    assert run.end(PATIENCE_S) == (0, "finished\n", "")
    assert_complete(run.directory, 9)
    assert run.losses() == []
    assert jobs(slurm_cluster) == []
    nodes = {path.read_text() for path in run.directory.logs.glob("parsl/000/explore/block-0/*/worker_0.log")}
    assert len(nodes) == 1 and "Pinned worker to accelerator: 0" in nodes.pop()


def test_scheduler_faults_are_named_and_cost_nothing(slurm_cluster, start):
    """scancel, a node that dies, a job without memory, a walltime: all labels, none twice, each loss by its name."""
    budget = {"initial_labels": 50, "labels_per_generation": 50, "max_labels": 50, "waiting_candidates": 60}
    label = {"walltime": "00:01:00", "drain": 0}
    run = start(budget, label, "hungry_subject:HungrySubject", seconds={"label": 5.0}, finds=20)
    until(lost(run, "was out of memory", "out_of_memory"), PATIENCE_S)

    slurm_cluster.ask("scancel", working(run)["job"])
    until(lost(run, "was cancelled", "node_lost"), PATIENCE_S)

    for _ in range(3):  # a block that was about to reach its walltime may be lost for that reason
        note = working(run)
        kill_node(slurm_cluster, note["host"])
        is_noticed = happens(lost(run, f"job {note['job']} on {note['host']}", "node_lost"), 45.0)
        slurm_cluster.script("start")
        if is_noticed:
            break
    assert is_noticed

    until(lost(run, "reached its walltime", "walltime"), 2 * PATIENCE_S)
    assert run.end(4 * PATIENCE_S) == (0, "finished\n", "")
    assert_complete(run.directory, 50)
    assert [event for event in run.events() if event.kind in ("task_failed", "task_abandoned")] == []
    assert jobs(slurm_cluster) == []


def test_a_training_whose_job_is_cancelled_saves_itself_and_goes_on(slurm_cluster, start):
    run = start(SMALL, subject="patient_subject:PatientSubject")
    log = run.directory.path / "steps.log"
    until(lambda: log.exists() and len(log.read_text().splitlines()) > 5, PATIENCE_S)
    note = json.loads(next(run.directory.path.glob("tasks/train/*/worker.json")).read_text())
    slurm_cluster.ask("scancel", note["job"])
    assert run.end(2 * PATIENCE_S) == (0, "finished\n", "")
    assert_complete(run.directory)
    interruptions = [event.payload["id"] for event in run.events() if event.kind == "task_interrupted"]
    assert interruptions == ["train-000001"]
    # The next attempt may have been sent to the same worker before Slurm killed it, but nothing was done there.
    assert all("was cancelled" in loss["message"] for loss in run.losses()) and len(run.losses()) <= 1
    steps = [line for line in log.read_text().splitlines() if line.startswith("train-000001 ")]
    assert steps == [f"train-000001 {step}" for step in range(STEPS)]


def test_slurm_accepts_the_scripts_of_a_rehearsal(slurm_cluster, tmp_path):
    pools = {
        "label": LABELS | {"nodes": 2, "ranks": 2, "scheduler_options": ["--comment='two words'", "--nice=5"]},
        "explore": RESOURCES["explore"] | {"gpus_per_worker": 2},
    }
    platform = open_platform(Resources.model_validate(RESOURCES | pools))
    files = platform.dry_run(CampaignDirectory(tmp_path / "campaign"))
    assert len(files) == 2
    for name, text in files:
        (tmp_path / name).write_text(text)
        slurm_cluster.ask("sbatch", "--test-only", str(tmp_path / name))


def test_blocks_that_are_drained_before_their_walltime_lose_nothing(slurm_cluster, start):
    label = {"walltime": "00:01:00", "drain": 45, "blocks": [0, 1]}
    budget = {"initial_labels": 16, "labels_per_generation": 16, "max_labels": 16}
    run = start(budget, label, seconds={"label": 2.0})
    assert run.end(PATIENCE_S) == (0, "finished\n", "")
    assert_complete(run.directory, 16)
    assert run.losses() == []
    scripts = run.directory.logs.glob("parsl/000/submit_scripts/*.label.block-*.stdout")
    outputs = [path.read_text() for path in sorted(scripts)]
    assert len(outputs) >= 2 and "Process worker pool exiting normally" in outputs[0]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore::ResourceWarning")  # Parsl's
def test_a_block_without_work_is_ended_and_the_others_are_not(slurm_cluster, tmp_path, monkeypatch):
    monkeypatch.setattr(
        "alpot.platforms.cluster._SCALING", Scaling(period=0.5, strategy="htex_auto_scale", max_idletime=2)
    )
    monkeypatch.setenv("PYTHONPATH", str(FAKES))
    config = json.dumps({"seconds": {"label": 1.0, "train": 20.0}}).encode()
    directory = CampaignDirectory.create(tmp_path / "campaign", config, tmp_path / "campaign.toml")
    platform = open_platform(Resources.model_validate(RESOURCES | {"explore": None}))

    def task(kind: str, **spec) -> dict:
        return {"id": f"{kind}-000001", "kind": kind, "spec": spec, "attempt": 1, "draw": 1}

    with platform.executor(directory, SUBJECT) as executor:
        long = executor.submit(task("train", generation=1, labels=[], audit_labels=[]))
        short = executor.submit(task("label", candidate="one"))
        assert short.result(PATIENCE_S)["status"] == "finished"
        assert not long.done()
        assert len(jobs(slurm_cluster)) == 2
        until(lambda: len(jobs(slurm_cluster)) == 1)
        assert not long.done()
        assert long.result(PATIENCE_S)["status"] == "finished"
    assert jobs(slurm_cluster) == []


def test_ranks_and_gpus_of_workers(slurm_cluster, start):
    """MPI ranks run on their worker's own node; a worker sees the GPU that was granted, not simply the first."""
    other = ["--partition=gpu", "--gres=gpu:1", "--mem=100", "--output=/dev/null", "--wrap=sleep 300"]
    slurm_cluster.ask("sbatch", *other)  # it has the first
    label = {"nodes": 2, "ranks": 2, "workers_per_node": 2, "blocks": [1, 1]}
    budget = {"initial_labels": 6, "labels_per_generation": 6, "max_labels": 6}
    run = start(budget, label, "parallel_subject:ParallelSubject")
    assert run.end(PATIENCE_S)[:2] == (0, "finished\n")
    assert_complete(run.directory, 6)
    assert set((run.directory.path / "gpus").read_text().split()) == {"1"}
    lines = (run.directory.path / "ranks").read_text().splitlines()
    assert len(lines) == 6
    for line in lines:
        node, words = line.split(": ")
        assert words == f"{node} 1 {node} 1"
    assert {line.split(":")[0] for line in lines} == {"cpu1", "cpu2"}


def test_jobs_of_a_controller_that_was_killed_are_cancelled(slurm_cluster, start):
    settings = {"initial_labels": 4, "labels_per_generation": 3, "max_labels": 9}
    run = start(settings, seconds={"label": 1.0})
    working(run)
    run.process.kill()
    resumed = start(settings)
    code, output, errors = resumed.end(PATIENCE_S)
    assert (code, output) == (0, "finished\n")
    assert "cancelling jobs that are left over" in errors
    assert_complete(run.directory, 9)
    assert jobs(slurm_cluster) == []


def test_a_controller_in_a_job(slurm_cluster, tmp_path):
    """Its own job's memory and cores must not become those of the blocks."""
    directory = CampaignDirectory.create(tmp_path / "campaign", b"{}", tmp_path / "campaign.toml")
    resources = RESOURCES | {"explore": None, "label": LABELS | {"ranks": 2}}
    command = [sys.executable, str(HERE / "run_campaign.py"), str(directory.path)]
    command += [json.dumps({"max_labels": 4, "initial_labels": 4, "labels_per_generation": 4}), json.dumps(resources)]
    command += ["parallel_subject:ParallelSubject"]
    script = f"export PYTHONPATH={FAKES}:{HERE}\n{shlex.join(command)}"
    job = [
        "--partition=gpu",
        "--mem-per-cpu=300",
        "--cpus-per-task=1",
        f"--output={tmp_path}/output",
        f"--wrap={script}",
    ]
    slurm_cluster.ask("sbatch", "--wait", *job)
    assert (tmp_path / "output").read_text() == "finished\n"
    assert_complete(directory, 4)
    for line in (directory.path / "ranks").read_text().splitlines():
        node, words = line.split(": ")
        assert words == f"{node} 1 {node} 1"


def test_blocks_from_which_no_worker_comes_end_the_campaign(slurm_cluster, start):
    run = start({"initial_labels": 4}, {"worker_init": ["echo the module is missing >&2", "exit 3"]})
    code, _, errors = run.end(PATIENCE_S)
    assert code == 1 and "3 blocks of 'label' in a row have ended before a worker reported" in errors
    assert "the module is missing" in errors
    until(lambda: jobs(slurm_cluster) == [])


def kill_node(cluster, name: str) -> None:
    """What pulling the plug does to a node: its daemon, those that look after its jobs, and the jobs are gone."""
    daemon = psutil.Process(int((cluster.directory / f"slurmd.{name}.pid").read_text()))
    jobs = [process for process in psutil.process_iter(["environ"]) if on_node(process, name)]
    parents = {parent for process in jobs if (parent := process.parent()) is not None}
    keepers = [parent for parent in parents if parent.name().startswith("slurmstepd")]
    for process in [daemon, *keepers, *jobs]:
        process.kill()


def on_node(process: psutil.Process, name: str) -> bool:
    return (process.info["environ"] or {}).get("SLURMD_NODENAME") == name
