"""Writes small facts as JSON files that notice every flipped byte.

The checksum stands in the file, as its last entry, and the file has exactly one spelling: reading spells its content
again and compares.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from alpot.errors import StorageError
from alpot.store.files import publish, read_bytes

_CHECKSUM = "sha256"
_HASH = re.compile(r"[0-9a-f]{64}")


def publish_json(path: Path, content: Mapping[str, Any]) -> None:
    """Writes a JSON object durably, with the entry ``sha256``: the checksum of all others.

    Args:
        path: the file; it is replaced.
        content: JSON-able, keys are strings, no NaN; without an entry ``sha256``.

    Raises:
        StorageError: it cannot be written, or the content is not JSON.
    """
    try:
        publish(path, _spell(content))
    except (TypeError, ValueError) as error:
        raise StorageError(f"cannot write {path}: its content is not JSON: {error}") from error


def read_json(path: Path) -> dict[str, Any]:
    """The content of a file that ``publish_json`` wrote, without its checksum.

    Raises:
        StorageError: it is missing, damaged, or was edited.
    """
    data = read_bytes(path)
    try:
        content = json.loads(data)
        stated = content.pop(_CHECKSUM)
        is_whole = _spell(content) == data
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise StorageError(f"{path} is damaged or was not written by alpot: {error!r}") from error
    if not is_whole:
        raise StorageError(f"{path} is damaged or was edited: it does not have the checksum {stated} that it states")
    return dict(content)


def verify_json(path: Path) -> None:
    """Checks a JSON file as well as it can be checked; ``StorageError`` if it is damaged.

    One that ends with a checksum is taken for one of ``publish_json``, even if a letter in the name of that entry is
    another. Any other one, of another writer, must only be JSON.
    """
    data = read_bytes(path)
    try:
        content = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise StorageError(f"{path} is damaged: {error}") from error
    if isinstance(content, dict) and content:
        name, value = list(content.items())[-1]
        if name == _CHECKSUM or (len(name) == len(_CHECKSUM) and isinstance(value, str) and _HASH.fullmatch(value)):
            read_json(path)


def _spell(content: Mapping[str, Any]) -> bytes:
    if _CHECKSUM in content:
        raise ValueError(f"the entry {_CHECKSUM!r} is reserved for the checksum")
    body = _dump(content)
    if _dump(json.loads(body)) != body:
        raise ValueError("two of its keys are the same text")
    return _dump({**content, _CHECKSUM: hashlib.sha256(body.encode()).hexdigest()}).encode() + b"\n"


def _dump(content: Mapping[str, Any]) -> str:
    return json.dumps(dict(content), allow_nan=False, ensure_ascii=False, indent=1)
