"""No label lost: the campaign dies before each of its operations on files, and half-way through each write."""

from __future__ import annotations

import random
import shutil
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from crash.evidence import Toll, at_the_crash, known, toll
from crash.parallel import each
from crash.place import Place, in_a_process
from crash.row import Row
from crash.small_campaign import Forked, Here, alpot_run, get_ready, new_place
from crash.tracer import WRITES, Decide, Fate, Operation, watch, why_not

#: Every third crash is followed by another one, within the operations by which a run takes up what the last one left.
_EVERY, _RECOVERY = 3, 120


@dataclass(frozen=True)
class Point:
    """A moment at which the campaign dies; ``again``: and before which operation of the run that resumes it."""

    number: int
    fate: Fate
    in_worker: bool
    operation: Operation
    again: int = 0

    def __str__(self) -> str:
        who = "the worker" if self.in_worker else "everything"
        when = "half-way through" if self.fate is Fate.TEAR else "before"
        more = f", and before operation {self.again} of the resumed run" if self.again else ""
        return f"{who} killed {when} operation {self.number} ({self.operation}){more}"


def run(folder: Path, *, quick: bool, processes: int) -> Row:
    """The row of the table."""
    row = Row(
        "no label lost",
        "crash before every k-th file operation of a small campaign, resume, compare",
        "K of K, 0 lost, 0 duplicated",
    )
    if reason := why_not():
        row.seen = reason
        return row
    get_ready()
    undisturbed = new_place(folder / "undisturbed")
    points = []
    for in_worker in (False, True):
        place = new_place(folder / "forked") if in_worker else undisturbed
        seen = operations(place, in_worker=in_worker)
        points += [Point(number, Fate.KILL, in_worker, operation) for number, operation in seen]
        points += [
            Point(number, Fate.TEAR, in_worker, operation) for number, operation in seen if operation.call in WRITES
        ]
    rng = random.Random(4)
    points += [
        replace(point, again=rng.randint(1, _RECOVERY))
        for point in points[::_EVERY]
        if point.fate is Fate.KILL and not point.in_worker
    ]
    total = len(points)
    if quick:
        points = random.Random(1).sample(points, 32)
    known(undisturbed)
    tolls = each("operations", partial(_try, folder, undisturbed), points, processes)
    good = sum(found.is_nothing for found in tolls)
    row.complaints = [f"{point}: {found}" for point, found in zip(points, tolls, strict=True) if not found.is_nothing]
    row.figures = {
        "points": total,
        "tried": len(points),
        "good": good,
        "lost": sum(found.lost for found in tolls),
        "duplicated": sum(found.doubled + found.repeated for found in tolls),
        "wasted": sum(found.wasted for found in tolls),
        "in workers": sum(point.in_worker for point in points),
        "torn writes": sum(point.fate is Fate.TEAR for point in points),
        "killed again while resuming": sum(point.again > 0 for point in points),
        "operations of SQLite": sum("ledger" in point.operation.path for point in points),
    }
    sample = f" (a sample of {total:,})" if quick else ""
    row.seen = (
        f"{good:,} of {len(points):,}{sample}, {row.figures['lost']} lost, {row.figures['duplicated']} duplicated;"
        f" {row.figures['wasted']} calculations wasted between their end and their file"
    )
    row.holds = good == len(points)
    return row


def operations(place: Place, *, in_worker: bool = False) -> list[tuple[int, Operation]]:
    """All operations of an undisturbed campaign, numbered from 1, of the process in question."""
    seen: list[Operation] = []

    def note(operation: Operation) -> Fate:
        seen.append(operation)
        return Fate.GO_ON

    code = watch(alpot_run(place, Forked if in_worker else Here), place.directory.path, note)
    if code != 0:
        raise RuntimeError(f"the undisturbed campaign ended with {code}: {place.errors.read_text()}")
    return list(enumerate((operation for operation in seen if operation.in_child or not in_worker), start=1))


def _try(folder: Path, undisturbed: Place, point: Point) -> Toll:
    """Dies at one point, resumes, and says what it cost."""
    place = new_place(
        folder / f"{'worker' if point.in_worker else 'all'}-{point.number}-{point.fate.name}-{point.again}"
    )
    # The lease's thread writes when it pleases, so that the number may lie one or two operations beside its name.
    code = watch(alpot_run(place, Forked if point.in_worker else Here), place.directory.path, _at(point))
    if point.again:
        watch(alpot_run(place), place.directory.path, _at(replace(point, number=point.again)))
    crash = at_the_crash(place)
    ended = code if point.in_worker else in_a_process(alpot_run(place))
    if ended != 0:
        return Toll(0, 0, 0, 0, (f"exit code {ended}: {place.errors.read_text().strip()[-600:]}",))
    found = toll(place, crash, undisturbed)
    if found.is_nothing:
        shutil.rmtree(place.folder)
    return found


def _at(point: Point) -> Decide:
    number = 0

    def decide(operation: Operation) -> Fate:
        nonlocal number
        if point.in_worker and not operation.in_child:
            return Fate.GO_ON
        number += 1
        if number != point.number:
            return Fate.GO_ON
        return point.fate if point.fate is not Fate.TEAR or operation.call in WRITES else Fate.KILL

    return decide
