"""Many walkers in one batch: all advance together, each stops by itself, and a finished one is replaced."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice

import numpy as np
from ase import Atoms

from alpot.config import Exploration
from alpot.exploration.dynamics import Dynamics
from alpot.exploration.measurement import Measurement
from alpot.exploration.saved_state import LAYOUT, from_saved, to_saved
from alpot.exploration.walker import Check, Ending, Snapshot, Walker, WalkerReport
from alpot.potential.ensemble import Ensemble
from alpot.store.checkpoint import Checkpoint
from alpot.structures.contacts import closest_approach

#: Frames, each with the random numbers of its walker.
Starts = Iterable[tuple[Atoms, np.random.Generator]]


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

    def run(
        self,
        starts: Starts | Callable[[int], Starts],
        checkpoint: Checkpoint | None = None,
        belongs_to: str = "",
    ) -> Iterator[WalkerReport]:
        """Run one walker from each start, ``settings.walkers`` at a time; reports come in the order of the endings.

        With a checkpoint, an exploration that was interrupted goes on from there: first come the reports that it had
        given already, then those that it would have given, bit by bit on a CPU (with as many threads as before).

        Args:
            starts: frames, each with the random numbers of its walker; where an exploration goes on, the same ones
                again, of which it passes over those it has taken. If they are dear to make: a function that gives
                the starts from a number on, counted from 0.
            checkpoint: where the exploration is saved, and where it is looked for; offered before every advance.
            belongs_to: what tells this exploration from all others: a hash of potential, calibration, settings and
                starts. A checkpoint of something else is not looked at.

        Raises:
            Interrupted: the job is about to end, and the exploration was saved; its progress is in simulated ps, of
                all walkers together.
            PotentialError: an element is unknown to the potential.
            StorageError: the checkpoint cannot be written.
        """
        dynamics = Dynamics(self.ensemble, self.settings, self.settings.mean_force_error / self.calibration)
        reports: list[WalkerReport] = []
        work = f"{belongs_to}, exploration of layout {LAYOUT} on {self.ensemble.device.type}"
        if checkpoint is not None and (saved := checkpoint.load(work)) is not None:
            in_flight, reports = from_saved(saved, self.ensemble.device)
            dynamics.resume(in_flight)
            yield from reports
        taken = len(reports) + len(dynamics.walkers)
        waiting = iter(starts(taken) if callable(starts) else islice(starts, taken, None))
        yield from _noted(self._refill(dynamics, waiting), reports)
        while dynamics.walkers:
            if checkpoint is not None:
                simulated = sum(each.time for each in reports) + sum(each.time for each in dynamics.walkers)
                checkpoint.offer(work, simulated, lambda: to_saved(dynamics.in_flight(), reports))
            yield from _noted(self._check(dynamics, dynamics.advance(self.settings.check_interval)), reports)
            yield from _noted(self._refill(dynamics, waiting), reports)

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


def _noted(ended: Iterator[WalkerReport], reports: list[WalkerReport]) -> Iterator[WalkerReport]:
    """Pass reports on, and add them to those that were given."""
    for report in ended:
        reports.append(report)
        yield report
