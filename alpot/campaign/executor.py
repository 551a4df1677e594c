"""The seam between deciding and doing: what a platform must offer, and no more."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import Future
from contextlib import AbstractContextManager
from typing import Any, Protocol

from alpot.campaign.subject import Kind
from alpot.errors import AlpotError, FailureClass
from alpot.store.directory import CampaignDirectory


class WorkerLostError(AlpotError):
    """A task's worker ended before the task did; how its result may be lost, not why the work would fail.

    Attributes:
        failure: ``NODE_LOST`` (cancelled, preempted, node down, or for no reason that is known), ``WALLTIME`` (the job
            reached its limit) or ``OUT_OF_MEMORY`` (the system killed it).
        message: a sentence that names the job and what happened to it.
        evidence: the last lines of the job's output, or what else the verdict rests on.
        is_suspect: whether the task itself may be the cause: its worker died while the job around it lived, or it
            used up the memory. A task that is suspected three times is not tried again.
    """

    def __init__(self, message: str, *, failure: FailureClass, evidence: str = "", is_suspect: bool) -> None:
        super().__init__(message)
        self.message = message
        self.failure = failure
        self.evidence = evidence
        self.is_suspect = is_suspect


class Executor(Protocol):
    """Carries out tasks, each by one call of ``alpot.campaign.apps.run_task`` somewhere."""

    def submit(self, task: dict[str, Any]) -> Future[dict[str, Any]]:
        """Starts a task.

        Args:
            task: as of ``alpot.campaign.events.Task.dump``.

        Returns:
            What ``run_task`` returns. The future's exception is about the worker, never about the work: a
            ``UsageError`` says that this executor can run nothing any more, a ``WorkerLostError`` that the worker was
            lost, and why; any other exception counts as a worker lost for unknown reasons.
        """
        ...


class Platform(Protocol):
    """A place where tasks run.

    Attributes:
        slots: how many tasks run at the same time, by pool of workers.
        pool_of: the pool that runs a kind of task.
        provenance: what should be on record about it, e.g. the hash of a configuration that is code; JSON-able.
    """

    slots: Mapping[str, int]
    pool_of: Mapping[Kind, str]
    provenance: Mapping[str, Any]

    def executor(self, directory: CampaignDirectory, subject: str) -> AbstractContextManager[Executor]:
        """Starts workers for this campaign, and leaves no process behind.

        Args:
            directory: the campaign.
            subject: import path of the subject, ``"module:Class"``.
        """
        ...

    def dry_run(self, directory: CampaignDirectory) -> list[tuple[str, str]]:
        """Job scripts and files as they would be submitted, by name; nothing is made or submitted."""
        ...
