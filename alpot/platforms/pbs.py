"""The platform ``pbs``: PBS Pro and OpenPBS."""

from __future__ import annotations

import getpass
import json
from typing import ClassVar

from parsl.launchers.base import Launcher
from parsl.providers import PBSProProvider

from alpot.config import Pool, Starter
from alpot.platforms.cluster import Cluster
from alpot.platforms.job_script import is_spanning
from alpot.platforms.scheduler import Jobs


class PBS(Cluster):
    """PBS Pro; whole job scripts are Parsl's, see ``parsl.providers.PBSProProvider``."""

    name = "pbs"
    command = "qsub"
    starter: ClassVar[Starter] = "mpiexec"
    unknown_keys = ("qos", "constraint")

    def jobs(self, pool: Pool, launcher: Launcher, lines: str, prefix: str) -> PBSJobs:
        """See ``Cluster.jobs``."""
        # Lines of the script, which only PBS reads; Parsl would put queue and account into a shell command.
        options = [f"-q {pool.partition}"] if pool.partition else []
        options += [f"-A {pool.account}"] if pool.account else []
        options += pool.scheduler_options
        jobs = PBSJobs(
            nodes_per_block=pool.nodes,
            cpus_per_node=pool.workers_per_node * pool.cores,
            select_options=_select(pool),
            init_blocks=pool.blocks[0],
            min_blocks=pool.blocks[0],
            max_blocks=pool.blocks[1],
            walltime=pool.walltime,
            scheduler_options="\n".join(f"#PBS {option}" for option in options),
            worker_init=lines,
            launcher=launcher,
        )
        jobs.prefix = prefix
        return jobs


def _select(pool: Pool) -> str:
    """What each node is asked for, besides its cores."""
    wanted = []
    if pool.ranks > 1:
        ranks = -(-pool.ranks // pool.nodes) if is_spanning(pool) else pool.workers_per_node * pool.ranks
        wanted += [f"mpiprocs={ranks}", f"ompthreads={pool.threads_per_rank}"]
    if pool.gpus_per_worker:
        wanted.append(f"ngpus={pool.workers_per_node * pool.gpus_per_worker}")
    if pool.memory:
        wanted.append(f"mem={pool.memory}gb")
    return "".join(f":{word}" for word in wanted)


class PBSJobs(PBSProProvider, Jobs):
    """Parsl's provider with our names, asked more often."""

    @property
    def status_polling_interval(self) -> int:
        """Time in s between two looks at the jobs; Parsl's own is a minute."""
        return self.poll_interval

    def submit(self, command: str, tasks_per_node: int, job_name: str = "parsl.pbs") -> str:
        """Submits a block; returns its job id."""
        name = self.job_name(job_name)
        job: str = self.patiently(lambda: PBSProProvider.submit(self, command, tasks_per_node, name))
        return job

    def named_jobs(self) -> dict[str, str]:
        """See ``Jobs.named_jobs``."""
        status, output, _ = self.execute_wait(f"qselect -u {getpass.getuser()}")
        if status != 0 or not output.split():
            return {}
        status, output, _ = self.execute_wait(f"qstat -f -F json {' '.join(output.split())}")
        try:
            jobs = json.loads(output)["Jobs"] if status == 0 else {}
        except (ValueError, KeyError):
            return {}
        return {job: details.get("Job_Name", "") for job, details in jobs.items()}

    def describe(self, job: str) -> str:
        """See ``Jobs.describe``."""
        status, output, _ = self.execute_wait(f"qstat -x -f {job}")
        telling = ("job_state", "Exit_status", "comment", "exec_host")
        lines = [line.strip() for line in output.splitlines()] if status == 0 else []
        return "\n".join(line for line in lines if line.startswith(telling))
