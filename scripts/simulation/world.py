"""The material that campaigns learn in the simulation, and the ground truth of what was computed.

A structure is a number; what is special about it hangs on that number alone. The one thing that a potential can know
of it is its *difficulty*, between 0 and 1: a model trained on n labels is uncertain of it if the difficulty is below
``Workload.novelty(n)``. So discoveries thin out as labels accumulate, and a structure that one model is uncertain of
may be certain for the next.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from random import Random

import numpy as np

from alpot.errors import FailureClass
from simulation.workload import Fate, Workload


@dataclass(frozen=True)
class Found:
    """A structure that an exploration emits."""

    structure: int
    difficulty: float
    audit: bool = False


@dataclass(frozen=True)
class Attempt:
    """One attempt at a label.

    Attributes:
        seconds: how long it takes.
        failure: how it fails, if so.
        kills: it brings down its worker.
        is_found: nothing is computed: an attempt that was given up for lost has left the label.
    """

    seconds: float
    failure: FailureClass | None = None
    kills: bool = False
    is_found: bool = False


@dataclass
class World:
    """The structures, and the truth about labels.

    Attributes:
        workload: the distributions.
        calculations: attempts that were begun.
        labels: how often the label of each structure was computed to its end.
        begun: structures whose label was begun.
        useful: those of them that the newest model was uncertain of at that time, or that are for the audit.
        labels_of: number of labels that the newest model was trained on.
        last_label: when the last one came to its end, in s.
    """

    workload: Workload
    calculations: int = 0
    labels: Counter[int] = field(default_factory=Counter)
    begun: int = 0
    useful: int = 0
    labels_of: int | None = None
    last_label: float = 0.0
    _structures: int = 0
    _difficulty: dict[int, float] = field(default_factory=dict)

    def initial(self, count: int) -> list[Found]:
        """Random structures to begin with."""
        return [self._new(0.0) for _ in range(count)]

    def explore(self, labels: int, draw: np.random.Generator) -> list[Found]:
        """What a batch of walkers finds with a model trained on so many labels, the audit's random frames included."""
        workload = self.workload
        novelty = workload.novelty(labels)
        found = [self._new(float(u)) for u in novelty * draw.random(draw.binomial(workload.walkers, novelty))]
        audit = draw.random(draw.poisson(workload.audit_share * workload.walkers * novelty))
        return found + [self._new(float(u), audit=True) for u in audit]

    def is_uncertain(self, structure: int, labels: int) -> bool:
        """Whether a model trained on so many labels is uncertain of a structure."""
        return self._difficulty[structure] < self.workload.novelty(labels)

    def attempt(self, structure: int, number: int) -> Attempt:
        """What the ``number``-th attempt at a label will be."""
        workload = self.workload
        self.calculations += 1
        if structure in self.labels:
            return Attempt(1.0, is_found=True)
        seconds, fate = workload.label_time(structure), workload.fate(structure)
        chance = Random(f"{workload.seed} {structure} {number}").random()
        if fate == Fate.KILLER:
            return Attempt(0.3 * min(seconds, workload.label_limit), kills=True)
        if fate == Fate.UNPHYSICAL:
            return Attempt(10.0, FailureClass.UNPHYSICAL_GEOMETRY)
        if fate == Fate.HARD and (number == 1 or chance > workload.mended):
            return Attempt(min(2 * seconds, workload.label_limit), FailureClass.NOT_CONVERGED)
        if chance < workload.hiccup:
            failure = FailureClass.OUT_OF_MEMORY if chance < workload.hiccup / 2 else FailureClass.BAD_OUTPUT
            return Attempt(0.5 * min(seconds, workload.label_limit), failure)
        if seconds > workload.label_limit:
            return Attempt(workload.label_limit, FailureClass.WALLTIME)
        return Attempt(seconds)

    def begin(self, structure: int, *, audit: bool = False) -> None:
        """A label is given to a worker for the first time: is it worth it?"""
        self.begun += 1
        self.useful += audit or self.labels_of is None or self.is_uncertain(structure, self.labels_of)

    def publish(self, structure: int, time: float) -> None:
        """A calculation has come to its end."""
        self.labels[structure] += 1
        self.last_label = time

    def _new(self, difficulty: float, *, audit: bool = False) -> Found:
        self._structures += 1
        self._difficulty[self._structures] = difficulty
        return Found(self._structures, difficulty, audit)
