"""Lets one controller at a time run a campaign, on one computer and across the nodes of a cluster, and says which.

Whoever runs a campaign holds two things. The kernel's lock (``flock`` on ``controller.lock``) is exact on one computer
and vanishes with its process, but on some network file systems it ends at the node, or is missing. The *lease*, the
file ``controller-000007.json`` with the highest number, is seen by every node: its holder rewrites it every ten
seconds (a beat). On its own computer a holder is known to be dead by its process; on another one it counts as gone if
its lease did not change for four beats, by the watcher's clock alone: clocks of different nodes are not compared.

A lease is never taken from its file: the successor makes the file with the next number, and a hard link, which is
atomic on network file systems too, lets exactly one of any number of contenders make it. A holder that was only asleep
finds the higher number at its next beat and has lost the campaign; what it wrote meanwhile the ledger has refused.
"""

from __future__ import annotations

import errno
import fcntl
import json
import logging
import os
import re
import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import psutil

from alpot.errors import CampaignDirectoryError, CampaignLockedError, StorageError
from alpot.store.files import publish, publish_new

logger = logging.getLogger(__name__)

#: s between two beats of a lease.
BEAT_S = 10.0
#: Beats without a change after which a lease counts as abandoned, and (fewer) after which its holder must give it up.
_ABANDONED_AFTER = 4
_LOST_AFTER = 3
_KERNEL_LOCK = "controller.lock"
_NAME = re.compile(r"controller-(\d{6,})\.json")
#: Errors of ``flock`` where the file system does not know it; the lease then stands alone.
_NO_FLOCK = (errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK, errno.EINVAL)


@dataclass(frozen=True, kw_only=True)
class Holder:
    """The controller that runs in a campaign directory.

    Attributes:
        host: where it runs.
        pid: its process.
        since: when it began, ISO 8601 in UTC.
        last_beat: when it last said that it is alive, by its own clock; for people to read.
    """

    host: str
    pid: int
    since: str
    last_beat: str = ""

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}, since {self.since}"


@dataclass(frozen=True, kw_only=True)
class _Record:
    """What a lease file says; ``machine`` and ``started`` tell the process from another one with the same number."""

    host: str
    pid: int
    since: str
    last_beat: str
    machine: str
    started: float
    nonce: str
    beats: int = 0
    released: bool = False

    @classmethod
    def of_this_process(cls) -> _Record:
        return cls(
            host=socket.gethostname(),
            pid=os.getpid(),
            since=_now(),
            last_beat=_now(),
            machine=_machine(),
            started=psutil.Process().create_time(),
            nonce=secrets.token_hex(16),
        )

    @property
    def holder(self) -> Holder:
        return Holder(host=self.host, pid=self.pid, since=self.since, last_beat=self.last_beat)

    def encode(self) -> bytes:
        return json.dumps(asdict(self), indent=1).encode()


@dataclass(frozen=True)
class _Seen:
    """The lease as somebody saw it; number 0 if there is none. Two sights are equal if no beat lies between them."""

    number: int = 0
    content: bytes = b""
    modified_ns: int = 0

    @property
    def record(self) -> _Record | None:
        """What it says; None if it is damaged."""
        try:
            return _Record(**json.loads(self.content))
        except (ValueError, TypeError, RecursionError):
            return None

    @property
    def is_on_this_machine(self) -> bool:
        """Whether its process can be looked at from here."""
        record = self.record
        return record is not None and record.machine == _machine()

    @property
    def is_free(self) -> bool:
        """Whether there is none, it was given back, or its process has ended on this computer."""
        record = self.record
        if record is None:
            return self.number == 0
        return record.released or self.is_orphaned

    @property
    def is_orphaned(self) -> bool:
        """Whether its process has ended on this computer without giving it back."""
        record = self.record
        return record is not None and not record.released and self.is_on_this_machine and not _is_alive(record)

    @property
    def holder(self) -> Holder:
        record = self.record
        return record.holder if record is not None else Holder(host="an unknown host", pid=0, since="an unknown time")


class Lease:
    """The right to run a campaign, for as long as it is not lost."""

    def __init__(self, folder: Path, number: int, record: _Record, beat_s: float) -> None:
        self._folder = folder
        self._number = number
        self._record = record
        self._beat_s = beat_s
        self._beaten_at = time.monotonic()
        self._ended = threading.Event()
        self._why_lost = ""

    @property
    def is_lost(self) -> bool:
        """Whether another controller has taken over, or may have: nothing must be started or recorded any more."""
        return bool(self._why_lost)

    @property
    def why_lost(self) -> str:
        """The reason in words; empty as long as the lease is held."""
        return self._why_lost

    @contextmanager
    def _beating(self, on_beat: Callable[[], None] | None) -> Iterator[None]:
        thread = threading.Thread(target=self._beat_on, args=(on_beat,), name="alpot-lease", daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._ended.set()
            thread.join(self._beat_s)
            if not self.is_lost:
                self._give_back(_path(self._folder, self._number))

    def _give_back(self, path: Path) -> None:
        try:
            publish(path, replace(self._record, released=True).encode())
        except StorageError:
            # A full disk: no space is needed to remove it. Otherwise it stays, to make sure of rising numbers.
            with suppress(OSError):
                path.unlink(missing_ok=True)

    def _beat_on(self, on_beat: Callable[[], None] | None) -> None:
        while not self.is_lost and not self._ended.wait(self._beat_s):
            self._beat()
            if on_beat is not None:
                try:
                    on_beat()
                except Exception:
                    logger.exception("what was to be done at every beat of the lease failed")

    def _beat(self) -> None:
        path = _path(self._folder, self._number)
        self._record = replace(self._record, beats=self._record.beats + 1, last_beat=_now())
        try:
            self._write(path)
            # Looked at after our own change of the folder, because that ends the caching of it on a network disk.
            seen = _newest(self._folder)
        except (StorageError, OSError) as error:
            logger.warning("the lease of the campaign cannot be renewed: %s", error)
            silence = time.monotonic() - self._beaten_at
            if silence > _LOST_AFTER * self._beat_s:
                self._why_lost = f"the lease {path} could not be renewed for {silence:.0f} s: {error}"
            return
        self._beaten_at = time.monotonic()
        if seen.number != self._number:
            self._why_lost = f"another controller has taken over the campaign {self._folder} ({seen.holder})"
            with suppress(OSError):
                path.unlink(missing_ok=True)

    def _write(self, path: Path) -> None:
        try:
            publish(path, self._record.encode())
        except StorageError as error:
            # A full disk still takes a new time of change, and whoever watches sees that too.
            try:
                os.utime(path)
            except OSError:
                raise error from None


@contextmanager
def hold(folder: Path, on_beat: Callable[[], None] | None = None, *, beat_s: float = BEAT_S) -> Iterator[Lease]:
    """Holds a campaign for this process until the context ends.

    Args:
        folder: the campaign directory.
        on_beat: called in another thread after every beat, also when the lease was found lost.
        beat_s: s between two beats.

    Raises:
        CampaignLockedError: another controller holds it; says which. Where that may be gone, on another host, this
            takes four beats to find out.
        StorageError: the lease cannot be written.
    """
    with _kernel_lock(folder):
        lease = _claim(folder, beat_s)
        with lease._beating(on_beat):
            yield lease


def current_holder(folder: Path) -> Holder | None:
    """Who runs a campaign, asked from any host; None if nobody does.

    A controller that was killed on another host is named until somebody takes over: see its last beat, or
    ``living_holder``.
    """
    seen = _newest(folder)
    return None if seen.is_free else seen.holder


def living_holder(folder: Path, *, beat_s: float = BEAT_S) -> Holder | None:
    """The same for certain: a controller on another host is watched, for four beats at most, until it shows life."""
    seen = _newest(folder)
    if seen.is_free or seen.is_on_this_machine:
        return None if seen.is_free else seen.holder
    later = _watch(folder, seen, beat_s)
    return None if later == seen or later.is_free else later.holder


def is_of_lock(name: str) -> bool:
    """Whether a file of this name belongs to the lock."""
    return name == _KERNEL_LOCK or _NAME.fullmatch(name) is not None


@contextmanager
def _kernel_lock(folder: Path) -> Iterator[None]:
    path = folder / _KERNEL_LOCK
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise CampaignDirectoryError(f"cannot open {path}: {error.strerror}") from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            seen = _soon(folder)
            if not seen.is_orphaned and (seen.is_free or seen.is_on_this_machine):
                raise _locked(folder, seen) from error
            # A child of a dead holder may have inherited it, and the server of a network disk may keep that of a node
            # that went down.
            logger.warning("%s is locked, but perhaps by nobody who runs the campaign; the lease decides", path)
        except OSError as error:
            if error.errno not in _NO_FLOCK:
                raise CampaignDirectoryError(f"cannot lock {path}: {error.strerror}") from error
            logger.info("%s: this file system knows no locks (%s); the lease stands alone", path, error.strerror)
        yield
    finally:
        os.close(descriptor)


def _claim(folder: Path, beat_s: float) -> Lease:
    """Makes the lease with the next number, once the newest one is free or abandoned."""
    seen = _newest(folder)
    while not seen.is_free:
        if seen.is_on_this_machine:
            raise _locked(folder, seen)
        logger.warning("waiting %g s to learn whether %s is still alive", _ABANDONED_AFTER * beat_s, seen.holder)
        later = _watch(folder, seen, beat_s)
        if later == seen:
            logger.warning("taking over %s: %s shows no sign of life", folder, seen.holder)
            break
        if not later.is_free:
            raise _locked(folder, later)
        seen = later
    mine = _Record.of_this_process()
    number = seen.number + 1
    made = publish_new(_path(folder, number), mine.encode())
    newest = _newest(folder)
    # A network file system may say that a link exists because it has just made it for us; the nonce tells.
    if newest.record is None or newest.record.nonce != mine.nonce:
        if made:
            _path(folder, number).unlink(missing_ok=True)
        raise _locked(folder, newest)
    for older in _numbers(folder):
        if older < number:
            _path(folder, older).unlink(missing_ok=True)
    return Lease(folder, number, mine, beat_s)


def _watch(folder: Path, seen: _Seen, beat_s: float) -> _Seen:
    """The lease as soon as it has changed; as it was, if it is abandoned."""
    deadline = time.monotonic() + _ABANDONED_AFTER * beat_s
    while time.monotonic() < deadline:
        time.sleep(beat_s / 4)
        later = _newest(folder)
        if later != seen:
            return later
    return seen


def _soon(folder: Path) -> _Seen:
    """The lease of whoever has the kernel's lock and may be about to write it."""
    seen = _newest(folder)
    for _ in range(20):
        if not seen.is_free:
            break
        time.sleep(0.05)
        seen = _newest(folder)
    return seen


def _locked(folder: Path, seen: _Seen) -> CampaignLockedError:
    holder = _Seen().holder if seen.is_free else seen.holder
    beat = f", last beat {holder.last_beat}" if holder.last_beat else ""
    return CampaignLockedError(
        f"another controller runs the campaign {folder} ({holder}{beat});"
        f" watch it with `alpot status {folder}`, or stop it first with `alpot stop {folder}`"
    )


def _newest(folder: Path) -> _Seen:
    while True:
        number = max(_numbers(folder), default=0)
        if number == 0:
            return _Seen()
        try:
            with _path(folder, number).open("rb") as file:
                return _Seen(number, file.read(), os.fstat(file.fileno()).st_mtime_ns)
        except FileNotFoundError:
            # Its successor has just removed it; a network disk may list it for some seconds more.
            time.sleep(0.01)
        except OSError as error:
            if error.errno != errno.ESTALE:
                raise CampaignDirectoryError(f"cannot read {_path(folder, number)}: {error.strerror}") from error


def _numbers(folder: Path) -> list[int]:
    try:
        names = os.listdir(folder)  # noqa: PTH208 - names only
    except OSError as error:
        raise CampaignDirectoryError(f"cannot list {folder}: {error.strerror}") from error
    return [int(match[1]) for match in map(_NAME.fullmatch, names) if match]


def _path(folder: Path, number: int) -> Path:
    return folder / f"controller-{number:06d}.json"


def _machine() -> str:
    """Names the kernel, since its boot, and the name space in which the number of a process means something."""
    parts = [socket.gethostname()]
    with suppress(OSError):
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text().strip())
        parts.append(str(Path("/proc/self/ns/pid").readlink()))
    return " ".join(parts)


def _is_alive(record: _Record) -> bool:
    if not psutil.pid_exists(record.pid):
        return False
    try:
        process = psutil.Process(record.pid)
        # The same number may belong to a later process; clocks that are set change times of start a little.
        is_same = abs(process.create_time() - record.started) < 2.0
        return is_same and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return psutil.pid_exists(record.pid)  # it has just ended, or may not be looked at


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
