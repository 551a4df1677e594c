"""The labels that a training or an assessment was given: reads them, leaves out what is damaged, compacts them."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from alpot.errors import StorageError
from alpot.potential.residuals import Residuals
from alpot.report.costs import CostModel, SizeSums
from alpot.store.dataset import read_labels, read_shard, write_shard
from alpot.store.directory import CampaignDirectory
from alpot.store.labels import Label, read_label

#: Single labels are compacted once there are so many. A campaign of 100,000 labels then has some 200 shards and at
#: most as many single files as this, twice (training and audit), and what came in since the last training.
LABELS_PER_SHARD = 500
_DAMAGED = "its file is damaged"


@dataclass(frozen=True)
class Dataset:
    """Labels of shards and of single files.

    Attributes:
        in_shards: labels that lie in shards.
        single: labels that have a file of their own, in the order in which they came in.
        damaged: keys of single labels that cannot be read; `alpot repair` looks after their files.
    """

    in_shards: list[Label]
    single: list[Label]
    damaged: list[str]

    @classmethod
    def read(cls, directory: CampaignDirectory, shards: Sequence[str], keys: Sequence[str]) -> Dataset:
        """Reads shards (paths inside the campaign) and single labels (keys).

        Raises:
            StorageError: a shard is damaged.
            LevelOfTheoryError: the labels are of more than one level of theory.
        """
        damaged = [key for key in keys if not is_whole(directory.label_path(key))]
        whole = [key for key in keys if key not in frozenset(damaged)]
        paths = [directory.path / name for name in shards]
        labels = {label.key: label for label in read_labels([*paths, *map(directory.label_path, whole)])}
        single = [labels.pop(key) for key in whole]
        return cls(in_shards=list(labels.values()), single=single, damaged=damaged)

    @property
    def reasons(self) -> dict[str, str]:
        """Why labels cannot be used, by key."""
        return dict.fromkeys(self.damaged, _DAMAGED)

    def labels(self, without: Collection[str]) -> list[Label]:
        """All labels but those with the keys ``without``, in the order in which they came in."""
        left_out = frozenset(without)
        return [label for label in (*self.in_shards, *self.single) if label.key not in left_out]

    def latest(self, count: int, without: Collection[str]) -> frozenset[str]:
        """Keys of the labels that came in last, ``count`` of them at most, without those with the keys ``without``."""
        keys = [label.key for label in self.labels(without)]
        return frozenset(keys[max(len(keys) - count, 0) :])

    def beyond(self, residuals: Residuals | None, without: Collection[str]) -> dict[str, str]:
        """Labels of which the baseline has no answer: why they cannot be used, by key; none where there is none."""
        return {} if residuals is None else residuals.without_baseline(self.labels(without))


def compact(
    directory: CampaignDirectory, generation: int, labels: Sequence[Label], *, audit: bool
) -> list[dict[str, Any]]:
    """Writes single labels into a shard if they are many enough; returns ``Compaction``s, see ``TrainSummary``.

    The shard bears the number of the generation, raised where it holds other labels already.
    """
    if len(labels) < LABELS_PER_SHARD:
        return []
    keys = [label.key for label in labels]
    path_of = directory.audit_shard_path if audit else directory.shard_path
    number = generation
    while path_of(number).exists() and not _holds(path_of(number), keys):
        number += 1
    checksum = write_shard(path_of(number), labels)
    return [{"path": directory.relative(path_of(number)), "checksum": checksum, "keys": keys, "audit": audit}]


def _holds(path: Path, keys: Sequence[str]) -> bool:
    """Whether a shard holds exactly these labels; a damaged one does not, and is left for `alpot repair`."""
    try:
        return {label.key for label in read_shard(path)} == set(keys)
    except StorageError:
        return False


def cost_exponent(labels: Sequence[Label]) -> float:
    """The power of its number of atoms that a label costs; 1 where none says what it took."""
    sums: dict[int, SizeSums] = {}
    for label in labels:
        details = label.provenance.get("details", {})
        if isinstance(details, dict) and isinstance(seconds := details.get("core_seconds"), float):
            sums.setdefault(len(label.atoms), SizeSums()).add(seconds)
    return CostModel.fit(sums).exponent if sums else 1.0


def is_whole(path: Path) -> bool:
    """Whether a label was finished here before."""
    if not path.exists():
        return False
    try:
        read_label(path)
    except StorageError:
        return False
    return True
