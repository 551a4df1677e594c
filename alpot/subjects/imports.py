"""Labels that a campaign does not compute itself: those that the user brings, and those of the campaign it forks.

They are copied into the campaign directory before its first task; from then on nothing depends on where they came from.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Any

from alpot.campaign.controller import ImportedLabels
from alpot.config import Campaign
from alpot.errors import ConfigError, StorageError
from alpot.reference import level_of_theory, open_reference
from alpot.store.dataset import write_shard
from alpot.store.directory import CampaignDirectory
from alpot.store.formats import read_labelled
from alpot.store.json_files import publish_json, read_json
from alpot.store.labels import Label
from alpot.store.ledger import LabelRow
from alpot.subjects.training_data import LABELS_PER_SHARD


def import_labels(directory: CampaignDirectory, config: Campaign) -> ImportedLabels | None:
    """The labels that were brought into a campaign; copies those of ``material.initial_labels`` the first time.

    Raises:
        UsageError: a file of the user is missing or wrong.
        StorageError: the list of what was copied is damaged.
    """
    if not _index(directory).exists():
        if not config.material.initial_labels:
            return None
        store_labels(directory, *divide(read_initial_labels(config, directory.source.parent), config))
    return _read_index(directory)


def read_initial_labels(config: Campaign, base_directory: Path) -> list[Label]:
    """The labels of the user's files in the order of their keys, each once; ``UsageError`` if a file is wrong."""
    if not config.material.initial_labels:
        return []
    level = level_of_theory(open_reference(config.reference, base_directory=base_directory))
    labels: dict[str, Label] = {}
    for name in config.material.initial_labels:
        for label in read_labelled(base_directory / name, level):
            if foreign := foreign_elements(label, config):
                raise ConfigError(
                    f"{base_directory / name} holds a frame {label.atoms.symbols} with {', '.join(foreign)}, but"
                    f" material.elements is {list(config.material.elements)}; add them there, or take the file out of"
                    " material.initial_labels"
                )
            labels.setdefault(label.key, label)
    return [labels[key] for key in sorted(labels)]


def foreign_elements(label: Label, config: Campaign) -> list[str]:
    """Elements of a label that the campaign does not know."""
    return sorted(set(label.atoms.symbols) - set(config.material.elements))


def divide(labels: list[Label], config: Campaign) -> tuple[list[Label], list[Label]]:
    """Divides the user's labels, in the order of their keys, into those to train on and those for the audit."""
    # Keys are hashes, so the first of them in order are a random choice, and the same one at every start.
    n_audit = max(0, min(round(len(labels) * config.exploration.audit_share), len(labels) - 1))
    return labels[n_audit:], labels[:n_audit]


def store_labels(
    directory: CampaignDirectory,
    training: Iterable[Label],
    audit: Iterable[Label],
    origin: Mapping[str, Any] | None = None,
) -> None:
    """Copies labels into shards of the campaign, then writes down what lies where; a second call does no harm.

    Args:
        directory: the campaign.
        training: labels to train on.
        audit: labels that are never trained on.
        origin: what is worth knowing of where they come from.
    """
    to_train = list(_store(directory, "imported", training))
    held_out = list(_store(directory, "imported-audit", audit))
    content = {
        "rows": [asdict(row) for row in (*to_train, *held_out)],
        "audit": [row.key for row in held_out],
        "shards": _paths(to_train),
        "audit_shards": _paths(held_out),
        "origin": dict(origin or {}),
    }
    publish_json(_index(directory), content)


def _store(directory: CampaignDirectory, stem: str, labels: Iterable[Label]) -> Iterator[LabelRow]:
    remaining, number = iter(labels), 0
    while batch := list(islice(remaining, LABELS_PER_SHARD)):
        path = _index(directory).with_name(f"{stem}-{number:05d}.h5")
        checksum = write_shard(path, batch)
        yield from (LabelRow(key=label.key, path=directory.relative(path), checksum=checksum) for label in batch)
        number += 1


def _paths(rows: Iterable[LabelRow]) -> list[str]:
    return list(dict.fromkeys(row.path for row in rows))


def _index(directory: CampaignDirectory) -> Path:
    return directory.path / "dataset" / "imported.json"


def _read_index(directory: CampaignDirectory) -> ImportedLabels:
    path = _index(directory)
    content = read_json(path)
    try:
        found = ImportedLabels(
            rows=[LabelRow(**row) for row in content["rows"]],
            audit=frozenset(content["audit"]),
            shards=list(content["shards"]),
            audit_shards=list(content["audit_shards"]),
        )
        outside = [row.path for row in found.rows if Path(row.path).parent != Path("dataset")]
    except (ValueError, KeyError, TypeError) as error:
        raise StorageError(f"{path} was not written by alpot: {error!r}") from error
    if outside or not {*found.shards, *found.audit_shards} == {row.path for row in found.rows}:
        raise StorageError(f"{path} was not written by alpot: it names files that are not its own")
    return found
