"""Many walkers in one batch: all advance together, each stops by itself, and a finished one is replaced."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import islice

import numpy as np
from ase import Atoms

from alpot.config import Exploration
from alpot.exploration.dynamics import Dynamics
from alpot.exploration.measurement import Measurement
from alpot.exploration.walker import Check, Snapshot, Walker
from alpot.potential.ensemble import Ensemble
from alpot.structures.contacts import closest_approach


class Ending(StrEnum):
    """Why a walker stopped."""

    UNCERTAIN = "uncertain"
    CONTACT = "contact"
    BLOW_UP = "blow_up"
    FINISHED = "finished"


@dataclass(frozen=True, kw_only=True)
class WalkerReport:
    """What one walker found.

    Attributes:
        ending: why it stopped.
        time: simulated ps.
        found: the frame that is worth a label: the uncertain one, or after a contact or a blow-up the last good one;
            None where there is none.
        audit: the frame taken at a random time, if it was asked for and reached.
    """

    ending: Ending
    time: float
    found: Snapshot | None
    audit: Snapshot | None


class Explorer:
    """Runs walkers with one ensemble, on its device.

    A walker is checked at its start, by itself, and after every ``check_interval`` steps; so when it stops does not
    depend on the others.

    Args:
        ensemble: the potential; its floating-point type is used as it is.
        settings: of the exploration.
        calibration: factor from the members' deviation to the expected force error.
    """

    def __init__(self, ensemble: Ensemble, settings: Exploration, calibration: float = 1.0) -> None:
        self.ensemble = ensemble
        self.settings = settings
        self.calibration = calibration

    def run(self, starts: Iterable[tuple[Atoms, np.random.Generator]]) -> Iterator[WalkerReport]:
        """Run one walker from each start, ``settings.walkers`` at a time; reports come in the order of the endings.

        Args:
            starts: frames, each with the random numbers of its walker.
        """
        waiting = iter(starts)
        dynamics = Dynamics(self.ensemble, self.settings)
        yield from self._refill(dynamics, waiting)
        while dynamics.walkers:
            yield from self._check(dynamics, dynamics.advance(self.settings.check_interval))
            yield from self._refill(dynamics, waiting)

    def _refill(
        self, dynamics: Dynamics, waiting: Iterator[tuple[Atoms, np.random.Generator]]
    ) -> Iterator[WalkerReport]:
        """Fill free slots; starts that cannot be evaluated, because atoms touch already, end at once."""
        while fresh := list(islice(waiting, self.settings.walkers - len(dynamics.walkers))):
            walkers: list[Walker] = []
            for atoms, rng in fresh:
                walker = Walker.begin(atoms, self.settings, rng)
                closest = closest_approach(atoms)
                if closest >= self.settings.contact_factor:
                    walkers.append(walker)
                else:
                    yield self._report(walker, Ending.BLOW_UP if np.isnan(closest) else Ending.CONTACT, None)
            if walkers:
                yield from self._check(dynamics, dynamics.add(walkers))

    def _check(self, dynamics: Dynamics, measurements: Sequence[Measurement]) -> Iterator[WalkerReport]:
        """Judge the walkers in the last slots, one per measurement: some end here, the others note a good frame."""
        n_walkers = len(dynamics.walkers)
        going_on = list(range(n_walkers - len(measurements)))
        for slot, measurement in zip(range(len(going_on), n_walkers), measurements, strict=True):
            walker = dynamics.walkers[slot]
            check = Check(
                time=walker.time,
                mean_error=self.calibration * measurement.mean_deviation,
                max_error=self.calibration * measurement.max_deviation,
            )
            ending = self._judge(walker, measurement, check)
            if ending in (Ending.BLOW_UP, Ending.CONTACT):
                yield self._report(walker, ending, self._last_good(dynamics, slot))
                continue
            if walker.wants_audit:
                walker.audit = walker.snapshot(*dynamics.space.frame(slot), check)
            if ending is Ending.UNCERTAIN:
                yield self._report(walker, ending, walker.snapshot(*dynamics.space.frame(slot), check))
            elif ending is Ending.FINISHED:
                yield self._report(walker, ending, None)
            else:
                walker.last_good = check
                going_on.append(slot)
        if len(going_on) < n_walkers:
            dynamics.keep(going_on)
        dynamics.space.note_good()

    def _judge(self, walker: Walker, measurement: Measurement, check: Check) -> Ending | None:
        is_lost = walker.is_lost(measurement.farthest, measurement.kinetic_temperature)
        if is_lost or not np.isfinite(check.max_error):
            return Ending.BLOW_UP
        if measurement.in_contact:
            return Ending.CONTACT
        if not (
            check.mean_error <= self.settings.mean_force_error and check.max_error <= self.settings.max_force_error
        ):
            return Ending.UNCERTAIN
        if walker.time >= self.settings.max_time:
            return Ending.FINISHED
        return None

    @staticmethod
    def _last_good(dynamics: Dynamics, slot: int) -> Snapshot | None:
        walker = dynamics.walkers[slot]
        if walker.last_good is None:
            return None
        return walker.snapshot(*dynamics.space.good_frame(slot), walker.last_good)

    @staticmethod
    def _report(walker: Walker, ending: Ending, found: Snapshot | None) -> WalkerReport:
        return WalkerReport(ending=ending, time=walker.time, found=found, audit=walker.audit)
