"""The platform ``slurm``."""

from __future__ import annotations

import getpass
import logging
import os
import shlex
from typing import Any, ClassVar

from parsl.jobs.states import JobState, JobStatus
from parsl.launchers.base import Launcher
from parsl.providers import SlurmProvider

from alpot.config import Pool, Starter
from alpot.platforms.cluster import Cluster
from alpot.platforms.scheduler import Jobs

logger = logging.getLogger(__name__)

#: States of ``squeue --states=all``; what is not here has ended in some way of its own.
_STATES = {
    "PENDING": JobState.PENDING,
    "CONFIGURING": JobState.PENDING,
    "REQUEUED": JobState.PENDING,
    "REQUEUE_HOLD": JobState.HELD,
    "RUNNING": JobState.RUNNING,
    "COMPLETING": JobState.RUNNING,
    "SUSPENDED": JobState.HELD,
    "STOPPED": JobState.HELD,
    "COMPLETED": JobState.COMPLETED,
    "CANCELLED": JobState.CANCELLED,
    "TIMEOUT": JobState.TIMEOUT,
    "DEADLINE": JobState.TIMEOUT,
    "PREEMPTED": JobState.TIMEOUT,
}
#: Lines of ``scontrol show job`` that tell how it stands with a job.
_TELLING = ("JobState=", "ExitCode=", "RunTime=", "EndTime=", "NodeList=", "BatchHost=")


class Slurm(Cluster):
    """Slurm; whole job scripts are Parsl's, see ``parsl.providers.SlurmProvider``."""

    name = "slurm"
    command = "sbatch"
    starter: ClassVar[Starter] = "srun"

    def jobs(self, pool: Pool, launcher: Launcher, lines: str, prefix: str) -> SlurmJobs:
        """See ``Cluster.jobs``."""
        jobs = SlurmJobs(
            partition=pool.partition,
            account=pool.account,
            qos=pool.qos,
            constraint=pool.constraint,
            nodes_per_block=pool.nodes,
            cores_per_node=pool.workers_per_node * pool.cores,
            mem_per_node=pool.memory,
            gres=f"gpu:{pool.workers_per_node * pool.gpus_per_worker}" if pool.gpus_per_worker else None,
            init_blocks=pool.blocks[0],
            min_blocks=pool.blocks[0],
            max_blocks=pool.blocks[1],
            walltime=pool.walltime,
            scheduler_options="\n".join(f"#SBATCH {option}" for option in pool.scheduler_options),
            worker_init=lines,
            exclusive=False,
            launcher=launcher,
        )
        jobs.prefix = prefix
        return jobs


class SlurmJobs(SlurmProvider, Jobs):
    """Parsl's provider, which asks ``squeue`` also for jobs that have ended: how is forgotten after minutes only."""

    @property
    def status_polling_interval(self) -> int:
        """Time in s between two looks at the jobs; Parsl's own is a minute."""
        return self.poll_interval

    def execute_wait(self, cmd: str, timeout: int | None = None) -> tuple[int, str, str]:
        """See ``Jobs.execute_wait``; a controller that runs in a job itself does not pass that job's settings on."""
        if cmd.startswith("sbatch "):
            inherited = [name for name in os.environ if name.startswith("SLURM_") and name != "SLURM_CONF"]
            cmd = shlex.join(["env", *(f"--unset={name}" for name in inherited)]) + f" {cmd}"
        return super().execute_wait(cmd, timeout)

    def submit(self, command: str, tasks_per_node: int, job_name: str = "parsl.slurm") -> str:
        """Submits a block; returns its job id."""
        name = self.job_name(job_name)
        job: str = self.patiently(lambda: SlurmProvider.submit(self, command, tasks_per_node, name))
        return job

    def named_jobs(self) -> dict[str, str]:
        """See ``Jobs.named_jobs``."""
        ended = {word for word, state in _STATES.items() if JobStatus(state).terminal} | {"COMPLETING"}
        return {job: name for job, word, name in self._squeue() or () if word in _STATES and word not in ended}

    def describe(self, job: str) -> str:
        """See ``Jobs.describe``."""
        status, output, _ = self.execute_wait(f"scontrol show job {job}")
        lines = [line.strip() for line in output.splitlines()] if status == 0 else []
        return "\n".join(line for line in lines if any(word in line for word in _TELLING))

    def _squeue(self) -> list[list[str]] | None:
        """Job id, state and name of this user's jobs, ended ones included; None if Slurm does not answer."""
        command = f"squeue --noheader --states=all --user={getpass.getuser()} --format='%i|%T|%j'"
        status, output, errors = self.execute_wait(command)
        if status != 0:
            logger.warning("squeue failed: %s", errors.strip())
            return None
        return [line.split("|", 2) for line in output.splitlines() if line.count("|") >= 2]

    def _status(self) -> None:
        """Brings Parsl's list of jobs up to date."""
        jobs = self._squeue()
        if jobs is None:
            return
        states = {job: state for job, state, _ in jobs}
        resources: dict[Any, Any] = self.resources
        for job, known in resources.items():
            if "job_stderr_path" in known and not known["status"].terminal:
                paths: dict[str, Any] = {
                    "stdout_path": known["job_stdout_path"],
                    "stderr_path": known["job_stderr_path"],
                }
                known["status"] = JobStatus(_state(states.get(job, "COMPLETED")), **paths)


def _state(word: str) -> JobState:
    return _STATES.get(word, JobState.FAILED)
