"""The ledger forgets nothing that it acknowledged and records nothing by halves."""

import sqlite3
import subprocess
import sys
from pathlib import Path

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


def test_a_controller_that_was_replaced_is_refused(ledger):
    ledger.append(Event(kind="k", payload={}))
    with Ledger(ledger.path) as successor:
        assert len(list(successor.events())) == 1
        successor.append(Event(kind="opened", payload={}), [_row("k1")])
        for _ in range(2):
            with pytest.raises(
                StorageError, match=r"another controller has written .* last event is 2, this one knows 1"
            ):
                ledger.append(Event(kind="late", payload={}), [_row("k2")])
        successor.append(Event(kind="k", payload={}))
    assert [event.kind for event in ledger.events()] == ["k", "opened", "k"]
    assert not ledger.has_label("k2")


def test_what_was_read_may_be_continued(ledger):
    with Ledger(ledger.path) as other:
        other.append(Event(kind="k", payload={}))
    assert [event.kind for event in ledger.events()] == ["k"]
    assert ledger.append(Event(kind="k", payload={})) == 2


def test_a_failed_transaction_leaves_the_chain_whole(ledger):
    ledger.append(Event(kind="k", payload={}))
    with pytest.raises(StorageError, match="never recorded"):
        ledger.append(Event(kind="k", payload={}), removed=["k9"])
    assert ledger.append(Event(kind="k", payload={})) == 2
    ledger.verify()


def test_labels_that_count_no_more_leave_the_index(ledger):
    ledger.append(Event(kind="labelled", payload={}), [_row("k1"), _row("k2")])
    ledger.append(Event(kind="labels_lost", payload={}), removed=["k1"])
    assert [row.key for row in ledger.label_rows()] == ["k2"]
    ledger.append(Event(kind="labelled", payload={}), [_row("k1", checksum="computed again")])
    assert ledger.label_row("k1").checksum == "computed again"


def test_the_journal_goes_with_the_writer(tmp_path):
    journal = tmp_path / "ledger.sqlite-journal"
    with Ledger(tmp_path / "ledger.sqlite") as ledger:
        ledger.append(Event(kind="k", payload={}))
        assert journal.read_bytes()[:28] == bytes(28)  # void between two transactions
    assert not journal.exists()


def _change(ledger: Ledger, *statements: str) -> None:
    """Changes what must never change, as a fault of the disk would."""
    with sqlite3.connect(ledger.path) as other:
        other.execute("DROP TRIGGER events_never_change")
        other.execute("DROP TRIGGER events_never_vanish")
        for statement in statements:
            other.execute(statement)
    other.close()


@pytest.mark.parametrize(
    ("statement", "said"),
    [
        ("UPDATE events SET payload = '{\"i\":9}' WHERE seq = 3", "event 3 is not what was recorded after event 2"),
        ("UPDATE events SET payload = '{\"i\":9},{}' WHERE seq = 3", "event 3 is not what was recorded"),
        ("UPDATE events SET payload = '{' WHERE seq = 3", "event 3 is not what was recorded"),
        ("UPDATE events SET kind = 'l' WHERE seq = 1", "event 1 is not what was recorded after event 0"),
        ("UPDATE events SET time = '2020' WHERE seq = 5", "event 5 is not"),
        ("UPDATE events SET chain = x'00' WHERE seq = 5", "event 5 is not"),
        ("DELETE FROM events WHERE seq = 2", "event 3 is not what was recorded after event 1"),
        ("UPDATE labels SET checksum = 'c0ffef'", "the row of label k1 in the index"),
        ("UPDATE labels SET key = 'k2'", "the row of label k2 in the index"),
    ],
)
def test_a_changed_row_is_noticed(ledger, statement, said):
    for i in range(5):
        ledger.append(Event(kind="k", payload={"i": i}), [_row("k1")])
    ledger.verify()
    _change(ledger, statement)
    with Ledger(ledger.path, read_only=True) as reader, pytest.raises(StorageError, match=f"damaged: {said}"):
        reader.verify()


def test_every_flipped_byte_of_an_event_is_noticed(tmp_path):
    path = tmp_path / "ledger.sqlite"
    text = "a text of which every byte is flipped once"
    with Ledger(path) as ledger:
        ledger.append(Event(kind="k", payload={"text": text}))
    data = path.read_bytes()
    begin = data.index(text.encode())
    for position in range(begin - 39, begin + len(text) + 18):  # time, kind, payload and chain lie around it
        damaged = bytearray(data)
        damaged[position] ^= 4
        path.write_bytes(damaged)
        with pytest.raises(StorageError, match=r"ledger\.sqlite"), Ledger(path, read_only=True) as reader:
            reader.verify()


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
    with pytest.raises(StorageError, match="version 99, this alpot knows version 2"):
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


_SHORT_LIFE = """
import sys
from pathlib import Path
from alpot.store.ledger import Event, LabelRow, Ledger
with Ledger(Path(sys.argv[1])) as ledger:
    row = LabelRow(key="k1", path="labels/k1.h5", checksum="c")
    print(ledger.append(Event(kind="labelled", payload={"x": "x" * 5000}), [row]), flush=True)
    moved = LabelRow(key="k1", path="dataset/shard.h5", checksum="d")
    print(ledger.append(Event(kind="compacted", payload={"x": "y" * 5000}), moved=[moved]), flush=True)
    print(ledger.append(Event(kind="lost", payload={}), removed=["k1"]), flush=True)
"""
_STEPS = ("pwrite64", "fdatasync", "fsync", "unlink", "openat")


def _killed_at(path: Path, call: str, number: int) -> list[int] | None:
    """Kills the writer as it enters its n-th call on the ledger or its journal; what it had acknowledged, or None."""
    which = [argument for name in (path, f"{path}-journal") for argument in ("-P", str(name))]
    inject = f"inject={call}:signal=SIGKILL:when={number}"
    command = ["strace", "-f", "-qq", "-o", "/dev/null", *which, "-e", f"trace={call}", "-e", inject]
    done = subprocess.run([*command, sys.executable, "-c", _SHORT_LIFE, str(path)], capture_output=True, text=True)
    assert done.returncode in (0, -9, 137), done.stderr
    return None if done.returncode == 0 else [int(line) for line in done.stdout.split()]


def _strace_works() -> bool:
    try:
        return subprocess.run(["strace", "-o", "/dev/null", "true"], capture_output=True).returncode == 0
    except FileNotFoundError:
        return False


@pytest.mark.slow
@pytest.mark.skipif(not _strace_works(), reason="strace is missing or not permitted")
def test_every_crash_point_of_a_transaction(tmp_path):
    """Killed before each write, sync, opening and removal: an event is there with its labels, or not at all."""
    points = 0
    for call in _STEPS:
        for number in range(1, 200):
            path = tmp_path / f"{call}-{number}" / "ledger.sqlite"
            path.parent.mkdir()
            acknowledged = _killed_at(path, call, number)
            if acknowledged is None:
                break
            points += 1
            with Ledger(path) as ledger:
                ledger.verify()
                kinds = [event.kind for event in ledger.events()]
                assert kinds == ["labelled", "compacted", "lost"][: len(kinds)] and len(kinds) >= len(acknowledged)
                rows = [row.path for row in ledger.label_rows()]
                assert rows == [[], ["labels/k1.h5"], ["dataset/shard.h5"], []][len(kinds)]
                ledger.append(Event(kind="resumed", payload={}))
    assert points > 50


def test_damaged_text_is_a_storage_error(tmp_path):
    path = tmp_path / "ledger.sqlite"
    with Ledger(path) as ledger:
        ledger.append(Event(kind="opened", payload={"who": "somebody of this name"}))
    path.write_bytes(path.read_bytes().replace(b"somebody", b"some\xff\xfedy"))
    with pytest.raises(StorageError, match="ledger"), Ledger(path, read_only=True) as ledger:
        list(ledger.events())
