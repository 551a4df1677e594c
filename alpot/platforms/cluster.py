"""What clusters have in common: one Parsl executor per pool, whose blocks are jobs of a scheduler.

The modules ``slurm``, ``pbs`` and ``lsf`` add what their scheduler wants to be told, and how it is asked.
"""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import shutil
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar, Literal

from parsl.executors import HighThroughputExecutor
from parsl.launchers import (
    AprunLauncher,
    JsrunLauncher,
    MpiExecLauncher,
    MpiRunLauncher,
    SimpleLauncher,
    SrunLauncher,
)
from parsl.launchers.base import Launcher

from alpot.config import Pool, Resources, Starter
from alpot.errors import ConfigError, UsageError
from alpot.platforms.job_script import block_lines
from alpot.platforms.network import reachable_address
from alpot.platforms.parsl_executor import (
    POLL_PERIOD_MS,
    ParslExecutor,
    Scaling,
    give_up_on_fruitless_blocks,
    interchange_command,
    parsl_executor,
)
from alpot.platforms.pools import NAMES, pool_of_kinds
from alpot.platforms.scheduler import Jobs
from alpot.store.directory import CampaignDirectory

#: Sign of life of the workers of a node, and the silence after which they are given up.
_HEARTBEAT_S = 5
_PATIENCE_S = 25
#: A block without work is kept for so long: the next labels are often ready within minutes, a new block may queue for
#: hours. Blocks below the pool's minimum are always kept.
_SCALING = Scaling(period=2.0, strategy="htex_auto_scale", max_idletime=600.0)
_LOOPBACK = "127.0.0.1"
#: Work that saves itself needs no long notice.
_LONGEST_NOTICE_S = 300.0


class Cluster(ABC):
    """A platform whose workers are jobs of a scheduler; see ``alpot.campaign.executor.Platform``."""

    name: ClassVar[str]
    #: The command that submits a job.
    command: ClassVar[str]
    #: Starts workers on several nodes, and MPI ranks, unless the campaign file says otherwise.
    starter: ClassVar[Starter]
    #: Keys of a pool that this scheduler has no word for.
    unknown_keys: ClassVar[tuple[str, ...]] = ()

    def __init__(self, settings: Resources) -> None:
        self.settings = settings
        self.pools = {name: pool for name in NAMES if (pool := getattr(settings, name)) is not None}
        self._check()
        self.pool_of = pool_of_kinds(self.pools)
        self.slots = {name: pool.blocks[1] * _slots_of_block(pool) for name, pool in self.pools.items()}
        self.provenance: dict[str, Any] = {}

    def _check(self) -> None:
        if not self.pools:
            tables = ", ".join(f"[resources.{name}]" for name in NAMES)
            raise ConfigError(f"resources.platform is {self.name!r}, which needs at least one of the tables {tables}")
        if self.settings.workers is not None:
            raise ConfigError(
                f"resources.workers is {self.settings.workers}, but that is for the laptop; on {self.name} set"
                " workers_per_node, nodes and blocks of the pools"
            )
        for name, pool in self.pools.items():
            for key in self.unknown_keys:
                if getattr(pool, key) is not None:
                    raise ConfigError(
                        f"resources.{name}.{key} is {getattr(pool, key)!r}, which {self.name} does not know;"
                        f" use resources.{name}.scheduler_options"
                    )

    @abstractmethod
    def jobs(self, pool: Pool, launcher: Launcher, lines: str, prefix: str) -> Jobs:
        """Parsl's provider for a pool.

        Args:
            pool: the pool.
            launcher: what starts the workers on the nodes.
            lines: shell that a job runs first.
            prefix: how names of jobs begin.
        """

    @contextmanager
    def executor(self, directory: CampaignDirectory, subject: str) -> Iterator[ParslExecutor]:
        """Starts workers; jobs of an earlier controller of this campaign, if any are left, are cancelled."""
        if shutil.which(self.command) is None:
            raise UsageError(
                f"resources.platform is {self.name!r}, but there is no {self.command} on this machine; run the campaign"
                " where jobs are submitted, e.g. on a login node"
            )
        _refuse_odd_path(directory)
        address = reachable_address(self.settings.interface)
        # A controller that was overtaken by another, and ends late, must not touch the jobs of that one.
        ours = f"{job_prefix(directory)}{secrets.token_hex(3)}"
        executors = [self._block_executor(name, ours, address) for name in self.pools]
        asked: Any = executors[0].provider
        asked.cancel_jobs(job_prefix(directory))
        try:
            with parsl_executor(executors, self.pool_of, directory, subject, _SCALING) as running:
                yield running
        finally:
            asked.cancel_jobs(ours)

    def dry_run(self, directory: CampaignDirectory) -> list[tuple[str, str]]:
        """The job scripts of one block of each pool, as they would be submitted: name of the file, content.

        Nothing is submitted and nothing stays on disk. The port of the controller is chosen when it runs.
        """
        _refuse_odd_path(directory)
        address = reachable_address(self.settings.interface)
        prefix = f"{job_prefix(directory)}000000"
        return [self._script(self._block_executor(name, prefix, address), directory) for name in self.pools]

    def _script(self, executor: HighThroughputExecutor, directory: CampaignDirectory) -> tuple[str, str]:
        provider: Any = executor.provider
        rehearsed: Any = executor
        provider.is_rehearsal = True
        with tempfile.TemporaryDirectory(prefix="alpot-") as folder:
            scripts = Path(folder) / "submit_scripts"
            scripts.mkdir()
            rehearsed.run_dir, provider.script_dir = folder, str(scripts)
            rehearsed.worker_port = rehearsed.worker_port_range[0]
            rehearsed.cert_dir = f"{folder}/{executor.label}/certificates"
            rehearsed.logconf_path = None
            rehearsed.initialize_scaling()
            rehearsed._launch_block("0")
            path = next(scripts.iterdir())
            return path.name, path.read_text("utf-8").replace(folder, str(next_run(directory)))

    def _block_executor(self, name: str, prefix: str, address: str) -> HighThroughputExecutor:
        pool = self.pools[name]
        launcher = _launcher(pool, self.starter)
        lines = "\n".join(block_lines(pool, self.starter))
        provider = self.jobs(pool, launcher, lines, prefix)
        provider.poll_interval = self.settings.poll_interval
        return _BlockExecutor(
            label=name,
            slots_of_block=_slots_of_block(pool),
            provider=provider,
            max_workers_per_node=pool.workers_per_node,
            cores_per_worker=1e-3,  # as many workers as asked for; the scheduler was asked for their cores
            available_accelerators=_accelerators(pool),
            address=address,
            loopback_address=_LOOPBACK,
            encrypted=True,
            heartbeat_period=_HEARTBEAT_S,
            heartbeat_threshold=_PATIENCE_S,
            drain_period=_drain_period(name, pool),
            interchange_launch_cmd=interchange_command(os.getpid()),
            block_error_handler=give_up_on_fruitless_blocks,
            poll_period=POLL_PERIOD_MS,
        )


class _BlockExecutor(HighThroughputExecutor):
    """Parsl's executor, told how many tasks a block runs when it cannot know, and gentle where it ends blocks."""

    def __init__(self, *, slots_of_block: int, **options: Any) -> None:
        super().__init__(**options)
        self._slots_of_block = slots_of_block

    @property
    def workers_per_node(self) -> float:
        """Parsl multiplies this with the nodes of a block, also where one worker has all of them."""
        provider: Any = self.provider
        return float(self._slots_of_block / provider.nodes_per_block)

    def scale_in(self, blocks: int, max_idletime: float | None = None) -> list[str]:
        """Ends blocks; with ``max_idletime`` only such as have had no work for so long, in s.

        Parsl would first cancel the blocks that still queue, at every short lull, and it may end one to which a task
        has been sent in the meantime.
        """
        if max_idletime is None:
            ended: list[str] = super().scale_in(blocks)
            return ended
        idle = [block for block, seconds in self._idle_times().items() if seconds > max_idletime][:blocks]
        for block in idle:
            self._hold_block(block)
        idle = [block for block in idle if self._idle_times().get(block, 0.0) > max_idletime]
        provider: Any = self.provider
        jobs = [self.blocks_to_job_id[block] for block in idle]
        return [self.job_ids_to_block[job] for job in self._filter_scale_in_ids(jobs, provider.cancel(jobs))]

    def _idle_times(self) -> dict[str, float]:
        """For how long each connected block has had no work, in s."""
        idle: dict[str, float] = {}
        for manager in self.connected_managers():
            seconds = 0.0 if manager["tasks"] else manager["idle_duration"]
            idle[manager["block_id"]] = min(seconds, idle.get(manager["block_id"], seconds))
        return idle


def next_run(directory: CampaignDirectory) -> Path:
    """The folder that Parsl will make when it is started the next time."""
    runs = [int(path.name) for path in (directory.logs / "parsl").glob("[0-9]*[0-9]") if path.name.isdecimal()]
    return directory.logs / "parsl" / f"{max(runs, default=-1) + 1:03d}"


def job_prefix(directory: CampaignDirectory) -> str:
    """How the names of a campaign's jobs begin; no other campaign's names begin like this."""
    return f"alpot-{hashlib.sha256(str(directory.path.resolve()).encode()).hexdigest()[:10]}-"


def drain(name: str, pool: Pool) -> float:
    """Time in s before the walltime from which a block of this pool takes no new task."""
    if pool.drain is not None:
        return pool.drain
    return pool.walltime_s / 4 if name == "label" else min(_LONGEST_NOTICE_S, pool.walltime_s / 10)


def _drain_period(name: str, pool: Pool) -> int | None:
    notice = drain(name, pool)
    return int(pool.walltime_s - notice) if notice else None


def _slots_of_block(pool: Pool) -> int:
    return pool.workers_per_node * (1 if pool.launcher == "single" else pool.nodes)


def _accelerators(pool: Pool) -> list[str]:
    """Names of GPUs, one for each worker of a node; several GPUs are one name to Parsl."""
    each = pool.gpus_per_worker
    numbers = [range(worker * each, (worker + 1) * each) for worker in range(pool.workers_per_node)]
    return [",".join(map(str, share)) for share in numbers] if each else []


def _launcher(pool: Pool, starter: Starter) -> Launcher:
    kind: Literal["single"] | Starter = pool.launcher or ("single" if pool.nodes == 1 else starter)
    cores = pool.workers_per_node * pool.cores
    if kind == "single":
        return SimpleLauncher()
    if kind == "srun":  # which takes no cores away from the ranks that workers start with srun themselves
        return SrunLauncher(overrides=f"--overlap --ntasks-per-node=1 --cpus-per-task={cores}")
    if kind == "mpiexec":
        return MpiExecLauncher()
    if kind == "mpirun":
        return MpiRunLauncher()
    return JsrunLauncher() if kind == "jsrun" else AprunLauncher()


def _refuse_odd_path(directory: CampaignDirectory) -> None:
    # Parsl puts it into job scripts and commands unquoted.
    if not re.fullmatch(r"[A-Za-z0-9_@%+=:,./-]+", str(directory.path)):
        raise UsageError(
            f"the campaign directory {str(directory.path)!r} cannot be used on a cluster: its path may have only"
            " letters, digits and _ @ % + = : , . / -"
        )
