"""Knows where everything of a campaign lies, who runs it, and whether it was asked to stop.

A folder is a campaign once it holds ``ledger.sqlite``, which is made last. Paths given out here are absolute; what is
recorded in the ledger is relative to the campaign directory, so that the directory may be moved.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from alpot.errors import CampaignDirectoryError, StorageError
from alpot.store.files import make_folder, publish, publish_with
from alpot.store.json_files import publish_json, read_json
from alpot.store.ledger import Ledger
from alpot.store.lock import BEAT_S, Holder, Lease, current_holder, hold, is_of_lock, living_holder

__all__ = ["CampaignDirectory", "Holder"]

_FOLDERS = ("labels", "candidates", "dataset", "models", "tasks", "report", "logs")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]+")


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
    def origin(self) -> Path:
        """The campaign file as it was last taken over, and where from."""
        return self.path / "campaign.source.json"

    @property
    def origin_copy(self) -> Path:
        """The same once more: nothing else knows it."""
        return self.path / "campaign.source.copy.json"

    @property
    def ledger(self) -> Path:
        """The ledger; open it with ``alpot.store.ledger.Ledger``."""
        return self.path / "ledger.sqlite"

    @property
    def purpose(self) -> Path:
        """Which labels are made and how to go on, where nothing is learned from them (`alpot label`, `converge`)."""
        return self.path / "labelling.json"

    @property
    def command(self) -> str:
        """What the user types to go on."""
        return str(read_json(self.purpose).get("command")) if self.purpose.exists() else f"alpot run {self.path}"

    @property
    def report(self) -> Path:
        """The folder of the report."""
        return self.path / "report"

    @property
    def logs(self) -> Path:
        """The folder of logs."""
        return self.path / "logs"

    @property
    def quarantine(self) -> Path:
        """The folder of damaged files, which nobody reads and `alpot repair` never deletes."""
        return self.path / "quarantine"

    def label_path(self, key: str) -> Path:
        """The file of one finished reference calculation."""
        return self.path / "labels" / _name(key)[:2] / f"{key}.h5"

    def candidates_path(self, task_id: str) -> Path:
        """The frames that an explore task found."""
        return self.path / "candidates" / f"{_name(task_id)}.h5"

    def shard_path(self, number: int) -> Path:
        """Labels compacted into one immutable file."""
        return self.path / "dataset" / f"shard-{number:05d}.h5"

    def audit_shard_path(self, number: int) -> Path:
        """The same for labels of the audit."""
        return self.path / "dataset" / f"audit-{number:05d}.h5"

    def model_path(self, generation: int) -> Path:
        """The folder of a generation's potential."""
        return self.path / "models" / f"gen-{generation:04d}"

    def assessment_path(self, generation: int) -> Path:
        """What the assessment of a generation saw, for the report."""
        return self.path / "assessments" / f"gen-{generation:04d}.json"

    def properties_path(self, generation: int) -> Path:
        """The physical properties of a generation."""
        return self.path / "properties" / f"gen-{generation:04d}.json"

    @property
    def measurements(self) -> Path:
        """The folder of single measurements, so that none is made twice."""
        return self.path / "measurements"

    def task_path(self, kind: str, task_id: str) -> Path:
        """The folder in which a task works."""
        return self.path / "tasks" / _name(kind) / _name(task_id)

    @property
    def worker_scratch(self) -> Path:
        """Where workers keep what may serve their next tasks, each in a folder of its own; gone when they are."""
        return self.path / "tasks" / "workers"

    def checkpoint_path(self, kind: str, task_id: str, draw: int) -> Path:
        """The saved state of a task that is not finished; shared by all attempts with the same random numbers."""
        return self.task_path(kind, task_id) / f"checkpoint-{draw}.h5"

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

        Killed half-way, it leaves a folder that is not a campaign, and that a second ``create`` completes. Of two at
        the same time, one makes it.

        Args:
            path: the directory; missing, empty, half-created, or holding nothing but the campaign file itself.
            config_text: content of the campaign file.
            source: the campaign file; file names in it are relative to its folder.
        """
        directory = cls(path)
        directory._refuse_foreign(source)
        try:
            make_folder(directory.path)
            with directory.lock():
                directory._refuse_foreign(source)
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
        for path in (self.origin, self.origin_copy):
            publish_json(path, origin)
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
            return str(read_json(self.origin)[name])
        except KeyError as error:
            raise StorageError(f"{self.origin} is damaged: it has no entry {name!r}") from error

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
        if entry == source.absolute() or entry.name in (self.origin.name, self.origin_copy.name):
            return True
        if entry.name == self.config.name:
            return self.origin.exists()
        if is_of_lock(entry.name):
            return True
        return entry.name.startswith(".") and ".tmp" in entry.name

    # ---------------------------------------------------------------------------------- running, stopping

    @contextmanager
    def lock(self, on_beat: Callable[[], None] | None = None, *, beat_s: float = BEAT_S) -> Iterator[Lease]:
        """Holds the campaign for this process, see ``alpot.store.lock.hold``.

        Args:
            on_beat: called in another thread every ``beat_s`` seconds, and when the lease was found lost.
            beat_s: s between two signs of life.

        Raises:
            CampaignLockedError: another controller holds it; says who.
        """
        with hold(self.path, on_beat, beat_s=beat_s) as lease:
            yield lease

    def holder(self) -> Holder | None:
        """Who runs this campaign; None if nobody does. One that was killed on another host is named as well."""
        return current_holder(self.path)

    def living_holder(self) -> Holder | None:
        """The same for certain; takes up to 40 s if it is on another host."""
        return living_holder(self.path)

    def request_stop(self) -> None:
        """Asks the controller to finish what runs and to start nothing new."""
        publish(self.path / "stop", b"")

    def stop_requested(self) -> bool:
        """Whether a stop was asked for and not cleared."""
        return (self.path / "stop").exists()

    def clear_stop(self) -> None:
        """Forgets a request to stop."""
        (self.path / "stop").unlink(missing_ok=True)

    def request_reload(self) -> None:
        """Asks the controller to read the campaign file again."""
        publish(self.path / "reload", b"")

    def reload_requested(self) -> bool:
        """Whether reading the campaign file again was asked for and not cleared."""
        return (self.path / "reload").exists()

    def clear_reload(self) -> None:
        """Forgets a request to read the campaign file again; to be called before it is read."""
        (self.path / "reload").unlink(missing_ok=True)


def _name(name: str) -> str:
    """Refuses whatever could lead a path out of its folder."""
    if not _NAME.fullmatch(name):
        raise ValueError(f"{name!r} cannot be a file name in a campaign directory: it must match {_NAME.pattern}")
    return name
