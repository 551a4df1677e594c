"""Keeps what was measured, each measurement in a file named by the hash of what was asked.

The question names all that the answer depends on, so an answer never goes stale; one that cannot be read is measured
again.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from alpot.errors import StorageError
from alpot.store.json_files import publish_json, read_json

logger = logging.getLogger(__name__)


class Measurements:
    """A folder of measurements.

    Args:
        folder: made with the first measurement.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def find(self, question: Mapping[str, Any]) -> dict[str, Any] | None:
        """The answer to a question, None if it was never asked, or the answer is damaged."""
        path = self._path(question)
        if not path.is_file():
            return None
        try:
            answer: dict[str, Any] = read_json(path)["answer"]
        except (StorageError, KeyError) as error:
            logger.warning("a property is measured again: %s", error)
            return None
        return answer

    def keep(self, question: Mapping[str, Any], answer: Mapping[str, Any]) -> None:
        """Keeps an answer; ``StorageError`` if it cannot be written.

        Args:
            question: JSON-able, all that the answer depends on.
            answer: JSON-able.
        """
        publish_json(self._path(question), {"question": dict(question), "answer": dict(answer)})

    def _path(self, question: Mapping[str, Any]) -> Path:
        text = json.dumps(question, sort_keys=True, allow_nan=False)
        return self.folder / f"{hashlib.sha256(text.encode()).hexdigest()[:32]}.json"
