"""Where one campaign lives, and processes that are forked to run it."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from alpot.store.directory import CampaignDirectory


@dataclass(frozen=True)
class Place:
    """Where one campaign lives: its file, its directory, its reference's book, and what it said on stderr."""

    folder: Path

    @property
    def file(self) -> Path:
        """The campaign file."""
        return self.folder / "small.toml"

    @property
    def directory(self) -> CampaignDirectory:
        """The campaign directory."""
        return CampaignDirectory(self.folder / "campaign")

    @property
    def book(self) -> Path:
        """What the reference has computed."""
        return self.folder / "book"

    @property
    def errors(self) -> Path:
        """What the campaign said on stderr."""
        return self.folder / "stderr"

    def prepare(self, text: str) -> Place:
        """Makes the folder and the campaign file."""
        self.folder.mkdir(parents=True)
        self.file.write_text(text)
        return self

    def calculations(self) -> list[str]:
        """Structures that were computed, in order."""
        return [line.split()[0] for line in self.book.read_text().splitlines()] if self.book.exists() else []


def in_a_process(body: Callable[[], int]) -> int:
    """Runs ``body`` in a forked process; returns its exit code, negative if a signal ended it."""
    child = os.fork()
    if child == 0:
        code = 70
        try:
            code = body()
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status)
