"""Begins a new campaign with other settings, and takes over the labels of an old one as far as they still hold."""

from __future__ import annotations

import secrets
import shutil
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum, auto
from itertools import groupby
from operator import attrgetter
from pathlib import Path

from alpot.campaign.state import State
from alpot.config import Campaign
from alpot.errors import StorageError, UsageError
from alpot.reference import level_of_theory, open_reference
from alpot.store.dataset import read_shard
from alpot.store.directory import CampaignDirectory
from alpot.store.files import storage_error
from alpot.store.labels import Label
from alpot.store.ledger import LabelRow, Ledger
from alpot.subjects.imports import Division, divide, foreign_elements, read_initial_labels, store_labels


class _Purpose(Enum):
    """What a label is for, in the order of ``Division``."""

    TRAINING = auto()
    AUDIT = auto()
    APART = auto()


@dataclass
class _Inheritance:
    """The labels of an old campaign that are valid in a new one, and why the others are not.

    Attributes:
        old: the old campaign; it is only read.
        config: the new campaign.
        level: hash of the new campaign's level of theory.
        state: what the old campaign knows.
        rows: where its labels lie, by file.
        left: number of labels that are not taken over, by reason.
        taken: keys of those that are.
    """

    old: CampaignDirectory
    config: Campaign
    level: str
    state: State
    rows: list[LabelRow]
    left: Counter[str] = field(default_factory=Counter)
    taken: set[str] = field(default_factory=set)

    @classmethod
    def of(cls, old: CampaignDirectory, config: Campaign, base_directory: Path) -> _Inheritance:
        level = level_of_theory(open_reference(config.reference, base_directory=base_directory))
        with Ledger(old.ledger, read_only=True) as ledger:
            state = State.replay(ledger.events())
            rows = sorted(ledger.label_rows(), key=attrgetter("path"))
        return cls(old, config, level, state, rows)

    def labels(self) -> Division:
        """The valid labels; each sort is read when it is asked for, file by file."""
        return Division(*(self._labels(purpose) for purpose in _Purpose))

    def _labels(self, purpose: _Purpose) -> Iterator[Label]:
        for path, group in groupby(self.rows, key=attrgetter("path")):
            wanted = {row.key for row in group if self._purpose(row) == purpose}
            if wanted:
                for label in self._read(path):
                    if label.key in wanted and self._is_valid(label):
                        self.taken.add(label.key)
                        yield label

    def sentences(self) -> list[str]:
        """What was taken over, and what was not."""
        taken = f"forked from {self.old.path}: took over {len(self.taken)} of its {len(self.rows)} labels"
        return [taken, *(f"not taken over: {count} labels {reason}" for reason, count in self.left.items())]

    def _purpose(self, row: LabelRow) -> _Purpose:
        dataset = self.state.dataset
        if row.key in dataset.apart:
            return _Purpose.APART
        is_audit = row.path in dataset.audit.shards or row.key in dataset.audit.loose
        return _Purpose.AUDIT if is_audit else _Purpose.TRAINING

    def _read(self, path: str) -> list[Label]:
        try:
            return read_shard(self.old.path / path)
        except StorageError as error:
            raise StorageError(
                f"{error}. Nothing was made; stop the campaign {self.old.path} if it is running, mend it with"
                f" `alpot repair {self.old.path}`, then repeat this command"
            ) from error

    def _is_valid(self, label: Label) -> bool:
        reason = self._objection(label)
        if reason:
            self.left[reason] += 1
        return not reason

    def _objection(self, label: Label) -> str:
        if label.level_of_theory != self.level:
            return f"of another level of theory ({label.level_of_theory}, now {self.level})"
        if foreign := foreign_elements(label, self.config):
            return f"with {', '.join(foreign)}, which material.elements does not list"
        limit = self.config.reference.max_force
        if not bool(((label.forces**2).sum(axis=1) <= limit**2).all()):
            return f"with a force above reference.max_force = {limit:g} eV/Å"
        return ""


def fork(
    old: CampaignDirectory, config: Campaign, content: bytes, source: Path, target: Path
) -> tuple[CampaignDirectory, list[str]]:
    """Makes a campaign directory that begins with the labels of another campaign.

    It becomes visible when it is complete. The old directory is only read. Labels for the audit stay such; those that
    were refused before training are judged anew.

    Args:
        old: the campaign whose labels are taken over.
        config: settings of the new one.
        content: its campaign file.
        source: where that came from; file names in it are relative to its folder.
        target: the new directory; missing or empty.

    Returns:
        The new campaign, and sentences that say what it took over, what it did not, and from where.

    Raises:
        UsageError: the target exists, or a file that the settings name is wrong.
        StorageError: a file of the old campaign is damaged, or the new one cannot be written.
    """
    target = target.absolute()
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise UsageError(f"{target} exists and is not an empty folder; give --fork a new one")
    inheritance = _Inheritance.of(old, config, source.parent)
    known = {row.key for row in inheritance.rows}
    brought = [label for label in read_initial_labels(config, source.parent) if label.key not in known]
    # The name says that it is litter, should this process be killed.
    staged = target.with_name(f".{target.name}.tmp-{secrets.token_hex(4)}")
    try:
        store_labels(
            CampaignDirectory.create(staged, content, source),
            inheritance.labels() + divide(brought, config),
            {"forked_from": str(old.path), "events": inheritance.state.seq},
        )
        staged.rename(target)
    except OSError as error:
        raise storage_error("make the campaign directory", target, error) from error
    finally:
        shutil.rmtree(staged, ignore_errors=True)
    return CampaignDirectory.open(target), inheritance.sentences()
