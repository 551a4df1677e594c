"""Carries out tasks through Parsl; shared by all platforms, which differ in their configuration only."""

from __future__ import annotations

import re
import shutil
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from parsl import Config, DataFlowKernel, python_app
from parsl.executors import HighThroughputExecutor
from parsl.executors.errors import BadStateException
from parsl.executors.high_throughput.errors import ManagerLost, WorkerLost
from parsl.executors.status_handling import BlockProviderExecutor
from parsl.jobs.states import JobState, JobStatus

from alpot.campaign.subject import Kind
from alpot.errors import UsageError
from alpot.platforms.losses import Losses
from alpot.platforms.worker import run_in_worker
from alpot.store.directory import CampaignDirectory
from alpot.store.files import make_folder

Result = dict[str, Any]

#: How long threads of Parsl wait for a message before they look whether they should end. Messages wake them at once;
#: Parsl's own 10 ms cost two per cent of a core in every process.
POLL_PERIOD_MS = 500
#: Blocks in a row that may end before a worker of theirs has reported.
_FRUITLESS_BLOCKS = 3


@dataclass(frozen=True, kw_only=True)
class Scaling:
    """When Parsl starts and ends blocks.

    Attributes:
        period: time in s between two looks at the demand.
        strategy: Parsl's name; all of them replace blocks that were lost.
        max_idletime: time in s after which a block without work is ended.
    """

    period: float = 0.5
    strategy: str | None = "simple"
    max_idletime: float = 120.0


class ParslExecutor:
    """Submits tasks to Parsl."""

    def __init__(
        self,
        kernel: DataFlowKernel,
        executors: Sequence[HighThroughputExecutor],
        pool_of: Mapping[Kind, str],
        directory: CampaignDirectory,
        subject: str,
    ) -> None:
        self._apps = {
            pool: python_app(run_in_worker, data_flow_kernel=kernel, executors=[pool]) for pool in set(pool_of.values())
        }
        self._pool_of = pool_of
        self._directory = directory
        self._subject = subject
        self._losses = Losses(directory, {executor.label: executor for executor in executors})
        self._inquiries = ThreadPoolExecutor(max_workers=1, thread_name_prefix="losses")

    def submit(self, task: Result) -> Future[Result]:
        """See ``alpot.campaign.executor.Executor``."""
        future: Future[Result] = Future()
        pool = self._pool_of[Kind(task["kind"])]
        attempt: Future[Result] = self._apps[pool](self._subject, str(self._directory.path), task)
        attempt.add_done_callback(lambda attempt: self._settle(future, attempt, pool, task))
        return future

    def close(self) -> None:
        """Ends the inquiries; losses that were not explained yet stay without an answer."""
        self._inquiries.shutdown(wait=False, cancel_futures=True)

    def _settle(self, future: Future[Result], attempt: Future[Result], pool: str, task: Result) -> None:
        error = attempt.exception()
        if error is None:
            future.set_result(attempt.result())
        elif isinstance(error, BadStateException):
            logs = self._directory.logs / "parsl"
            cure = f"See {logs}; when it is mended, run the campaign again: it continues where it was"
            future.set_exception(UsageError(f"no worker can be reached: {error}\n{cure}"))
        elif isinstance(error, WorkerLost | ManagerLost):
            try:  # not in Parsl's own thread: schedulers may take their time to answer
                self._inquiries.submit(self._explain, future, pool, task, error)
            except RuntimeError:  # closed: the campaign has stopped, nobody listens
                future.set_exception(error)
        else:
            future.set_exception(error)

    def _explain(self, future: Future[Result], pool: str, task: Result, error: BaseException) -> None:
        try:
            future.set_exception(self._losses.explain(pool, task, error))
        except Exception as trouble:  # noqa: BLE001 - the loss is told in any case, with the less said about it
            error.add_note(f"the reason could not be found out: {trouble}")
            future.set_exception(error)


def give_up_on_fruitless_blocks(executor: BlockProviderExecutor, status: dict[str, JobStatus]) -> None:
    """Parsl's hook for block errors: after several blocks in a row from which no worker came, no more are started.

    Blocks that worked and were lost later do not count: neither a walltime nor a bad node ends a campaign.
    """
    latest = [status[block] for block in sorted(status, key=int)[-_FRUITLESS_BLOCKS:]]
    if len(latest) == _FRUITLESS_BLOCKS and all(block.state == JobState.MISSING for block in latest):
        reasons = "\n".join(_what_is_known(block) for block in latest)
        message = f"{_FRUITLESS_BLOCKS} blocks of {executor.label!r} in a row have ended before a worker reported"
        executor.set_bad_state_and_fail_all(RuntimeError(f"{message}:\n{reasons}"))


def _what_is_known(block: JobStatus) -> str:
    output = (block.stderr_summary or block.stdout_summary or "").strip()
    return output or (block.message or "nothing is known of this block")


def _watch_interchange(executor: HighThroughputExecutor) -> None:
    """Fails whatever is in flight when the interchange ends: Parsl does not look after it, and would wait for ever."""
    assert executor.interchange_proc is not None, "the kernel has started it"
    status = executor.interchange_proc.wait()
    executor.command_client.ok = False  # or Parsl's poller would wait for an answer, for ever as well
    executor.set_bad_state_and_fail_all(RuntimeError(f"Parsl's interchange has ended with status {status}"))


def _end(kernel: DataFlowKernel, executors: Sequence[HighThroughputExecutor]) -> None:
    for executor in executors:
        if executor.bad_state_is_set and executor.provider is not None:  # then Parsl leaves its workers to themselves
            executor.provider.cancel(list(executor.blocks_to_job_id.values()))
    kernel.cleanup()
    for executor in executors:
        if executor.cert_dir is not None:  # private, but of no more use to anybody
            shutil.rmtree(executor.cert_dir, ignore_errors=True)


@contextmanager
def parsl_executor(
    executors: Sequence[HighThroughputExecutor],
    pool_of: Mapping[Kind, str],
    directory: CampaignDirectory,
    subject: str,
    scaling: Scaling = Scaling(),
) -> Iterator[ParslExecutor]:
    """Starts Parsl for one campaign; ends it, workers included, on leaving.

    Args:
        executors: one per pool, labelled with the pool's name.
        pool_of: the pool that runs a kind of task.
        directory: the campaign; Parsl logs into ``logs/parsl``.
        subject: import path of the subject.
        scaling: when blocks are started and ended.
    """
    with shell_safe(directory.logs / "parsl") as run_directory:
        config = Config(
            executors=executors,
            run_dir=str(run_directory),
            # Starts the first workers at once, and new ones where a block was lost; never more than were asked for.
            strategy=scaling.strategy,
            strategy_period=scaling.period,
            max_idletime=scaling.max_idletime,
            retries=0,  # the policy decides what is tried again
            usage_tracking=0,
            initialize_logging=False,
        )
        kernel = DataFlowKernel(config)
        try:
            for executor in executors:
                threading.Thread(target=_watch_interchange, args=(executor,), daemon=True).start()
            running = ParslExecutor(kernel, executors, pool_of, directory, subject)
            try:
                yield running
            finally:
                running.close()
        finally:
            _end(kernel, executors)


@contextmanager
def shell_safe(path: Path) -> Iterator[Path]:
    """Parsl puts its run directory into shell commands unquoted; a path that a shell would misread gets an alias."""
    make_folder(path)
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
