"""The seam between deciding and doing: what a platform must offer, and no more."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import Future
from contextlib import AbstractContextManager
from typing import Any, Protocol

from alpot.campaign.subject import Kind
from alpot.store.directory import CampaignDirectory


class Executor(Protocol):
    """Carries out tasks, each by one call of ``alpot.campaign.apps.run_task`` somewhere."""

    def submit(self, task: dict[str, Any]) -> Future[dict[str, Any]]:
        """Starts a task.

        Args:
            task: as of ``alpot.campaign.events.Task.dump``.

        Returns:
            What ``run_task`` returns. The future's exception is about the worker, never about the work: a
            ``UsageError`` says that this executor can run nothing any more, everything else that a worker was lost.
        """
        ...


class Platform(Protocol):
    """A place where tasks run.

    Attributes:
        slots: how many tasks run at the same time, by pool of workers.
        pool_of: the pool that runs a kind of task.
    """

    slots: Mapping[str, int]
    pool_of: Mapping[Kind, str]

    def executor(self, directory: CampaignDirectory, subject: str) -> AbstractContextManager[Executor]:
        """Starts workers for this campaign, and leaves no process behind.

        Args:
            directory: the campaign.
            subject: import path of the subject, ``"module:Class"``.
        """
        ...
