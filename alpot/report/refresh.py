"""Keeps the page of a running campaign up to date, in another process: no decision waits for it."""

from __future__ import annotations

import subprocess
import sys
import time
from contextlib import suppress
from types import TracebackType
from typing import Self

from alpot.campaign.state import State
from alpot.store.directory import CampaignDirectory

#: A reader does not wait for longer; a small campaign is over before its first page would be written.
_INTERVAL_S = 60.0
#: Reading the ledger of a large campaign takes half a minute; writing pages shall take a tenth of one core at most.
_REST = 10.0


class PageRefresher:
    """Observes a controller (``on_change``); a context manager around ``Controller.run``.

    After an event a page is written if the last one is old enough. Where that fails there is none until the next, or
    until the end of the campaign, which says why.

    Args:
        directory: the campaign.
        interval_s: s at least between the end of one writing and the beginning of the next.
    """

    def __init__(self, directory: CampaignDirectory, interval_s: float = _INTERVAL_S) -> None:
        self.directory = directory
        self._interval_s = interval_s
        self._process: subprocess.Popen[bytes] | None = None
        self._begun = time.monotonic()
        self._due = self._begun + interval_s

    def __enter__(self) -> Self:
        return self

    def __call__(self, state: State) -> None:
        """Something has happened."""
        if self._process is not None:
            if self._process.poll() is None:
                return
            self._process = None
            now = time.monotonic()
            self._due = now + max(self._interval_s, _REST * (now - self._begun))
        if time.monotonic() < self._due:
            return
        self._begun = time.monotonic()
        # -P: the folder in which the user happens to be is none to import from.
        command = [sys.executable, "-P", "-m", "alpot.report.page", str(self.directory.path)]
        quiet = subprocess.DEVNULL
        with suppress(OSError):  # no memory for another process, say
            self._process = subprocess.Popen(command, stdin=quiet, stdout=quiet, stderr=quiet)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Ends a writing that is under way: it must not replace the page that is written when all is over."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
