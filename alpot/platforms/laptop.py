"""One machine: a pool of worker processes, reachable from this machine only."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager
from typing import Any

from parsl.executors import HighThroughputExecutor
from parsl.launchers import SimpleLauncher
from parsl.providers import LocalProvider

from alpot.campaign.subject import Kind
from alpot.config import Pool, Resources
from alpot.platforms.job_script import (
    WORKER_ENVIRONMENT,
    environment_lines,
    launch_prefix,
    launcher_environment,
    worker_lines,
)
from alpot.platforms.parsl_executor import (
    POLL_PERIOD_MS,
    ParslExecutor,
    give_up_on_fruitless_blocks,
    interchange_command,
    parsl_executor,
)
from alpot.store.directory import CampaignDirectory

_POOL = "workers"
_LOOPBACK = "127.0.0.1"
#: A worker that died is noticed and replaced within this time.
_HEARTBEAT_S = 2
#: A machine that slept or stalled for longer has lost its workers, for either side; they are started anew.
_PATIENCE_S = 30


class Laptop:
    """The platform ``laptop``: all kinds of task share the workers of this machine."""

    def __init__(self, settings: Resources) -> None:
        self.ranks = settings.ranks
        self.workers = settings.workers or max(1, _available_cores() // self.ranks)
        self.slots = {_POOL: self.workers}
        self.pool_of = dict.fromkeys(Kind, _POOL)
        self.provenance: dict[str, Any] = {}

    def executor(self, directory: CampaignDirectory, subject: str) -> AbstractContextManager[ParslExecutor]:
        """Starts the workers; see ``alpot.campaign.executor.Platform``."""
        lines = [*worker_lines(), *environment_lines(WORKER_ENVIRONMENT | self.launcher)]
        provider = LocalProvider(
            launcher=SimpleLauncher(), worker_init="\n".join(lines), init_blocks=1, min_blocks=1, max_blocks=1
        )
        workers = HighThroughputExecutor(
            label=_POOL,
            provider=provider,
            max_workers_per_node=self.workers,
            cores_per_worker=1e-3,  # as many workers as asked for, however few cores there are
            address=_LOOPBACK,
            loopback_address=_LOOPBACK,
            encrypted=True,
            heartbeat_period=_HEARTBEAT_S,
            heartbeat_threshold=_PATIENCE_S,
            interchange_launch_cmd=interchange_command(os.getpid()),
            # Parsl's default gives up when the only block is lost, be it by a nap of the laptop.
            block_error_handler=give_up_on_fruitless_blocks,
            poll_period=POLL_PERIOD_MS,
        )
        return parsl_executor([workers], self.pool_of, directory, subject)

    @property
    def launcher(self) -> dict[str, str]:
        """Variables that tell a worker how to start a reference code."""
        pool = Pool(ranks=self.ranks)
        return launcher_environment(pool, launch_prefix(pool, "mpirun"))

    def dry_run(self, directory: CampaignDirectory) -> list[tuple[str, str]]:
        """Nothing: workers are processes of this machine, and no job is submitted."""
        return []


def _available_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
