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
from alpot.exploration.uncertainty import urgency
from alpot.exploration.walker import Check, Ending, Snapshot, Walker, WalkerReport
from alpot.potential.calibration import ErrorBound
from alpot.potential.ensemble import Ensemble
from alpot.store.checkpoint import Checkpoint
from alpot.structures.contacts import closest_approach

#: A walker that meets uncertainty goes on until its forces are this many times as uncertain as is accepted: where it
#: ends at once, as all do with the first models, it passes nothing but starts. Contacts and heat end it before that
#: where forces are no good.
_FARTHEST = 10.0
#: Beyond this it has left what is physical at one bound; its last good frame is then worth more than the one that it
#: fell into.
_TOO_FAR = 20.0
#: ps; uncertain frames of one walker lie this far apart in time, about a period of the slowest vibrations, and there
#: are so many of them at most.
_APART, _MOST_FOUND = 0.2, 4

#: Frames, each with the random numbers of its walker.
Starts = Iterable[tuple[Atoms, np.random.Generator]]


class Explorer:
    """Runs walkers with one ensemble, on its device.

    A walker is checked at its start, by itself, and after every ``check_interval`` steps; so when it stops does not
    depend on the others.

    Args:
        ensemble: the potential; its floating-point type is used as it is.
        settings: of the exploration.
        bound: from the members' deviation to the force error that an atom has at most.
    """

    def __init__(self, ensemble: Ensemble, settings: Exploration, bound: ErrorBound) -> None:
        self.ensemble = ensemble
        self.settings = settings
        self.bound = bound

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
            belongs_to: what tells this exploration from all others: a hash of potential, error bound, settings and
                starts. A checkpoint of something else is not looked at.

        Raises:
            Interrupted: the job is about to end, and the exploration was saved; its progress is in simulated ps, of
                all walkers together.
            PotentialError: an element is unknown to the potential.
            StorageError: the checkpoint cannot be written.
        """
        dynamics = Dynamics(self.ensemble, self.settings, self.bound.deviation_at(self.settings.mean_force_error))
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
                mean_error=self.bound.of(measurement.mean_deviation),
                max_error=self.bound.of(measurement.max_deviation),
            )
            ending = self._judge(walker, measurement, check)
            if ending in (Ending.BLOW_UP, Ending.CONTACT):
                yield self._report(walker, ending, self._last_good(dynamics, slot))
                continue
            if walker.wants_audit:
                walker.audit = walker.snapshot(*dynamics.space.frame(slot), check)
                # What is trained on must not resemble what errors are measured on.
                walker.found = tuple(frame for frame in walker.found if check.time - frame.time >= _APART)
            if self._is_worth_a_label(walker, check):
                walker.found += (walker.snapshot(*dynamics.space.frame(slot), check),)
            if ending is Ending.UNCERTAIN and self._urgency(check) > _TOO_FAR and self._is_apart(walker, check):
                yield self._report(walker, ending, self._last_good(dynamics, slot))
            elif ending is not None:
                yield self._report(walker, ending, None)
            elif len(walker.found) == _MOST_FOUND and not walker.awaits_audit:
                yield self._report(walker, Ending.UNCERTAIN, None)
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
        # In a cascade atoms come close for a moment, as they should; heat and uncertainty still end it.
        if measurement.in_contact and not walker.is_in_cascade:
            return Ending.CONTACT
        if self._urgency(check) > _FARTHEST:
            return Ending.UNCERTAIN
        if walker.time >= self.settings.max_time:
            return Ending.FINISHED
        return None

    def _urgency(self, check: Check) -> float:
        return urgency(self.settings, check.mean_error, check.max_error)

    def _is_worth_a_label(self, walker: Walker, check: Check) -> bool:
        """Whether a frame is uncertain, not too far gone, and not much like one that the walker has found already.

        A start is as it was built: however uncertain, it has gone nowhere.
        """
        is_worth_it = 1.0 < self._urgency(check) <= (_TOO_FAR if walker.step else np.inf)
        return is_worth_it and len(walker.found) < _MOST_FOUND and self._is_apart(walker, check)

    @staticmethod
    def _is_apart(walker: Walker, check: Check) -> bool:
        """Whether a frame lies apart in time from those that the walker reports already."""
        others = [*walker.found, *([walker.audit] if walker.audit is not None else [])]
        return all(check.time - other.time >= _APART for other in others)

    @staticmethod
    def _last_good(dynamics: Dynamics, slot: int) -> Snapshot | None:
        walker = dynamics.walkers[slot]
        if walker.last_good is None:
            return None
        return walker.snapshot(*dynamics.space.good_frame(slot), walker.last_good)

    @staticmethod
    def _report(walker: Walker, ending: Ending, rewound: Snapshot | None) -> WalkerReport:
        return WalkerReport(
            ending=ending,
            time=walker.time,
            found=walker.found,
            rewound=rewound,
            audit=walker.audit,
            table=walker.start.info.get("table"),
        )


def _noted(ended: Iterator[WalkerReport], reports: list[WalkerReport]) -> Iterator[WalkerReport]:
    """Pass reports on, and add them to those that were given."""
    for report in ended:
        reports.append(report)
        yield report
