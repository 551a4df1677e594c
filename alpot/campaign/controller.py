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
from alpot.campaign.executor import Executor, Platform, WorkerLostError
from alpot.campaign.housekeeping import remove_spent, remove_superseded, remove_worker_scratch, sweep
from alpot.campaign.policy import PolicySettings, decide, is_lifted
from alpot.campaign.presence import wait_for_orphans
from alpot.campaign.state import State
from alpot.campaign.subject import Candidate, Kind
from alpot.campaign.work import BLAMELESS
from alpot.errors import CampaignFailed, FailureClass, StorageError, UsageError
from alpot.store.directory import CampaignDirectory
from alpot.store.files import sha256
from alpot.store.ledger import Event, LabelRow, Ledger
from alpot.store.lock import Lease

logger = logging.getLogger(__name__)

#: Candidates in one event, so that no event grows with the campaign.
_GIVEN_AT_ONCE = 500

Observer = Callable[[State], None]
#: Says what is done next: ``alpot.campaign.policy.decide``, or another pure function like it.
Policy = Callable[[State, PolicySettings], Event | None]
Result = dict[str, Any]
#: Reads the campaign file again: the settings as they are now, and what has changed, in words.
Reload = Callable[[], tuple[PolicySettings, Sequence[str]]]


@dataclass(frozen=True, kw_only=True)
class ImportedLabels:
    """Labels that the user brought along, stored in the campaign directory already.

    Attributes:
        rows: where each lies.
        audit: keys of those that measure the error and are never trained on.
        apart: keys of those that are neither trained on nor for the audit.
        shards: the files in which all labels to train on lie; none if each has a file of its own.
        audit_shards: likewise for the audit.
    """

    rows: Sequence[LabelRow]
    audit: frozenset[str] = frozenset()
    apart: frozenset[str] = frozenset()
    shards: Sequence[str] = ()
    audit_shards: Sequence[str] = ()


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
        policy: decides what is done next.
        imported: labels that the user brought along; those that are known already do no harm.
        given: structures that the user wants labelled; those that have their label, or wait for it, do no harm.
        wanted: keys of all labels that the user wants; what waits for others is withdrawn. None: whatever is found.
        reference: hash of the settings by which ``given`` is to be labelled; what was given with others, and waits or
            is being labelled, is withdrawn.
        on_change: called after every event, e.g. to show progress. If it fails, it is not called again.
        changes: what the user has changed in the campaign file since the last run, in words.
        reload: called when the user asks a running controller to read the campaign file again.
        state: what is known.
    """

    directory: CampaignDirectory
    settings: PolicySettings
    platform: Platform
    subject: str
    policy: Policy = decide
    imported: ImportedLabels | None = None
    given: Sequence[Candidate] = ()
    wanted: frozenset[str] | None = None
    reference: str = ""
    on_change: Observer | None = None
    changes: Sequence[str] = ()
    reload: Reload | None = None
    state: State = field(default_factory=State, init=False)
    _ledger: Ledger = field(init=False, repr=False)
    _lease: Lease = field(init=False, repr=False)
    # What ended, or None: there may be a request.
    _inbox: SimpleQueue[tuple[Task, Future[Result]] | None] = field(default_factory=SimpleQueue, init=False, repr=False)
    _signalled: bool = field(default=False, init=False, repr=False)

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
        with (
            self.directory.lock(self._wake) as self._lease,
            Ledger(self.directory.ledger) as self._ledger,
            self._signals(),
        ):
            self.state = State.replay(self._ledger.events())
            self._open()
            if self.state.finished is None:
                with self.platform.executor(self.directory, self.subject) as executor:
                    self._resume(executor)
                    self._loop(executor)
                remove_worker_scratch(self.directory)
        if self.state.finished is None:
            return Outcome("stopped", "stopped as asked; run it again to continue", self.state)
        if self.state.has_failed:
            raise CampaignFailed(f"{self.directory.path}: {self.state.finished}")
        return Outcome("finished", self.state.finished, self.state)

    # ---------------------------------------------------------------------------------------------- opening

    def _open(self) -> None:
        """Takes up the campaign where the ledger, and the workers since, have left it."""
        self.directory.clear_stop()
        who: dict[str, Any] = {"host": socket.gethostname(), "pid": os.getpid(), "version": version("alpot")}
        who["label_workers"] = self.settings.slots[self.settings.pool_of[Kind.LABEL]]
        self.directory.clear_reload()
        who |= self.platform.provenance
        self._commit(events.opened(config=sha256(self.directory.config), changes=self.changes, **who))
        if self.state.ending is not None and is_lifted(self.state.ending, self.settings):
            self._commit(events.ending_lifted())
        self._import()
        self._give()
        wait_for_orphans(self.directory)
        for task in list(self.state.work.tasks.values()):
            result = published_result(self.directory, task)
            # What a disk or a missing program made fail may have been mended since.
            if result is not None and result.get("failure") not in BLAMELESS:
                self._take_in(task, result)
        sweep(self.directory, self.state, self._ledger)

    def _import(self) -> None:
        if self.imported is None:
            return
        rows = [row for row in self.imported.rows if row.key not in self.state.candidates.keys]
        if rows:
            audit = [row.key for row in rows if row.key in self.imported.audit]
            apart = [row.key for row in rows if row.key in self.imported.apart]
            keys = [row.key for row in rows if row.key not in self.imported.audit | self.imported.apart]
            shards, audit_shards = self.imported.shards, self.imported.audit_shards
            self._commit(events.labels_imported(keys, audit, shards, audit_shards, apart), rows)

    def _give(self) -> None:
        candidates = self.state.candidates
        if self.wanted is not None:
            waiting, labelling = candidates.waiting.items(), candidates.labelling.items()
            withdrawn = [name for name, entry in waiting if entry.candidate.key not in self.wanted]
            # By the settings of now they would become other labels than those that they are meant to be.
            outdated = [name for name, entry in (*waiting, *labelling) if entry.reference != self.reference]
            if withdrawn := list(dict.fromkeys(withdrawn + outdated)):
                self._commit(events.candidates_withdrawn(withdrawn))
        done_or_waiting = {
            *(entry.candidate.key for entry in (*candidates.waiting.values(), *candidates.labelling.values())),
            *(entry.key for entry in self.given if self._ledger.has_label(entry.key)),
        }
        given = [entry for entry in self.given if entry.key not in done_or_waiting]
        for begin in range(0, len(given), _GIVEN_AT_ONCE):
            self._commit(events.candidates_given(given[begin : begin + _GIVEN_AT_ONCE], self.reference))

    def _resume(self, executor: Executor) -> None:
        for task in list(self.state.work.tasks.values()):
            self._start(events.task_started(task.again()), executor)

    # ------------------------------------------------------------------------------------------------- loop

    def _loop(self, executor: Executor) -> None:
        while True:
            self._heed_requests()
            while (decision := self.policy(self.state, self.settings)) is not None:
                self._start(decision, executor)
            if self.state.finished is not None or (self.state.stop_requested and not self.state.work.tasks):
                return
            message = self._inbox.get()
            if message is not None:
                self._receive(*message)

    def _wake(self) -> None:
        """Has the loop look for requests; called by signals and by the beat of the lease."""
        self._inbox.put(None)

    def _heed_requests(self) -> None:
        if self._lease.is_lost:
            raise StorageError(f"{self._lease.why_lost}; this controller ends, nothing that was recorded is lost")
        if not self.state.stop_requested and (self._signalled or self.directory.stop_requested()):
            self._commit(events.stop_requested())
        if self.reload is not None and self.directory.reload_requested():
            self.directory.clear_reload()
            try:
                self.settings, changes = self.reload()
            except UsageError as error:  # the campaign goes on with what it knows
                logger.error("the campaign file cannot be used, nothing has changed: %s", error)
                return
            self._commit(events.settings_changed(sha256(self.directory.config), changes))
            if self.state.ending is not None and is_lifted(self.state.ending, self.settings):
                self._commit(events.ending_lifted())

    def _start(self, decision: Event, executor: Executor) -> None:
        """Records a decision, then carries it out."""
        self._commit(decision)
        if decision.kind == "task_started":
            task = Task.load(decision.payload)
            future = executor.submit(self.state.dataset.expand(task).dump())
            future.add_done_callback(lambda future: self._inbox.put((task, future)))

    def _receive(self, task: Task, future: Future[Result]) -> None:
        """Takes in what became of an attempt, also where its worker died after it had published the result."""
        try:
            result = future.result()
        except UsageError:
            raise
        except Exception as error:  # noqa: BLE001 - whatever it is, the worker is lost; it is recorded
            published = published_result(self.directory, task)
            if published is None:
                self._lose(task, error)
                return
            result = published
        self._take_in(task, result)

    def _lose(self, task: Task, error: Exception) -> None:
        if not isinstance(error, WorkerLostError):
            message = f"{type(error).__name__}: {error}"
            error = WorkerLostError(message, failure=FailureClass.NODE_LOST, is_suspect=True)
        lost = events.task_lost(task, error.failure, error.message, error.evidence, is_suspect=error.is_suspect)
        self._commit(lost)

    def _take_in(self, task: Task, result: Result) -> None:
        if result["status"] == "failed":
            failure = FailureClass(result["failure"])
            known = {name: result[name] for name in ("core_seconds", "is_final") if name in result}
            self._commit(events.task_failed(task, failure, result["message"], result["evidence"], **known))
            return
        if result["status"] == "interrupted":
            self._commit(events.task_interrupted(task, result["progress"]))
            return
        summary = result["summary"]
        moved = _moved_labels(task, summary)
        self._commit(
            events.task_finished(task, summary, result["seconds"]),
            _new_labels(task, summary),
            moved=moved,
        )
        # Only now that it is on record: what is removed here is known to be of no use any more.
        shutil.rmtree(self.directory.task_path(task.kind, task.id), ignore_errors=True)
        remove_superseded(self.directory, moved)
        remove_spent(self.directory, self.state)

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
        """Turns the first SIGINT or SIGTERM into a request to stop, the second into an interruption.

        SIGHUP wakes the controller, which then looks for a request to read the campaign file again.
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        def stop(_number: int, _frame: object) -> None:
            if self._signalled:
                raise KeyboardInterrupt
            self._signalled = True
            self._wake()

        handlers = {signal.SIGINT: stop, signal.SIGTERM: stop, signal.SIGHUP: lambda *_: self._wake()}
        former = {number: signal.signal(number, handler) for number, handler in handlers.items()}
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
    if task.kind != Kind.TRAIN:
        return []
    return [
        LabelRow(key=key, path=compaction["path"], checksum=compaction["checksum"])
        for compaction in summary.get("compacted", ())
        for key in compaction["keys"]
    ]
