"""Everything that is durably known of a campaign and that a decision may rest on: a fold over the ledger's events.

The work per event does not grow with the campaign: every question of the policy is the look-up of a counter, a
dictionary or the head of a heap. (A promotion touches each waiting candidate once, a failure nothing but its task.)
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any

from alpot.campaign.events import Ending, Task, replay
from alpot.campaign.subject import (
    AssessSummary,
    Candidate,
    Compaction,
    ExploreSummary,
    Kind,
    LabelSummary,
    ScoreSummary,
    TrainSummary,
)
from alpot.errors import FOR_THE_USER, FailureClass
from alpot.store.ledger import Event

#: Failures of a label that say nothing about its structure: they use up none of the label budget.
BLAMELESS = FOR_THE_USER | {FailureClass.NODE_LOST, FailureClass.DISK_FULL}
#: An attempt that is interrupted without having come any further so often in a row has too little time.
_IDLE_INTERRUPTIONS = 3
#: Explorations over which "of late" is taken.
_LATE_EXPLORATIONS = 16


@dataclass
class Waiting:
    """A candidate in the queue.

    Attributes:
        candidate: what waits.
        generation: the model that gave it its score.
        turn: its number among all that came into the queue.
        reference: hash of the settings that it was given with; empty if it was found, or in older ledgers.
    """

    candidate: Candidate
    generation: int | None
    turn: int = 0
    reference: str = ""

    @property
    def rank(self) -> tuple[int, float, int]:
        """The smallest is labelled first: those apart, audit, what teaches most for its cost, what came first."""
        group = 0 if self.candidate.apart else 1 if self.candidate.audit else 2
        return (group, -self.candidate.score / self.candidate.cost, self.turn)


@dataclass
class Course:
    """How the attempts at one task have ended so far.

    Attributes:
        failures: attempts whose work failed, by class.
        suspicions: attempts that may have brought down their worker.
        progress: how far the task was at its last interruption.
        idle: interruptions in a row that found it no further than the one before.
        afresh: whether the next attempt should draw other random numbers.
        is_final: whether another attempt would end like the last one.
    """

    failures: Counter[FailureClass] = field(default_factory=Counter)
    suspicions: int = 0
    progress: float = 0.0
    idle: int = 0
    afresh: bool = False
    is_final: bool = False


@dataclass
class State:
    """What is known after the last event.

    Attributes:
        seq: number of the last event.
        tasks: in flight, by id.
        failed: tasks whose last attempt did not finish and that await a verdict, by kind and id.
        courses: how a task has fared so far, by id; forgotten with the task.
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
        audit_labels: number of labels for the audit.
        unseen_audit: those that no assessment was given yet.
        loose_audit: keys of those that are not in a shard (a dict for its order).
        audit_shards: files of compacted labels for the audit.
        apart: keys of labels that are neither (a dict for its order); they are few, and stay in files of their own.
        apart_open: candidates for such labels that are neither labelled nor given up, by id.
        refused: why a label is not used, by key; its file is kept.
        forgiven: how many of these were known when the campaign was opened.
        calculations: label calculations that ended, successful or not: what the label budget counts. Those of labels
            that are kept apart are not among them.
        label_seconds: wall time of finished label calculations in s.
        initial_found: the initial structures were emitted.
        apart_found: those whose labels are kept apart were emitted.
        explorations: number of explore tasks that finished with a model.
        discoveries: how many candidates one of them emits, of late.
        turnover: how many label calculations end while one of them is in flight, of late.
        generations: number of generations trained.
        unassessed: the generation to be assessed.
        promoted: the generation to explore with.
        promotions: all that were promoted, as far as their potentials still exist.
        assessment: of the promoted generation.
        final_assessed: the generation whose properties were evaluated.
        simulated: time simulated in ps.
        quiet: time in ps that the promoted generation simulated since it last found something uncertain.
        walker_endings: how many walkers ended for which reason.
        failures: number of attempts whose work failed, by class.
        losses: number of attempts whose worker was lost, by class.
        interruptions: number of attempts that were saved when their job ended.
        last_failure: task and message of the last attempt that did not finish.
        given_up: tasks that failed for good since the campaign was opened.
        obstacle: class and message of a failed label that no other label can escape.
        disk_full: message of a task that found no space for what it had done.
        training_failure: why training was given up.
        stop_requested: the user asked to stop.
        ending: why the campaign comes to its end, once it does.
        finished: why it has ended.
        has_failed: whether it ended because it could not go on.
        spent: explorations whose candidates are all settled; their frames are not needed any more.
    """

    seq: int = 0
    tasks: dict[str, Task] = field(default_factory=dict)
    failed: dict[Kind, dict[str, Task]] = field(default_factory=lambda: {kind: {} for kind in Kind})
    courses: dict[str, Course] = field(default_factory=dict)
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
    audit_labels: int = 0
    unseen_audit: int = 0
    loose_audit: dict[str, None] = field(default_factory=dict)
    audit_shards: list[str] = field(default_factory=list)
    apart: dict[str, None] = field(default_factory=dict)
    apart_open: set[str] = field(default_factory=set)
    refused: dict[str, str] = field(default_factory=dict)
    forgiven: int = 0
    calculations: int = 0
    label_seconds: float = 0.0

    initial_found: bool = False
    apart_found: bool = False
    explorations: int = 0
    discoveries: float = 0.0
    turnover: float = 0.0
    generations: int = 0
    unassessed: int | None = None
    promoted: int | None = None
    promotions: list[int] = field(default_factory=list)
    assessment: AssessSummary | None = None
    final_assessed: int | None = None
    simulated: float = 0.0
    quiet: float = 0.0
    walker_endings: Counter[str] = field(default_factory=Counter)

    failures: Counter[FailureClass] = field(default_factory=Counter)
    losses: Counter[FailureClass] = field(default_factory=Counter)
    interruptions: int = 0
    last_failure: str = ""
    given_up: int = 0
    obstacle: tuple[FailureClass, str] | None = None
    disk_full: str = ""
    training_failure: str = ""
    stop_requested: bool = False
    ending: Ending | None = None
    finished: str | None = None
    has_failed: bool = False

    spent: set[str] = field(default_factory=set, compare=False)
    _begun: dict[str, int] = field(default_factory=dict, repr=False)
    _unsettled: Counter[str] = field(default_factory=Counter, repr=False)
    _queue: list[tuple[tuple[int, float, int], str]] = field(default_factory=list, repr=False, compare=False)
    _turns: int = 0

    @classmethod
    def replay(cls, events: Iterable[Event]) -> State:
        """The state after all these events; ``StorageError`` if one of them cannot have happened."""
        state = cls()
        replay(events, state.apply)
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
            case "task_lost":
                self._lose(event.payload)
            case "task_interrupted":
                self._interrupt(event.payload)
            case "task_abandoned":
                self._abandon(event.payload)
            case "labels_imported":
                self._import(event.payload)
            case "candidates_given":
                candidates = [Candidate.model_validate(entry) for entry in event.payload["candidates"]]
                self._give(candidates, event.payload.get("reference", ""))
            case "candidates_withdrawn":
                self._withdraw(event.payload["ids"])
            case "labels_lost":
                self._lose_labels(event.payload)
            case "labels_moved":
                self._move([Compaction.model_validate(entry) for entry in event.payload["compacted"]])
            case "models_lost":
                self._lose_models(event.payload["generations"])
            case "frames_lost":
                self._lose_frames(event.payload["explorations"])
            case "settings_changed":
                pass  # the settings are no part of the state; recorded for people
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

    def counts(self, task: Task) -> bool:
        """Whether a label task counts towards the budget."""
        return task.spec["candidate"] not in self.apart_open

    def undecided(self, queue: Mapping[str, Waiting]) -> int:
        """How many of ``waiting`` or ``labelling`` may become labels to train on or for the audit."""
        return len(queue) - sum(identifier in queue for identifier in self.apart_open)

    def pending(self, kind: Kind) -> bool:
        """Whether a task of this kind is in flight or awaits another attempt."""
        return self.in_flight[kind] > 0 or bool(self.failed[kind])

    def expand(self, task: Task) -> Task:
        """The task with the lists that its spec only counts, as its worker needs them.

        The lists grow at their ends only, so that a count says which version of the dataset is meant.
        """
        lists = {
            "shards": self.shards,
            "labels": self.loose,
            "audit_shards": self.audit_shards,
            "audit_labels": self.loose_audit,
            "apart_labels": self.apart,
            "refused": self.refused,
        }
        spec = {name: list(islice(lists[name], value)) if name in lists else value for name, value in task.spec.items()}
        return replace(task, spec=spec)

    # ------------------------------------------------------------------------------------------- controller

    def _open(self) -> None:
        """A failed campaign gets another chance: the user has seen the reason, and perhaps mended it."""
        self.stop_requested = False
        self.obstacle = None
        self.training_failure = self.disk_full = ""
        self.given_up = 0
        self.forgiven = len(self.refused)
        if self.has_failed or (self.ending is not None and self.ending.failed):
            self.ending = self.finished = None
            self.has_failed = False

    def _import(self, payload: dict[str, Any]) -> None:
        keys, audit = payload["keys"], payload["audit"]
        apart = payload.get("apart", [])  # older ledgers know none
        self.keys.update(keys, audit, apart)
        self.apart.update(dict.fromkeys(apart))
        if payload["shards"]:
            self.shards += payload["shards"]
        else:
            self.loose.update(dict.fromkeys(keys))
        if payload["audit_shards"]:
            self.audit_shards += payload["audit_shards"]
        else:
            self.loose_audit.update(dict.fromkeys(audit))
        self.audit_labels += len(audit)
        self.unseen_audit += len(audit)
        self.train_labels += len(keys)
        self.unseen += len(keys)

    def _give(self, candidates: Iterable[Candidate], reference: str) -> None:
        """Candidates that nobody had to find. There is something to do again, whatever had ended."""
        self.initial_found = True
        self.ending = self.finished = None
        self.has_failed = False
        for candidate in candidates:
            self._unsettled[_exploration(candidate)] += 1
            self.spent.discard(_exploration(candidate))  # the same structures may be given again, by the same name
            self.keys.add(candidate.key)
            self._enqueue(Waiting(candidate, None, reference=reference))

    def _withdraw(self, ids: Iterable[str]) -> None:
        for identifier in ids:
            entry = self.waiting.pop(identifier, None) or self._call_off(identifier)
            self.keys.discard(entry.candidate.key)
            self.dropped["withdrawn"] += 1
            self._settle(entry.candidate)

    def _call_off(self, identifier: str) -> Waiting:
        """Forgets the label task of a candidate, be it in flight or about to be tried again."""
        tasks = (*self.tasks.values(), *self.failed[Kind.LABEL].values())
        task = next(task for task in tasks if task.spec.get("candidate") == identifier)
        if task.id in self.tasks:
            self._land(task.id)
        self.failed[Kind.LABEL].pop(task.id, None)
        self.courses.pop(task.id, None)
        return self.labelling.pop(identifier)

    # ------------------------------------------------------------------------------------------------ tasks

    def _start(self, task: Task) -> None:
        if task.attempt == 1:
            self.started[task.kind] += 1
            if task.kind == Kind.LABEL:
                self.labelling[task.spec["candidate"]] = self.waiting.pop(task.spec["candidate"])
            elif task.kind == Kind.TRAIN:
                self.in_training, self.unseen = self.unseen, 0
            elif task.kind == Kind.EXPLORE:
                self._begun[task.id] = self.calculations
        if task.id not in self.tasks:  # it is, when a new controller repeats what the last one had in flight
            self.in_flight[task.kind] += 1
        self.failed[task.kind].pop(task.id, None)
        self.tasks[task.id] = task

    def _finish(self, payload: dict[str, Any]) -> None:
        task = self._land(payload["id"])
        self.courses.pop(task.id, None)
        summary = payload["summary"]
        match task.kind:
            case Kind.EXPLORE:
                self._explored(task, ExploreSummary.model_validate(summary))
            case Kind.LABEL:
                self._labelled(task, LabelSummary.model_validate(summary))
            case Kind.SCORE:
                self._scored(task.spec["candidates"], ScoreSummary.model_validate(summary))
            case Kind.TRAIN:
                self._trained(TrainSummary.model_validate(summary))
            case Kind.ASSESS:
                self._assessed(task.spec, AssessSummary.model_validate(summary))

    def _fail(self, payload: dict[str, Any]) -> None:
        task, course = self._fall(payload["id"])
        failure = FailureClass(payload["failure"])
        self.failures[failure] += 1
        self.last_failure = f"{task.id}: {payload['message']}"
        course.failures[failure] += 1
        course.is_final = payload.get("is_final", False)
        course.afresh = failure not in BLAMELESS
        if failure == FailureClass.DISK_FULL:
            self.disk_full = payload["message"]
        if task.kind == Kind.LABEL:
            self.calculations += failure not in BLAMELESS and self.counts(task)
            if failure in FOR_THE_USER:
                self.obstacle = failure, payload["message"]

    def _lose(self, payload: dict[str, Any]) -> None:
        task, course = self._fall(payload["id"])
        self.losses[FailureClass(payload["failure"])] += 1
        self.last_failure = f"{task.id}: {payload['message']}"
        course.suspicions += payload["is_suspect"]
        # Once may be chance. A walker that brings down its worker should not do so three times.
        course.afresh = payload["is_suspect"] and course.suspicions > 1

    def _interrupt(self, payload: dict[str, Any]) -> None:
        task, course = self._fall(payload["id"])
        self.interruptions += 1
        course.afresh = False
        course.idle = 0 if payload["progress"] > course.progress else course.idle + 1
        course.progress = payload["progress"]
        if course.idle >= _IDLE_INTERRUPTIONS:
            course.idle = 0
            course.failures[FailureClass.WALLTIME] += 1
            self.failures[FailureClass.WALLTIME] += 1
            self.last_failure = f"{task.id}: its job ended {_IDLE_INTERRUPTIONS} times before it had come any further"

    def _fall(self, task_id: str) -> tuple[Task, Course]:
        task = self._land(task_id)
        self.failed[task.kind][task.id] = task
        return task, self.courses.setdefault(task.id, Course())

    def _abandon(self, payload: dict[str, Any]) -> None:
        task = next(tasks.pop(payload["id"]) for tasks in self.failed.values() if payload["id"] in tasks)
        del self.courses[task.id]
        self.given_up += payload["counts"]
        match task.kind:
            case Kind.LABEL:
                del self.labelling[task.spec["candidate"]]
                self.apart_open.discard(task.spec["candidate"])
                self.rejected[payload["reason"]] += 1
            case Kind.EXPLORE:
                del self._begun[task.id]
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

    def _explored(self, task: Task, summary: ExploreSummary) -> None:
        calculations_before = self._begun.pop(task.id)
        if summary.generation is None:
            self.initial_found |= task.spec.get("starts") != 0
            self.apart_found |= task.spec.get("apart", False)
        else:
            self.explorations += 1
            share = 1 / min(self.explorations, _LATE_EXPLORATIONS)
            self.discoveries += share * (len(summary.candidates) - self.discoveries)
            self.turnover += share * (self.calculations - calculations_before - self.turnover)
        self.walker_endings.update(summary.endings)
        self.simulated += summary.simulated_time
        if summary.generation == self.promoted:
            surprised = any(not candidate.audit for candidate in summary.candidates)
            self.quiet = 0.0 if surprised else self.quiet + summary.simulated_time
        for candidate in summary.candidates:
            self._unsettled[_exploration(candidate)] += 1
        for candidate in summary.candidates:
            if candidate.key in self.keys:
                self.dropped["duplicate"] += 1
                self._settle(candidate)
                continue
            self.keys.add(candidate.key)
            if candidate.apart:
                self.apart_open.add(candidate.id)
            entry = Waiting(candidate, summary.generation)
            if self._is_outdated(entry):
                self.stale[candidate.id] = entry
            else:
                self._enqueue(entry)

    def _labelled(self, task: Task, summary: LabelSummary) -> None:
        identifier = task.spec["candidate"]
        entry = self.labelling.pop(identifier)
        self.calculations += self.counts(task)
        self.apart_open.discard(identifier)
        self.label_seconds += summary.seconds
        self.keys.add(summary.key)
        if summary.outcome == "rejected":
            self.rejected[summary.reason] += 1
            return
        self._settle(entry.candidate)
        if entry.candidate.apart:
            self.apart[summary.key] = None
        elif entry.candidate.audit:
            self.loose_audit[summary.key] = None
            self.audit_labels += 1
            self.unseen_audit += 1
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
                self._settle(entry.candidate)
                continue
            entry.candidate.score = summary.scores.get(identifier, entry.candidate.score)
            entry.generation = summary.generation
            if self._is_outdated(entry):
                self.stale[identifier] = entry
            else:
                self._enqueue(entry)

    def _trained(self, summary: TrainSummary) -> None:
        self.generations = self.unassessed = summary.generation
        self._move(summary.compacted)
        self.train_labels -= self._refuse(summary.refused)

    def _assessed(self, spec: dict[str, Any], summary: AssessSummary) -> None:
        self.unseen_audit -= spec["unseen"]
        self.audit_labels -= self._refuse(summary.refused)
        if spec["final"]:
            self.final_assessed = summary.generation
            self.assessment = summary
            return
        self.unassessed = None
        if summary.promote:
            self.promoted = summary.generation
            self.promotions.append(summary.generation)
            self.assessment = summary
            self.quiet = 0.0
            for identifier in [name for name, entry in self.waiting.items() if self._is_outdated(entry)]:
                self.stale[identifier] = self.waiting.pop(identifier)
            # Or their former places in the queue would pile up, promotion by promotion.
            self._queue = [(entry.rank, identifier) for identifier, entry in self.waiting.items()]
            heapq.heapify(self._queue)

    def _move(self, compactions: Iterable[Compaction]) -> None:
        for compaction in compactions:
            loose, shards = (self.loose_audit, self.audit_shards) if compaction.audit else (self.loose, self.shards)
            if compaction.path not in shards:
                shards.append(compaction.path)
            for key in compaction.keys:
                loose.pop(key, None)

    def _refuse(self, reasons: dict[str, str]) -> int:
        """Labels that are not to be used; returns how many of them were not known as such."""
        fresh = {key: reason for key, reason in reasons.items() if key not in self.refused}
        self.refused |= fresh
        return len(fresh)

    def _lose_labels(self, payload: dict[str, Any]) -> None:
        held_out = frozenset(payload["audit"])
        audit = {key: reason for key, reason in payload["reasons"].items() if key in held_out}
        apart = {key: reason for key, reason in payload["reasons"].items() if key in self.apart}
        training = {key: reason for key, reason in payload["reasons"].items() if key not in audit | apart}
        self._refuse(apart)
        self.audit_labels -= self._refuse(audit)
        self.train_labels -= self._refuse(training)
        gone = frozenset(payload["shards"])
        self.shards = [shard for shard in self.shards if shard not in gone]
        self.audit_shards = [shard for shard in self.audit_shards if shard not in gone]

    def _lose_models(self, generations: list[int]) -> None:
        """The best that is left explores; the next training takes all labels for new, so that it comes soon."""
        self.promotions = [generation for generation in self.promotions if generation not in generations]
        if self.unassessed in generations:
            self.unassessed = None
        if self.promoted in generations:
            self.promoted = self.promotions[-1] if self.promotions else None
            self.assessment = None
            self.unseen = self.train_labels

    def _lose_frames(self, explorations: list[str]) -> None:
        for queue in (self.waiting, self.stale):
            for identifier in [name for name, entry in queue.items() if _exploration(entry.candidate) in explorations]:
                self._settle(queue.pop(identifier).candidate)
                self.apart_open.discard(identifier)
                self.dropped["damaged"] += 1

    # ------------------------------------------------------------------------------------- settled candidates

    def _settle(self, candidate: Candidate) -> None:
        """Nothing will be done with a candidate any more.

        One that was rejected is never settled: its frame stays, for somebody who wants to know why.
        """
        name = _exploration(candidate)
        self._unsettled[name] -= 1
        if self._unsettled[name] == 0:
            del self._unsettled[name]
            self.spent.add(name)

    # -------------------------------------------------------------------------------------------- the queue

    def _is_outdated(self, entry: Waiting) -> bool:
        """Audit candidates, and those apart, are labelled whatever a model thinks of them."""
        if entry.candidate.audit or entry.candidate.apart:
            return False
        return self.promoted is not None and (entry.generation or 0) < self.promoted

    def _enqueue(self, entry: Waiting) -> None:
        self._turns += 1
        entry.turn = self._turns
        self.waiting[entry.candidate.id] = entry
        heapq.heappush(self._queue, (entry.rank, entry.candidate.id))


def _exploration(candidate: Candidate) -> str:
    """The task that found a candidate; its frames lie in one file."""
    return candidate.id.rpartition("/")[0]
