"""Runs a campaign: events come in, each becomes one transaction of the ledger, decisions go out.

The controller is the only writer of the ledger. It sleeps until something happens. It may be killed at any instant:
whatever it had not recorded yet is found again in the results that workers publish.
"""

from __future__ import annotations

import logging
import os
import shutil
import signal
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import version
from queue import SimpleQueue
from typing import Any, Literal

from alpot.campaign import events
from alpot.campaign.apps import published_result
from alpot.campaign.events import Task
from alpot.campaign.executor import Executor, Platform
from alpot.campaign.policy import PolicySettings, decide, is_lifted
from alpot.campaign.presence import wait_for_orphans
from alpot.campaign.state import State
from alpot.campaign.subject import Kind
from alpot.errors import CampaignFailed, FailureClass, UsageError
from alpot.store.directory import CampaignDirectory
from alpot.store.files import sha256
from alpot.store.ledger import Event, LabelRow, Ledger

logger = logging.getLogger(__name__)

Observer = Callable[[State], None]
Result = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class ImportedLabels:
    """Labels that the user brought along, stored in the campaign directory already.

    Attributes:
        rows: where each lies.
        audit: keys of those that measure the error and are never trained on.
        shard: the file in which all labels to train on lie; None if each has a file of its own.
    """

    rows: Sequence[LabelRow]
    audit: frozenset[str] = frozenset()
    shard: str | None = None


@dataclass(frozen=True)
class Outcome:
    """How a run of the controller ended: with the campaign, or because it was asked to stop (it can be resumed)."""

    status: Literal["finished", "stopped"]
    reason: str
    state: State


@dataclass
class Controller:
    """Runs one campaign on one platform.

    Attributes:
        directory: the campaign.
        settings: what decisions depend on, see ``alpot.campaign.settings.policy_settings``.
        platform: where tasks run.
        subject: import path of the subject, ``"module:Class"``.
        imported: labels that the user brought along; those that are known already do no harm.
        on_change: called after every event, e.g. to show progress. If it fails, it is not called again.
        state: what is known.
    """

    directory: CampaignDirectory
    settings: PolicySettings
    platform: Platform
    subject: str
    imported: ImportedLabels | None = None
    on_change: Observer | None = None
    state: State = field(default_factory=State, init=False)
    _ledger: Ledger = field(init=False, repr=False)
    _inbox: SimpleQueue[tuple[Task, Future[Result]] | None] = field(default_factory=SimpleQueue, init=False, repr=False)

    def run(self) -> Outcome:
        """Starts or resumes the campaign, and returns when it has ended or was stopped.

        SIGINT or SIGTERM once: what runs may finish, nothing new starts. Twice: ``KeyboardInterrupt``, at once; the
        tasks that ran are repeated by the next run.

        Raises:
            CampaignLockedError: another controller runs it.
            CampaignFailed: the campaign cannot go on; the message says why. A later run gives it another chance.
            UsageError: the platform cannot run anything.
            StorageError: something could not be stored; nothing that was recorded is lost.
        """
        with self.directory.lock(), Ledger(self.directory.ledger) as self._ledger, self._signals():
            self.state = State.replay(self._ledger.events())
            self._open()
            if self.state.finished is None:
                with self.platform.executor(self.directory, self.subject) as executor:
                    self._resume(executor)
                    self._loop(executor)
        if self.state.finished is None:
            return Outcome("stopped", "stopped as asked; run it again to continue", self.state)
        if self.state.has_failed:
            raise CampaignFailed(f"{self.directory.path}: {self.state.finished}")
        return Outcome("finished", self.state.finished, self.state)

    # ---------------------------------------------------------------------------------------------- opening

    def _open(self) -> None:
        """Takes up the campaign where the ledger, and the workers since, have left it."""
        self.directory.clear_stop()
        who = {"host": socket.gethostname(), "pid": os.getpid(), "version": version("alpot")}
        self._commit(events.opened(config=sha256(self.directory.config), **who))
        if self.state.ending is not None and is_lifted(self.state.ending, self.settings):
            self._commit(events.ending_lifted())
        self._import()
        wait_for_orphans(self.directory)
        for task in list(self.state.tasks.values()):
            result = published_result(self.directory, task)
            if result is not None:
                self._take_in(task, result)

    def _import(self) -> None:
        if self.imported is None:
            return
        rows = [row for row in self.imported.rows if row.key not in self.state.keys]
        if rows:
            audit = [row.key for row in rows if row.key in self.imported.audit]
            keys = [row.key for row in rows if row.key not in self.imported.audit]
            self._commit(events.labels_imported(keys, audit, self.imported.shard), rows)

    def _resume(self, executor: Executor) -> None:
        for task in list(self.state.tasks.values()):
            self._start(events.task_started(task.again()), executor)

    # ------------------------------------------------------------------------------------------------- loop

    def _loop(self, executor: Executor) -> None:
        while True:
            if self.directory.stop_requested() and not self.state.stop_requested:
                self._commit(events.stop_requested())
            while (decision := decide(self.state, self.settings)) is not None:
                self._start(decision, executor)
            if self.state.finished is not None or (self.state.stop_requested and not self.state.tasks):
                return
            message = self._inbox.get()
            if message is not None:
                self._receive(*message)
            elif not self.state.stop_requested:
                self._commit(events.stop_requested())

    def _start(self, decision: Event, executor: Executor) -> None:
        """Records a decision, then carries it out."""
        self._commit(decision)
        if decision.kind == "task_started":
            task = Task.load(decision.payload)
            future = executor.submit(task.dump())
            future.add_done_callback(lambda future: self._inbox.put((task, future)))

    def _receive(self, task: Task, future: Future[Result]) -> None:
        """Takes in what became of an attempt, also where its worker died after it had published the result."""
        try:
            result = future.result()
        except UsageError:
            raise
        except Exception as error:  # noqa: BLE001 - the worker is lost, whatever the executor calls it; recorded
            lost = {"failure": FailureClass.NODE_LOST, "message": f"{type(error).__name__}: {error}", "evidence": ""}
            result = published_result(self.directory, task) or {"status": "failed"} | lost
        self._take_in(task, result)

    def _take_in(self, task: Task, result: Result) -> None:
        if result["status"] == "failed":
            failure = FailureClass(result["failure"])
            self._commit(events.task_failed(task, failure, result["message"], result["evidence"]))
            return
        summary = result["summary"]
        self._commit(
            events.task_finished(task, summary, result["seconds"]),
            _new_labels(task, summary),
            moved=_moved_labels(task, summary),
        )
        shutil.rmtree(self.directory.task_path(task.kind, task.id), ignore_errors=True)

    def _commit(self, event: Event, labels: Sequence[LabelRow] = (), *, moved: Sequence[LabelRow] = ()) -> None:
        """The one way in which anything changes."""
        seq = self._ledger.append(event, labels, moved=moved)
        self.state.apply(Event(kind=event.kind, payload=event.payload, time=event.time, seq=seq))
        if self.on_change is not None:
            try:
                self.on_change(self.state)
            except Exception:
                logger.exception("the display of progress failed and is switched off")
                self.on_change = None

    # ---------------------------------------------------------------------------------------------- signals

    @contextmanager
    def _signals(self) -> Iterator[None]:
        """Turns the first SIGINT or SIGTERM into a request to stop, the second into an interruption."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        asked = False

        def handle(_number: int, _frame: object) -> None:
            nonlocal asked
            if asked:
                raise KeyboardInterrupt
            asked = True
            self._inbox.put(None)

        former = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in former.items():
                signal.signal(number, handler)


def _new_labels(task: Task, summary: Result) -> list[LabelRow]:
    if task.kind != Kind.LABEL or summary["outcome"] != "labelled":
        return []
    return [LabelRow(key=summary["key"], path=summary["path"], checksum=summary["checksum"])]


def _moved_labels(task: Task, summary: Result) -> list[LabelRow]:
    if task.kind != Kind.TRAIN or summary.get("shard") is None:
        return []
    path, checksum = summary["shard"], summary["shard_checksum"]
    return [LabelRow(key=key, path=path, checksum=checksum) for key in summary["shard_keys"]]
