import json
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # workers import the fake subject by name

from alpot.campaign.apps import run_task
from alpot.campaign.controller import Controller
from alpot.campaign.policy import PolicySettings
from alpot.campaign.subject import Kind
from alpot.store.directory import CampaignDirectory
from alpot.store.ledger import Ledger

SUBJECT = "fake_subject:FakeSubject"


class InProcess:
    """A platform that runs each task at once in the controller's process."""

    def __init__(self, workers: int = 1) -> None:
        self.slots = {"workers": workers}
        self.pool_of = dict.fromkeys(Kind, "workers")

    @contextmanager
    def executor(self, directory: CampaignDirectory, subject: str) -> Iterator["InProcess"]:
        self.directory, self.subject = directory, subject
        yield self

    def submit(self, task: dict[str, Any]) -> Future[dict[str, Any]]:
        future: Future[dict[str, Any]] = Future()
        try:
            future.set_result(run_task(self.subject, str(self.directory.path), task))
        except Exception as error:
            future.set_exception(error)
        return future


def policy(platform: InProcess, **changes: Any) -> PolicySettings:
    defaults: dict[str, Any] = {
        "initial_labels": 10,
        "labels_per_generation": 6,
        "waiting_candidates": 10,
        "attempts": 3,
        "max_labels": 40,
        "max_failures": 5,
    }
    return PolicySettings(slots=platform.slots, pool_of=platform.pool_of, **(defaults | changes))


@pytest.fixture
def make_campaign(tmp_path: Path) -> Callable[..., Controller]:
    """Makes a controller; the second call with the same name resumes."""

    def make(
        name: str = "campaign", *, platform: InProcess | None = None, config: Any = None, **changes: Any
    ) -> Controller:
        path = tmp_path / name
        platform = platform or InProcess()
        if not CampaignDirectory.is_campaign(path):
            CampaignDirectory.create(path, json.dumps(config or {}).encode(), tmp_path / "campaign.toml")
        return Controller(CampaignDirectory.open(path), policy(platform, **changes), platform, SUBJECT)

    return make


def recorded(controller: Controller) -> list[tuple[str, Any]]:
    """What the ledger says, without what differs from run to run."""
    with Ledger(controller.directory.ledger, read_only=True) as ledger:
        events = [(event.kind, dict(event.payload)) for event in ledger.events()]
    for kind, payload in events:
        payload.pop("seconds", None)
        if kind == "opened":
            payload.clear()
    return events


def calculated(controller: Controller) -> list[str]:
    """Keys in the order in which their label was computed."""
    return (controller.directory.path / "calculations.log").read_text().split()
