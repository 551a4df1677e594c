"""Campaigns of the fake subject, on a platform that needs no other process."""

from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any

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
        self.provenance: dict[str, Any] = {}

    @contextmanager
    def executor(self, directory: CampaignDirectory, subject: str) -> Iterator["InProcess"]:
        self.directory, self.subject = directory, subject
        yield self

    def dry_run(self, directory: CampaignDirectory) -> list[tuple[str, str]]:
        return []

    def submit(self, task: dict[str, Any]) -> Future[dict[str, Any]]:
        future: Future[dict[str, Any]] = Future()
        try:
            future.set_result(run_task(self.subject, str(self.directory.path), task))
        except Exception as error:  # noqa: BLE001 - as an executor does
            future.set_exception(error)
        return future


def policy(platform: Any, **changes: Any) -> PolicySettings:
    defaults: dict[str, Any] = {
        "initial_labels": 10,
        "labels_per_generation": 6,
        "waiting_candidates": 10,
        "attempts": 3,
        "max_labels": 40,
        "max_failures": 5,
    }
    return PolicySettings(slots=platform.slots, pool_of=platform.pool_of, **(defaults | changes))


def recorded(controller: Controller) -> list[tuple[str, Any]]:
    """What the ledger says, without what differs from run to run."""
    with Ledger(controller.directory.ledger, read_only=True) as ledger:
        events = [(event.kind, dict(event.payload)) for event in ledger.events()]
    for kind, payload in events:
        payload.pop("seconds", None)
        if kind == "opened":
            payload.clear()
    return events


def calculated(directory: CampaignDirectory) -> list[str]:
    """Keys in the order in which their label was computed."""
    return (directory.path / "calculations.log").read_text().split()
