"""Knows where everything of a campaign lies, who runs it, and whether it was asked to stop.

A folder is a campaign once it holds ``ledger.sqlite``, which is made last. Paths given out here are absolute; what is
recorded in the ledger is relative to the campaign directory, so that the directory may be moved.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from alpot.errors import CampaignDirectoryError, CampaignLockedError, StorageError
from alpot.store.files import make_folder, publish, publish_with, read_bytes
from alpot.store.ledger import Ledger

_FOLDERS = ("labels", "candidates", "dataset", "models", "tasks", "report", "logs")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]+")
#: Somebody who asks for the holder (``alpot status``) takes the lock for an instant: worth a second look, not more.
_LOCK_PATIENCE_S = 1.0


@dataclass(frozen=True, kw_only=True)
class Holder:
    """The controller that runs in a campaign directory."""

    host: str
    pid: int
    since: str

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}, since {self.since}"


class CampaignDirectory:
    """A campaign directory; the constructor only names it, see ``create`` and ``open``."""

    def __init__(self, path: Path) -> None:
        self.path = Path(path).absolute()

    # ------------------------------------------------------------------------------------------ its parts

    @property
    def config(self) -> Path:
        """What the user asked: a copy of the campaign file."""
        return self.path / "campaign.toml"

    @property
    def ledger(self) -> Path:
        """The ledger; open it with ``alpot.store.ledger.Ledger``."""
        return self.path / "ledger.sqlite"

    @property
    def report(self) -> Path:
        """The folder of the report."""
        return self.path / "report"

    @property
    def logs(self) -> Path:
        """The folder of logs."""
        return self.path / "logs"

    def label_path(self, key: str) -> Path:
        """The file of one finished reference calculation."""
        return self.path / "labels" / _name(key)[:2] / f"{key}.h5"

    def candidates_path(self, task_id: str) -> Path:
        """The frames that an explore task found."""
        return self.path / "candidates" / f"{_name(task_id)}.h5"

    def shard_path(self, number: int) -> Path:
        """Labels compacted into one immutable file."""
        return self.path / "dataset" / f"shard-{number:05d}.h5"

    def model_path(self, generation: int) -> Path:
        """The folder of a generation's potential."""
        return self.path / "models" / f"gen-{generation:04d}"

    def task_path(self, kind: str, task_id: str) -> Path:
        """The folder in which a task works."""
        return self.path / "tasks" / _name(kind) / _name(task_id)

    def relative(self, path: Path) -> str:
        """A path inside the campaign as it is written into the ledger."""
        return path.relative_to(self.path).as_posix()

    # ---------------------------------------------------------------------------------- creating, opening

    @classmethod
    def is_campaign(cls, path: Path) -> bool:
        """Whether a folder holds a campaign."""
        return cls(path).ledger.is_file()

    @classmethod
    def create(cls, path: Path, config_text: bytes, source: Path) -> CampaignDirectory:
        """Makes a new campaign directory.

        Killed half-way, it leaves a folder that is not a campaign, and that a second ``create`` completes.

        Args:
            path: the directory; missing, empty, half-created, or holding nothing but the campaign file itself.
            config_text: content of the campaign file.
            source: the campaign file; file names in it are relative to its folder.
        """
        directory = cls(path)
        directory._refuse_foreign(source)
        try:
            for folder in _FOLDERS:
                make_folder(directory.path / folder)
            directory.replace_config(config_text, source)
            publish_with(directory.ledger, lambda path: Ledger(path).close())
        except StorageError as error:
            raise CampaignDirectoryError(f"cannot create the campaign directory {directory.path}: {error}") from error
        return directory

    @classmethod
    def open(cls, path: Path) -> CampaignDirectory:
        """Opens an existing campaign directory; ``CampaignDirectoryError`` says what is wrong with it."""
        directory = cls(path)
        if not directory.path.is_dir():
            raise CampaignDirectoryError(f"there is no folder {directory.path}")
        if not directory.ledger.is_file():
            raise CampaignDirectoryError(
                f"{directory.path} is not a campaign directory: it has no ledger.sqlite;"
                " give a directory that `alpot run` made, or a campaign file"
            )
        if not directory.config.is_file():
            raise CampaignDirectoryError(
                f"the campaign directory {directory.path} has lost its campaign.toml; put the campaign file back"
            )
        return directory

    def replace_config(self, config_text: bytes, source: Path) -> None:
        """Stores the campaign file and where it came from; the caller records the change in the ledger."""
        origin = {"source": str(source.absolute()), "text": config_text.decode()}
        publish(self._origin, json.dumps(origin, indent=1).encode())
        publish(self.config, config_text)

    @property
    def source(self) -> Path:
        """The user's own campaign file; file names in it are relative to its folder."""
        return Path(self._recorded("source"))

    @property
    def recorded_config(self) -> str:
        """The campaign file as it was last taken over; ``config`` may have been edited since."""
        return self._recorded("text")

    def _recorded(self, name: str) -> str:
        try:
            return str(json.loads(read_bytes(self._origin))[name])
        except (ValueError, KeyError, TypeError) as error:
            raise StorageError(f"{self._origin} is damaged: {error!r}") from error

    @property
    def _origin(self) -> Path:
        return self.path / "campaign.source.json"

    def _refuse_foreign(self, source: Path) -> None:
        if self.ledger.exists():
            raise CampaignDirectoryError(
                f"{self.path} holds a campaign already; continue it with `alpot run {self.path}`, or use another folder"
            )
        if not self.path.exists():
            return
        if not self.path.is_dir():
            raise CampaignDirectoryError(f"{self.path} is a file; a campaign needs a folder of its own")
        foreign = sorted(entry.name for entry in self.path.iterdir() if not self._is_own(entry, source))
        if foreign:
            shown = ", ".join(foreign[:5]) + (", ..." if len(foreign) > 5 else "")
            raise CampaignDirectoryError(
                f"{self.path} is not empty and not a campaign (it holds {shown}); use a new or an empty folder"
            )

    def _is_own(self, entry: Path, source: Path) -> bool:
        """Whether an entry can be what a killed ``create`` left behind; a folder with content cannot."""
        if entry.is_dir():
            return entry.name in _FOLDERS and not any(entry.iterdir())
        if entry == source.absolute() or entry.name == self._origin.name:
            return True
        if entry.name == self.config.name:
            return self._origin.exists()
        return entry.name.startswith(".") and ".tmp" in entry.name

    # ---------------------------------------------------------------------------------- running, stopping

    @property
    def _lock_path(self) -> Path:
        return self.path / "controller.lock"

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Holds the campaign for this process; the kernel lets go of it when the process ends, however it ends.

        The lock belongs to the open file: a process that is forked (not executed) meanwhile would share it.

        Raises:
            CampaignLockedError: another controller holds it; says who.
        """
        try:
            descriptor = os.open(self._lock_path, os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            raise CampaignDirectoryError(f"cannot open {self._lock_path}: {error.strerror}") from error
        try:
            try:
                self._take(descriptor)
                _write_holder(descriptor)
            except OSError as error:
                raise CampaignDirectoryError(f"cannot lock {self._lock_path}: {error.strerror}") from error
            yield
        finally:
            os.close(descriptor)

    def holder(self) -> Holder | None:
        """Who runs this campaign now; None if nobody does. It may be on another host."""
        try:
            descriptor = os.open(self._lock_path, os.O_RDONLY)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise CampaignDirectoryError(f"cannot open {self._lock_path}: {error.strerror}") from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return _read_holder(descriptor)
        finally:
            os.close(descriptor)
        return None

    def _take(self, descriptor: int) -> None:
        deadline = time.monotonic() + _LOCK_PATIENCE_S
        while True:
            try:
                return fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                if time.monotonic() > deadline:
                    raise CampaignLockedError(
                        f"another controller runs the campaign {self.path} ({_read_holder(descriptor)});"
                        f" watch it with `alpot status {self.path}`, or stop it first with `alpot stop {self.path}`"
                    ) from error
                time.sleep(0.05)

    @property
    def _stop_path(self) -> Path:
        return self.path / "stop"

    def request_stop(self) -> None:
        """Asks the controller to finish what runs and to start nothing new."""
        publish(self._stop_path, b"")

    def stop_requested(self) -> bool:
        """Whether a stop was asked for and not cleared."""
        return self._stop_path.exists()

    def clear_stop(self) -> None:
        """Forgets a request to stop."""
        self._stop_path.unlink(missing_ok=True)


def _name(name: str) -> str:
    """Refuses whatever could lead a path out of its folder."""
    if not _NAME.fullmatch(name):
        raise ValueError(f"{name!r} cannot be a file name in a campaign directory: it must match {_NAME.pattern}")
    return name


def _write_holder(descriptor: int) -> None:
    since = datetime.now(UTC).isoformat(timespec="seconds")
    holder = Holder(host=socket.gethostname(), pid=os.getpid(), since=since)
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, json.dumps(asdict(holder)).encode(), 0)


def _read_holder(descriptor: int) -> Holder:
    try:
        return Holder(**json.loads(os.pread(descriptor, 4096, 0)))
    except (ValueError, TypeError):
        # The holder is between taking the lock and writing its name.
        return Holder(host="an unknown host", pid=0, since="just now")
