"""Controllers in processes of their own, for tests that kill."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
from fake_campaign import SUBJECT, calculated

from alpot.campaign.state import State
from alpot.store.directory import CampaignDirectory
from alpot.store.ledger import Event, Ledger

HERE = Path(__file__).parent
FAKES = HERE.parent / "campaign"
SMALL = {"initial_labels": 4, "labels_per_generation": 3, "max_labels": 9}
#: Generous, because the machine may be busy; nothing below waits for longer than it must.
PATIENCE_S = 60.0


def until(claim: Callable[[], object], patience: float = PATIENCE_S) -> None:
    deadline = time.monotonic() + patience
    while not claim():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.05)


class Run:
    """A controller in a process of its own, and all processes that it started."""

    def __init__(self, directory: CampaignDirectory, settings: dict, resources: dict, subject: str = SUBJECT) -> None:
        command = [sys.executable, str(HERE / "run_campaign.py"), str(directory.path)]
        command += [json.dumps(settings), json.dumps(resources), subject]
        environment = os.environ | {"PYTHONPATH": f"{FAKES}:{HERE}", "OMP_NUM_THREADS": "1"}
        self.directory = directory
        self.process = subprocess.Popen(
            command,
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

    def end(self, patience: float = PATIENCE_S) -> tuple[int, str, str]:
        output, errors = self.process.communicate(timeout=patience)
        return self.process.returncode, output, errors

    def events(self) -> list[Event]:
        """What the ledger says so far."""
        with Ledger(self.directory.ledger, read_only=True) as ledger:
            return list(ledger.events())

    def losses(self) -> list[dict]:
        """Workers that were lost, as the ledger names them."""
        return [event.payload for event in self.events() if event.kind == "task_lost"]

    def clear(self) -> None:
        """Kills whatever is left."""
        self.process.kill()
        self.process.communicate()
        for process in self.processes():
            process.kill()


def assert_complete(directory: CampaignDirectory, labels: int = SMALL["max_labels"]) -> None:
    """All labels are there, none was computed twice, and the campaign knows them all."""
    keys = calculated(directory)
    assert len(set(keys)) == len(keys) == labels
    with Ledger(directory.ledger, read_only=True) as ledger:
        assert {row.key for row in ledger.label_rows()} == set(keys)
        assert State.replay(ledger.events()).finished
