"""Records every event of a campaign, one transaction each; what is not in here did not happen.

The table ``events`` is append-only and is the truth: the campaign's state is a fold over it. The table ``labels`` is
an index over the labels that were paid for; it changes only in the transaction of an event.

The journal is a rollback journal (``journal_mode=DELETE``), because SQLite's write-ahead log needs shared memory and
breaks on network file systems. ``synchronous=EXTRA`` also syncs the folder once the journal is gone, without which a
power cut can undo a transaction that was acknowledged. Only the controller writes; others open it read-only.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

from alpot.errors import StorageError

#: Marks the file as ours in SQLite's header ("alpo").
_APPLICATION_ID = 0x616C706F
_SCHEMA_VERSION = 1
#: Readers hold the file for milliseconds (see ``_PAGE``), writers for one transaction; network disks may be slow.
_BUSY_TIMEOUT_S = 60.0
#: Rows fetched per query: in this journal mode a reader that is half-way through a table keeps the writer waiting.
_PAGE = 2000

_SCHEMA = (
    """CREATE TABLE events (
        seq INTEGER PRIMARY KEY AUTOINCREMENT, time TEXT NOT NULL, kind TEXT NOT NULL, payload TEXT NOT NULL)""",
    """CREATE TABLE labels (
        key TEXT PRIMARY KEY, path TEXT NOT NULL, checksum TEXT NOT NULL,
        seq INTEGER NOT NULL REFERENCES events(seq)) WITHOUT ROWID""",
    """CREATE TRIGGER events_never_change BEFORE UPDATE ON events
        BEGIN SELECT RAISE(ABORT, 'events are append-only'); END""",
    """CREATE TRIGGER events_never_vanish BEFORE DELETE ON events
        BEGIN SELECT RAISE(ABORT, 'events are append-only'); END""",
)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


@dataclass(frozen=True, kw_only=True)
class Event:
    """Something that happened.

    Attributes:
        kind: what happened, e.g. ``"task_started"``.
        payload: everything needed to replay it; JSON-able, no NaN or infinity (JSON has none: use None).
        time: when it happened, ISO 8601 in UTC. For people to read; decisions never depend on it.
        seq: its number in the ledger, from 1; 0 as long as it is not recorded.
    """

    kind: str
    payload: dict[str, Any]
    time: str = field(default_factory=_now)
    seq: int = 0


@dataclass(frozen=True, kw_only=True)
class LabelRow:
    """Where one label lies.

    Attributes:
        key: the label's key, see ``alpot.store.labels.label_key``.
        path: the file that holds it, relative to the campaign directory; several labels may lie in one shard.
        checksum: SHA-256 of that file in hexadecimal.
        seq: the event that recorded it here; 0 as long as it is not recorded.
    """

    key: str
    path: str
    checksum: str
    seq: int = 0


class Ledger:
    """The ledger of one campaign; a context manager that closes it.

    A missing file is created, unless ``read_only``. A read-only ledger works while the controller writes.

    Raises:
        StorageError: the file is missing (read-only), damaged, not a ledger, or made by a newer alpot.
    """

    def __init__(self, path: Path, *, read_only: bool = False) -> None:
        self.path = path
        self.read_only = read_only
        if read_only and not path.is_file():
            raise StorageError(f"there is no ledger {path}")
        with self._errors("open"):
            self._connection = self._connect()
        try:
            with self._errors("open"):
                self._prepare()
        except BaseException:
            self._connection.close()
            raise

    def append(self, event: Event, labels: Sequence[LabelRow] = (), *, moved: Sequence[LabelRow] = ()) -> int:
        """Records an event, and what it changes in the index of labels, in one transaction; durable on return.

        Args:
            event: what happened.
            labels: labels that are new. One that is there already with the same path and checksum is accepted, so
                that adopting a result twice does no harm; with another path or checksum it is an error.
            moved: labels that are known and now lie in another file (a shard).

        Returns:
            The event's number, larger than all before.

        Raises:
            StorageError: nothing was recorded; the message says why.
        """
        payload = self._encode(event)
        with self._errors("write to"), self._transaction():
            cursor = self._connection.execute(
                "INSERT INTO events (time, kind, payload) VALUES (?, ?, ?)", (event.time, event.kind, payload)
            )
            seq = int(cursor.lastrowid or 0)
            for row in labels:
                self._insert_label(row, seq)
            for row in moved:
                self._move_label(row, seq)
        return seq

    def events(self, after: int = 0) -> Iterator[Event]:
        """The events with numbers above ``after``, in order; those recorded while iterating included."""
        while True:
            with self._errors("read"):
                page = self._connection.execute(
                    "SELECT seq, time, kind, payload FROM events WHERE seq > ? ORDER BY seq LIMIT ?", (after, _PAGE)
                ).fetchall()
            for seq, time, kind, payload in page:
                yield Event(kind=kind, payload=self._decode(payload, seq), time=time, seq=seq)
                after = seq
            if len(page) < _PAGE:
                return

    def label_rows(self) -> Iterator[LabelRow]:
        """All labels, in the order of their keys."""
        after = ""
        while True:
            with self._errors("read"):
                page = self._connection.execute(
                    "SELECT key, path, checksum, seq FROM labels WHERE key > ? ORDER BY key LIMIT ?", (after, _PAGE)
                ).fetchall()
            for key, path, checksum, seq in page:
                yield LabelRow(key=key, path=path, checksum=checksum, seq=seq)
                after = key
            if len(page) < _PAGE:
                return

    def label_row(self, key: str) -> LabelRow | None:
        """Where the label with this key lies; None if there is none."""
        with self._errors("read"):
            row = self._connection.execute("SELECT path, checksum, seq FROM labels WHERE key = ?", (key,)).fetchone()
        return None if row is None else LabelRow(key=key, path=row[0], checksum=row[1], seq=row[2])

    def has_label(self, key: str) -> bool:
        """Whether the label with this key was recorded."""
        return self.label_row(key) is not None

    def close(self) -> None:
        """Closes the file; everything appended is durable already."""
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # ------------------------------------------------------------------------------------------ opening

    def _connect(self) -> sqlite3.Connection:
        # A read-only connection in SQLite's sense cannot roll back what a killed writer left half done. Where the
        # file may be written we therefore open it for writing and forbid changes of content by ``query_only``.
        mode = "rw" if self.read_only else "rwc"
        connection = sqlite3.connect(
            f"{self.path.absolute().as_uri()}?mode={mode}", uri=True, timeout=_BUSY_TIMEOUT_S, isolation_level=None
        )
        if self.read_only:
            connection.execute("PRAGMA query_only = ON")
        return connection

    def _prepare(self) -> None:
        execute = self._connection.execute
        if not self.read_only:
            execute("PRAGMA journal_mode = DELETE")
            execute("PRAGMA synchronous = EXTRA")
            execute("PRAGMA foreign_keys = ON")
            with self._transaction():
                if execute("SELECT count(*) FROM sqlite_master").fetchone()[0] == 0:
                    for statement in _SCHEMA:
                        execute(statement)
                    execute(f"PRAGMA application_id = {_APPLICATION_ID}")
                    execute(f"PRAGMA user_version = {_SCHEMA_VERSION}")
        if execute("PRAGMA application_id").fetchone()[0] != _APPLICATION_ID:
            raise StorageError(f"{self.path} is a database, but not the ledger of a campaign")
        version = execute("PRAGMA user_version").fetchone()[0]
        if version != _SCHEMA_VERSION:
            raise StorageError(
                f"the ledger {self.path} has version {version}, this alpot knows version {_SCHEMA_VERSION};"
                " use the alpot that made it"
            )

    # ------------------------------------------------------------------------------------------ writing

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._connection.execute("COMMIT")
        except BaseException:
            # SQLite has rolled back by itself after some errors, a full disk among them.
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            raise

    def _insert_label(self, row: LabelRow, seq: int) -> None:
        known = self._connection.execute("SELECT path, checksum FROM labels WHERE key = ?", (row.key,)).fetchone()
        if known is None:
            self._connection.execute(
                "INSERT INTO labels (key, path, checksum, seq) VALUES (?, ?, ?, ?)",
                (row.key, row.path, row.checksum, seq),
            )
        elif known != (row.path, row.checksum):
            raise StorageError(
                f"{self.path}: label {row.key} is recorded already, in {known[0]} with checksum {known[1]};"
                f" it cannot be recorded again as new, in {row.path} with checksum {row.checksum}"
            )

    def _move_label(self, row: LabelRow, seq: int) -> None:
        cursor = self._connection.execute(
            "UPDATE labels SET path = ?, checksum = ?, seq = ? WHERE key = ?", (row.path, row.checksum, seq, row.key)
        )
        if cursor.rowcount != 1:
            raise StorageError(f"{self.path}: label {row.key} cannot move to {row.path}: it was never recorded")

    def _encode(self, event: Event) -> str:
        try:
            return json.dumps(event.payload, allow_nan=False, ensure_ascii=False, separators=(",", ":"))
        except (TypeError, ValueError) as error:
            raise StorageError(f"{self.path}: the payload of a {event.kind!r} event is not JSON: {error}") from error

    def _decode(self, payload: str, seq: int) -> dict[str, Any]:
        try:
            decoded = json.loads(payload)
        except ValueError as error:
            raise StorageError(f"the ledger {self.path} is damaged: event {seq} is not JSON: {error}") from error
        return dict(decoded)

    @contextmanager
    def _errors(self, action: str) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise StorageError(f"cannot {action} the ledger {self.path}: {_explain(error)}") from error


def _explain(error: sqlite3.Error) -> str:
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    cures = {
        sqlite3.SQLITE_FULL: "the disk is full; free some space, then run the same command again",
        sqlite3.SQLITE_BUSY: "another process keeps it locked; is it opened in a database browser?",
        sqlite3.SQLITE_READONLY: "it may not be written; check the permissions of the file and its folder",
        sqlite3.SQLITE_CANTOPEN: "the file or its folder is missing or may not be opened",
        sqlite3.SQLITE_NOTADB: "it is not an SQLite database, or it is damaged",
        sqlite3.SQLITE_CORRUPT: "it is damaged",
        sqlite3.SQLITE_IOERR: "the disk failed or is full",
    }
    return f"{error} ({cures[code]})" if code in cures else str(error)
