"""The generation-synchronous loop, in DP-GEN's order: explore, label what was found, train; each waits for the last.

Where DP-GEN leaves a choice, this one is generous. The nodes are held through the whole campaign (DP-GEN queues for
each stage anew), exploration knows beforehand how many walkers it needs to find enough, explorations and trainings
continue after an interruption, losses are repeated at once and without end, failed labels up to three times
(dpdispatcher's default) except where the time limit would be met again, every training is good, a killed controller
costs nothing, and neither does its own time.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from math import ceil

import numpy as np

from alpot.errors import FailureClass
from simulation.cluster import Cluster, End, Job
from simulation.measures import Run, run_of
from simulation.plan import Plan
from simulation.world import Found, World

_SAMPLE_INTERVAL = 300.0
_ATTEMPTS = 3
#: Candidates asked of an exploration, relative to the labels of a round: chance must not leave a round short.
_SURPLUS = 1.1


def run_synchronous(plan: Plan, *, larger: int = 1) -> Run:
    """Runs the campaign in rounds.

    Args:
        plan: the campaign.
        larger: labels of a round, relative to those of a generation of alpot.
    """
    world, cluster = plan.world(), plan.cluster()
    loop = _Loop(world, cluster, np.random.default_rng((plan.seed, 200)))
    cluster.sample_every(_SAMPLE_INTERVAL, lambda: {"labels": len(world.labels), "generations": loop.generations})
    loop.label(world.initial(plan.initial_labels), plan.labels)
    loop.train()
    while loop.calculations < plan.labels:
        wanted = min(larger * plan.labels_per_generation, plan.labels - loop.calculations)
        loop.label(loop.explore(wanted)[:wanted], plan.labels)
        loop.train()
    name = "synchronous" if larger == 1 else f"synchronous, rounds × {larger}"
    return run_of(
        name,
        world,
        cluster,
        labels=len(world.labels),
        recorded_twice=0,
        given_up=loop.given_up,
        generations=loop.generations,
    )


@dataclass
class _Loop:
    """One stage after the other; each returns when its last task has ended."""

    world: World
    cluster: Cluster
    draw: np.random.Generator
    calculations: int = 0
    generations: int = 0
    given_up: int = 0
    _open: int = field(default=0, init=False)

    def explore(self, wanted: int) -> list[Found]:
        """Runs as many explorations as it takes to find enough, and returns what they found, in random order."""
        labels, workload = self.world.labels_of or 0, self.world.workload
        found: list[Found] = []
        for _ in range(ceil(_SURPLUS * wanted / (workload.walkers * workload.novelty(labels)))):
            seconds, these = workload.explore_time(self.draw), self.world.explore(labels, self.draw)
            self._run("explore", seconds, partial(found.extend, these))
        self._wait()
        self.draw.shuffle(found)
        return found

    def label(self, structures: list[Found], budget: int) -> None:
        """Labels all of them."""
        for one in structures:
            self.world.begin(one.structure, audit=one.audit)
            self._attempt(one.structure, 1, budget)
        self._wait()

    def train(self) -> None:
        """Trains on all labels."""
        labels = len(self.world.labels)
        self._run("train", self.world.workload.train_time(labels), lambda: None)
        self._wait()
        self.world.labels_of = labels
        self.generations += 1

    def _attempt(self, structure: int, number: int, budget: int) -> None:
        attempt = self.world.attempt(structure, number)

        def done() -> None:
            self.calculations += 1
            if attempt.failure is None and not attempt.kills:
                self.world.publish(structure, self.cluster.now)
            elif number < _ATTEMPTS and attempt.failure != FailureClass.WALLTIME and self.calculations < budget:
                self._attempt(structure, number + 1, budget)
            else:
                self.given_up += 1

        self._run("label", attempt.seconds, done, saves_itself=False)

    def _run(self, pool: str, seconds: float, then: Callable[[], None], *, saves_itself: bool = True) -> None:
        self._open += 1

        def ended(end: End, ran: float) -> None:
            self._open -= 1
            if end == End.DONE:
                then()
            else:
                left = max(1.0, seconds - ran) if end == End.INTERRUPTED else seconds
                self._run(pool, left, then, saves_itself=saves_itself)

        self.cluster.pools[pool].submit(Job(seconds, ended, saves_itself))

    def _wait(self) -> None:
        while self._open:
            self.cluster.advance()
