"""Carries out tasks through Parsl; shared by all platforms, which differ in their configuration only."""

from __future__ import annotations

import re
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from parsl import Config, DataFlowKernel, python_app
from parsl.executors import HighThroughputExecutor
from parsl.executors.errors import BadStateException

from alpot.campaign.apps import run_task
from alpot.campaign.subject import Kind
from alpot.errors import UsageError
from alpot.store.directory import CampaignDirectory

Result = dict[str, Any]

#: Environment of every worker: one thread each (oversubscription costs 20 to 50 times), and a malloc that keeps memory
#: instead of returning it to the system after each step, which makes torch on a CPU up to twice as fast.
WORKER_ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MALLOC_MMAP_THRESHOLD_": "4000000000",
    "MALLOC_TRIM_THRESHOLD_": "4000000000",
}


class ParslExecutor:
    """Submits tasks to Parsl."""

    def __init__(
        self, kernel: DataFlowKernel, pool_of: Mapping[Kind, str], directory: CampaignDirectory, subject: str
    ) -> None:
        self._apps = {
            pool: python_app(run_task, data_flow_kernel=kernel, executors=[pool]) for pool in set(pool_of.values())
        }
        self._pool_of = pool_of
        self._directory = directory
        self._subject = subject

    def submit(self, task: Result) -> Future[Result]:
        """See ``alpot.campaign.executor.Executor``."""
        future: Future[Result] = Future()
        app = self._apps[self._pool_of[Kind(task["kind"])]]
        attempt: Future[Result] = app(self._subject, str(self._directory.path), task)
        attempt.add_done_callback(lambda attempt: self._settle(future, attempt))
        return future

    def _settle(self, future: Future[Result], attempt: Future[Result]) -> None:
        error = attempt.exception()
        if error is None:
            future.set_result(attempt.result())
        elif isinstance(error, BadStateException):
            logs = self._directory.logs / "parsl"
            cure = f"See {logs}; when it is mended, run the campaign again: it continues where it was"
            future.set_exception(UsageError(f"no worker can be reached: {error}\n{cure}"))
        else:
            future.set_exception(error)


def _watch_interchange(executor: HighThroughputExecutor) -> None:
    """Fails whatever is in flight when the interchange ends: Parsl does not look after it, and would wait for ever."""
    assert executor.interchange_proc is not None, "the kernel has started it"
    status = executor.interchange_proc.wait()
    executor.command_client.ok = False  # or Parsl's poller would wait for an answer, for ever as well
    executor.set_bad_state_and_fail_all(RuntimeError(f"Parsl's interchange has ended with status {status}"))


def _end(kernel: DataFlowKernel, executors: list[HighThroughputExecutor]) -> None:
    for executor in executors:
        if executor.bad_state_is_set and executor.provider is not None:  # then Parsl leaves its workers to themselves
            executor.provider.cancel(list(executor.blocks_to_job_id.values()))
    kernel.cleanup()


@contextmanager
def parsl_executor(
    executors: list[HighThroughputExecutor],
    pool_of: Mapping[Kind, str],
    directory: CampaignDirectory,
    subject: str,
) -> Iterator[ParslExecutor]:
    """Starts Parsl for one campaign; ends it, workers included, on leaving.

    Args:
        executors: one per pool, labelled with the pool's name.
        pool_of: the pool that runs a kind of task.
        directory: the campaign; Parsl logs into ``logs/parsl``.
        subject: import path of the subject.
    """
    with _shell_safe(directory.logs / "parsl") as run_directory:
        config = Config(
            executors=executors,
            run_dir=str(run_directory),
            # Starts the first workers at once, and new ones where a block was lost; never more than were asked for.
            strategy="simple",
            strategy_period=0.5,
            retries=0,  # the policy decides what is tried again
            usage_tracking=0,
            initialize_logging=False,
        )
        kernel = DataFlowKernel(config)
        try:
            for executor in executors:
                threading.Thread(target=_watch_interchange, args=(executor,), daemon=True).start()
            yield ParslExecutor(kernel, pool_of, directory, subject)
        finally:
            _end(kernel, executors)


@contextmanager
def _shell_safe(path: Path) -> Iterator[Path]:
    """Parsl puts its run directory into shell commands unquoted; a path that a shell would misread gets an alias."""
    path.mkdir(parents=True, exist_ok=True)
    if re.fullmatch(r"[A-Za-z0-9_@%+=:,./-]+", str(path)):
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="alpot-") as folder:
        alias = Path(folder) / "parsl"
        alias.symlink_to(path)
        yield alias


def interchange_command(controller: int) -> list[str]:
    """The command that starts an interchange which ends with its controller.

    Args:
        controller: pid of the controller.
    """
    return [sys.executable, "-m", "alpot.platforms.interchange", str(controller)]
