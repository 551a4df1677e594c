"""What a worker executes: one task of the subject, its result published before anybody is told.

A worker knows the campaign directory, not the ledger. Only names and small numbers travel back; a result that nobody
listened to is found in ``result.json`` by the next controller.
"""

from __future__ import annotations

import errno
import json
import logging
import time
import traceback
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

from alpot.campaign.deadline import deadline
from alpot.campaign.events import Task
from alpot.campaign.presence import at_work
from alpot.campaign.subject import SUMMARIES, Assignment, Subject
from alpot.errors import (
    CampaignDirectoryError,
    ConfigError,
    FailureClass,
    Interrupted,
    ReferenceError,
    StorageError,
    StructureError,
    UsageError,
)
from alpot.store.checkpoint import Checkpoint
from alpot.store.directory import CampaignDirectory
from alpot.store.json_files import publish_json, read_json

logger = logging.getLogger(__name__)

_EVIDENCE_LINES = 12
#: What disks and network file systems do to anybody.
_MACHINE_ERRORS = {
    errno.ENOSPC: FailureClass.DISK_FULL,
    errno.EDQUOT: FailureClass.DISK_FULL,
    errno.EIO: FailureClass.NODE_LOST,
    errno.EROFS: FailureClass.NODE_LOST,
    errno.ESTALE: FailureClass.NODE_LOST,
}


def run_task(subject: str, directory: str, task: dict[str, Any]) -> dict[str, Any]:
    """Runs one attempt at a task.

    Args:
        subject: import path of the subject's class, ``"module:Class"``.
        directory: the campaign directory.
        task: as of ``Task.dump``.

    Returns:
        The content of the task's ``result.json``: ``task``, ``attempt``, ``status``, ``seconds``, and either
        ``summary`` (finished), ``failure``, ``message``, ``evidence`` and perhaps ``core_seconds`` (failed), or
        ``progress`` (interrupted).
    """
    work = Task.load(task)
    campaign = CampaignDirectory(Path(directory))
    with at_work(campaign), deadline() as time_left:
        started = time.monotonic()
        path = campaign.checkpoint_path(work.kind, work.id, work.draw)
        checkpoint = Checkpoint(path, time_left=time_left)
        try:
            outcome: dict[str, Any] = {"status": "finished", "summary": _run(subject, campaign, work, checkpoint)}
        except Interrupted as interruption:
            outcome = {"status": "interrupted", "progress": interruption.progress}
        except Exception as error:  # noqa: BLE001 - whatever it is, it is recorded; a worker outlives its tasks
            outcome = {"status": "failed"} | _explain(error)
        seconds = round(time.monotonic() - started, 3)
        result = {"task": work.id, "attempt": work.attempt, "seconds": seconds} | outcome
        try:
            publish_json(result_path(campaign, work), result)
        except StorageError as error:  # whoever listens is told all the same
            logger.error("a result cannot be published: %s", error)
    return result


def result_path(directory: CampaignDirectory, task: Task) -> Path:
    """Where a worker leaves the result of a task."""
    return directory.task_path(task.kind, task.id) / "result.json"


def published_result(directory: CampaignDirectory, task: Task) -> dict[str, Any] | None:
    """The result of a task, if a worker has published one that still counts.

    A success counts whichever attempt it is of. The failure of an earlier attempt has been dealt with.
    """
    path = result_path(directory, task)
    if not path.exists():
        return None
    try:
        result = read_json(path)
    except StorageError as error:  # what the task has published beside it is found by its next attempt
        logger.warning("a task is done again: %s", error)
        return None
    counts = result.get("status") == "finished" or result.get("attempt") == task.attempt
    return result if counts else None


def _run(subject: str, directory: CampaignDirectory, task: Task, checkpoint: Checkpoint) -> dict[str, Any]:
    scratch = directory.task_path(task.kind, task.id) / f"attempt-{task.attempt}"
    scratch.mkdir(parents=True, exist_ok=True)
    instance = _open_subject(subject, directory.path)
    assignment = Assignment(
        kind=task.kind, task_id=task.id, draw=task.draw, spec=task.spec, scratch=scratch, checkpoint=checkpoint
    )
    summary = instance.run(assignment)
    try:
        SUMMARIES[task.kind].model_validate(summary)
        json.dumps(summary, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ReferenceError(
            f"{subject} gave a summary of a {task.kind} task that is not valid: {error}",
            failure=FailureClass.BAD_OUTPUT,
        ) from error
    return summary


@cache
def _open_subject(subject: str, directory: Path) -> Subject:
    """One instance per worker process, because loading settings and libraries takes seconds."""
    module, _, name = subject.partition(":")
    try:
        factory = getattr(import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise UsageError(f"cannot import the subject {subject!r} (module:Class): {error}") from error
    opened: Subject = factory(directory)
    return opened


def _explain(error: Exception) -> dict[str, Any]:
    """Class, message and evidence of a failure."""
    lines = "".join(traceback.format_exception(error)).rstrip().splitlines()
    evidence = "\n".join(lines[-_EVIDENCE_LINES:])
    if isinstance(error, ReferenceError):
        told = {"failure": error.failure, "message": error.message, "evidence": error.evidence or evidence}
        return told | {"is_final": error.is_final, "core_seconds": error.core_seconds}
    failure = _of_the_machine(error) or _of_the_user(error)
    if failure is not None:
        return {"failure": failure, "message": str(error), "evidence": evidence}
    # Accelerators have memory errors of their own, and they are named like this.
    is_memory = isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"
    failure = FailureClass.OUT_OF_MEMORY if is_memory else FailureClass.BUG
    return {"failure": failure, "message": f"{type(error).__name__}: {error}", "evidence": evidence}


def _of_the_user(error: Exception) -> FailureClass | None:
    """The class of what only the user can mend, such as a file that a reference needs; None if it is none."""
    # A structure may be drawn better the next time, and a directory may be missing on one node alone.
    is_local = isinstance(error, StructureError | CampaignDirectoryError)
    if not isinstance(error, UsageError) or is_local:
        return None
    return FailureClass.WRONG_INPUT if isinstance(error, ConfigError) else FailureClass.MISSING_PROGRAM


def _of_the_machine(error: Exception) -> FailureClass | None:
    """The class of a failure of a disk, which says nothing about the work; None if it is none."""
    cause = error.__cause__ if isinstance(error, StorageError) else error
    return _MACHINE_ERRORS.get(cause.errno or 0) if isinstance(cause, OSError) else None
