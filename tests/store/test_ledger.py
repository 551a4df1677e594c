"""The ledger forgets nothing that it acknowledged and records nothing by halves."""

import sqlite3
import threading

import pytest

from alpot.errors import StorageError
from alpot.store.ledger import Event, LabelRow, Ledger
from tests.store.crash import acknowledged_before_kill


@pytest.fixture
def ledger(tmp_path):
    with Ledger(tmp_path / "ledger.sqlite") as ledger:
        yield ledger


def _row(key: str, path: str = "labels/aa.h5", checksum: str = "c0ffee") -> LabelRow:
    return LabelRow(key=key, path=path, checksum=checksum)


def test_events_come_back_in_order(ledger):
    events = [Event(kind=f"kind-{i}", payload={"i": i, "text": "Å", "none": None}) for i in range(5)]
    assert [ledger.append(event) for event in events] == [1, 2, 3, 4, 5]
    back = list(ledger.events())
    assert [(event.kind, event.payload, event.time) for event in back] == [
        (event.kind, event.payload, event.time) for event in events
    ]
    assert [event.seq for event in ledger.events(after=3)] == [4, 5]


def test_more_events_than_a_page(ledger, monkeypatch):
    monkeypatch.setattr("alpot.store.ledger._PAGE", 3)
    for i in range(9):
        ledger.append(Event(kind="k", payload={"i": i}), [_row(f"key{i}")])
    assert [event.payload["i"] for event in ledger.events()] == list(range(9))
    assert [row.key for row in ledger.label_rows()] == [f"key{i}" for i in range(9)]


def test_labels_are_indexed_with_their_event(ledger):
    seq = ledger.append(Event(kind="labelled", payload={}), [_row("k1"), _row("k2")])
    assert ledger.has_label("k1") and not ledger.has_label("k3")
    assert ledger.label_row("k2") == LabelRow(key="k2", path="labels/aa.h5", checksum="c0ffee", seq=seq)
    assert ledger.label_row("k3") is None


def test_a_label_is_new_only_once(ledger):
    ledger.append(Event(kind="labelled", payload={}), [_row("k1")])
    ledger.append(Event(kind="adopted", payload={}), [_row("k1")])
    with pytest.raises(StorageError, match=r"label k1 is recorded already, in labels/aa.h5 with checksum c0ffee"):
        ledger.append(Event(kind="labelled", payload={}), [_row("k2"), _row("k1", checksum="bad")])
    assert [event.kind for event in ledger.events()] == ["labelled", "adopted"]
    assert [row.key for row in ledger.label_rows()] == ["k1"]


def test_labels_move_to_a_shard(ledger):
    ledger.append(Event(kind="labelled", payload={}), [_row("k1"), _row("k2")])
    shard = [_row(key, "dataset/shard-00001.h5", "5a4d") for key in ("k1", "k2")]
    ledger.append(Event(kind="compacted", payload={}), moved=shard)
    assert {row.path for row in ledger.label_rows()} == {"dataset/shard-00001.h5"}
    with pytest.raises(StorageError, match="k9 cannot move to x: it was never recorded"):
        ledger.append(Event(kind="compacted", payload={}), moved=[_row("k9", "x")])
    assert len(list(ledger.events())) == 2


def test_events_cannot_be_changed(ledger):
    ledger.append(Event(kind="k", payload={}))
    with sqlite3.connect(ledger.path) as other:
        for statement in ("DELETE FROM events", "UPDATE events SET kind = 'x'"):
            with pytest.raises(sqlite3.IntegrityError, match="append-only"):
                other.execute(statement)
    other.close()


@pytest.mark.parametrize("payload", [{"x": float("nan")}, {"x": {1, 2}}])
def test_payload_must_be_json(ledger, payload):
    with pytest.raises(StorageError, match="payload of a 'k' event is not JSON"):
        ledger.append(Event(kind="k", payload=payload))
    assert list(ledger.events()) == []


def test_read_only_while_the_controller_writes(ledger):
    for i in range(3):
        ledger.append(Event(kind="k", payload={"i": i}))
    with Ledger(ledger.path, read_only=True) as reader:
        events = reader.events()
        next(events)
        # A reader in the middle of its work must not keep the writer waiting.
        ledger.append(Event(kind="k", payload={"i": 3}))
        assert [event.payload["i"] for event in reader.events()] == [0, 1, 2, 3]
        with pytest.raises(StorageError, match="may not be written"):
            reader.append(Event(kind="k", payload={}))


def test_two_writers_wait_for_each_other(ledger):
    def write() -> None:
        with Ledger(ledger.path) as mine:
            for _ in range(10):
                mine.append(Event(kind="k", payload={}))

    threads = [threading.Thread(target=write) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [event.seq for event in ledger.events()] == list(range(1, 21))


def test_what_is_not_a_ledger(tmp_path):
    with pytest.raises(StorageError, match="there is no ledger"):
        Ledger(tmp_path / "missing", read_only=True)
    assert not (tmp_path / "missing").exists()
    (tmp_path / "text").write_text("not a database at all, but long enough to look like something")
    with pytest.raises(StorageError, match=r"text: .*not an SQLite database"):
        Ledger(tmp_path / "text")
    with sqlite3.connect(tmp_path / "foreign") as foreign:
        foreign.execute("CREATE TABLE t (x)")
    foreign.close()
    with pytest.raises(StorageError, match="not the ledger of a campaign"):
        Ledger(tmp_path / "foreign")
    with pytest.raises(StorageError, match="missing"):
        Ledger(tmp_path / "no" / "folder" / "ledger.sqlite")


def test_newer_version(ledger):
    with sqlite3.connect(ledger.path) as other:
        other.execute("PRAGMA user_version = 99")
    other.close()
    with pytest.raises(StorageError, match="version 99, this alpot knows version 1"):
        Ledger(ledger.path)


def test_damaged_ledger(ledger):
    for i in range(200):
        ledger.append(Event(kind="k", payload={"i": i, "text": "x" * 100}))
    ledger.close()
    data = bytearray(ledger.path.read_bytes())
    data[4096 * 2 : 4096 * 6] = bytes(4096 * 4)
    ledger.path.write_bytes(data)
    with pytest.raises(StorageError, match=r"ledger\.sqlite"), Ledger(ledger.path, read_only=True) as damaged:
        list(damaged.events())


def test_full_disk(small_disk):
    with Ledger(small_disk / "ledger.sqlite") as ledger:
        ledger.append(Event(kind="before", payload={}))
        with pytest.raises(StorageError, match="full"):
            ledger.append(Event(kind="big", payload={"x": "x" * 1_000_000}), [_row("k")])
        assert [event.kind for event in ledger.events()] == ["before"]
        assert not ledger.has_label("k")
        ledger.append(Event(kind="after", payload={}))
    with Ledger(small_disk / "ledger.sqlite", read_only=True) as ledger:
        assert [event.kind for event in ledger.events()] == ["before", "after"]


_WRITER = """
import sys
from pathlib import Path
from alpot.store.ledger import Event, LabelRow, Ledger
ledger = Ledger(Path(sys.argv[1]))
for i in range(10**6):
    key = f"key-{i}"
    seq = ledger.append(
        Event(kind="labelled", payload={"key": key, "x": "x" * 5000}), [LabelRow(key=key, path="p", checksum="c")]
    )
    print(seq, flush=True)
"""


@pytest.mark.parametrize("seconds", [0.0, 0.04, 0.09, 0.17])
def test_kill_loses_no_acknowledged_event(tmp_path, seconds):
    path = tmp_path / "ledger.sqlite"
    acknowledged = list(map(int, acknowledged_before_kill(_WRITER, seconds, path)))
    # The reader comes first: it must be able to undo the transaction that the kill left half done.
    with Ledger(path, read_only=True) as ledger:
        events = list(ledger.events())
        keys = {row.key for row in ledger.label_rows()}
    numbers = [event.seq for event in events]
    assert numbers == list(range(1, len(numbers) + 1))
    assert acknowledged == numbers[: len(acknowledged)]
    # Event and index go together.
    assert keys == {event.payload["key"] for event in events}
