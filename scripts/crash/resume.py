"""Resume equals uninterrupted: killed within explorations and trainings, a campaign goes on from their checkpoints."""

from __future__ import annotations

import random
import shutil
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from crash.every_operation import operations
from crash.evidence import at_the_crash, known, toll
from crash.parallel import each
from crash.place import Place
from crash.row import Row
from crash.small_campaign import TEXT, alpot_run, get_ready, new_place
from crash.tracer import Fate, Operation, watch, why_not

#: Longer explorations and trainings, so that there is a middle in which to be killed.
_CHANGES = (
    ("max_time = 0.06", "max_time = 0.6"),
    ("max_force_error = 0.2", "max_force_error = 3.0"),
    ("mean_force_error = 0.1", "mean_force_error = 1.5"),
    ("max_epochs = 3", "max_epochs = 12"),
)
#: So often a task has saved itself before it is killed: then a new beginning would show.
_SAVED_TIMES = 3


@dataclass(frozen=True)
class Moment:
    """The operation before which everything is killed, and what was going on."""

    number: int
    during: str


@dataclass(frozen=True)
class Trial:
    """What came of it."""

    complaints: tuple[str, ...]
    saved_again: int


def run(folder: Path, *, quick: bool, processes: int) -> Row:
    """The row of the table."""
    wanted = 4 if quick else 20
    row = Row(
        "resume equals uninterrupted",
        f"{wanted} kill points, same seed, one worker, real dynamics and training",
        "same decisions, same dataset hash",
    )
    if reason := why_not():
        row.seen = reason
        return row
    get_ready()
    text = TEXT
    for old, new in _CHANGES:
        text = text.replace(old, new)
    undisturbed = new_place(folder / "undisturbed", text)
    seen = [operation for _, operation in operations(undisturbed)]
    moments = _moments(seen, wanted)
    saved = _savings(seen)
    known(undisturbed)
    trials = each("resume", partial(_try, folder, undisturbed, text), moments, processes)
    row.complaints = [
        f"killed before operation {moment.number} ({moment.during}): {wrong}"
        for moment, trial in zip(moments, trials, strict=True)
        for wrong in trial.complaints
    ]
    # A task that goes on from its checkpoint saves that state once more, then what comes after it; one that begins
    # anew saves itself as often as before.
    for moment, trial in zip(moments, trials, strict=True):
        before = _savings(seen[: moment.number - 1])
        if moment.during in ("explore", "train") and trial.saved_again > saved - before + 1:
            row.complaints.append(
                f"killed before operation {moment.number} ({moment.during}): begun anew, not from its checkpoint:"
                f" {trial.saved_again} savings instead of {saved - before + 1}"
            )
    good = sum(not trial.complaints for trial in trials)
    during = Counter(moment.during for moment in moments)
    row.figures = {"points": wanted, "good": good, "checkpoints": saved, "dataset": known(undisturbed).dataset}
    row.figures |= {kind: during[kind] for kind in ("explore", "train")}
    row.seen = (
        f"{good} of {wanted} the same; {during['explore']} killed within an exploration, {during['train']} within a"
        " training"
    )
    row.holds = not row.complaints and min(during["explore"], during["train"]) > 0
    return row


def _is_saving(operation: Operation) -> bool:
    return operation.call == "rename" and "checkpoint" in operation.path


def _savings(seen: Sequence[Operation]) -> int:
    return sum(_is_saving(operation) for operation in seen)


def _moments(seen: Sequence[Operation], wanted: int) -> list[Moment]:
    """Three quarters within explorations and trainings that have saved themselves already; the rest anywhere."""
    rng = random.Random(3)
    after = {"explore": [], "train": []}  # type: dict[str, list[Moment]]
    times = Counter[str]()
    for number, operation in enumerate(seen, start=1):
        if not _is_saving(operation):
            continue
        times[operation.path] += 1
        kind = operation.path.split("/")[1]
        if kind in after and times[operation.path] >= _SAVED_TIMES:
            after[kind].append(Moment(number + 3, kind))
    moments = _spread(after["explore"], wanted * 3 // 8)
    moments += _spread(after["train"], wanted * 3 // 4 - len(moments))
    numbers = rng.sample(range(1, len(seen) + 1), wanted - len(moments))
    return moments + [Moment(number, "anywhere") for number in numbers]


def _spread(moments: list[Moment], count: int) -> list[Moment]:
    """So many of them, evenly; all if there are fewer."""
    count = min(count, len(moments))
    return [moments[(2 * number + 1) * len(moments) // (2 * count)] for number in range(count)]


def _try(folder: Path, undisturbed: Place, text: str, moment: Moment) -> Trial:
    place = new_place(folder / f"{moment.during}-{moment.number}", text)
    number = 0

    def kill(_operation: Operation) -> Fate:
        nonlocal number
        number += 1
        return Fate.KILL if number == moment.number else Fate.GO_ON

    watch(alpot_run(place), place.directory.path, kill)
    crash = at_the_crash(place)
    later: list[Operation] = []

    def note(operation: Operation) -> Fate:
        later.append(operation)
        return Fate.GO_ON

    code = watch(alpot_run(place), place.directory.path, note)
    if code != 0:
        return Trial((f"exit code {code}: {place.errors.read_text().strip()[-400:]}",), 0)
    found = toll(place, crash, undisturbed)
    if found.is_nothing:
        shutil.rmtree(place.folder)
    return Trial(() if found.is_nothing else (str(found),), _savings(later))
