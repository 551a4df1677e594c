"""Gathers labels into shards, and reads datasets that consist of shards and single labels.

A shard is written once and never touched again; a dataset grows by another shard. It has a twin in the folder
``copies`` beside it: room on a disk costs nothing against 500 reference calculations, and one flipped bit in the only
file would cost them all.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from alpot.errors import LevelOfTheoryError, StorageError
from alpot.store.files import publish_new, read_bytes, set_aside, sha256
from alpot.store.labels import Label, pack_labels, unpack_labels


def write_shard(path: Path, labels: Sequence[Label]) -> str:
    """Writes labels into one immutable file.

    A shard with the same labels that is there already stays, so that a second attempt at a task succeeds; one with
    other labels is an error: use another number. A damaged one is set aside. The twin is there when this returns.

    Returns:
        SHA-256 of the file.

    Raises:
        LevelOfTheoryError: the labels are of more than one level of theory.
    """
    keys = [label.key for label in labels]
    twice = [key for key, count in Counter(keys).items() if count > 1]
    if twice:
        raise StorageError(f"cannot write {path}: {len(twice)} labels are given twice, e.g. {twice[0]}")
    content = pack_labels(labels, path)
    if publish_new(path, content):
        checksum = hashlib.sha256(content).hexdigest()
    else:
        try:
            present = [label.key for label in read_shard(path)]
        except StorageError:
            set_aside(path)
            publish_new(path, content)
            present = keys
        if set(present) != set(keys):
            raise StorageError(f"{path} holds {len(present)} other labels already; shards are never overwritten")
        checksum = sha256(path)
    copy_shard(path)
    return checksum


def copy_of(path: Path) -> Path:
    """Where the twin of a shard lies."""
    return path.parent / "copies" / path.name


def copy_shard(path: Path) -> None:
    """Makes the twin of a sound shard; one that is there already stays, unless it differs: then it is set aside."""
    copy = copy_of(path)
    content = read_bytes(path)
    if not publish_new(copy, content) and read_bytes(copy) != content:
        set_aside(copy)
        publish_new(copy, content)


def read_shard(path: Path) -> list[Label]:
    """All labels of a shard, in the order in which they were written; ``StorageError`` if it is damaged."""
    return unpack_labels(path)


def read_labels(paths: Iterable[Path], *, allow_mixed: bool = False) -> list[Label]:
    """Reads a dataset: all labels in shards and label files, each key once.

    Args:
        paths: shards and label files in any order.
        allow_mixed: accept labels of different levels of theory.

    Raises:
        LevelOfTheoryError: labels of different levels of theory, unless ``allow_mixed``.
        StorageError: a file is missing or damaged.
    """
    labels: dict[str, Label] = {}
    first_with: dict[str, Path] = {}
    for path in paths:
        for label in unpack_labels(path):
            labels.setdefault(label.key, label)
            first_with.setdefault(label.level_of_theory, path)
            if len(first_with) > 1 and not allow_mixed:
                found = "; ".join(f"{level} in {place}" for level, place in first_with.items())
                raise LevelOfTheoryError(
                    f"these labels are of different levels of theory: {found}; one potential must not be trained on"
                    " both: leave one out"
                )
    return list(labels.values())
