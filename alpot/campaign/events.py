"""The vocabulary of the ledger: what can happen in a campaign.

A decision of the policy is the event that records it, so these functions are also the policy's verbs.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from alpot.campaign.subject import Kind
from alpot.errors import FailureClass
from alpot.store.ledger import Event


@dataclass(frozen=True)
class Task:
    """A piece of work; its id is the same on every attempt."""

    id: str
    kind: Kind
    spec: dict[str, Any]
    attempt: int = 1

    @classmethod
    def load(cls, payload: dict[str, Any]) -> Task:
        """The task recorded in an event."""
        return cls(id=payload["id"], kind=Kind(payload["kind"]), spec=payload["spec"], attempt=payload["attempt"])

    def dump(self) -> dict[str, Any]:
        """As JSON-able content, for events and workers."""
        return asdict(self) | {"kind": self.kind.value}

    def again(self) -> Task:
        """The same task, one attempt later."""
        return Task(self.id, self.kind, self.spec, self.attempt + 1)


@dataclass(frozen=True)
class Ending:
    """Why the campaign comes to its end.

    Attributes:
        rule: which rule was met.
        limit: the limit that was met; the ending holds for as long as the user does not change it.
        reason: a sentence for people.
        failed: the campaign cannot go on; otherwise it has reached what it was asked for.
    """

    rule: str
    limit: float | None
    reason: str
    failed: bool = False


def opened(*, config: str, **who: Any) -> Event:
    """A controller has taken up the campaign; a request to stop and a failed ending are forgotten.

    ``config`` is the checksum of the campaign file, which the user may change between two runs.
    """
    return Event(kind="opened", payload={"config": config} | who)


def labels_imported(keys: list[str], audit: list[str], shard: str | None) -> Event:
    """Labels that the user brought along; with ``shard``, ``keys`` lie in that file, otherwise in one each."""
    return Event(kind="labels_imported", payload={"keys": keys, "audit": audit, "shard": shard})


def task_started(task: Task) -> Event:
    """An attempt at a task begins; recorded before it is submitted."""
    return Event(kind="task_started", payload=task.dump())


def task_finished(task: Task, summary: dict[str, Any], seconds: float) -> Event:
    """A task gave its result."""
    return Event(kind="task_finished", payload={"id": task.id, "summary": summary, "seconds": seconds})


def task_failed(task: Task, failure: FailureClass, message: str, evidence: str = "") -> Event:
    """An attempt failed; whether there will be another is decided later."""
    details = {"failure": failure.value, "message": message, "evidence": evidence}
    return Event(kind="task_failed", payload={"id": task.id, "attempt": task.attempt} | details)


def task_abandoned(task_id: str, reason: str, *, counts: bool) -> Event:
    """A task failed for good; ``counts``: against the failure budget."""
    return Event(kind="task_abandoned", payload={"id": task_id, "reason": reason, "counts": counts})


def stop_requested() -> Event:
    """The user asked to stop: what runs may finish, nothing new starts."""
    return Event(kind="stop_requested", payload={})


def ending_began(ending: Ending) -> Event:
    """A rule to stop was met: what runs finishes, then come the last training and assessment."""
    return Event(kind="ending_began", payload=asdict(ending))


def ending_lifted() -> Event:
    """The user has changed the limit that was met: the campaign goes on."""
    return Event(kind="ending_lifted", payload={})


def campaign_finished(reason: str, *, failed: bool) -> Event:
    """There is nothing more to do."""
    return Event(kind="campaign_finished", payload={"reason": reason, "failed": failed})
