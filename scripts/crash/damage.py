"""Damage is found: one byte is flipped in each of many files; `alpot repair` must find all, the campaign must go on."""

from __future__ import annotations

import random
import shutil
from collections import Counter
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from alpot.errors import StorageError
from alpot.store.directory import CampaignDirectory
from alpot.store.files import sha256
from alpot.store.ledger import Ledger
from alpot.subjects.mending import mend
from crash.evidence import Remains
from crash.parallel import each
from crash.place import Place, in_a_process
from crash.row import Row
from crash.small_campaign import TEXT, alpot_run, get_ready, new_place

#: Files damaged at a time: a tenth of what there is.
_AT_A_TIME = 20
_LABELS, _MORE_LABELS = 100, 106
#: Everything that a campaign cannot make again by itself,
_LABELS_AND_SETTINGS = (
    "labels/*/*.h5",
    "dataset/*",
    "dataset/copies/*",
    "campaign.source.json",
    "campaign.source.copy.json",
)
#: and what begins anew when the ledger is lost as well: it knows these files' numbers and checksums.
_NUMBERED = ("candidates/*.h5", "models/*/*")
#: In one round of so many, the ledger is damaged too.
_LEDGER_EVERY = 6


@dataclass(frozen=True)
class Trial:
    """What was damaged, what of it was found, and what else was wrong."""

    damaged: tuple[str, ...]
    found: int
    complaints: tuple[str, ...]


def run(folder: Path, *, quick: bool, processes: int) -> Row:
    """The row of the table."""
    rounds = 2 if quick else 25
    row = Row(
        "damage is found",
        f"one byte flipped in each of {rounds * _AT_A_TIME} files, {_AT_A_TIME} at a time",
        "all quarantined, campaign goes on",
    )
    get_ready()
    whole = new_place(folder / "whole", _text(_LABELS))
    if in_a_process(alpot_run(whole)) != 0:
        raise RuntimeError(f"the campaign that is to be damaged failed: {whole.errors.read_text()}")
    trials = each("damage", partial(_try, folder, whole), range(rounds), processes)
    kinds = Counter(name.partition("/")[0] for trial in trials for name in trial.damaged)
    damaged = sum(len(trial.damaged) for trial in trials)
    found = sum(trial.found for trial in trials)
    went_on = sum(not trial.complaints for trial in trials)
    row.complaints = [f"round {number}: {wrong}" for number, trial in enumerate(trials) for wrong in trial.complaints]
    row.figures = {"damaged": damaged, "found": found, "kinds": dict(kinds), "rounds": rounds, "went on": went_on}
    row.seen = f"{found} of {damaged} found and quarantined; the campaign went on in {went_on} of {rounds} rounds"
    row.holds = found == damaged and not row.complaints
    return row


def _text(labels: int) -> str:
    return TEXT.replace("max_labels = 12", f"max_labels = {labels}")


def _try(folder: Path, whole: Place, number: int) -> Trial:
    rng = random.Random(number)
    place = Place(folder / f"round-{number}")
    shutil.copytree(whole.folder, place.folder)
    directory = place.directory
    CampaignDirectory(directory.path).replace_config(place.file.read_bytes(), place.file)
    has_ledger = number % _LEDGER_EVERY == _LEDGER_EVERY - 1
    patterns = _LABELS_AND_SETTINGS if has_ledger else _LABELS_AND_SETTINGS + _NUMBERED
    files = sorted({path for pattern in patterns for path in directory.path.glob(pattern) if path.is_file()})
    victims = [directory.ledger] if has_ledger else []
    victims += rng.sample(files, _AT_A_TIME - len(victims))
    contents = {directory.relative(path): _flip(path, rng) for path in victims}
    complaints = []
    try:
        mended = mend(directory.path, rebuild=True)
    except Exception as error:  # noqa: BLE001 - whatever it is, nothing was found
        return Trial(tuple(contents), 0, (f"repair failed: {type(error).__name__}: {error}",))
    seen = {damage.path: damage.moved_to for damage in mended.report.damaged}
    missed = []
    for name, content in contents.items():
        if name == "ledger.sqlite":
            is_found = bool(mended.report.ledger)
        else:
            moved = directory.path / (seen.get(name) or "nowhere")
            is_found = moved.is_file() and moved.read_bytes() == content
        if not is_found:
            missed.append(name)
    complaints += [f"the damage of {name} was not found" for name in missed]
    if foreign := seen.keys() - contents.keys():
        complaints.append(f"{len(foreign)} sound files were called damaged, e.g. {min(foreign)}")
    place.file.write_text(_text(_MORE_LABELS))
    code = in_a_process(alpot_run(place))
    if code != 0:
        complaints.append(
            f"it does not go on (damaged: {', '.join(contents)}): {place.errors.read_text().strip()[-500:]}"
        )
    else:
        for row in Remains(place).rows.values():
            if sha256(directory.path / row.path) != row.checksum:
                complaints.append(f"{row.path} is not what the ledger says")
    if not complaints:
        shutil.rmtree(place.folder)
    return Trial(tuple(contents), len(contents) - len(missed), tuple(complaints))


def _flip(path: Path, rng: random.Random) -> bytes:
    """Changes one bit or more of one byte; returns what the file holds now.

    A sixth of a ledger's bytes mean nothing (SQLite leaves room for more): a flip there is no damage.
    """
    whole = path.read_bytes()
    says = _ledger_says(path) if path.suffix == ".sqlite" else None
    while True:
        content = bytearray(whole)
        content[rng.randrange(len(content))] ^= rng.randrange(1, 256)
        path.write_bytes(content)
        if says is None or _ledger_says(path) != says:
            return bytes(content)


def _ledger_says(path: Path) -> object:
    """All that a ledger says; what is wrong with it, if it cannot be read."""
    try:
        with Ledger(path, read_only=True) as ledger:
            return [*ledger.events(), *ledger.label_rows()]
    except (StorageError, UnicodeDecodeError) as error:
        return str(error)
