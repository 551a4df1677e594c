"""Jobs of a scheduler, with what Parsl's providers do not do: names, patience, and order afterwards."""

from __future__ import annotations

import logging
import re
import subprocess
import time
from abc import abstractmethod
from typing import Any

from parsl.providers.cluster_provider import ClusterProvider
from parsl.utils import execute_wait

logger = logging.getLogger(__name__)

#: What a scheduler says that is only busy, or whose daemon is being restarted.
_BUSY = re.compile(r"contact|timed? ?out|temporar|unavailable|connection|try again|socket|not respond", re.IGNORECASE)
_PAUSES_S = (2.0, 8.0, 20.0)
_COMMAND_LIMIT_S = 60
#: What a rehearsal answers to a submission; the providers of all schedulers understand their own line of it.
_REHEARSED = "Submitted batch job 0\nJob <0> is submitted to queue <rehearsal>.\n"


class Jobs(ClusterProvider):
    """Base of our providers. It stands *behind* Parsl's class, so that commands of all of them pass through here.

    Attributes:
        poll_interval: time in s between two questions about the state of jobs.
        prefix: how the names of our jobs begin.
        is_rehearsal: write job scripts, but talk to no scheduler.
    """

    poll_interval: int = 10
    prefix: str = ""
    is_rehearsal: bool = False

    @abstractmethod
    def named_jobs(self) -> dict[str, str]:
        """Names of this user's jobs that are waiting or running, by job id."""

    @abstractmethod
    def describe(self, job: str) -> str:
        """What the scheduler knows of a job, in its own words; empty if nothing."""

    def execute_wait(self, cmd: str, timeout: int | None = None) -> tuple[int, str, str]:
        """Runs a command of the scheduler; one that takes too long or is not there counts as failed."""
        if self.is_rehearsal:
            return 0, _REHEARSED, ""
        try:
            status, output, errors = execute_wait(cmd, timeout or _COMMAND_LIMIT_S)
        except subprocess.TimeoutExpired:
            return 1, "", f"timed out: {cmd}"
        return status, output, errors

    def patiently(self, submit: Any) -> Any:
        """Calls a function that submits a job, again after a while if the scheduler was only busy."""
        for pause in _PAUSES_S:
            try:
                return submit()
            except Exception as error:
                if not _BUSY.search(f"{error} {getattr(error, 'stderr', '')}"):
                    raise
                logger.warning("the scheduler is busy, trying again in %g s: %s", pause, error)
                time.sleep(pause)
        return submit()

    def job_name(self, parsl_name: str) -> str:
        """Our name of a block that Parsl calls ``parsl.<pool>.block-<number>``."""
        return f"{self.prefix}.{parsl_name.removeprefix('parsl.')}"

    def cancel_jobs(self, beginning: str) -> None:
        """Cancels all jobs whose names begin like this, those of a controller that was killed included."""
        jobs = [job for job, name in self.named_jobs().items() if name.startswith(beginning)]
        if jobs:
            logger.warning("cancelling jobs that are left over: %s", ", ".join(jobs))
            for job in jobs:
                self.resources.setdefault(job, {})  # Parsl's `cancel` writes down what became of it
            self.cancel(jobs)
