"""Walkers that record what they pass, for policies that choose among its frames by rules of their own.

They move as those of alpot's explorer do: the same schedules, thermostat, contacts and limits, on the same dynamics.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice

import numpy as np
from ase import Atoms

from alpot.config import Exploration
from alpot.exploration.dynamics import Dynamics
from alpot.exploration.explorer import Ending, Starts
from alpot.exploration.measurement import Measurement
from alpot.exploration.walker import Walker
from alpot.potential.ensemble import Ensemble
from alpot.structures.contacts import closest_approach


@dataclass(frozen=True, kw_only=True)
class Passed:
    """A frame on the way of a walker.

    Attributes:
        atoms: the frame.
        time: ps.
        mean_deviation, max_deviation: of σ_F over its atoms, eV/Å.
    """

    atoms: Atoms
    time: float
    mean_deviation: float
    max_deviation: float


@dataclass(kw_only=True)
class Walk:
    """One walker's way.

    Attributes:
        ending: why it stopped; UNCERTAIN where the rule for stopping said so.
        time: simulated ps.
        passed: frames on its way in order; where the rule stopped it, the last one is where.
    """

    ending: Ending = Ending.FINISHED
    time: float = 0.0
    passed: list[Passed] = field(default_factory=list)


def walk(
    ensemble: Ensemble,
    settings: Exploration,
    starts: Starts,
    *,
    record_every: int,
    stops: Callable[[Measurement], bool] = lambda _: False,
) -> Iterator[Walk]:
    """Run a walker from each start, ``settings.walkers`` at a time.

    Args:
        ensemble: the potential.
        settings: how walkers move, and how often they are looked at; its limits of uncertainty do not count.
        starts: frames, each with the random numbers of its walker.
        record_every: every so many looks at a walker a frame is recorded, first after so many.
        stops: whether a walker ends where this was measured.
    """
    waiting = iter(starts)
    while batch := list(islice(waiting, settings.walkers)):
        walkers = [Walker.begin(atoms, settings, rng) for atoms, rng in batch]
        free = [walker for walker in walkers if closest_approach(walker.start) >= settings.contact_factor]
        yield from (Walk(ending=Ending.CONTACT) for _ in range(len(walkers) - len(free)))
        if free:
            yield from walk_together(ensemble, settings, free, record_every=record_every, stops=stops)


def walk_together(
    ensemble: Ensemble,
    settings: Exploration,
    walkers: Sequence[Walker],
    *,
    record_every: int,
    stops: Callable[[Measurement], bool] = lambda _: False,
) -> list[Walk]:
    """As ``walk``, for walkers that have been begun: one batch, and the walks in their order."""
    dynamics = Dynamics(ensemble, settings)
    measurements = dynamics.add(walkers)
    all_walks = walks = [Walk() for _ in walkers]
    look = 0
    while True:
        going_on = []
        for slot, (walker, measurement) in enumerate(zip(dynamics.walkers, measurements, strict=True)):
            walks[slot].time = walker.time
            ending = _ending(walker, measurement, settings, stops)
            is_due = look > 0 and look % record_every == 0
            if ending is Ending.UNCERTAIN or (is_due and ending in (None, Ending.FINISHED)):
                walks[slot].passed.append(_passed(dynamics, slot, measurement))
            if ending is None:
                going_on.append(slot)
            else:
                walks[slot].ending = ending
        if not going_on:
            return all_walks
        if len(going_on) < len(walks):
            dynamics.keep(going_on)
            walks = [walks[slot] for slot in going_on]
        measurements = dynamics.advance(settings.check_interval)
        look += 1


def _ending(
    walker: Walker, measurement: Measurement, settings: Exploration, stops: Callable[[Measurement], bool]
) -> Ending | None:
    is_lost = walker.is_lost(measurement.farthest, measurement.kinetic_temperature)
    if is_lost or not np.isfinite(measurement.max_deviation):
        return Ending.BLOW_UP
    if measurement.in_contact:
        return Ending.CONTACT
    if stops(measurement):
        return Ending.UNCERTAIN
    return Ending.FINISHED if walker.time >= settings.max_time else None


def _passed(dynamics: Dynamics, slot: int, measurement: Measurement) -> Passed:
    walker = dynamics.walkers[slot]
    positions, cell = dynamics.space.frame(slot)
    atoms = Atoms(walker.start.numbers, positions=positions, cell=cell, pbc=walker.start.pbc)
    atoms.wrap()
    return Passed(
        atoms=atoms,
        time=walker.time,
        mean_deviation=measurement.mean_deviation,
        max_deviation=measurement.max_deviation,
    )
