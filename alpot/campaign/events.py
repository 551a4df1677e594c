"""The vocabulary of the ledger: what can happen in a campaign.

A decision of the policy is the event that records it, so these functions are also the policy's verbs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from alpot.campaign.subject import Candidate, Kind
from alpot.errors import FailureClass, StorageError
from alpot.store.ledger import Event


def replay(events: Iterable[Event], *take_in: Callable[[Event], None]) -> None:
    """Hands recorded events to each of ``take_in``; whatever goes wrong there becomes a ``StorageError``."""
    event = None
    try:
        for event in events:
            for take in take_in:
                take(event)
    except (AttributeError, LookupError, StopIteration, TypeError, ValueError) as error:
        if event is None:
            raise
        raise StorageError(
            f"event {event.seq} of the ledger, {event.kind!r}, cannot be understood: {error!r}; the ledger is damaged,"
            " or made by another version of alpot"
        ) from error


@dataclass(frozen=True)
class Task:
    """A piece of work.

    Attributes:
        id: the same on every attempt.
        kind: what to do.
        spec: with what; see ``alpot.campaign.subject``. Events hold counts instead of lists, see ``Dataset.expand``.
        attempt: from 1; each has a folder of its own.
        draw: from 1; which random numbers it uses. Attempts with the same draw give the same result, and continue
            from each other's checkpoint.
    """

    id: str
    kind: Kind
    spec: dict[str, Any]
    attempt: int = 1
    draw: int = 1

    @classmethod
    def load(cls, payload: dict[str, Any]) -> Task:
        """The task recorded in an event."""
        return cls(
            id=payload["id"],
            kind=Kind(payload["kind"]),
            spec=payload["spec"],
            attempt=payload["attempt"],
            draw=payload["draw"],
        )

    def dump(self) -> dict[str, Any]:
        """As JSON-able content, for events and workers."""
        return asdict(self) | {"kind": self.kind.value}

    def again(self, *, afresh: bool = False) -> Task:
        """The same task, one attempt later; ``afresh``: with other random numbers, and without its checkpoint."""
        return replace(self, attempt=self.attempt + 1, draw=self.draw + afresh)


@dataclass(frozen=True)
class Ending:
    """Why the campaign comes to its end.

    Attributes:
        rule: which rule was met.
        limit: the limit that was met, or all settings that the rule rests on; the ending holds for as long as the
            user does not change them.
        reason: a sentence for people.
        failed: the campaign cannot go on; otherwise it has reached what it was asked for.
    """

    rule: str
    limit: float | list[float | None] | None
    reason: str
    failed: bool = False


def opened(*, config: str, changes: Sequence[str] = (), **who: Any) -> Event:
    """A controller has taken up the campaign; a request to stop and a failed ending are forgotten.

    Args:
        config: checksum of the campaign file.
        changes: what the user has changed in it since the last run.
        who: the controller's host, pid and version, and what its platform wants to be on record.
    """
    return Event(kind="opened", payload={"config": config, "changes": list(changes)} | who)


def settings_changed(config: str, changes: Sequence[str]) -> Event:
    """The running controller has read the campaign file again."""
    return Event(kind="settings_changed", payload={"config": config, "changes": list(changes)})


def labels_imported(
    keys: Sequence[str],
    audit: Sequence[str],
    shards: Sequence[str],
    audit_shards: Sequence[str],
    apart: Sequence[str] = (),
) -> Event:
    """Labels that the user brought along, or that were found on disk.

    Args:
        keys: to train on; with ``shards`` they lie in those files, otherwise in one file each.
        audit: to measure errors with; likewise with ``audit_shards``.
        shards: paths of files.
        audit_shards: paths of files.
        apart: neither to train on nor to measure errors with; each in a file of its own.
    """
    lists = {"keys": keys, "audit": audit, "shards": shards, "audit_shards": audit_shards, "apart": apart}
    return Event(kind="labels_imported", payload={name: list(values) for name, values in lists.items()})


def candidates_given(candidates: Iterable[Candidate], reference: str) -> Event:
    """Structures that the user wants labelled, brought along rather than found; or wants tried once more.

    Args:
        candidates: the structures.
        reference: hash of the settings by which they are to be labelled.
    """
    payload = {"candidates": [entry.model_dump() for entry in candidates], "reference": reference}
    return Event(kind="candidates_given", payload=payload)


def candidates_withdrawn(ids: Iterable[str]) -> Event:
    """Candidates that are not to be labelled any more, or not in this way; also those whose label task has begun."""
    return Event(kind="candidates_withdrawn", payload={"ids": list(ids)})


def labels_lost(reasons: Mapping[str, str], *, audit: Sequence[str] = (), shards: Sequence[str] = ()) -> Event:
    """Labels that are no longer to be had, e.g. because the disk has damaged them.

    Args:
        reasons: why, by key.
        audit: those of the keys that were for the audit.
        shards: files that are gone with all their labels.
    """
    payload = {"reasons": dict(reasons), "audit": list(audit), "shards": list(shards)}
    return Event(kind="labels_lost", payload=payload)


def labels_moved(compactions: Sequence[Mapping[str, Any]]) -> Event:
    """Labels that lie in other files than those on record; as of ``alpot.campaign.subject.Compaction``."""
    return Event(kind="labels_moved", payload={"compacted": [dict(entry) for entry in compactions]})


def models_lost(generations: Sequence[int]) -> Event:
    """Generations whose potential is no longer to be had."""
    return Event(kind="models_lost", payload={"generations": list(generations)})


def frames_lost(explorations: Sequence[str]) -> Event:
    """Explorations whose frames are no longer to be had: those of their candidates that still wait are dropped."""
    return Event(kind="frames_lost", payload={"explorations": list(explorations)})


def task_started(task: Task) -> Event:
    """An attempt at a task begins; recorded before it is submitted."""
    return Event(kind="task_started", payload=task.dump())


def task_finished(task: Task, summary: dict[str, Any], seconds: float) -> Event:
    """A task gave its result."""
    return Event(kind="task_finished", payload={"id": task.id, "summary": summary, "seconds": seconds})


def task_failed(
    task: Task,
    failure: FailureClass,
    message: str,
    evidence: str = "",
    core_seconds: float | None = None,
    is_final: bool = False,
) -> Event:
    """The work of an attempt failed; whether there will be another is decided later.

    Args:
        task: the attempt.
        failure: its class.
        message: a sentence for people.
        evidence: the last lines of output, or whatever the decision was taken from.
        core_seconds: what the attempt cost, where that is known.
        is_final: another attempt would end alike.
    """
    details = {"failure": failure.value, "message": message, "evidence": evidence, "core_seconds": core_seconds}
    details |= {"is_final": is_final}
    return Event(kind="task_failed", payload={"id": task.id, "attempt": task.attempt} | details)


def task_lost(task: Task, failure: FailureClass, message: str, evidence: str = "", *, is_suspect: bool) -> Event:
    """The worker of an attempt was lost; ``is_suspect``: perhaps through the task."""
    details = {"failure": failure.value, "message": message, "evidence": evidence, "is_suspect": is_suspect}
    return Event(kind="task_lost", payload={"id": task.id, "attempt": task.attempt} | details)


def task_interrupted(task: Task, progress: float) -> Event:
    """The job of an attempt is about to end; its state is saved for the next one."""
    return Event(kind="task_interrupted", payload={"id": task.id, "attempt": task.attempt, "progress": progress})


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
