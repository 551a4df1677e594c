"""Everything that is durably known of a campaign and that a decision may rest on: a fold over the ledger's events.

What is known of tasks, candidates and labels has a module each (``work.py``, ``candidates.py``, ``dataset.py``); here
is what each event means for them, how far exploring and learning have come, and how the campaign ends.

The work per event does not grow with the campaign: every question of the policy is the look-up of a counter, a
dictionary or the head of a heap. (A promotion touches each waiting candidate once, a failure nothing but its task.)
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from alpot.campaign.candidates import Candidates
from alpot.campaign.dataset import Dataset
from alpot.campaign.events import Ending, Task, replay
from alpot.campaign.forecast import LearningCurve, LearningPoint, fit_learning_curve
from alpot.campaign.samplers import Sampler
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
from alpot.campaign.work import BLAMELESS, Work
from alpot.errors import FOR_THE_USER, FailureClass
from alpot.store.ledger import Event

#: Explorations over which "of late" is taken.
_LATE_EXPLORATIONS = 16


@dataclass
class State:
    """What is known after the last event.

    Attributes:
        seq: number of the last event.
        work: the tasks.
        candidates: the candidates.
        dataset: the labels.
        calculations: label calculations that ended, successful or not: what the label budget counts. Those of labels
            that are kept apart are not among them.
        label_seconds: wall time of finished label calculations in s.
        initial_found: the initial structures were emitted.
        apart_found: those whose labels are kept apart were emitted.
        explorations: number of explore tasks that finished with a model.
        discoveries: how many candidates one of them emits, of late.
        turnover: how many label calculations end while one of them is in flight, of late.
        simulated: time simulated in ps.
        quiet: time in ps that the promoted generation simulated since it last found something uncertain.
        walker_endings: how many walkers ended for which reason.
        samplers: what was found from each table of starts, by its number.
        generations: number of generations trained.
        unassessed: the generation to be assessed.
        promoted: the generation to explore with.
        promotions: all that were promoted, as far as their potentials still exist.
        assessment: of the promoted generation.
        final_assessed: the generation whose properties were evaluated.
        learning_points: what the labels of each generation that was assessed had bought.
        learning_curve: fitted to them.
        good_generations: how many generations in a row, up to the last one, were promoted with all properties within
            tolerance.
        obstacle: class and message of a failed label that no other label can escape.
        disk_full: message of a task that found no space for what it had done.
        training_failure: why training was given up.
        stop_requested: the user asked to stop.
        ending: why the campaign comes to its end, once it does.
        finished: why it has ended.
        has_failed: whether it ended because it could not go on.
    """

    seq: int = 0
    work: Work = field(default_factory=Work)
    candidates: Candidates = field(default_factory=Candidates)
    dataset: Dataset = field(default_factory=Dataset)
    calculations: int = 0
    label_seconds: float = 0.0

    initial_found: bool = False
    apart_found: bool = False
    explorations: int = 0
    discoveries: float = 0.0
    turnover: float = 0.0
    simulated: float = 0.0
    quiet: float = 0.0
    walker_endings: Counter[str] = field(default_factory=Counter)
    samplers: dict[int, Sampler] = field(default_factory=dict)

    generations: int = 0
    unassessed: int | None = None
    promoted: int | None = None
    promotions: list[int] = field(default_factory=list)
    assessment: AssessSummary | None = None
    final_assessed: int | None = None
    learning_points: list[LearningPoint] = field(default_factory=list)
    learning_curve: LearningCurve | None = None
    good_generations: int = 0

    obstacle: tuple[FailureClass, str] | None = None
    disk_full: str = ""
    training_failure: str = ""
    stop_requested: bool = False
    ending: Ending | None = None
    finished: str | None = None
    has_failed: bool = False

    # The calculations that had ended when an exploration began.
    _begun: dict[str, int] = field(default_factory=dict, repr=False)
    # Labels that the last training was given, and the calculations that had ended when it began.
    _trained_on: tuple[int, int] = field(default=(0, 0), repr=False)

    @classmethod
    def replay(cls, events: Iterable[Event]) -> State:
        """The state after all these events; ``StorageError`` if one of them cannot have happened."""
        state = cls()
        replay(events, state.apply)
        return state

    def apply(self, event: Event) -> None:
        """Takes in one event."""
        payload = event.payload
        match event.kind:
            case "task_started":
                self._start(Task.load(payload))
            case "task_finished":
                self._finish(payload)
            case "task_failed":
                self._fail(payload)
            case "task_lost":
                failure = FailureClass(payload["failure"])
                self.work.lose(payload["id"], failure, payload["message"], is_suspect=payload["is_suspect"])
            case "task_interrupted":
                self.work.interrupt(payload["id"], payload["progress"])
            case "task_abandoned":
                self._abandon(payload)
            case "labels_imported":
                self._import(payload)
            case "candidates_given":
                candidates = [Candidate.model_validate(entry) for entry in payload["candidates"]]
                self._give(candidates, payload.get("reference", ""))
            case "candidates_withdrawn":
                self._withdraw(payload["ids"])
            case "labels_lost":
                self.dataset.lose(payload["reasons"], payload["audit"], payload["shards"])
            case "labels_moved":
                self.dataset.compact([Compaction.model_validate(entry) for entry in payload["compacted"]])
            case "models_lost":
                self._lose_models(payload["generations"])
            case "frames_lost":
                self.candidates.lose_frames(payload["explorations"])
            case "settings_changed":
                pass  # the settings are no part of the state; recorded for people
            case "opened":
                self._open()
            case "stop_requested":
                self.stop_requested = True
            case "ending_began":
                self.ending = Ending(**payload)
            case "ending_lifted":
                self.ending = self.finished = None
            case "campaign_finished":
                self.finished = payload["reason"]
                self.has_failed = payload["failed"]
            case _:
                raise ValueError(f"event {event.seq} is of the unknown kind {event.kind!r}; made by a newer alpot?")
        self.seq = event.seq

    # ---------------------------------------------------------------------------------- controller and repair

    def _open(self) -> None:
        """A failed campaign gets another chance: the user has seen the reason, and perhaps mended it."""
        self.stop_requested = False
        self.obstacle = None
        self.training_failure = self.disk_full = ""
        self.work.given_up = 0
        self.dataset.forgive()
        if self.has_failed or (self.ending is not None and self.ending.failed):
            self.ending = self.finished = None
            self.has_failed = False

    def _import(self, payload: dict[str, Any]) -> None:
        keys, audit = payload["keys"], payload["audit"]
        apart = payload.get("apart", [])  # older ledgers know none
        self.candidates.keys.update(keys, audit, apart)
        self.dataset.training.add(keys, payload["shards"])
        self.dataset.added += len(keys)
        self.dataset.audit.add(audit, payload["audit_shards"])
        self.dataset.apart.update(dict.fromkeys(apart))

    def _give(self, candidates: Iterable[Candidate], reference: str) -> None:
        """Candidates that nobody had to find. There is something to do again, whatever had ended."""
        self.initial_found = True
        self.ending = self.finished = None
        self.has_failed = False
        self.candidates.give(candidates, reference)

    def _withdraw(self, ids: Iterable[str]) -> None:
        for identifier in ids:
            if identifier not in self.candidates.waiting:
                self.work.call_off(identifier)
            self.candidates.withdraw(identifier)

    def _lose_models(self, generations: list[int]) -> None:
        """The best that is left explores; the next training takes all labels for new, so that it comes soon."""
        self.promotions = [generation for generation in self.promotions if generation not in generations]
        if self.unassessed in generations:
            self.unassessed = None
        if self.promoted in generations:
            self.promoted = self.promotions[-1] if self.promotions else None
            self.assessment = None
            self.dataset.renew()

    # ------------------------------------------------------------------------------------------------ tasks

    def _start(self, task: Task) -> None:
        if task.attempt == 1:
            if task.kind == Kind.LABEL:
                self.candidates.begin(task.spec["candidate"])
            elif task.kind == Kind.TRAIN:
                self.dataset.begin_training()
                self._trained_on = self.dataset.training.size, self.calculations
            elif task.kind == Kind.EXPLORE:
                self._begun[task.id] = self.calculations
        self.work.start(task)

    def _finish(self, payload: dict[str, Any]) -> None:
        task = self.work.finish(payload["id"])
        summary = payload["summary"]
        match task.kind:
            case Kind.EXPLORE:
                self._explored(task, ExploreSummary.model_validate(summary))
            case Kind.LABEL:
                self._labelled(task.spec["candidate"], LabelSummary.model_validate(summary))
            case Kind.SCORE:
                self.candidates.judge(task.spec["candidates"], ScoreSummary.model_validate(summary), self.promoted)
            case Kind.TRAIN:
                self._trained(TrainSummary.model_validate(summary))
            case Kind.ASSESS:
                self._assessed(task.spec, AssessSummary.model_validate(summary))

    def _fail(self, payload: dict[str, Any]) -> None:
        failure, message = FailureClass(payload["failure"]), payload["message"]
        task = self.work.fail(payload["id"], failure, message, is_final=payload.get("is_final", False))
        if failure == FailureClass.DISK_FULL:
            self.disk_full = message
        if task.kind == Kind.LABEL:
            self.calculations += failure not in BLAMELESS and self.candidates.counts(task.spec["candidate"])
            if failure in FOR_THE_USER:
                self.obstacle = failure, message

    def _abandon(self, payload: dict[str, Any]) -> None:
        task = self.work.abandon(payload["id"], counts=payload["counts"])
        match task.kind:
            case Kind.LABEL:
                self.candidates.reject(task.spec["candidate"], payload["reason"])
            case Kind.EXPLORE:
                del self._begun[task.id]
            case Kind.SCORE:
                self.candidates.keep_scores(task.spec["candidates"])
            case Kind.TRAIN:
                self.training_failure = self.work.last_failure
                self.dataset.give_up_training()
            case Kind.ASSESS if task.spec["final"]:
                self.final_assessed = task.spec["generation"]
            case Kind.ASSESS:
                self.unassessed = None
                self.good_generations = 0

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
        for finds in summary.samplers:
            sampler = self.samplers.setdefault(finds.table, Sampler())
            sampler.add(finds.walkers, finds.found, finds.simulated_time)
        self.simulated += summary.simulated_time
        if summary.generation == self.promoted:
            surprised = any(not candidate.audit for candidate in summary.candidates)
            self.quiet = 0.0 if surprised else self.quiet + summary.simulated_time
        self.candidates.add(summary.candidates, self.promoted)

    def _labelled(self, identifier: str, summary: LabelSummary) -> None:
        self.calculations += self.candidates.counts(identifier)
        self.label_seconds += summary.seconds
        self.candidates.keys.add(summary.key)
        if summary.outcome == "rejected":
            self.candidates.reject(identifier, summary.reason)
        else:
            self.dataset.add(summary.key, self.candidates.finish(identifier))

    def _trained(self, summary: TrainSummary) -> None:
        self.generations = self.unassessed = summary.generation
        self.dataset.compact(summary.compacted)
        before = self.dataset.training.size
        self.dataset.refuse(summary.refused, self.dataset.training)
        labels, calculations = self._trained_on
        self._trained_on = labels + self.dataset.training.size - before, calculations

    def _assessed(self, spec: dict[str, Any], summary: AssessSummary) -> None:
        self.dataset.audit.unseen -= spec["unseen"]
        self.dataset.refuse(summary.refused, self.dataset.audit)
        if spec["final"]:
            self.final_assessed = summary.generation
            self.assessment = summary
            return
        self.unassessed = None
        self.good_generations = self.good_generations + 1 if summary.promote and summary.is_good else 0
        if summary.promote:
            self.promoted = summary.generation
            self.promotions.append(summary.generation)
            self.assessment = summary
            self.quiet = 0.0
            self.dataset.promote()
            self.candidates.outdate(summary.generation)
            for sampler in self.samplers.values():
                sampler.fade()
        self._learned(*self._trained_on)

    def _learned(self, labels: int, calculations: int) -> None:
        """What so many labels have bought: the errors of the promoted generation, though it may be an earlier one."""
        best = self.assessment
        if best is None or best.force_error is None or labels == 0:
            return
        point = LearningPoint(
            labels=labels, calculations=calculations, force_error=best.force_error, audit_labels=best.audit_labels
        )
        self.learning_points.append(point)
        self.learning_curve = fit_learning_curve(self.learning_points)
