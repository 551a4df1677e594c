"""What a campaign has left behind, held against the reference's own book and against a run that nobody disturbed."""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any

from alpot.campaign.state import State
from alpot.errors import StorageError
from alpot.store.dataset import read_shard
from alpot.store.files import sha256
from alpot.store.labels import Label
from alpot.store.ledger import Event, LabelRow, Ledger
from crash.logged_reference import name_of
from crash.place import Place

#: Events that tell of interruptions, not of what the campaign does.
_BOOKKEEPING = frozenset({"opened", "task_lost", "task_interrupted"})
#: Parts of summaries that hold times, or checksums of files that hold times.
_TIMES = frozenset({"seconds", "core_seconds", "checksum", "shard_checksum"})


@dataclass(frozen=True)
class Remains:
    """What one campaign has left behind."""

    place: Place

    @cached_property
    def events(self) -> list[Event]:
        """The ledger."""
        with Ledger(self.place.directory.ledger, read_only=True) as ledger:
            return list(ledger.events())

    @cached_property
    def rows(self) -> dict[str, LabelRow]:
        """The index of labels."""
        with Ledger(self.place.directory.ledger, read_only=True) as ledger:
            return {row.key: row for row in ledger.label_rows()}

    @cached_property
    def labels(self) -> dict[str, Label]:
        """All labels that the index leads to."""
        found = {}
        for path in {row.path for row in self.rows.values()}:
            found.update({label.key: label for label in read_shard(self.place.directory.path / path)})
        return found

    @cached_property
    def decisions(self) -> list[tuple[str, Any]]:
        """The ledger without times, and without what only tells of interruptions."""
        decisions, started = [], set()
        for event in self.events:
            if event.kind in _BOOKKEEPING:
                continue
            payload = _without_times(event.payload)
            if event.kind == "task_started":
                payload.pop("attempt")
                if (payload["id"], payload.get("draw")) in started:
                    continue
                started.add((payload["id"], payload.get("draw")))
            decisions.append((event.kind, payload))
        return decisions

    @cached_property
    def dataset(self) -> str:
        """A hash over all labels and all weights."""
        digest = hashlib.sha256()
        for key in sorted(self.labels):
            label = self.labels[key]
            stress = b"" if label.stress is None else label.stress.tobytes()
            digest.update(f"{key} {label.energy.hex()}".encode() + label.forces.tobytes() + stress)
        for weights in sorted((self.place.directory.path / "models").glob("*/weights.safetensors")):
            digest.update(f"{weights.parent.name} {sha256(weights)}".encode())
        return digest.hexdigest()


@cache
def known(place: Place) -> Remains:
    """What an undisturbed campaign has left, read once; processes that are forked afterwards need not read it again."""
    remains = Remains(place)
    assert remains.decisions and remains.dataset
    return remains


@dataclass(frozen=True)
class AtTheCrash:
    """What was on record, and what on disk, when the campaign went down."""

    computed: Counter[str]
    stored: frozenset[str]


def at_the_crash(place: Place) -> AtTheCrash:
    """To be called before the campaign is resumed."""
    folder = place.directory.path
    stored: set[str] = set()
    for path in (*folder.glob("labels/*/*.h5"), *folder.glob("dataset/*.h5")):
        if not path.name.startswith("."):  # a writer was killed before it gave the file its name
            stored.update(name_of(label.atoms) for label in _read(path))
    return AtTheCrash(Counter(place.calculations()), frozenset(stored))


@dataclass(frozen=True)
class Toll:
    """What a crash has cost.

    Attributes:
        lost: calculations that had finished and whose label is missing in the end.
        doubled: labels recorded twice, or in two shards.
        repeated: calculations done again although their label was on disk.
        wasted: calculations done again because the crash fell between their end and their label's file.
        complaints: everything else that is wrong.
    """

    lost: int
    doubled: int
    repeated: int
    wasted: int
    complaints: tuple[str, ...]

    @property
    def is_nothing(self) -> bool:
        """Whether nothing is wrong; a calculation that was wasted is no wrong by itself."""
        return not (self.lost or self.doubled or self.repeated or self.complaints)

    def __str__(self) -> str:
        text = f"lost {self.lost}, doubled {self.doubled}, repeated {self.repeated}, wasted {self.wasted}"
        return f"{text}; {'; '.join(self.complaints)}" if self.complaints else text


def toll(place: Place, crash: AtTheCrash, undisturbed: Place, *, same_decisions: bool = True) -> Toll:
    """Holds a campaign that was resumed and has ended against one that nobody disturbed."""
    remains, wanted = Remains(place), known(undisturbed)
    complaints = []
    try:
        kept = {name_of(label.atoms) for label in remains.labels.values()}
    except StorageError as error:
        return Toll(0, 0, 0, 0, (f"a label cannot be read: {error}",))
    computed = Counter(place.calculations())
    again = computed - crash.computed
    recorded = Counter(
        event.payload["summary"]["key"]
        for event in remains.events
        if event.kind == "task_finished" and event.payload["summary"].get("outcome") == "labelled"
    )
    shards = Counter(
        label.key
        for path in place.directory.path.glob("dataset/*.h5")
        if _is_recorded(path, remains)
        for label in _read(path)
    )
    state = State.replay(remains.events)
    if state.finished is None or state.has_failed:
        complaints.append(f"it did not end well: {state.finished}")
    for row in remains.rows.values():
        if sha256(place.directory.path / row.path) != row.checksum or row.key not in remains.labels:
            complaints.append(f"{row.path} is not what the ledger says")
    if not same_decisions:
        pass
    elif remains.decisions != wanted.decisions:
        complaints.append(f"other decisions: {_first_difference(remains.decisions, wanted.decisions)}")
    elif remains.dataset != wanted.dataset:
        complaints.append("other numbers in labels or weights")
    return Toll(
        lost=len(computed.keys() - kept),
        doubled=sum(count > 1 for count in (recorded + Counter()).values()) + sum(n > 1 for n in shards.values()),
        repeated=sum(count for name, count in again.items() if name in crash.stored),
        wasted=sum(computed.values()) - len(computed),
        complaints=tuple(complaints),
    )


def _is_recorded(path: Path, remains: Remains) -> bool:
    return any(row.path == remains.place.directory.relative(path) for row in remains.rows.values())


def _read(path: Path) -> list[Label]:
    try:
        return read_shard(path)
    except StorageError:
        return []


def _without_times(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without_times(item) for name, item in value.items() if name not in _TIMES}
    if isinstance(value, list):
        return [_without_times(item) for item in value]
    return value


def _first_difference(seen: list[Any], wanted: list[Any]) -> str:
    for number, (one, other) in enumerate(zip(seen, wanted, strict=False)):
        if one != other:
            return f"number {number} is {str(one)[:300]} instead of {str(other)[:300]}"
    return f"{len(seen)} instead of {len(wanted)}"
