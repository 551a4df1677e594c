"""The real Parsl, real processes, and real kills."""

import json
import os
import signal
import stat
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from running import SMALL, Run, assert_complete, until

from alpot.campaign.state import State
from alpot.config import Resources
from alpot.platforms import laptop
from alpot.platforms.laptop import Laptop
from alpot.reference.launcher import allotted_cores, with_launcher
from alpot.store.directory import CampaignDirectory
from alpot.store.ledger import Ledger


@pytest.fixture
def start(tmp_path: Path, monkeypatch) -> Iterator[Callable[..., Run]]:
    path = tmp_path / "a campaign's directory"  # whose name would break a careless shell command
    monkeypatch.setenv("ALPOT_TEST", str(path))
    runs: list[Run] = []

    def begin(**config) -> Run:
        if not CampaignDirectory.is_campaign(path):
            CampaignDirectory.create(path, json.dumps(config).encode(), tmp_path / "campaign.toml")
        runs.append(Run(CampaignDirectory.open(path), SMALL, {"workers": 2}))
        return runs[-1]

    yield begin
    for run in runs:
        run.clear()


def test_a_campaign_leaves_no_process_and_listens_on_loopback_only(start):
    run = start(seconds={"label": 0.1})
    run.computes_labels()
    listening = [
        connection.laddr.ip
        for process in [psutil.Process(run.process.pid), *run.processes()]
        for connection in process.net_connections("inet")
        if connection.status == psutil.CONN_LISTEN
    ]
    certificates = list(run.directory.logs.glob("parsl/*/*/certificates"))
    assert [stat.S_IMODE(path.stat().st_mode) for path in certificates] == [0o700]  # encrypted, and private
    assert listening and {address.removeprefix("::ffff:") for address in listening} == {"127.0.0.1"}
    assert run.end() == (0, "finished\n", "")
    assert not certificates[0].exists()
    until(lambda: not run.processes())
    assert_complete(run.directory)


@pytest.mark.slow
def test_a_worker_that_is_killed_is_named_and_costs_no_attempt(start):
    run = start(failures=[{"kind": "label", "match": "/1", "attempts": 1, "failure": "kill"}])
    assert run.end()[:2] == (0, "finished\n")
    assert_complete(run.directory)
    losses = run.losses()
    assert losses and {loss["failure"] for loss in losses} == {"node_lost"}
    assert all(loss["is_suspect"] and "died in job" in loss["message"] for loss in losses)


@pytest.mark.slow
def test_a_controller_that_is_killed_is_resumed(start):
    """What its workers finish meanwhile is adopted, not computed again."""
    run = start(seconds={"label": 1.5})
    run.computes_labels()
    run.process.kill()
    resumed = start()
    code, output, errors = resumed.end()
    assert (code, output) == (0, "finished\n")
    assert "waiting for workers of a controller that was killed" in errors
    assert_complete(run.directory)


@pytest.mark.slow
def test_without_its_controller_the_interchange_ends(start):
    run = start(seconds={"label": 0.5})
    run.computes_labels()
    interchange = [process for process in run.processes() if process.ppid() == run.process.pid]
    assert len(interchange) == 1
    run.process.kill()
    run.process.communicate()
    until(lambda: not interchange[0].is_running() or interchange[0].status() == psutil.STATUS_ZOMBIE)


@pytest.mark.slow
def test_without_the_interchange_the_controller_ends(start):
    run = start(seconds={"label": 0.5})
    run.computes_labels()
    next(process for process in run.processes() if process.ppid() == run.process.pid).kill()
    code, _, errors = run.end()
    assert code == 1 and "Parsl's interchange has ended with status -9" in errors
    assert start().end()[:2] == (0, "finished\n")
    assert_complete(run.directory)


@pytest.mark.slow
def test_ctrl_c_stops_gently(start):
    run = start(seconds={"label": 0.5})
    run.computes_labels()
    os.killpg(run.process.pid, signal.SIGINT)  # as a terminal does: to the whole foreground group
    assert run.end() == (0, "stopped\n", "")
    with Ledger(run.directory.ledger, read_only=True) as ledger:
        state = State.replay(ledger.events())
    assert not state.work.tasks and not any(state.work.failed.values()) and 0 < state.calculations < 9
    until(lambda: not run.processes())
    assert start().end()[:2] == (0, "finished\n")
    assert_complete(run.directory)


@pytest.mark.slow
def test_ctrl_c_twice_stops_at_once(start):
    run = start(seconds={"label": 1.0})
    run.computes_labels()
    os.kill(run.process.pid, signal.SIGINT)
    time.sleep(0.2)  # two signals at once would be merged into one
    os.kill(run.process.pid, signal.SIGINT)
    code, _, errors = run.end()
    assert code != 0 and "KeyboardInterrupt" in errors
    until(lambda: not run.processes())
    assert start().end()[:2] == (0, "finished\n")
    assert_complete(run.directory)


def test_ranks_of_a_reference_on_a_laptop(monkeypatch):
    """Workers leave cores to the ranks, and know how to start them."""
    monkeypatch.setattr(laptop, "_available_cores", lambda: 8)
    platform = Laptop(Resources(ranks=4))
    assert platform.slots == {"workers": 2}
    for name, value in platform.launcher.items():
        monkeypatch.setenv(name, value)
    assert with_launcher(["pw.x"]) == ["mpirun", "-n", "4", "pw.x"]
    assert with_launcher(["pw.x"], share=0.5) == ["mpirun", "-n", "2", "pw.x"]
    assert allotted_cores() == 4
    assert Laptop(Resources()).launcher["ALPOT_LAUNCHER"] == "[]"
