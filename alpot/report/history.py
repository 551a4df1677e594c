"""What people ask that no decision rests on: how the campaign came to where it is. A second fold over the ledger.

``alpot.campaign.state`` knows what is; this knows what was: every generation with its errors, why candidates were
found, when labels arrived, what failed. The work per event is constant, so that live progress can fold along.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from pydantic import BaseModel, ConfigDict

from alpot.campaign.events import Task
from alpot.campaign.subject import (
    SUMMARIES,
    AssessSummary,
    Bound,
    Candidate,
    ExploreSummary,
    Kind,
    LabelSummary,
    TrainSummary,
)
from alpot.report.costs import Costs
from alpot.report.coverage import Coverage, pooled
from alpot.report.spending import Spending
from alpot.report.utilisation import Utilisation
from alpot.store.ledger import Event
from alpot.store.property_file import PropertyRow

#: Errors in a train task's metrics that are shown: eV/Å and eV/atom.
ERRORS = tuple(f"{role}_{quantity}" for role in ("train", "validate", "test") for quantity in ("force", "energy"))
_FAILURES_SHOWN = 20


class Generation(BaseModel):
    """One training and what became of it.

    Attributes:
        number: from 1.
        labels: labels that it was trained on.
        path: folder of the potential, relative to the campaign directory.
        checksum: SHA-256 of its weights, if recorded.
        elapsed_s: when it was trained, in s of running time of the campaign.
        seconds: how long the training took.
        core_hours: that labels had cost when it was trained, in all.
        epochs: of the training, if recorded.
        errors: root-mean-square errors by name: ``train_force`` (eV/Å), ``train_energy`` (eV/atom), likewise
            ``validate_*`` and ``test_*``, as far as recorded.
        audit_labels: audit labels that it was measured on; None as long as it was not.
        audit_force: root-mean-square force error on audit labels in eV/Å.
        audit_force_high: what that is at most with the confidence that was asked for, in eV/Å.
        audit_energy: root-mean-square energy error on audit labels in eV/atom.
        calibration: factor from the members' deviation to the expected force error.
        bound: from the members' deviation to the largest force error of an atom that is to be expected.
        coverage: how often that held on audit labels that came later; None as long as there were none.
        promoted: whether it was good enough to explore with; None as long as this is not known.
        held_back: names of properties for which it was not promoted: out of tolerance, and within it before.
    """

    model_config = ConfigDict(frozen=True)

    number: int
    labels: int
    path: str
    checksum: str = ""
    elapsed_s: float
    seconds: float
    core_hours: float = 0.0
    epochs: int | None = None
    errors: dict[str, float] = {}
    audit_labels: int | None = None
    audit_force: float | None = None
    audit_force_high: float | None = None
    audit_energy: float | None = None
    calibration: float | None = None
    bound: Bound | None = None
    coverage: Coverage | None = None
    promoted: bool | None = None
    held_back: tuple[str, ...] = ()


class Failure(BaseModel):
    """An attempt at a task that failed, or whose worker was lost."""

    model_config = ConfigDict(frozen=True)

    task: str
    attempt: int
    failure: str
    message: str
    evidence: str
    time: str


class Session(BaseModel):
    """A controller that took up the campaign.

    Attributes:
        time: when.
        host: where.
        pid: its process.
        version: of alpot.
        config: SHA-256 of the campaign file that it read.
        changes: what had changed in that file since the session before.
        label_workers: that compute labels at the same time, if recorded.
    """

    model_config = ConfigDict(frozen=True)

    time: str
    host: str = ""
    pid: int = 0
    version: str = ""
    config: str = ""
    changes: tuple[str, ...] = ()
    label_workers: int | None = None


@dataclass(frozen=True)
class _Running:
    """A task in flight.

    Attributes:
        kind: of the task.
        since: this running time in s.
        trained_on: the labels known when a training began.
        candidate: to be labelled.
    """

    kind: Kind
    since: float
    trained_on: int
    candidate: str


@dataclass
class History:
    """What has happened up to the last event.

    Attributes:
        seq: number of the last event.
        sessions: controllers, in order.
        first: time of the first event.
        last: time of the last event.
        elapsed_s: time in s in which a controller ran, up to the last event.
        running: tasks in flight, by id, the oldest first.
        generations: by number.
        found: number of candidates emitted, by reason.
        walkers: number of walkers that ended.
        imported: number of labels that the user brought along.
        training_labels: number of labels to train on.
        label_times: of each label computed: running time in s at which it arrived, and its candidate's reason.
        failures: number of failed attempts, by kind and class.
        recent_failures: the last of them.
        measured: rows of the table of properties of each generation that was measured.
        properties_of: the last of these to be measured.
        costs: of label calculations.
        spending: the same by the reason of the candidate.
        utilisation: when tasks ran.
        isolated_atoms: energy in eV by element, as far as known.
    """

    seq: int = 0
    sessions: list[Session] = field(default_factory=list)
    first: datetime | None = None
    last: datetime | None = None
    elapsed_s: float = 0.0
    running: dict[str, _Running] = field(default_factory=dict)
    generations: dict[int, Generation] = field(default_factory=dict)
    found: Counter[str] = field(default_factory=Counter)
    walkers: int = 0
    imported: int = 0
    training_labels: int = 0
    label_times: list[tuple[float, str]] = field(default_factory=list)
    failures: dict[Kind, Counter[str]] = field(default_factory=dict)
    recent_failures: deque[Failure] = field(default_factory=lambda: deque(maxlen=_FAILURES_SHOWN))
    measured: dict[int, tuple[PropertyRow, ...]] = field(default_factory=dict)
    properties_of: int | None = None
    costs: Costs = field(default_factory=Costs)
    spending: dict[str, Spending] = field(default_factory=dict)
    utilisation: Utilisation = field(default_factory=Utilisation)
    isolated_atoms: dict[str, float] = field(default_factory=dict)

    _attempted: dict[str, _Running] = field(default_factory=dict, repr=False)
    _origins: dict[str, Candidate] = field(default_factory=dict, repr=False)

    @classmethod
    def replay(cls, events: Iterable[Event]) -> History:
        """The history after all these events."""
        history = cls()
        for event in events:
            history.apply(event)
        return history

    def apply(self, event: Event) -> None:
        """Takes in one event, of a kind that ``State`` knows."""
        self._pass_time(event)
        match event.kind:
            case "opened":
                self.sessions.append(Session(time=event.time, **event.payload))
            case "labels_imported":
                self.imported += len(event.payload["keys"]) + len(event.payload["audit"])
                self.training_labels += len(event.payload["keys"])
            case "candidates_given":
                self._find([Candidate.model_validate(entry) for entry in event.payload["candidates"]])
            case "candidates_withdrawn":
                self._call_off(frozenset(event.payload["ids"]))
            case "task_started":
                self._start(Task.load(event.payload))
            case "task_finished":
                self._finish(event.payload)
            case "task_failed" | "task_lost":
                self._fail(event)
            case "task_interrupted":
                self._attempted[event.payload["id"]] = self._end(event.payload["id"])
            case "task_abandoned":
                del self._attempted[event.payload["id"]]
        self.seq = event.seq

    def elapsed_until(self, now: datetime) -> float:
        """Running time in s, for a controller that runs still."""
        return self.elapsed_s + (max(0.0, (now - self.last).total_seconds()) if self.last else 0.0)

    def _pass_time(self, event: Event) -> None:
        time = datetime.fromisoformat(event.time).astimezone(UTC)
        if self.last is not None and event.kind != "opened":  # nobody ran between the last event and an opening
            self.elapsed_s += max(0.0, (time - self.last).total_seconds())
        self.first, self.last = self.first or time, time

    def _start(self, task: Task) -> None:
        earlier = self._end(task.id) if task.id in self.running else self._attempted.pop(task.id, None)
        trained_on = earlier.trained_on if earlier else self.training_labels
        self.running[task.id] = _Running(task.kind, self.elapsed_s, trained_on, task.spec.get("candidate", ""))

    def _end(self, task_id: str) -> _Running:
        """An attempt is over, however it went."""
        task = self.running.pop(task_id)
        self.utilisation.add(task.kind, task.since, self.elapsed_s)
        return task

    def _call_off(self, candidates: frozenset[str]) -> None:
        for tasks in (self.running, self._attempted):
            for identifier in [name for name, task in tasks.items() if task.candidate in candidates]:
                del tasks[identifier]

    def _fail(self, event: Event) -> None:
        payload = event.payload
        task = self._attempted[payload["id"]] = self._end(payload["id"])
        self.failures.setdefault(task.kind, Counter())[payload["failure"]] += 1
        if task.kind == Kind.LABEL and event.kind == "task_failed":
            cost = payload.get("core_seconds")  # older ledgers do not say
            origin = self._origins[task.candidate]
            self.costs.add_failure(payload["failure"], cost, apart=origin.apart)
            self.spending.setdefault(origin.reason, Spending()).add_failure(cost)
        details = {name: payload[name] for name in ("attempt", "failure", "message", "evidence")}
        self.recent_failures.append(Failure(task=payload["id"], time=event.time, **details))

    def _finish(self, payload: dict[str, Any]) -> None:
        task = self._end(payload["id"])
        match SUMMARIES[task.kind].model_validate(payload["summary"]):
            case ExploreSummary() as summary:
                self.walkers += summary.walkers
                self._find(summary.candidates)
            case LabelSummary() as summary:
                self._labelled(summary, self._origins.pop(summary.candidate))
            case TrainSummary() as summary:
                self.isolated_atoms |= summary.metrics.get("isolated_atoms", {})
                self._trained(summary, task, payload["seconds"])
            case AssessSummary() as summary:
                self._assessed(summary)

    def _find(self, candidates: Iterable[Candidate]) -> None:
        for candidate in candidates:
            self.found[candidate.reason] += 1
            self._origins[candidate.id] = candidate

    def _labelled(self, summary: LabelSummary, origin: Candidate) -> None:
        self.costs.add_label(summary, apart=origin.apart)
        self.spending.setdefault(origin.reason, Spending()).add_label(summary)
        self.isolated_atoms |= summary.isolated_atoms
        if summary.outcome == "labelled" and not origin.apart:
            self.training_labels += not origin.audit
            self.label_times.append((self.elapsed_s, origin.reason))

    def _trained(self, summary: TrainSummary, task: _Running, seconds: float) -> None:
        epochs = summary.metrics.get("epochs")
        self.generations[summary.generation] = Generation(
            number=summary.generation,
            labels=task.trained_on,
            path=summary.path,
            checksum=summary.checksum,
            elapsed_s=self.elapsed_s,
            seconds=seconds,
            core_hours=self.costs.core_seconds / 3600,
            epochs=epochs if isinstance(epochs, int) else None,
            errors={name: summary.metrics[name] for name in ERRORS if name in summary.metrics},
        )

    def _assessed(self, summary: AssessSummary) -> None:
        if summary.properties:
            self.properties_of = summary.generation
            # What was measured again replaces what was measured before; the rest of the generation's rows stays.
            rows = (*self.measured.get(summary.generation, ()), *map(_property_row, summary.properties))
            self.measured[summary.generation] = tuple({(row.system, row.name): row for row in rows}.values())
        before = self.generations[summary.generation]
        self.generations[summary.generation] = before.model_copy(
            update={
                "audit_labels": summary.audit_labels,
                "audit_force": summary.force_error,
                "audit_force_high": summary.force_error_high,
                "audit_energy": summary.energy_error,
                "calibration": summary.calibration,
                "bound": summary.force_bound,
                # The final assessment of the promoted one says nothing new about its promotion.
                "promoted": bool(before.promoted) or summary.promote,
                "held_back": before.held_back or tuple(getattr(summary, "held_back", ())),
            }
        )
        self._tested(summary)

    def _tested(self, summary: AssessSummary) -> None:
        """The bound of one generation, in assessments of later ones."""
        tested = self.generations.get(summary.coverage_of or 0)
        if tested is None or summary.coverage is None:
            return
        found = Coverage(share=summary.coverage, atoms=summary.coverage_atoms, frames=summary.coverage_frames)
        coverage = pooled((tested.coverage, found))
        self.generations[tested.number] = tested.model_copy(update={"coverage": coverage})


def _property_row(row: Mapping[str, Any]) -> PropertyRow:
    """A row as some alpot has written it: what an older one did not say is empty, what a newer one adds is dropped."""
    named = {**dict.fromkeys(("property", "system", "name", "unit"), ""), **row}
    return PropertyRow.model_validate({name: named[name] for name in PropertyRow.model_fields if name in named})
