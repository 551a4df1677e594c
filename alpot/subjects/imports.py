"""Labels that a campaign does not compute itself: those that the user brings, and those of the campaign it forks.

They are copied into the campaign directory before its first task; from then on nothing depends on where they came from.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from itertools import chain, islice
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
from alpot.store.labels import Label, write_label
from alpot.store.ledger import LabelRow
from alpot.structures import is_isolated_atom
from alpot.subjects.training_data import LABELS_PER_SHARD

#: How the names of shards of labels that were brought along begin.
_STEM = "imported"


def import_labels(directory: CampaignDirectory, config: Campaign) -> ImportedLabels | None:
    """The labels that were brought into a campaign; copies those of ``material.initial_labels`` the first time.

    Raises:
        UsageError: a file of the user is missing or wrong.
        StorageError: the list of what was copied is damaged.
    """
    if not _index(directory).exists():
        if not config.material.initial_labels:
            return None
        store_labels(directory, divide(read_initial_labels(config, directory.source.parent), config))
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


@dataclass(frozen=True)
class Division:
    """Labels by what they are for.

    Attributes:
        training: to train on.
        audit: to measure errors with, never trained on.
        apart: neither: isolated atoms.
    """

    training: Iterable[Label]
    audit: Iterable[Label]
    apart: Iterable[Label] = ()

    def __add__(self, other: Division) -> Division:
        return Division(
            chain(self.training, other.training), chain(self.audit, other.audit), chain(self.apart, other.apart)
        )


def divide(labels: list[Label], config: Campaign) -> Division:
    """Divides the user's labels, which are in the order of their keys."""
    apart = [label for label in labels if is_isolated_atom(label.atoms)]
    others = [label for label in labels if not is_isolated_atom(label.atoms)]
    # Keys are hashes, so the first of them in order are a random choice, and the same one at every start.
    n_audit = max(0, min(round(len(others) * config.exploration.audit_share), len(others) - 1))
    return Division(others[n_audit:], others[:n_audit], apart)


def store_labels(directory: CampaignDirectory, labels: Division, origin: Mapping[str, Any] | None = None) -> None:
    """Copies labels into the campaign, then writes down what lies where; a second call does no harm.

    Args:
        directory: the campaign.
        labels: what to copy: into shards, and those apart into files of their own.
        origin: what is worth knowing of where they come from.
    """
    to_train = list(_store(directory, _STEM, labels.training))
    held_out = list(_store(directory, f"{_STEM}-audit", labels.audit))
    content = {
        "rows": [asdict(row) for row in (*to_train, *held_out)],
        "apart": [asdict(row) for row in _store_apart(directory, labels.apart)],
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


def is_imported(shard: str) -> bool:
    """Whether a shard (its path inside the campaign) holds labels that were brought along."""
    return Path(shard).name.startswith(_STEM)


def _store_apart(directory: CampaignDirectory, labels: Iterable[Label]) -> Iterator[LabelRow]:
    for label in labels:
        path = directory.label_path(label.key)
        # The label itself says what it is, or a new ledger would take it for one to train on.
        checksum = write_label(path, replace(label, provenance={**label.provenance, "apart": True}))
        yield LabelRow(key=label.key, path=directory.relative(path), checksum=checksum)


def _paths(rows: Iterable[LabelRow]) -> list[str]:
    return list(dict.fromkeys(row.path for row in rows))


def _index(directory: CampaignDirectory) -> Path:
    return directory.path / "dataset" / "imported.json"


def _read_index(directory: CampaignDirectory) -> ImportedLabels:
    path = _index(directory)
    content = read_json(path)
    try:
        in_shards = [LabelRow(**row) for row in content["rows"]]
        apart = [LabelRow(**row) for row in content.get("apart", [])]  # older campaigns know none
        found = ImportedLabels(
            rows=[*in_shards, *apart],
            audit=frozenset(content["audit"]),
            apart=frozenset(row.key for row in apart),
            shards=list(content["shards"]),
            audit_shards=list(content["audit_shards"]),
        )
        outside = [row.path for row in in_shards if Path(row.path).parent != Path("dataset")]
        outside += [row.path for row in apart if row.path != directory.relative(directory.label_path(row.key))]
    except (AttributeError, ValueError, KeyError, TypeError) as error:
        raise StorageError(f"{path} was not written by alpot: {error!r}") from error
    if outside or not {*found.shards, *found.audit_shards} == {row.path for row in in_shards}:
        raise StorageError(f"{path} was not written by alpot: it names files that are not its own")
    return found
