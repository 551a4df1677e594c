"""Runs alpot itself on the virtual cluster: its controller, policy, state and ledger, none of them changed.

Only two things are virtual: the platform, whose tasks end in virtual time, and the controller's sleep: when it waits
for something to happen, the cluster goes on until something does.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from hashlib import sha256
from pathlib import Path
from queue import SimpleQueue
from time import perf_counter, thread_time
from typing import Any

from alpot.campaign.apps import result_path
from alpot.campaign.controller import Controller
from alpot.campaign.events import Task
from alpot.campaign.executor import WorkerLostError
from alpot.campaign.policy import PolicySettings
from alpot.campaign.state import State
from alpot.campaign.subject import Kind
from alpot.errors import FailureClass
from alpot.store.directory import CampaignDirectory
from alpot.store.json_files import publish_json
from simulation.alpot_subject import Planned, VirtualSubject
from simulation.cluster import Cluster, End, Job
from simulation.ledger_check import check_ledger
from simulation.measures import Run, run_of
from simulation.plan import Plan

Result = dict[str, Any]
Message = tuple[Task, Future[Result]] | None

#: What an event costs the controller in virtual time, in s: the most that is asked of it.
EVENT_COST = 0.002
#: How long after its controller's death a worker may still publish, and when the next controller starts, in s.
_ORPHAN_GRACE, _RESTART_DELAY = 60.0, 600.0
_SAMPLE_INTERVAL = 300.0


class ControllerKilled(BaseException):
    """The controller was killed; nothing in it may notice."""


@dataclass
class Clock:
    """What the controller costs: for real, per turn of its loop, and in virtual time.

    Attributes:
        now: when the controller is ready for more, in virtual s.
        turns: labels so far, events, wall and CPU time of each turn of the loop in s.
        own: time spent in the simulation since the turn began, which is none of the controller's, in s (wall, CPU).
        state: what the controller knows.
    """

    now: float = 0.0
    turns: list[tuple[int, int, float, float]] = field(default_factory=list)
    own: list[float] = field(default_factory=lambda: [0.0, 0.0])
    state: State = field(default_factory=State)

    def watch(self, state: State) -> None:
        """The controller knows more."""
        self.state = state

    @contextmanager
    def apart(self) -> Iterator[None]:
        """What happens inside is not the controller's work."""
        wall, cpu = perf_counter(), thread_time()
        yield
        self.own[0] += perf_counter() - wall
        self.own[1] += thread_time() - cpu


class VirtualInbox(SimpleQueue[Message]):
    """The controller's inbox; who waits for it makes virtual time go by."""

    def __init__(self, cluster: Cluster, executor: VirtualExecutor, clock: Clock) -> None:
        self._cluster, self._executor, self._clock = cluster, executor, clock
        self._messages: deque[Message] = deque()
        self._begun: tuple[int, float, float] | None = None
        self.kill_at: float = float("inf")

    def put(self, item: Message, block: bool = True, timeout: float | None = None) -> None:
        """Something has ended."""
        self._messages.append(item)

    def get(self, block: bool = True, timeout: float | None = None) -> Message:
        """Goes on in time until there is a message, and gives the oldest."""
        if self._begun is not None:
            seq, wall, cpu = self._begun
            own_wall, own_cpu = self._clock.own
            cost = (perf_counter() - wall - own_wall, thread_time() - cpu - own_cpu)
            self._clock.turns.append((self._executor.labels, self._clock.state.seq - seq, *cost))
        while not self._messages:
            if self._executor.labels >= self.kill_at:
                raise ControllerKilled
            if not self._executor.in_hand:
                raise RuntimeError("the controller waits for nothing: no task is in flight")
            self._cluster.advance()
        self._clock.now = max(self._clock.now, self._cluster.now) + EVENT_COST
        self._clock.own = [0.0, 0.0]
        self._begun = (self._clock.state.seq, perf_counter(), thread_time())
        return self._messages.popleft()


class VirtualExecutor:
    """Carries out tasks in virtual time."""

    def __init__(self, cluster: Cluster, subject: VirtualSubject, pool_of: Mapping[Kind, str], clock: Clock) -> None:
        self._cluster, self._subject, self._pool_of, self._clock = cluster, subject, pool_of, clock
        self.in_hand: dict[Job, tuple[Task, Planned]] = {}
        self.labels = 0

    def submit(self, task: dict[str, Any]) -> Future[Result]:
        """Starts a task as soon as the controller has come to it, in virtual time."""
        with self._clock.apart():
            work = Task.load(task)
            planned = self._subject.plan(work)
            future: Future[Result] = Future()
            job = Job(planned.seconds, lambda end, ran: None, saves_itself=work.kind != Kind.LABEL)
            job.on_end = partial(self._end, work, planned, future, job)
            self.in_hand[job] = (work, planned)
            self._clock.now += EVENT_COST
            pool = self._cluster.pools[self._pool_of[work.kind]]
            self._cluster.at(self._clock.now, lambda: pool.submit(job) if job in self.in_hand else None)
            return future

    def publish(self, work: Task, planned: Planned) -> Result:
        """The work of an attempt has come to its end."""
        self._subject.conclude(work, planned, self._cluster.now)
        self.labels += work.kind == Kind.LABEL and "summary" in planned.outcome and not planned.is_found
        return {"task": work.id, "attempt": work.attempt, "seconds": planned.seconds} | planned.outcome

    def _end(self, work: Task, planned: Planned, future: Future[Result], job: Job, end: End, ran: float) -> None:
        if self.in_hand.pop(job, None) is None:
            return  # its controller is dead
        if end == End.INTERRUPTED:
            progress = self._subject.save(work, ran)
            future.set_result({"status": "interrupted", "progress": progress, "seconds": ran})
        elif end != End.DONE:
            failure = FailureClass.WALLTIME if end == End.WALLTIME else FailureClass.NODE_LOST
            future.set_exception(WorkerLostError(f"its node ended: {end}", failure=failure, is_suspect=False))
        elif planned.kills:
            message = "the worker ended, its node lives"
            future.set_exception(WorkerLostError(message, failure=FailureClass.NODE_LOST, is_suspect=True))
        else:
            future.set_result(self.publish(work, planned))


@dataclass
class VirtualPlatform:
    """The virtual cluster as a platform."""

    cluster: Cluster
    subject: VirtualSubject
    clock: Clock
    slots: Mapping[str, int]
    pool_of: Mapping[Kind, str]
    provenance: Mapping[str, Any] = field(default_factory=lambda: {"platform": "virtual"})

    def __post_init__(self) -> None:
        self.virtual = VirtualExecutor(self.cluster, self.subject, self.pool_of, self.clock)

    @contextmanager
    def executor(self, directory: CampaignDirectory, subject: str) -> Iterator[VirtualExecutor]:
        """Workers of the virtual cluster."""
        yield self.virtual

    def dry_run(self, directory: CampaignDirectory) -> list[tuple[str, str]]:
        """Nothing is submitted to any scheduler."""
        return []

    def die_with_controller(self, directory: CampaignDirectory) -> int:
        """All workers end; those that were nearly done leave their result. Returns how many these were."""
        orphans = [job for pool in self.cluster.pools.values() for job in pool.vanish(_ORPHAN_GRACE)]
        for job in orphans:
            work, planned = self.virtual.in_hand[job]
            if not planned.kills:
                path = result_path(directory, work)
                path.parent.mkdir(parents=True, exist_ok=True)
                publish_json(path, self.virtual.publish(work, planned))
        self.virtual.in_hand.clear()
        return len(orphans)


def run_alpot(plan: Plan, folder: Path) -> Run:
    """Runs the campaign with alpot in an empty folder, which holds the ledger afterwards."""
    world, cluster, clock = plan.world(), plan.cluster(), Clock()
    subject = VirtualSubject(world)
    pool_of = dict.fromkeys(Kind, "train") | {Kind.EXPLORE: "explore", Kind.LABEL: "label"}
    slots = {name: pool.slots for name, pool in plan.pools.items()}
    platform = VirtualPlatform(cluster, subject, clock, slots, pool_of)
    settings = policy_settings(plan, slots, pool_of)
    CampaignDirectory.create(folder, b"", folder / "campaign.toml")
    directory = CampaignDirectory.open(folder)
    cluster.sample_every(_SAMPLE_INTERVAL, lambda: {"labels": len(world.labels)} | backlog(clock.state))
    adopted = 0
    kill_at = plan.kill_at * plan.labels
    while True:
        controller = Controller(directory, settings, platform, "virtual:subject")
        inbox = VirtualInbox(cluster, platform.virtual, clock)
        inbox.kill_at = kill_at
        controller._inbox = inbox  # the seam: what the controller waits for
        controller.on_change = clock.watch
        try:
            controller.run()
            break
        except ControllerKilled:
            adopted += platform.die_with_controller(directory)
            kill_at = float("inf")
            clock.now = cluster.now + _RESTART_DELAY
            for pool in cluster.pools.values():
                cluster.at(clock.now, pool.fill)
    state = controller.state
    truth = {sha256(str(number).encode()).hexdigest() for number in world.labels}
    found = check_ledger(directory.ledger, truth)
    return run_of(
        "alpot",
        world,
        cluster,
        labels=found.labels,
        recorded_twice=found.recorded_twice,
        given_up=state.work.given_up,
        generations=state.generations,
        more={"controller": cost_of(clock, found.labels), "adopted": adopted, "why it ended": state.finished}
        | {"rejected": dict(state.candidates.rejected), "dropped": dict(state.candidates.dropped)}
        | {"losses": dict(state.work.losses)}
        | {"unknown_labels": found.unknown, "events": found.events},
    )


def policy_settings(plan: Plan, slots: dict[str, int], pool_of: dict[Kind, str]) -> PolicySettings:
    """What a careful user asks for."""
    return PolicySettings(
        slots=slots,
        pool_of=pool_of,
        initial_labels=plan.initial_labels,
        labels_per_generation=plan.labels_per_generation,
        waiting_candidates=plan.waiting_candidates,
        attempts=3,
        max_labels=plan.labels,
        max_failures=50 + plan.labels // 20,
    )


def backlog(state: State) -> dict[str, int]:
    """What waits."""
    candidates = state.candidates
    return {"waiting": len(candidates.waiting), "stale": len(candidates.stale), "generations": state.generations}


def cost_of(clock: Clock, labels: int) -> dict[str, dict[str, float]]:
    """What an event costs the controller, in ms: over all, and with the first and the last tenth of the labels.

    A tenth holds some trainings and promotions, which cost as much as the labels that they are about.
    """
    tenth = labels // 10
    spans = {"all": (-1, labels), "first": (-1, tenth), "last": (labels - tenth, labels)}
    costs = {}
    for name, (after, upto) in spans.items():
        turns = [turn for turn in clock.turns if after < turn[0] <= upto]
        events = max(1, sum(turn[1] for turn in turns))
        wall, cpu = (sum(turn[column] for turn in turns) for column in (2, 3))
        longest = max((turn[2] for turn in turns), default=0.0)
        costs[name] = {"wall": 1e3 * wall / events, "cpu": 1e3 * cpu / events, "longest_turn": 1e3 * longest}
        costs[name]["events"] = events
    return costs
