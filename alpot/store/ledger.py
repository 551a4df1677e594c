"""Records every event of a campaign, one transaction each; what is not in here did not happen.

The table ``events`` is append-only and is the truth: the campaign's state is a fold over it. The table ``labels`` is
an index over the labels that were paid for; it changes only in the transaction of an event.

The journal is a rollback journal, because SQLite's write-ahead log needs shared memory and breaks on network file
systems. Its file stays between transactions (``journal_mode=PERSIST``) and is void while its header is zero: on a
network disk a name that came or went (``DELETE``) may be cached for a minute, and whoever does not see the journal of a
killed writer reads half a transaction, but content is read anew at every opening. The zeroed header is synced
(``synchronous=EXTRA``) before a transaction is acknowledged; no folder needs a sync. A clean end removes the file.

Every event carries a hash of itself and of all before it, every row of the index a hash of itself: a flipped bit is
noticed when it is read. Only one controller writes, others open the ledger read-only; a controller that was replaced
while it slept is refused, because the last event is no longer the one that it knows.
"""

from __future__ import annotations

import hashlib
import json
import re
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

from alpot.errors import StorageError

#: Marks the file as ours in SQLite's header ("alpo").
_APPLICATION_ID = 0x616C706F
_SCHEMA_VERSION = 2
#: Readers hold the file for milliseconds (see ``_PAGE``), writers for one transaction; network disks may be slow.
_BUSY_TIMEOUT_S = 60.0
#: Rows fetched per query: in this journal mode a reader that is half-way through a table keeps the writer waiting.
_PAGE = 1000

#: A path inside the campaign directory, without ``..``.
_INSIDE = re.compile(r"[\w.-]+(/[\w.-]+)*")
_SCHEMA = (
    """CREATE TABLE events (
        seq INTEGER PRIMARY KEY, time TEXT NOT NULL, kind TEXT NOT NULL, payload TEXT NOT NULL,
        chain BLOB NOT NULL)""",
    """CREATE TABLE labels (
        key TEXT PRIMARY KEY, path TEXT NOT NULL, checksum TEXT NOT NULL,
        seq INTEGER NOT NULL REFERENCES events(seq), mark BLOB NOT NULL) WITHOUT ROWID""",
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
                self._last = self._newest()
        except BaseException:
            self._connection.close()
            raise

    def append(
        self,
        event: Event,
        labels: Sequence[LabelRow] = (),
        *,
        moved: Sequence[LabelRow] = (),
        removed: Sequence[str] = (),
    ) -> int:
        """Records an event, and what it changes in the index of labels, in one transaction; durable on return.

        Args:
            event: what happened.
            labels: labels that are new. One that is there already with the same path and checksum is accepted, so
                that adopting a result twice does no harm; with another path or checksum it is an error.
            moved: labels that are known and now lie in another file (a shard).
            removed: keys of labels that are known and count no more (lost or refused); their files are left alone.

        Returns:
            The event's number, larger than all before.

        Raises:
            StorageError: nothing was recorded; the message says why. Also if another controller has written since.
        """
        payload = self._encode(event)
        with self._errors("write to"), self._transaction():
            self._refuse_if_replaced()
            last, chain = self._last
            seq, chain = last + 1, _link(chain, event.time, event.kind, payload)
            self._connection.execute(
                "INSERT INTO events (seq, time, kind, payload, chain) VALUES (?, ?, ?, ?, ?)",
                (seq, event.time, event.kind, payload, chain),
            )
            for row in labels:
                self._insert_label(row, seq)
            for row in moved:
                self._move_label(row, seq)
            for key in removed:
                self._remove_label(key)
        self._last = (seq, chain)
        return seq

    @property
    def last_event(self) -> int:
        """Number of the last event, as of when the ledger was opened, or of what was read or appended since."""
        return self._last[0]

    def events(self, after: int = 0) -> Iterator[Event]:
        """The events with numbers above ``after``, in order; those recorded while iterating included."""
        chain = self._chain_of(after)
        while True:
            with self._errors("read"):
                page = self._connection.execute(
                    "SELECT seq, time, kind, payload, chain FROM events WHERE seq > ? ORDER BY seq LIMIT ?",
                    (after, _PAGE),
                ).fetchall()
            for seq, time, kind, text, recorded in page:
                chain = _link(chain, time, kind, text)
                if chain != recorded or seq != after + 1:
                    raise self._damaged(f"event {seq} is not what was recorded after event {after}")
                after = seq
                if seq > self._last[0]:
                    self._last = (seq, chain)
                yield Event(kind=kind, payload=self._decode(text, seq), time=time, seq=seq)
            if len(page) < _PAGE:
                return

    def label_rows(self) -> Iterator[LabelRow]:
        """All labels, in the order of their keys."""
        after = ""
        while True:
            with self._errors("read"):
                page = self._connection.execute(
                    "SELECT key, path, checksum, seq, mark FROM labels WHERE key > ? ORDER BY key LIMIT ?",
                    (after, _PAGE),
                ).fetchall()
            for row in page:
                yield self._row(*row)
                after = row[0]
            if len(page) < _PAGE:
                return

    def label_row(self, key: str) -> LabelRow | None:
        """Where the label with this key lies; None if there is none."""
        with self._errors("read"):
            row = self._connection.execute(
                "SELECT key, path, checksum, seq, mark FROM labels WHERE key = ?", (key,)
            ).fetchone()
        return None if row is None else self._row(*row)

    def has_label(self, key: str) -> bool:
        """Whether the label with this key was recorded."""
        return self.label_row(key) is not None

    def verify(self) -> None:
        """Reads everything once; ``StorageError`` says what is damaged."""
        with self._errors("read"):
            (found,) = self._connection.execute("PRAGMA integrity_check(1)").fetchone()
        if found != "ok":
            raise self._damaged(found)
        for _ in self.events():
            pass
        for _ in self.label_rows():
            pass

    def close(self) -> None:
        """Closes the file; everything appended is durable already."""
        if not self.read_only:
            # Leaving this mode removes the journal file; a reader at work may prevent it, which does no harm.
            with suppress(sqlite3.Error):
                self._connection.execute("PRAGMA journal_mode = DELETE")
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
            execute("PRAGMA journal_mode = PERSIST")
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
        self._refuse_foreign_schema()

    # ------------------------------------------------------------------------------------------ checking

    def _newest(self) -> tuple[int, bytes]:
        """Number and chain of the last event; a look-up in an index."""
        row = self._connection.execute("SELECT seq, chain FROM events ORDER BY seq DESC LIMIT 1").fetchone()
        return (0, b"") if row is None else (int(row[0]), bytes(row[1]))

    def _chain_of(self, seq: int) -> bytes:
        if seq == 0:
            return b""
        with self._errors("read"):
            row = self._connection.execute("SELECT chain FROM events WHERE seq = ?", (seq,)).fetchone()
        # There may be none yet: whoever asks for what comes after the last event gets nothing.
        return b"" if row is None else bytes(row[0])

    def _refuse_if_replaced(self) -> None:
        newest = self._newest()
        if newest != self._last:
            raise StorageError(
                f"another controller has written to the ledger {self.path}: its last event is {newest[0]}, this one"
                f" knows {self._last[0]}; this controller has been replaced and must end"
            )

    def _row(self, key: str, path: str, checksum: str, seq: int, mark: bytes) -> LabelRow:
        if _mark(key, path, checksum, seq) != mark:
            raise self._damaged(f"the row of label {key} in the index is not what was recorded")
        if not _INSIDE.fullmatch(path) or ".." in path:
            raise self._damaged(f"label {key} is said to lie in {path!r}, outside the campaign")
        return LabelRow(key=key, path=path, checksum=checksum, seq=seq)

    def _damaged(self, reason: str) -> StorageError:
        folder = self.path.parent
        return StorageError(
            f"the ledger {self.path} is damaged: {reason}; `alpot repair {folder}` makes a new one from the label files"
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
                "INSERT INTO labels (key, path, checksum, seq, mark) VALUES (?, ?, ?, ?, ?)",
                (row.key, row.path, row.checksum, seq, _mark(row.key, row.path, row.checksum, seq)),
            )
        elif known != (row.path, row.checksum):
            raise StorageError(
                f"{self.path}: label {row.key} is recorded already, in {known[0]} with checksum {known[1]};"
                f" it cannot be recorded again as new, in {row.path} with checksum {row.checksum}"
            )

    def _move_label(self, row: LabelRow, seq: int) -> None:
        cursor = self._connection.execute(
            "UPDATE labels SET path = ?, checksum = ?, seq = ?, mark = ? WHERE key = ?",
            (row.path, row.checksum, seq, _mark(row.key, row.path, row.checksum, seq), row.key),
        )
        if cursor.rowcount != 1:
            raise StorageError(f"{self.path}: label {row.key} cannot move to {row.path}: it was never recorded")

    def _remove_label(self, key: str) -> None:
        if self._connection.execute("DELETE FROM labels WHERE key = ?", (key,)).rowcount != 1:
            raise StorageError(f"{self.path}: label {key} cannot be removed from the index: it was never recorded")

    def _encode(self, event: Event) -> str:
        try:
            return json.dumps(event.payload, allow_nan=False, ensure_ascii=False, separators=(",", ":"))
        except (TypeError, ValueError) as error:
            raise StorageError(f"{self.path}: the payload of a {event.kind!r} event is not JSON: {error}") from error

    def _decode(self, text: str, seq: int) -> dict[str, Any]:
        try:
            payload = json.loads(text)
        except (ValueError, TypeError, RecursionError) as error:
            raise self._damaged(f"event {seq} is not JSON: {error}") from error
        if not isinstance(payload, dict):
            raise self._damaged(f"event {seq} is not a JSON object")
        return payload

    def _refuse_foreign_schema(self) -> None:
        """A view in place of a table, or another trigger, would run when it is read or written."""
        found = self._connection.execute("SELECT sql FROM sqlite_master WHERE sql IS NOT NULL").fetchall()
        if not set(_SCHEMA[:2]) <= {row[0] for row in found} <= set(_SCHEMA):
            raise StorageError(f"{self.path} is a database, but not the ledger of a campaign: its tables are others")

    @contextmanager
    def _errors(self, action: str) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, UnicodeDecodeError) as error:  # damaged text
            raise StorageError(f"cannot {action} the ledger {self.path}: {_explain(error)}") from error


def _link(chain: bytes, time: str, kind: str, payload: str) -> bytes:
    """The hash of an event and, by ``chain``, of all before it; JSON and names hold no NUL."""
    # What a fault has turned into another type is hashed as well, instead of raising.
    return hashlib.sha256(chain + f"{time}\0{kind}\0{payload}".encode(errors="replace")).digest()[:16]


def _mark(key: str, path: str, checksum: str, seq: int) -> bytes:
    return hashlib.sha256(f"{key}\0{path}\0{checksum}\0{seq}".encode()).digest()[:16]


def _explain(error: sqlite3.Error | UnicodeDecodeError) -> str:
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    cures = {
        sqlite3.SQLITE_FULL: "the disk is full; free some space, then run the same command again",
        sqlite3.SQLITE_BUSY: "another process keeps it locked; is it opened in a database browser?",
        sqlite3.SQLITE_READONLY: "it may not be written, or the disk is full; check permissions and space",
        sqlite3.SQLITE_CANTOPEN: "the file or its folder is missing or may not be opened, or the disk is full",
        sqlite3.SQLITE_NOTADB: "it is not an SQLite database, or it is damaged: see `alpot repair`",
        sqlite3.SQLITE_CORRUPT: "it is damaged: `alpot repair` makes a new one from the label files",
        sqlite3.SQLITE_IOERR: "the disk failed or is full",
    }
    return f"{error} ({cures[code]})" if code in cures else str(error)
