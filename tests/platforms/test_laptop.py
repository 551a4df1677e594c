"""The real Parsl, real processes, and real kills."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from fake_campaign import calculated

from alpot.campaign.state import State
from alpot.store.directory import CampaignDirectory
from alpot.store.ledger import Ledger

FAKES = Path(__file__).parents[1] / "campaign"
SMALL = {"initial_labels": 4, "labels_per_generation": 3, "max_labels": 9}
#: Generous, because the machine may be busy; nothing below waits for longer than it must.
PATIENCE_S = 60.0


def until(claim: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not claim():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.05)


class Run:
    """A controller in a process of its own, and all processes that it started."""

    def __init__(self, directory: CampaignDirectory) -> None:
        command = [sys.executable, str(Path(__file__).with_name("run_campaign.py")), str(directory.path)]
        environment = os.environ | {"PYTHONPATH": str(FAKES), "OMP_NUM_THREADS": "1"}
        self.directory = directory
        self.process = subprocess.Popen(
            [*command, json.dumps(SMALL)],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def computes_labels(self) -> None:
        """Waits until a label is being computed."""
        tasks = self.directory.path / "tasks" / "label"
        until(lambda: any(tasks.glob("*/attempt-*")))

    def processes(self) -> list[psutil.Process]:
        """Interchange, managers and workers: those that know the directory of this campaign."""
        found = []
        for process in psutil.process_iter():
            try:
                alive = process.status() != psutil.STATUS_ZOMBIE and process.pid not in (os.getpid(), self.process.pid)
                if alive and (process.ppid() == self.process.pid or self._belongs(process)):
                    found.append(process)
            except psutil.Error:
                continue  # it has just ended
        return found

    def _belongs(self, process: psutil.Process) -> bool:
        return process.environ().get("ALPOT_TEST") == str(self.directory.path)

    def end(self) -> tuple[int, str, str]:
        output, errors = self.process.communicate(timeout=PATIENCE_S)
        return self.process.returncode, output, errors


@pytest.fixture
def start(tmp_path: Path, monkeypatch) -> Iterator[Callable[..., Run]]:
    path = tmp_path / "a campaign's directory"  # whose name would break a careless shell command
    monkeypatch.setenv("ALPOT_TEST", str(path))
    runs: list[Run] = []

    def begin(**config) -> Run:
        if not CampaignDirectory.is_campaign(path):
            CampaignDirectory.create(path, json.dumps(config).encode(), tmp_path / "campaign.toml")
        runs.append(Run(CampaignDirectory.open(path)))
        return runs[-1]

    yield begin
    for run in runs:
        run.process.kill()
        run.process.communicate()
        for process in run.processes():
            process.kill()


def assert_complete(directory: CampaignDirectory) -> None:
    keys = calculated(directory)
    assert len(set(keys)) == len(keys) == SMALL["max_labels"]
    with Ledger(directory.ledger, read_only=True) as ledger:
        assert {row.key for row in ledger.label_rows()} == set(keys)
        assert State.replay(ledger.events()).finished


def test_a_campaign_leaves_no_process_and_listens_on_loopback_only(start):
    run = start(seconds={"label": 0.1})
    run.computes_labels()
    listening = [
        connection.laddr.ip
        for process in [psutil.Process(run.process.pid), *run.processes()]
        for connection in process.net_connections("inet")
        if connection.status == psutil.CONN_LISTEN
    ]
    assert listening and {address.removeprefix("::ffff:") for address in listening} == {"127.0.0.1"}
    assert run.end() == (0, "finished\n", "")
    until(lambda: not run.processes())
    assert_complete(run.directory)


@pytest.mark.slow
def test_a_worker_that_is_killed_costs_one_attempt(start):
    run = start(failures=[{"kind": "label", "match": "/1", "attempts": 1, "failure": "kill"}])
    assert run.end()[:2] == (0, "finished\n")
    assert_complete(run.directory)
    with Ledger(run.directory.ledger, read_only=True) as ledger:
        lost = [event.payload for event in ledger.events() if event.kind == "task_failed"]
    assert lost and {payload["failure"] for payload in lost} == {"node_lost"}


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
    assert not state.tasks and not state.failed and 0 < state.calculations < 9
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
