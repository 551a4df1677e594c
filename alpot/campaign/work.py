"""The work of a campaign: which tasks are in flight, which await another attempt, and how each has fared.

A part of ``State`` (``alpot.campaign.state``), which says what has happened. What a task is about is nothing to it.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from alpot.campaign.events import Task
from alpot.campaign.subject import Kind
from alpot.errors import FOR_THE_USER, FailureClass

#: Failures of a label that say nothing about its structure: they use up none of the label budget.
BLAMELESS = FOR_THE_USER | {FailureClass.NODE_LOST, FailureClass.DISK_FULL}
#: An attempt that is interrupted without having come any further so often in a row has too little time.
_IDLE_INTERRUPTIONS = 3


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
class Work:
    """All tasks that have not ended, and how often those of the whole campaign went wrong.

    Attributes:
        tasks: in flight, by id.
        failed: tasks whose last attempt did not finish and that await a verdict, by kind and id.
        courses: how a task has fared so far, by id; forgotten with the task.
        in_flight: number of tasks in flight, by kind.
        started: number of tasks ever started, by kind.
        failures: number of attempts whose work failed, by class.
        losses: number of attempts whose worker was lost, by class.
        interruptions: number of attempts that were saved when their job ended.
        last_failure: task and message of the last attempt that did not finish.
        given_up: tasks that failed for good since the campaign was opened.
    """

    tasks: dict[str, Task] = field(default_factory=dict)
    failed: dict[Kind, dict[str, Task]] = field(default_factory=lambda: {kind: {} for kind in Kind})
    courses: dict[str, Course] = field(default_factory=dict)
    in_flight: Counter[Kind] = field(default_factory=Counter)
    started: Counter[Kind] = field(default_factory=Counter)
    failures: Counter[FailureClass] = field(default_factory=Counter)
    losses: Counter[FailureClass] = field(default_factory=Counter)
    interruptions: int = 0
    last_failure: str = ""
    given_up: int = 0

    def next_id(self, kind: Kind) -> str:
        """The id of the next new task of a kind."""
        return f"{kind}-{self.started[kind] + 1:06d}"

    def pending(self, kind: Kind) -> bool:
        """Whether a task of this kind is in flight or awaits another attempt."""
        return self.in_flight[kind] > 0 or bool(self.failed[kind])

    def start(self, task: Task) -> None:
        """An attempt at a task has begun."""
        if task.attempt == 1:
            self.started[task.kind] += 1
        if task.id not in self.tasks:  # it is, when a new controller repeats what the last one had in flight
            self.in_flight[task.kind] += 1
        self.failed[task.kind].pop(task.id, None)
        self.tasks[task.id] = task

    def finish(self, task_id: str) -> Task:
        """A task has given its result."""
        task = self._land(task_id)
        self.courses.pop(task.id, None)
        return task

    def fail(self, task_id: str, failure: FailureClass, message: str, *, is_final: bool) -> Task:
        """The work of an attempt has failed; ``is_final``: another one would end alike."""
        task, course = self._fall(task_id)
        self.failures[failure] += 1
        self.last_failure = f"{task.id}: {message}"
        course.failures[failure] += 1
        course.is_final = is_final
        course.afresh = failure not in BLAMELESS
        return task

    def lose(self, task_id: str, failure: FailureClass, message: str, *, is_suspect: bool) -> None:
        """The worker of an attempt was lost; ``is_suspect``: perhaps through the task."""
        task, course = self._fall(task_id)
        self.losses[failure] += 1
        self.last_failure = f"{task.id}: {message}"
        course.suspicions += is_suspect
        # Once may be chance. A walker that brings down its worker should not do so three times.
        course.afresh = is_suspect and course.suspicions > 1

    def interrupt(self, task_id: str, progress: float) -> None:
        """An attempt was saved, at this progress, when its job ended."""
        task, course = self._fall(task_id)
        self.interruptions += 1
        course.afresh = False
        course.idle = 0 if progress > course.progress else course.idle + 1
        course.progress = progress
        if course.idle >= _IDLE_INTERRUPTIONS:
            course.idle = 0
            course.failures[FailureClass.WALLTIME] += 1
            self.failures[FailureClass.WALLTIME] += 1
            self.last_failure = f"{task.id}: its job ended {_IDLE_INTERRUPTIONS} times before it had come any further"

    def abandon(self, task_id: str, *, counts: bool) -> Task:
        """A task has failed for good; ``counts``: against the failure budget."""
        task = next(tasks.pop(task_id) for tasks in self.failed.values() if task_id in tasks)
        del self.courses[task.id]
        self.given_up += counts
        return task

    def call_off(self, candidate: str) -> None:
        """Forgets the label task of a candidate, be it in flight or about to be tried again."""
        tasks = (*self.tasks.values(), *self.failed[Kind.LABEL].values())
        task = next(task for task in tasks if task.spec.get("candidate") == candidate)
        if task.id in self.tasks:
            self._land(task.id)
        self.failed[Kind.LABEL].pop(task.id, None)
        self.courses.pop(task.id, None)

    def _land(self, task_id: str) -> Task:
        task = self.tasks.pop(task_id)
        self.in_flight[task.kind] -= 1
        return task

    def _fall(self, task_id: str) -> tuple[Task, Course]:
        task = self._land(task_id)
        self.failed[task.kind][task.id] = task
        return task, self.courses.setdefault(task.id, Course())
