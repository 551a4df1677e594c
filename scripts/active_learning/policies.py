"""The rules by which others choose what to label, as they are published, on the same molecular dynamics.

alpot's own rules are in ``alpot_policy``.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from ase import Atoms

from active_learning.engine import Choice, Engine
from active_learning.fingerprints import farthest_points, fingerprints
from active_learning.walking import Passed, Walk, walk
from alpot.exploration.explorer import Ending
from alpot.exploration.measurement import Measurement
from alpot.potential.calibration import ErrorBound
from alpot.potential.ensemble import Ensemble

#: Random numbers for: starts of walkers, and the policy's own draws.
STARTS, DRAWS = 2, 3
#: Frames that a first-in, first-out queue holds, relative to the labels of a generation: a longer one only grows stale.
_QUEUE = 1.5
#: ps between the frames that a walker records for those who choose from all that it passed.
_RECORD_INTERVAL = 0.1


class Policy(Protocol):
    """Says what is labelled next."""

    def first_choices(self, starts: list[Atoms], audit_share: float) -> list[Choice]:
        """The first labels, of the same random starts for all policies."""
        ...

    def bound(self, engine: Engine, ensemble: Ensemble) -> ErrorBound | None:
        """From the members' deviation to the error of a force, if the policy knows one."""
        ...

    def choose(self, engine: Engine, ensemble: Ensemble, count: int) -> list[Choice]:
        """Explore with a new ensemble, and say which frames are labelled: ``count`` of them at most."""
        ...

    def facts(self, engine: Engine) -> dict[str, Any]:
        """What else is to be reported in the end, JSON-able."""
        ...


class Others:
    """What the policies of others have in common: no calibration, no audit."""

    def first_choices(self, starts: list[Atoms], audit_share: float) -> list[Choice]:
        """All are trained on."""
        return [Choice(atoms=atoms) for atoms in starts]

    def bound(self, engine: Engine, ensemble: Ensemble) -> ErrorBound | None:
        """None is known."""
        return None

    def facts(self, engine: Engine) -> dict[str, Any]:
        """Nothing more."""
        return {}


def walks_from(engine: Engine, ensemble: Ensemble, number: int, **rules: Any) -> Iterator[Walk]:
    """Walks of one batch of walkers, with the accounts kept."""
    settings = engine.plan.exploration
    starts = engine.starts(STARTS, number, settings.walkers)
    with engine.exploring():
        walks = list(walk(ensemble, settings, starts, **rules))
    engine.costs.walkers += len(walks)
    engine.costs.simulated_ps += sum(one.time for one in walks)
    return iter(walks)


def pool_of(engine: Engine, ensemble: Ensemble, n_walkers: int) -> list[Walk]:
    """Walks from so many starts, rounded up to whole batches, that nothing stops but contacts and blow-ups."""
    settings = engine.plan.exploration
    every = max(1, round(1e3 * _RECORD_INTERVAL / settings.timestep / settings.check_interval))
    batches = min(engine.plan.rounds, -(-n_walkers // settings.walkers))
    return [one for number in range(batches) for one in walks_from(engine, ensemble, number, record_every=every)]


def _drawn(frames: list[Passed], count: int, rng: np.random.Generator) -> list[Passed]:
    """So many of the frames at random, all of them where there are not so many."""
    return [frames[i] for i in rng.choice(len(frames), size=min(count, len(frames)), replace=False)]


def _filled(engine: Engine, chosen: list[Passed], pool: list[Passed], count: int) -> list[Choice]:
    """The chosen frames, and random ones of the others where a policy's rules give too few."""
    missing = count - len(chosen)
    if missing > 0:
        known = {id(frame) for frame in chosen}
        others = [frame for frame in pool if id(frame) not in known]
        fill = _drawn(others, missing, engine.rng(DRAWS, engine.generation, 1))
        engine.costs.filled += len(fill)
        chosen = [*chosen, *fill]
    return [Choice(atoms=frame.atoms) for frame in chosen[:count]]


class RandomFrames(Others):
    """(a) Frames drawn at random from all that the walkers pass, certain or not; one walker for each label."""

    def choose(self, engine: Engine, ensemble: Ensemble, count: int) -> list[Choice]:
        """At random."""
        pool = [frame for one in pool_of(engine, ensemble, count) for frame in one.passed]
        return _filled(engine, _drawn(pool, count, engine.rng(DRAWS, engine.generation)), pool, count)


@dataclass
class FixedThresholds(Others):
    """(b) ALF's rules, those of Smith et al., Nat. Commun. 12, 1257 (2021), as they stand in its ``mlmd_sampling``.

    A walker stops where the standard deviation over members of the force components (dividing by M) exceeds ``limit``
    on average over atoms, or three times as much anywhere; its last frame is labelled. Without regard to what comes:
    first in, first out, never judged again. A walker that ends by a contact gives nothing. Here σ_F is the norm over
    the three components, dividing by M − 1, so that the mean component is σ_F/√3 √((M − 1)/M); the energy's limit is
    left out, which does not transfer between sizes of cells.

    Attributes:
        limit: eV/Å. Published with ALF for NeuroChem's networks (UO2): 0.044, which is 1 kcal/mol/Å; for a molten salt:
            0.25.
        queue: found and not yet labelled.
    """

    limit: float
    queue: list[Passed] = field(default_factory=list)

    def choose(self, engine: Engine, ensemble: Ensemble, count: int) -> list[Choice]:
        """The oldest in the queue, once it is long enough."""
        members = ensemble.n_members
        per_component = np.sqrt((members - 1) / members / 3.0)

        def stops(measurement: Measurement) -> bool:
            mean, largest = measurement.mean_deviation * per_component, measurement.max_deviation * per_component
            return bool(mean > self.limit or largest > 3.0 * self.limit)

        wanted = round(count * _QUEUE)
        others: list[Passed] = []
        for number in range(engine.plan.rounds):
            if len(self.queue) >= wanted:
                break
            for one in walks_from(engine, ensemble, number, record_every=_ever(engine), stops=stops):
                if one.ending is Ending.UNCERTAIN:
                    self.queue.append(one.passed[-1])
                elif one.ending is Ending.FINISHED:
                    others += one.passed
        chosen, self.queue = self.queue[:count], self.queue[count:]
        return _filled(engine, chosen, others, count)

    def facts(self, engine: Engine) -> dict[str, Any]:
        """The limits."""
        return {"limits": {"mean": self.limit, "max": 3.0 * self.limit}, "left_waiting": len(self.queue)}


def _ever(engine: Engine) -> int:
    """Looks after which a walker that goes all the way records its last frame."""
    settings = engine.plan.exploration
    return -(-round(1e3 * settings.max_time / settings.timestep) // settings.check_interval)


@dataclass
class TrustLevels(Others):
    """(c) DP-GEN's rules: Zhang et al., Phys. Rev. Materials 3, 023804 (2019), section II A.

    Walkers go all the way. A frame of theirs is a candidate where the largest deviation of a force among its atoms
    (the norm, dividing by M) lies between two levels; below it is accurate, above it is not believed. Candidates are
    drawn at random and labelled, all before the next training.

    Attributes:
        low, high: eV/Å. Published for Al, Mg and their alloys: 0.05 and 0.20.
        candidates: that there were, by generation.
    """

    low: float = 0.05
    high: float = 0.20
    candidates: list[int] = field(default_factory=list)

    def choose(self, engine: Engine, ensemble: Ensemble, count: int) -> list[Choice]:
        """Candidates at random."""
        factor = np.sqrt((ensemble.n_members - 1) / ensemble.n_members)
        pool = [frame for one in pool_of(engine, ensemble, count) for frame in one.passed]
        candidates = [frame for frame in pool if self.low <= factor * frame.max_deviation < self.high]
        self.candidates.append(len(candidates))
        return _filled(engine, _drawn(candidates, count, engine.rng(DRAWS, engine.generation)), pool, count)

    def facts(self, engine: Engine) -> dict[str, Any]:
        """The levels, and how many candidates there were."""
        return {"limits": {"low": self.low, "high": self.high}, "candidates": self.candidates}


class FarthestPoints(Others):
    """(d) Frames that are farthest from all labelled ones and from each other, whatever the members say."""

    def choose(self, engine: Engine, ensemble: Ensemble, count: int) -> list[Choice]:
        """By ``fingerprints``."""
        pool = [frame for one in pool_of(engine, ensemble, count) for frame in one.passed]
        with engine.exploring():
            known = fingerprints(ensemble, [label.atoms for label in engine.labels])
            chosen = farthest_points(fingerprints(ensemble, [frame.atoms for frame in pool]), known, count)
        return _filled(engine, [pool[index] for index in chosen], pool, count)
