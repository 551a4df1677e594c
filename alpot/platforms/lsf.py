"""The platform ``lsf``: IBM Spectrum LSF."""

from __future__ import annotations

from typing import ClassVar

from parsl.launchers.base import Launcher
from parsl.providers import LSFProvider

from alpot.config import Pool, Starter
from alpot.platforms.cluster import Cluster
from alpot.platforms.scheduler import Jobs


class LSF(Cluster):
    """LSF; whole job scripts are Parsl's, see ``parsl.providers.LSFProvider``."""

    name = "lsf"
    command = "bsub"
    starter: ClassVar[Starter] = "jsrun"
    unknown_keys = ("qos", "constraint")

    def jobs(self, pool: Pool, launcher: Launcher, lines: str, prefix: str) -> LSFJobs:
        """See ``Cluster.jobs``."""
        cores = pool.workers_per_node * pool.cores
        options = list(pool.scheduler_options)
        if pool.gpus_per_worker:
            options.append(f'-gpu "num={pool.workers_per_node * pool.gpus_per_worker}"')
        if pool.memory:
            options.append(f'-R "rusage[mem={pool.memory}GB/host]"')
        jobs = LSFJobs(
            nodes_per_block=pool.nodes,
            cores_per_block=pool.nodes * cores,
            cores_per_node=cores,
            request_by_nodes=False,
            project=pool.account,
            queue=pool.partition,
            init_blocks=pool.blocks[0],
            min_blocks=pool.blocks[0],
            max_blocks=pool.blocks[1],
            walltime=pool.walltime,
            scheduler_options="\n".join(f"#BSUB {option}" for option in options),
            worker_init=lines,
            bsub_redirection=True,  # otherwise bsub does not read the options in the script
            launcher=launcher,
        )
        jobs.prefix = prefix
        return jobs


class LSFJobs(LSFProvider, Jobs):
    """Parsl's provider with our names, asked more often."""

    @property
    def status_polling_interval(self) -> int:
        """Time in s between two looks at the jobs; Parsl's own is a minute."""
        return self.poll_interval

    def submit(self, command: str, tasks_per_node: int, job_name: str = "parsl.lsf") -> str:
        """Submits a block; returns its job id."""
        name = self.job_name(job_name)
        job: str = self.patiently(lambda: LSFProvider.submit(self, command, tasks_per_node, name))
        return job

    def named_jobs(self) -> dict[str, str]:
        """See ``Jobs.named_jobs``."""
        status, output, _ = self.execute_wait("bjobs -noheader -o \"jobid job_name delimiter='|'\"")
        lines = output.splitlines() if status == 0 else []
        return dict(line.split("|", 1) for line in lines if "|" in line)

    def describe(self, job: str) -> str:
        """See ``Jobs.describe``."""
        status, output, _ = self.execute_wait(f"bjobs -l {job}")
        return output.strip() if status == 0 else ""
