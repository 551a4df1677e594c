"""ALF's rules, as they stand in ``alframework/__main__.py`` of lanl/ALF (2024 to 2026).

Every 60 s it looks at its four queues:

1. while fewer labels than ``target_queued_QM`` are in flight (Parsl never says that a task runs, so those count that
   run), explorations are started until ``parallel_samplers`` are in flight;
2. everything that explorations have found is given to the label queue;
3. if more than ``save_h5_threshold`` labels have ended *in any way* and no training is in flight, the finished ones are
   written to disk and a training on all data starts; until then they are in memory only;
4. a training that succeeded gives the new model; of one that failed, nothing is heard.

Nothing is tried again (Parsl's ``retries`` is 0 in ALF's configurations), and no candidate is judged by a newer model.

Where ALF leaves a choice, this one is generous: a sampler is a whole batch of walkers like alpot's (in ALF, one
walker), structures are built in no time, explorations and trainings continue after an interruption, the targets are set
by somebody who knows that they must exceed the slots, and the time of a poll itself costs nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from simulation.cluster import Cluster, End, Job
from simulation.measures import Run, run_of
from simulation.plan import Plan
from simulation.world import Found, World

_POLL = 60.0
_SAMPLE_INTERVAL = 300.0
#: ``save_h5_threshold``.
_SAVE_AT = 100
#: ``target_queued_QM`` and ``parallel_samplers``, relative to the slots.
_QUEUED, _SAMPLERS = 1.5, 1.2
_RESTART_DELAY = 600.0


def run_alf(plan: Plan) -> Run:
    """Runs the campaign with ALF's rules."""
    world, cluster = plan.world(), plan.cluster()
    loop = _Loop(plan, world, cluster, np.random.default_rng((plan.seed, 300)))
    cluster.sample_every(_SAMPLE_INTERVAL, lambda: {"labels": len(world.labels), "generations": loop.generations})
    loop.bootstrap()
    kill_at = plan.kill_at * plan.labels
    while world.calculations < plan.labels:
        loop.poll()
        if loop.ended >= kill_at:
            loop.crash()
            kill_at = float("inf")
        loop.sleep()
    loop.finish()
    return run_of(
        "ALF's rules",
        world,
        cluster,
        labels=loop.saved,
        recorded_twice=0,
        given_up=loop.dropped,
        generations=loop.generations,
        held=loop.most_held,
        more={"lost with the controller": loop.lost},
    )


@dataclass
class _Loop:
    """The master loop, and its queues."""

    plan: Plan
    world: World
    cluster: Cluster
    draw: np.random.Generator
    generations: int = 0
    ended: int = 0
    saved: int = 0
    dropped: int = 0
    lost: int = 0
    most_held: int = 0
    _found: list[Found] = field(default_factory=list)
    _samplers: int = 0
    _labels: int = 0  # in flight
    _held: list[int] = field(default_factory=list)  # finished, in memory
    _completed: int = 0  # finished or failed, since the last saving
    _training: bool = False
    _epoch: int = 0

    def bootstrap(self) -> None:
        """Labels random structures until as many have ended as were asked for, trains once, and waits for that."""
        while self._completed < self.plan.initial_labels:
            for one in self.world.initial(round(_QUEUED * self.plan.label_slots) - self._labels):
                self._label(one)
            self.sleep()
        while self.world.labels_of is None:
            self._train()
            while self._training:
                self.sleep()

    def poll(self) -> None:
        """One look at all queues."""
        if self._labels < _QUEUED * self.plan.label_slots:
            while self._samplers < _SAMPLERS * self.plan.explore_slots:
                self._explore()
        found, self._found = self._found, []
        for one in found:
            if self.world.calculations < self.plan.labels:
                self._label(one)
        if self._completed > _SAVE_AT and not self._training:
            self._train()

    def sleep(self) -> None:
        """Until the next poll."""
        until = self.cluster.now + _POLL
        waking = [False]
        self.cluster.at(until, lambda: waking.__setitem__(0, True))
        while not waking[0]:
            self.cluster.advance()

    def finish(self) -> None:
        """The budget is spent: what runs ends, and is saved (ALF itself has no end)."""
        while self._labels:
            self.sleep()
        self._save()

    def crash(self) -> None:
        """The controller is killed, and started again: what was in its memory is gone, and so is what ran."""
        self.lost += len(self._held)
        self.dropped += self._labels
        self._held, self._found = [], []
        self._samplers = self._labels = self._completed = 0
        self._training = False
        self._epoch += 1
        for pool in self.cluster.pools.values():
            pool.vanish(0.0)
            self.cluster.after(_RESTART_DELAY, pool.fill)

    # ---------------------------------------------------------------------------------------------- tasks

    def _explore(self) -> None:
        self._samplers += 1
        labels = self.world.labels_of or 0
        these = self.world.explore(labels, self.draw)

        def ended(done: bool) -> None:
            self._samplers -= 1
            if done:
                self._found += these

        self._run("explore", self.world.workload.explore_time(self.draw), ended)

    def _label(self, one: Found) -> None:
        self._labels += 1
        self.world.begin(one.structure, audit=one.audit)
        attempt = self.world.attempt(one.structure, 1)

        def ended(done: bool) -> None:
            self._labels -= 1
            self._completed += 1
            self.ended += 1
            if done and attempt.failure is None and not attempt.kills:
                self.world.publish(one.structure, self.cluster.now)
                self._held.append(one.structure)
                self.most_held = max(self.most_held, len(self._held))
            else:
                self.dropped += 1

        self._run("label", attempt.seconds, ended, saves_itself=False)

    def _save(self) -> None:
        self.saved += len(self._held)
        self._held, self._completed = [], 0

    def _train(self) -> None:
        self._save()
        self._training = True
        labels, workload = self.saved, self.world.workload
        fails = self.draw.random() < workload.training_failure

        def ended(done: bool) -> None:
            self._training = False
            if done and not fails:
                self.world.labels_of = labels
                self.generations += 1

        self._run("train", workload.train_time(labels) * (0.5 if fails else 1.0), ended)

    def _run(self, pool: str, seconds: float, then: Callable[[bool], None], *, saves_itself: bool = True) -> None:
        epoch = self._epoch

        def ended(end: End, ran: float) -> None:
            if epoch != self._epoch:
                return  # nobody listens any more
            if end == End.INTERRUPTED:
                self._run(pool, max(1.0, seconds - ran), then)
            else:
                then(end == End.DONE)

        self.cluster.pools[pool].submit(Job(seconds, ended, saves_itself))
