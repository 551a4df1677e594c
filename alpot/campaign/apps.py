"""What a worker executes: one task of the subject, its result published before anybody is told.

A worker knows the campaign directory, not the ledger. Only names and small numbers travel back; a result that nobody
listened to is found in ``result.json`` by the next controller.
"""

from __future__ import annotations

import json
import time
import traceback
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

from alpot.campaign.events import Task
from alpot.campaign.presence import at_work
from alpot.campaign.subject import SUMMARIES, Subject
from alpot.errors import FailureClass, ReferenceError, UsageError
from alpot.store.directory import CampaignDirectory
from alpot.store.files import publish

_EVIDENCE_LINES = 12


def run_task(subject: str, directory: str, task: dict[str, Any]) -> dict[str, Any]:
    """Runs one attempt at a task.

    Args:
        subject: import path of the subject's class, ``"module:Class"``.
        directory: the campaign directory.
        task: as of ``Task.dump``.

    Returns:
        The content of the task's ``result.json``: ``task``, ``attempt``, ``status``, ``seconds``, and either
        ``summary`` (finished) or ``failure``, ``message`` and ``evidence`` (failed).
    """
    work = Task.load(task)
    campaign = CampaignDirectory(Path(directory))
    with at_work(campaign):
        started = time.monotonic()
        try:
            outcome = {"status": "finished", "summary": _run(subject, campaign, work)}
        except Exception as error:  # noqa: BLE001 - whatever it is, it is recorded; a worker outlives its tasks
            outcome = {"status": "failed"} | _explain(error)
        seconds = round(time.monotonic() - started, 3)
        result = {"task": work.id, "attempt": work.attempt, "seconds": seconds} | outcome
        publish(result_path(campaign, work), json.dumps(result, allow_nan=False).encode())
    return result


def result_path(directory: CampaignDirectory, task: Task) -> Path:
    """Where a worker leaves the result of a task."""
    return directory.task_path(task.kind, task.id) / "result.json"


def published_result(directory: CampaignDirectory, task: Task) -> dict[str, Any] | None:
    """The result of a task, if a worker has published one that still counts.

    A success counts whichever attempt it is of. A failure of an earlier attempt has been dealt with.
    """
    try:
        result = json.loads(result_path(directory, task).read_bytes())
    except (FileNotFoundError, ValueError):
        return None
    counts = result["status"] == "finished" or result["attempt"] == task.attempt
    return dict(result) if counts else None


def _run(subject: str, directory: CampaignDirectory, task: Task) -> dict[str, Any]:
    scratch = directory.task_path(task.kind, task.id) / f"attempt-{task.attempt}"
    scratch.mkdir(parents=True, exist_ok=True)
    instance = _open_subject(subject, directory.path)
    summary = instance.run(task.kind.value, task.id, task.attempt, dict(task.spec), scratch)
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
        return {"failure": error.failure, "message": error.message, "evidence": error.evidence or evidence}
    # Accelerators have memory errors of their own, and they are named like this.
    is_memory = isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"
    failure = FailureClass.OUT_OF_MEMORY if is_memory else FailureClass.UNKNOWN
    return {"failure": failure, "message": f"{type(error).__name__}: {error}", "evidence": evidence}
