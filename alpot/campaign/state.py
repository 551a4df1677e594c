"""Everything that is durably known of a campaign and that a decision may rest on: a fold over the ledger's events.

The work per event does not grow with the campaign: every question of the policy is the look-up of a counter, a
dictionary or the head of a heap. (A promotion touches each waiting candidate once, a failure nothing but its task.)
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from alpot.campaign.events import Ending, Task
from alpot.campaign.subject import (
    AssessSummary,
    Candidate,
    ExploreSummary,
    Kind,
    LabelSummary,
    ScoreSummary,
    TrainSummary,
)
from alpot.errors import FailureClass
from alpot.store.ledger import Event

#: Failures of a label that say nothing about its structure: they use up neither its attempts nor the label budget.
BLAMELESS = frozenset({FailureClass.NODE_LOST, FailureClass.MISSING_PROGRAM})


@dataclass
class Waiting:
    """A candidate in the queue, and the model that gave it its score."""

    candidate: Candidate
    generation: int | None
    turn: int = 0

    @property
    def rank(self) -> tuple[bool, float, int]:
        """The smallest is labelled first: audit, then what teaches most for its cost, then what came first."""
        return (not self.candidate.audit, -self.candidate.score / self.candidate.cost, self.turn)


@dataclass
class State:
    """What is known after the last event.

    Attributes:
        seq: number of the last event.
        tasks: in flight, by id.
        failed: attempts that failed and await a verdict, by id.
        failures_of: how a task has failed so far, by id; forgotten with the task.
        in_flight: number of tasks in flight, by kind.
        started: number of tasks ever started, by kind.
        waiting: candidates ready to be labelled, by id.
        stale: candidates that wait for the judgement of the promoted generation, by id.
        labelling: candidates whose label task was started, by id.
        dropped: number of candidates dropped, by reason.
        rejected: number of candidates that cannot be labelled, by reason.
        keys: of all structures ever seen.
        train_labels: number of labels to train on.
        unseen: those that no training was given yet.
        in_training: those that the last training was the first to see.
        loose: keys of labels to train on that are not in a shard (a dict for its order).
        shards: files of compacted labels.
        audit: keys of audit labels (a dict for its order).
        calculations: label calculations that ended, successful or not: what the label budget counts.
        label_seconds: wall time of finished label calculations in s.
        initial_found: the initial structures were emitted.
        explorations: number of explore tasks that finished with a model.
        discoveries: number of candidates that these emitted.
        generations: number of generations trained.
        unassessed: the generation to be assessed.
        promoted: the generation to explore with.
        assessment: of the promoted generation.
        final_assessed: the generation whose properties were evaluated.
        simulated: time simulated in ps.
        quiet: time in ps that the promoted generation simulated since it last found something uncertain.
        walker_endings: how many walkers ended for which reason.
        failures: number of failed attempts, by class.
        last_failure: task and message of the last failed attempt.
        given_up: tasks that failed for good since the campaign was opened.
        missing_program: message of a failed label that no other label can escape.
        training_failure: why training was given up.
        stop_requested: the user asked to stop.
        ending: why the campaign comes to its end, once it does.
        finished: why it has ended.
        has_failed: whether it ended because it could not go on.
    """

    seq: int = 0
    tasks: dict[str, Task] = field(default_factory=dict)
    failed: dict[str, Task] = field(default_factory=dict)
    failures_of: dict[str, Counter[FailureClass]] = field(default_factory=dict)
    in_flight: Counter[Kind] = field(default_factory=Counter)
    started: Counter[Kind] = field(default_factory=Counter)

    waiting: dict[str, Waiting] = field(default_factory=dict)
    stale: dict[str, Waiting] = field(default_factory=dict)
    labelling: dict[str, Waiting] = field(default_factory=dict)
    dropped: Counter[str] = field(default_factory=Counter)
    rejected: Counter[str] = field(default_factory=Counter)
    keys: set[str] = field(default_factory=set)

    train_labels: int = 0
    unseen: int = 0
    in_training: int = 0
    loose: dict[str, None] = field(default_factory=dict)
    shards: list[str] = field(default_factory=list)
    audit: dict[str, None] = field(default_factory=dict)
    calculations: int = 0
    label_seconds: float = 0.0

    initial_found: bool = False
    explorations: int = 0
    discoveries: int = 0
    generations: int = 0
    unassessed: int | None = None
    promoted: int | None = None
    assessment: AssessSummary | None = None
    final_assessed: int | None = None
    simulated: float = 0.0
    quiet: float = 0.0
    walker_endings: Counter[str] = field(default_factory=Counter)

    failures: Counter[FailureClass] = field(default_factory=Counter)
    last_failure: str = ""
    given_up: int = 0
    missing_program: str = ""
    training_failure: str = ""
    stop_requested: bool = False
    ending: Ending | None = None
    finished: str | None = None
    has_failed: bool = False

    _queue: list[tuple[tuple[bool, float, int], str]] = field(default_factory=list, repr=False, compare=False)
    _turns: int = 0

    @classmethod
    def replay(cls, events: Iterable[Event]) -> State:
        """The state after all these events."""
        state = cls()
        for event in events:
            state.apply(event)
        return state

    def apply(self, event: Event) -> None:
        """Takes in one event."""
        match event.kind:
            case "task_started":
                self._start(Task.load(event.payload))
            case "task_finished":
                self._finish(event.payload)
            case "task_failed":
                self._fail(event.payload)
            case "task_abandoned":
                self._abandon(event.payload)
            case "labels_imported":
                self._import(event.payload)
            case "opened":
                self._open()
            case "stop_requested":
                self.stop_requested = True
            case "ending_began":
                self.ending = Ending(**event.payload)
            case "ending_lifted":
                self.ending = self.finished = None
            case "campaign_finished":
                self.finished = event.payload["reason"]
                self.has_failed = event.payload["failed"]
            case _:
                raise ValueError(f"event {event.seq} is of the unknown kind {event.kind!r}; made by a newer alpot?")
        self.seq = event.seq

    @property
    def next_candidate(self) -> Candidate | None:
        """The candidate to be labelled next."""
        while self._queue:
            (_, _, turn), identifier = self._queue[0]
            entry = self.waiting.get(identifier)
            if entry is not None and entry.turn == turn:
                return entry.candidate
            heapq.heappop(self._queue)  # it left the queue by another door
        return None

    def next_id(self, kind: Kind) -> str:
        """The id of the next new task of a kind."""
        return f"{kind}-{self.started[kind] + 1:06d}"

    def pending(self, kind: Kind) -> bool:
        """Whether a task of this kind is in flight or awaits another attempt."""
        return self.in_flight[kind] > 0 or any(task.kind == kind for task in self.failed.values())

    # ------------------------------------------------------------------------------------------- controller

    def _open(self) -> None:
        """A failed campaign gets another chance: the user has seen the reason, and perhaps mended it."""
        self.stop_requested = False
        self.missing_program = self.training_failure = ""
        self.given_up = 0
        if self.has_failed or (self.ending is not None and self.ending.failed):
            self.ending = self.finished = None
            self.has_failed = False

    def _import(self, payload: dict[str, Any]) -> None:
        self.keys.update(payload["keys"], payload["audit"])
        self.audit.update(dict.fromkeys(payload["audit"]))
        if payload["shard"] is None:
            self.loose.update(dict.fromkeys(payload["keys"]))
        else:
            self.shards.append(payload["shard"])
        self.train_labels += len(payload["keys"])
        self.unseen += len(payload["keys"])

    # ------------------------------------------------------------------------------------------------ tasks

    def _start(self, task: Task) -> None:
        if task.attempt == 1:
            self.started[task.kind] += 1
            if task.kind == Kind.LABEL:
                self.labelling[task.spec["candidate"]] = self.waiting.pop(task.spec["candidate"])
            elif task.kind == Kind.TRAIN:
                self.in_training, self.unseen = self.unseen, 0
        if task.id not in self.tasks:  # it is, when a new controller repeats what the last one had in flight
            self.in_flight[task.kind] += 1
        self.failed.pop(task.id, None)
        self.tasks[task.id] = task

    def _finish(self, payload: dict[str, Any]) -> None:
        task = self._land(payload["id"])
        self.failures_of.pop(task.id, None)
        summary = payload["summary"]
        match task.kind:
            case Kind.EXPLORE:
                self._explored(ExploreSummary.model_validate(summary))
            case Kind.LABEL:
                self._labelled(task.spec["candidate"], LabelSummary.model_validate(summary))
            case Kind.SCORE:
                self._scored(task.spec["candidates"], ScoreSummary.model_validate(summary))
            case Kind.TRAIN:
                self._trained(TrainSummary.model_validate(summary))
            case Kind.ASSESS:
                self._assessed(task.spec["final"], AssessSummary.model_validate(summary))

    def _fail(self, payload: dict[str, Any]) -> None:
        task = self._land(payload["id"])
        failure = FailureClass(payload["failure"])
        self.failed[task.id] = task
        self.failures[failure] += 1
        self.last_failure = f"{task.id}: {payload['message']}"
        self.failures_of.setdefault(task.id, Counter())[failure] += 1
        if task.kind == Kind.LABEL:
            self.calculations += failure not in BLAMELESS
            if failure == FailureClass.MISSING_PROGRAM:
                self.missing_program = payload["message"]

    def _abandon(self, payload: dict[str, Any]) -> None:
        task = self.failed.pop(payload["id"])
        del self.failures_of[task.id]
        self.given_up += payload["counts"]
        match task.kind:
            case Kind.LABEL:
                del self.labelling[task.spec["candidate"]]
                self.rejected[payload["reason"]] += 1
            case Kind.SCORE:  # better an old score than none
                for identifier in task.spec["candidates"]:
                    self._enqueue(self.stale.pop(identifier))
            case Kind.TRAIN:
                self.training_failure = self.last_failure
                self.unseen += self.in_training
            case Kind.ASSESS if task.spec["final"]:
                self.final_assessed = task.spec["generation"]
            case Kind.ASSESS:
                self.unassessed = None

    def _land(self, task_id: str) -> Task:
        task = self.tasks.pop(task_id)
        self.in_flight[task.kind] -= 1
        return task

    # -------------------------------------------------------------------------------------------- summaries

    def _explored(self, summary: ExploreSummary) -> None:
        if summary.generation is None:
            self.initial_found = True
        else:
            self.explorations += 1
            self.discoveries += len(summary.candidates)
        self.walker_endings.update(summary.endings)
        self.simulated += summary.simulated_time
        if summary.generation == self.promoted:
            surprised = any(not candidate.audit for candidate in summary.candidates)
            self.quiet = 0.0 if surprised else self.quiet + summary.simulated_time
        for candidate in summary.candidates:
            if candidate.key in self.keys:
                self.dropped["duplicate"] += 1
                continue
            self.keys.add(candidate.key)
            entry = Waiting(candidate, summary.generation)
            if self._is_outdated(entry):
                self.stale[candidate.id] = entry
            else:
                self._enqueue(entry)

    def _labelled(self, identifier: str, summary: LabelSummary) -> None:
        entry = self.labelling.pop(identifier)
        self.calculations += 1
        self.label_seconds += summary.seconds
        self.keys.add(summary.key)
        if summary.outcome == "rejected":
            self.rejected[summary.reason] += 1
        elif entry.candidate.audit:
            self.audit[summary.key] = None
        else:
            self.loose[summary.key] = None
            self.train_labels += 1
            self.unseen += 1

    def _scored(self, identifiers: list[str], summary: ScoreSummary) -> None:
        certain = frozenset(summary.certain)
        for identifier in identifiers:
            entry = self.stale.pop(identifier)
            if identifier in certain:
                self.dropped["certain"] += 1
                continue
            entry.candidate.score = summary.scores.get(identifier, entry.candidate.score)
            entry.generation = summary.generation
            if self._is_outdated(entry):
                self.stale[identifier] = entry
            else:
                self._enqueue(entry)

    def _trained(self, summary: TrainSummary) -> None:
        self.generations = self.unassessed = summary.generation
        if summary.shard is not None:
            self.shards.append(summary.shard)
            for key in summary.shard_keys:
                self.loose.pop(key, None)

    def _assessed(self, final: bool, summary: AssessSummary) -> None:
        if final:
            self.final_assessed = summary.generation
            self.assessment = summary
            return
        self.unassessed = None
        if summary.promote:
            self.promoted = summary.generation
            self.assessment = summary
            self.quiet = 0.0
            for identifier in [name for name, entry in self.waiting.items() if self._is_outdated(entry)]:
                self.stale[identifier] = self.waiting.pop(identifier)

    # -------------------------------------------------------------------------------------------- the queue

    def _is_outdated(self, entry: Waiting) -> bool:
        """Audit candidates are labelled whatever a model thinks of them."""
        return not entry.candidate.audit and self.promoted is not None and (entry.generation or 0) < self.promoted

    def _enqueue(self, entry: Waiting) -> None:
        self._turns += 1
        entry.turn = self._turns
        self.waiting[entry.candidate.id] = entry
        heapq.heappush(self._queue, (entry.rank, entry.candidate.id))
