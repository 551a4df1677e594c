"""Disk full: from every k-th operation on that takes space, and for real, on a small file system that fills up."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from crash.every_operation import operations
from crash.evidence import Toll, at_the_crash, known, toll
from crash.parallel import each
from crash.place import Place, in_a_process
from crash.row import Row
from crash.small_campaign import alpot_run, get_ready, new_place
from crash.tracer import TAKES_SPACE, Decide, Fate, Operation, watch, why_not

#: What the message must say.
_SAYS_SO = ("No space left on device", "disk is full", "disk failed or is full")
#: bytes; what the campaign needs in the end is about twice the largest.
_SIZES = tuple(range(48, 448, 20))


@dataclass(frozen=True)
class Full:
    """When the disk is full: from this operation on; ``stays``: until the campaign has given up, or only for one."""

    number: int
    stays: bool
    operation: Operation

    def __str__(self) -> str:
        return f"{'no space from' if self.stays else 'no space at'} operation {self.number} ({self.operation})"


@dataclass(frozen=True)
class Trial:
    """How the campaign took it, and what it cost after there was space again."""

    code: int
    said: str
    toll: Toll

    @property
    def complaints(self) -> list[str]:
        """What was wrong; nothing if the campaign did not notice."""
        wrong = [] if self.toll.is_nothing else [str(self.toll)]
        if "Traceback" in self.said:
            wrong.append(f"a traceback instead of a message: {self.said.strip().splitlines()[-1]}")
        elif self.code not in (0, 1, 2) or (self.code and not any(words in self.said for words in _SAYS_SO)):
            wrong.append(f"exit code {self.code}, and the disk is not said to be full: {self.said.strip()[-400:]}")
        return wrong


def run(folder: Path, *, quick: bool, processes: int) -> Row:
    """The row of the table."""
    row = Row(
        "disk full",
        "ENOSPC from the k-th operation that takes space, for all k; a small tmpfs that fills up",
        "clear error, 0 lost, continues after space is made",
    )
    if reason := why_not():
        row.seen = reason
        return row
    get_ready()
    undisturbed = new_place(folder / "undisturbed")
    moments = [
        Full(number, stays, operation)
        for number, operation in enumerate(
            (operation for _, operation in operations(undisturbed) if operation.call in TAKES_SPACE), start=1
        )
        for stays in (True, False)
    ]
    total = len(moments)
    sizes = list(_SIZES)
    if quick:
        moments, sizes = random.Random(2).sample(moments, 16), [60, 200]
    known(undisturbed)
    trials = each("disk full", partial(_try, folder, undisturbed), moments, processes)
    named = dict(zip(map(str, moments), trials, strict=True))
    if os.geteuid() == 0:
        named |= {f"a disk of {size} kB": _fill_up(folder, undisturbed, size) for size in sizes}
    else:
        row.complaints.append("a small tmpfs needs root; only injected errors were tried")
    bad = {name: trial for name, trial in named.items() if trial.complaints}
    row.complaints += [f"{name}: {'; '.join(trial.complaints)}" for name, trial in bad.items()]
    ended = sum(trial.code != 0 for trial in named.values())
    row.figures = {
        "moments": total,
        "tried": len(moments),
        "small disks": len(named) - len(trials),
        "ended with a message": ended,
        "went on": len(named) - ended,
        "lost": sum(trial.toll.lost for trial in named.values()),
        "wasted": sum(trial.toll.wasted for trial in named.values()),
    }
    sample = f" (a sample of {total:,})" if quick else ""
    row.seen = (
        f"{len(named) - len(bad):,} of {len(named):,}{sample}: {ended:,} ended with a message, {len(named) - ended:,}"
        f" went on; {row.figures['lost']} lost; {row.figures['wasted']} calculations repeated that had found no place"
    )
    row.holds = not bad
    return row


def _try(folder: Path, undisturbed: Place, moment: Full) -> Trial:
    place = new_place(folder / f"full-{moment.number}-{moment.stays}")
    code = watch(alpot_run(place), place.directory.path, _from(moment))
    return _afterwards(place, code, undisturbed)


def _afterwards(place: Place, code: int, undisturbed: Place) -> Trial:
    """There is space again: the campaign is run to its end."""
    said = place.errors.read_text()
    crash = at_the_crash(place)
    if code:
        again = in_a_process(alpot_run(place))
        if again:
            complaint = f"it did not continue: exit code {again}: {place.errors.read_text().strip()[-400:]}"
            return Trial(code, said, Toll(0, 0, 0, 0, (complaint,)))
    # A task that failed for lack of space may be tried with other random numbers, so decisions may differ.
    found = toll(place, crash, undisturbed, same_decisions=False)
    if found.is_nothing:
        shutil.rmtree(place.folder, ignore_errors=True)  # the mount point itself stays
    return Trial(code, said, found)


def _from(moment: Full) -> Decide:
    number = 0

    def decide(operation: Operation) -> Fate:
        nonlocal number
        if operation.call not in TAKES_SPACE:
            return Fate.GO_ON
        number += 1
        is_full = number >= moment.number if moment.stays else number == moment.number
        return Fate.NO_SPACE if is_full else Fate.GO_ON

    return decide


def _fill_up(folder: Path, undisturbed: Place, size: int) -> Trial:
    place = new_place(folder / f"small-{size}")
    with _small_disk(place.directory.path, size):
        code = in_a_process(alpot_run(place))
        said = place.errors.read_text()
        _mount("remount,size=64m", place.directory.path)
        trial = _afterwards(place, code, undisturbed)
    return Trial(code, said, trial.toll)


@contextmanager
def _small_disk(path: Path, size: int) -> Iterator[None]:
    path.mkdir()
    _mount(f"size={size}k,mode=755", path)
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(path)], check=True)  # somebody may be looking at it


def _mount(options: str, path: Path) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "alpot-crash-suite", str(path)], check=True)
