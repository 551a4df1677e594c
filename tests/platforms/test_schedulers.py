"""How schedulers are talked to. Slurm is real elsewhere; for PBS and LSF short programs answer in their words."""

import stat
from pathlib import Path

import pytest
from parsl.launchers import SimpleLauncher

from alpot.config import Pool, Resources
from alpot.errors import UsageError
from alpot.platforms.cluster import job_prefix
from alpot.platforms.registry import open_platform
from alpot.store.directory import CampaignDirectory

PREFIX = "alpot-0123456789-abcdef"


@pytest.fixture
def program(tmp_path, monkeypatch):
    """Puts a program in front of the PATH; what it was told is in ``<name>.log``."""
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")

    def make(name: str, script: str) -> Path:
        path = tmp_path / name
        path.write_text(f'#!/bin/bash\necho "$@" >> {tmp_path}/{name}.log\n{script}\n')
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
        return tmp_path / f"{name}.log"

    return make


def jobs(platform: str, folder: Path):
    opened = open_platform(Resources.model_validate({"platform": platform, "label": {"partition": "cpu"}}))
    provider = opened.jobs(Pool(partition="cpu"), SimpleLauncher(), "true", PREFIX)
    provider.script_dir = str(folder)
    return provider


def test_pbs_leftovers(program, tmp_path):
    program("qselect", "echo 11.pbs; echo 12.pbs")
    program(
        "qstat",
        f"""echo '{{"Jobs": {{"11.pbs": {{"Job_Name": "{PREFIX}.label.block-0.1.5"}},
        "12.pbs": {{"Job_Name": "somebody-else"}}}}}}'""",
    )
    told = program("qdel", "true")
    jobs("pbs", tmp_path).cancel_jobs("alpot-0123456789-")
    assert told.read_text() == "11.pbs\n"


def test_lsf_leftovers_and_submission(program, tmp_path):
    program("bjobs", f"echo '11|{PREFIX}.label.block-0.1.5'; echo '12|{PREFIX}0.label.block-0.1.5'")
    told = program("bkill", "true")
    program("bsub", f"cat > {tmp_path}/submitted; echo 'Job <13> is submitted to queue <cpu>.'")
    provider = jobs("lsf", tmp_path)
    provider.cancel_jobs(f"{PREFIX}.")
    assert told.read_text() == "11\n"
    assert provider.submit("worker", 1, "parsl.label.block-0") == "13"
    assert "#BSUB -W 60" in (tmp_path / "submitted").read_text().splitlines()


@pytest.mark.parametrize(("platform", "command"), [("slurm", "sbatch"), ("pbs", "qsub"), ("lsf", "bsub")])
def test_a_machine_without_the_scheduler(platform, command, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    opened = open_platform(Resources(platform=platform, interface="lo", label=Pool()))
    complaint = f"there is no {command} on this machine; run the campaign where jobs are submitted"
    with pytest.raises(UsageError, match=complaint), opened.executor(CampaignDirectory(tmp_path), "m:S"):
        pass


def test_a_busy_scheduler_is_asked_again(program, tmp_path, monkeypatch):
    monkeypatch.setattr("alpot.platforms.scheduler._PAUSES_S", (0.01, 0.01))
    told = program(
        "sbatch",
        f"""if [ "$(wc -l < {tmp_path}/sbatch.log)" -lt 3 ]; then
            echo 'sbatch: error: Batch job submission failed: Unable to contact slurm controller' >&2; exit 1
        fi
        echo 'Submitted batch job 7'""",
    )
    assert jobs("slurm", tmp_path).submit("worker", 1, "parsl.label.block-0") == "7"
    assert len(told.read_text().splitlines()) == 3


def test_a_refusal_is_final(program, tmp_path):
    told = program("sbatch", "echo 'sbatch: error: invalid partition specified: cpu' >&2; exit 1")
    with pytest.raises(Exception, match="block-0"):
        jobs("slurm", tmp_path).submit("worker", 1, "parsl.label.block-0")
    assert len(told.read_text().splitlines()) == 1


def test_states_of_slurm_jobs(program, tmp_path):
    program("sbatch", f"echo Submitted batch job $(wc -l < {tmp_path}/sbatch.log)")
    words = ["PENDING", "RUNNING", "TIMEOUT", "NODE_FAIL", "PREEMPTED"]
    lines = "\\n".join(f"{number}|{word}|{PREFIX}.label.block-{number}" for number, word in enumerate(words, start=1))
    program("squeue", f"printf '{lines}\\n'")
    provider = jobs("slurm", tmp_path)
    ids = [provider.submit("worker", 1, f"parsl.label.block-{number}") for number in range(6)]
    states = [status.state.name for status in provider.status(ids)]
    assert states == ["PENDING", "RUNNING", "TIMEOUT", "FAILED", "TIMEOUT", "COMPLETED"]
    assert sorted(provider.named_jobs()) == ["1", "2"]
    program("squeue", "echo 'slurm_load_jobs error: Socket timed out' >&2; exit 1")
    assert [status.state.name for status in provider.status(ids)] == states


def test_names_of_jobs_differ_between_campaigns(tmp_path):
    one, other = (CampaignDirectory(tmp_path / name) for name in ("one", "other"))
    assert job_prefix(one) == job_prefix(CampaignDirectory(tmp_path / "x" / ".." / "one")) != job_prefix(other)
