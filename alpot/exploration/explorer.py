"""Many walkers in one batch: all advance together, each stops by itself, and a finished one is replaced."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from alpot.config import Exploration
from alpot.exploration.uncertainty import force_deviation
from alpot.exploration.walker import Snapshot, Walker
from alpot.potential.batch import Batch
from alpot.potential.ensemble import Ensemble, EnsembleResult
from alpot.potential.neighbors import NeighborPairs, NeighborSearch
from alpot.structures.contacts import closest_approach, contact_distance

#: Å; larger skins mean fewer searches but more pairs to look at in every step.
_SKIN = 0.5


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
    """Runs walkers with one ensemble.

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
        walkers: list[Walker] = []
        yield from self._refill(walkers, waiting)
        search = NeighborSearch(self.ensemble.cutoff, _SKIN)
        iteration = 0
        while walkers:
            batch = _batch_of(walkers)
            pairs = search.pairs(batch)
            is_check = iteration % self.settings.check_interval == 0 or any(walker.step == 0 for walker in walkers)
            result = self.ensemble.evaluate(batch, pairs, mean_only=not is_check)
            forces = np.split(result.forces.mean(axis=0), batch.offsets[1:-1])
            for walker, force in zip(walkers, forces, strict=True):
                if walker.step > 0:
                    walker.kick(force)
            ended: list[int] = []
            if is_check:
                for slot, report in self._check(walkers, batch, pairs, result):
                    ended.append(slot)
                    yield report
            for slot, (walker, force) in enumerate(zip(walkers, forces, strict=True)):
                if slot in ended:
                    continue
                walker.kick(force)
                walker.move(self.settings.friction)
                if walker.is_lost:
                    ended.append(slot)
                    yield self._report(walker, Ending.BLOW_UP, walker.last_good)
            if ended:
                walkers = [walker for slot, walker in enumerate(walkers) if slot not in ended]
                yield from self._refill(walkers, waiting)
                search = NeighborSearch(self.ensemble.cutoff, _SKIN)
            iteration += 1

    def _refill(
        self, walkers: list[Walker], waiting: Iterator[tuple[Atoms, np.random.Generator]]
    ) -> Iterator[WalkerReport]:
        """Fill free slots; starts that cannot be evaluated, because atoms touch already, end at once."""
        while len(walkers) < self.settings.walkers:
            start = next(waiting, None)
            if start is None:
                return
            atoms, rng = start
            walker = Walker.begin(atoms, self.settings, rng)
            closest = closest_approach(atoms)
            if closest >= self.settings.contact_factor:
                walkers.append(walker)
            else:
                yield self._report(walker, Ending.BLOW_UP if np.isnan(closest) else Ending.CONTACT, None)

    def _check(
        self, walkers: list[Walker], batch: Batch, pairs: NeighborPairs, result: EnsembleResult
    ) -> Iterator[tuple[int, WalkerReport]]:
        """Slots of the walkers that end here, with their reports; the others note their last good frame."""
        errors = np.split(self.calibration * force_deviation(result.forces), batch.offsets[1:-1])
        contacts = contacts_of_frames(batch, pairs, self.settings.contact_factor)
        for slot, walker in enumerate(walkers):
            mean, largest = float(errors[slot].mean()), float(errors[slot].max())
            ending = self._judge(walker, mean, largest, bool(contacts[slot]))
            if ending in (Ending.CONTACT, Ending.BLOW_UP):
                yield slot, self._report(walker, ending, walker.last_good)
                continue
            snapshot = walker.snapshot(mean, largest)
            if walker.audit is None and walker.audit_time is not None and walker.time >= walker.audit_time:
                walker.audit = snapshot
            if ending is Ending.UNCERTAIN:
                yield slot, self._report(walker, ending, snapshot)
            elif ending is Ending.FINISHED:
                yield slot, self._report(walker, ending, None)
            else:
                walker.last_good = snapshot

    def _judge(self, walker: Walker, mean: float, largest: float, in_contact: bool) -> Ending | None:
        if not (np.isfinite(largest) and np.isfinite(walker.positions).all()):
            return Ending.BLOW_UP
        if in_contact:
            return Ending.CONTACT
        if not (mean <= self.settings.mean_force_error and largest <= self.settings.max_force_error):
            return Ending.UNCERTAIN
        if walker.time >= self.settings.max_time:
            return Ending.FINISHED
        return None

    @staticmethod
    def _report(walker: Walker, ending: Ending, found: Snapshot | None) -> WalkerReport:
        return WalkerReport(ending=ending, time=walker.time, found=found, audit=walker.audit)


def _batch_of(walkers: list[Walker]) -> Batch:
    return Batch(
        numbers=np.concatenate([walker.numbers for walker in walkers]),
        positions=np.concatenate([walker.positions for walker in walkers]),
        cells=np.stack([walker.cell for walker in walkers]),
        pbc=np.stack([walker.pbc for walker in walkers]),
        offsets=np.cumsum([0] + [len(walker.numbers) for walker in walkers]),
    )


def contacts_of_frames(batch: Batch, pairs: NeighborPairs, factor: float) -> NDArray[np.bool_]:
    """(n_frames,) whether two atoms (or an atom and an image) are closer than their elements allow."""
    vectors = pairs.vectors(batch)
    limits = contact_distance(batch.numbers[pairs.center], batch.numbers[pairs.neighbor], factor)
    touching = np.einsum("pa,pa->p", vectors, vectors) < np.square(limits)
    return np.bincount(pairs.frame[touching], minlength=batch.n_frames).astype(bool)
