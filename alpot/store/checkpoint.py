"""Saves the state of a task that is not finished, so that a killed or timed-out job costs minutes.

A checkpoint is one file, replaced as a whole and checksummed. It is an aid, never the truth: one that is damaged, or
belongs to something else, is ignored, and the task begins anew.
"""

from __future__ import annotations

import json
import logging
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from alpot.errors import Interrupted, StorageError
from alpot.store.container import Column, pack, understood, unpack
from alpot.store.files import publish

logger = logging.getLogger(__name__)

_KIND = "checkpoint"
#: s before the end of the job at which a task saves itself at the latest; a slow disk must manage it.
_MARGIN_S = 60.0


def _unlimited() -> float:
    return math.inf


@dataclass(frozen=True)
class Saved:
    """The state of a task.

    Attributes:
        arrays: numerical arrays by name; types and shapes come back as they were.
        facts: everything else, JSON-able; floats come back bitwise.
    """

    arrays: Mapping[str, np.ndarray]
    facts: Mapping[str, Any]


@dataclass
class Checkpoint:
    """Where and when the state of one task is saved.

    Attributes:
        path: the file.
        interval: s between two savings.
        time_left: s until the job ends; 0 once it was told to end.
        clock: s, only differences count.
    """

    path: Path
    interval: float = 300.0
    time_left: Callable[[], float] = _unlimited
    clock: Callable[[], float] = time.monotonic
    _saved_at: float = field(init=False)
    _offered_at: float = field(init=False)
    _longest: float = field(default=0.0, init=False)

    def __post_init__(self) -> None:
        self._saved_at = self._offered_at = self.clock()

    def load(self, belongs_to: str) -> Saved | None:
        """The saved state, if there is one of exactly this work.

        Args:
            belongs_to: hash of all that the work depends on, see ``offer``.
        """
        if not self.path.exists():
            return None
        try:
            content = unpack(self.path, _KIND)
            with understood(self.path):
                if content.attributes["belongs_to"] != belongs_to:
                    return None
                arrays = {name.removeprefix("arrays/"): array for name, array in content.arrays.items()}
                return Saved(arrays, dict(json.loads(content.texts["facts"][0])))
        except StorageError as error:
            logger.warning("a checkpoint is of no use, its task begins anew: %s", error)
            return None

    def offer(self, belongs_to: str, progress: float, state: Callable[[], Saved]) -> None:
        """To be called wherever the work could be continued from; saves what ``state`` returns if it is time to.

        Args:
            belongs_to: hash of all that the work depends on (inputs, settings, seed).
            progress: how far the work is, in any unit that grows; an interruption reports it.
            state: called only if the state is saved.

        Raises:
            Interrupted: the job is about to end, and the state was saved.
            StorageError: the state cannot be saved.
        """
        now = self.clock()
        self._longest = max(self._longest, now - self._offered_at)
        self._offered_at = now
        # The next opportunity may come only as late as the longest wait so far.
        ends = not self.time_left() > _MARGIN_S + 2.0 * self._longest
        if not ends and now - self._saved_at < self.interval:
            return
        saved = state()
        columns: dict[str, Column] = {f"arrays/{name}": (np.asarray(array), "") for name, array in saved.arrays.items()}
        columns["facts"] = [json.dumps(dict(saved.facts))], ""
        publish(self.path, pack(_KIND, columns, {"belongs_to": belongs_to}))
        self._saved_at = self._offered_at = self.clock()
        if ends:
            raise Interrupted(f"the job is about to end; saved in {self.path}", progress=progress)
