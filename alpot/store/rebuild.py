"""Makes a new ledger from the files of a campaign alone, for when the ledger is lost or damaged.

Labels are what was paid for, and they name and describe themselves. All else is begun anew: candidates, models and
tasks are kept in ``superseded/``, because their numbers will be given out again.
"""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from alpot.errors import StorageError
from alpot.store.directory import CampaignDirectory
from alpot.store.files import make_folder, move_into, publish_with, published, sha256, storage_error
from alpot.store.labels import provenances
from alpot.store.ledger import LabelRow, Ledger

#: Folders whose files are numbered by the ledger.
_NUMBERED = ("candidates", "models", "tasks")


@dataclass(frozen=True, kw_only=True)
class Index:
    """All labels that a campaign's files hold.

    Attributes:
        rows: one for each label; where it lies twice, the shard counts.
        audit: keys of those that are never trained on.
        apart: keys of those that are neither trained on nor for the audit.
        shards: files with labels to train on that hold more than their own, relative to the campaign directory.
        audit_shards: the same for the audit.
        unreadable: files that could not be read, with the reason: mend first (``alpot.store.repair``).
    """

    rows: list[LabelRow]
    audit: frozenset[str]
    apart: frozenset[str]
    shards: list[str]
    audit_shards: list[str]
    unreadable: dict[str, str]


def read_index(directory: CampaignDirectory) -> Index:
    """Reads every label file and shard; the ledger is not looked at, and nothing is changed.

    A label is of the audit if its provenance says so (``audit``), if its file's name does (``audit-00012.h5``), or
    if the list of imported labels does. It is kept apart if its provenance says so (``apart``).
    """
    rows: dict[str, LabelRow] = {}
    audit = set(_imported_audit(directory))
    apart: set[str] = set()
    shards: list[str] = []
    audit_shards: list[str] = []
    unreadable: dict[str, str] = {}
    dataset = published(directory.path / "dataset", "*.h5")
    for path in (*dataset, *published(directory.path / "labels", "*/*.h5")):
        name = directory.relative(path)
        try:
            found = provenances(path)
            checksum = sha256(path)
        except StorageError as error:
            unreadable[name] = str(error)
            continue
        new = [key for key in found if key not in rows]
        rows |= {key: LabelRow(key=key, path=name, checksum=checksum) for key in new}
        is_shard, is_audit = path.parent.name == "dataset", "audit" in path.stem
        if is_shard and new:
            (audit_shards if is_audit else shards).append(name)
        audit |= {key for key in found if (is_shard and is_audit) or found[key].get("audit") is True}
        apart |= {key for key in found if found[key].get("apart") is True}
    return Index(
        rows=list(rows.values()),
        audit=frozenset(audit & rows.keys()),
        apart=frozenset(apart),
        shards=shards,
        audit_shards=audit_shards,
        unreadable=unreadable,
    )


def replace_ledger(directory: CampaignDirectory, write: Callable[[Ledger], None]) -> Path:
    """Puts a new ledger in the place of a lost or damaged one, which goes into quarantine.

    Killed at any instant it leaves the old ledger or the new one; a second call completes it. Hold the lock.

    Args:
        directory: the campaign.
        write: records the first events in the new ledger, at least one with the rows of ``read_index``.

    Returns:
        The folder in which candidates, models and tasks lie now.
    """
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H-%M-%SZ")
    superseded = directory.path / "superseded" / f"{now}-{secrets.token_hex(2)}"
    make_folder(superseded)
    # They go first: with a new ledger, and the same numbers, they would be taken for results.
    for folder in (directory.path / name for name in _NUMBERED):
        if folder.is_dir():
            _rename(folder, superseded / folder.name)
        make_folder(folder)
    # The journal belongs to the old file; beside a new one, SQLite would apply it to that.
    journal = directory.ledger.with_name(f"{directory.ledger.name}-journal")
    if journal.exists():
        move_into(journal, directory.quarantine)
    if directory.ledger.exists():
        _keep(directory.ledger, directory.quarantine)
    publish_with(directory.ledger, lambda path: _fill(path, write))
    return superseded


def _imported_audit(directory: CampaignDirectory) -> Iterable[str]:
    try:
        content = json.loads((directory.path / "dataset" / "imported.json").read_bytes())
        return [str(key) for key in content["audit"]]
    except (OSError, ValueError, KeyError, TypeError):
        return ()


def _fill(path: Path, write: Callable[[Ledger], None]) -> None:
    with Ledger(path) as ledger:
        write(ledger)


def _rename(path: Path, target: Path) -> None:
    try:
        path.rename(target)
    except OSError as error:
        raise storage_error(f"move to {target}", path, error) from error


def _keep(path: Path, folder: Path) -> None:
    """Gives a file a second name; the first goes when the file is replaced."""
    make_folder(folder)
    try:
        os.link(path, folder / f"{path.name}.{secrets.token_hex(4)}")
    except OSError as error:
        raise storage_error(f"keep in {folder}", path, error) from error
