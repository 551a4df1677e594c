"""The labels of a campaign: which are used for what, in which files they lie, and which are not used any more.

A part of ``State`` (``alpot.campaign.state``). It knows keys and the names of files; their content is nothing to it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice

from alpot.campaign.events import Task
from alpot.campaign.subject import Candidate, Compaction


@dataclass
class LabelSet:
    """The labels to train on, or those for the audit.

    Attributes:
        size: number of labels, without those that are refused.
        unseen: those that no training, or no assessment, was given yet.
        loose: keys of those that are not in a shard (a dict for its order).
        shards: files of compacted labels.
    """

    size: int = 0
    unseen: int = 0
    loose: dict[str, None] = field(default_factory=dict)
    shards: list[str] = field(default_factory=list)

    def add(self, keys: Sequence[str], shards: Sequence[str] = ()) -> None:
        """New labels, in ``shards`` or else in a file each."""
        self.size += len(keys)
        self.unseen += len(keys)
        if shards:
            self.shards += shards
        else:
            self.loose.update(dict.fromkeys(keys))

    def compact(self, shard: str, keys: Iterable[str]) -> None:
        """Some of the labels lie in a shard now."""
        if shard not in self.shards:
            self.shards.append(shard)
        for key in keys:
            self.loose.pop(key, None)


@dataclass
class Dataset:
    """All labels.

    Attributes:
        training: labels to train on.
        audit: labels for the audit.
        apart: keys of labels that are neither (a dict for its order); they are few, and stay in files of their own.
        in_training: labels that the last training was the first to see.
        added, given, learned: labels to train on that ever came in; those of them that the last training was given; and
            those that the promoted generation was trained on.
        refused: why a label is not used, by key; its file is kept.
        forgiven: how many of these were known when the campaign was opened.
    """

    training: LabelSet = field(default_factory=LabelSet)
    audit: LabelSet = field(default_factory=LabelSet)
    apart: dict[str, None] = field(default_factory=dict)
    in_training: int = 0
    added: int = 0
    given: int = 0
    learned: int = 0
    refused: dict[str, str] = field(default_factory=dict)
    forgiven: int = 0

    def expand(self, task: Task) -> Task:
        """The task with the lists that its spec only counts, as its worker needs them.

        The lists grow at their ends only, so that a count says which version of the dataset is meant.
        """
        lists = {
            "shards": self.training.shards,
            "labels": self.training.loose,
            "audit_shards": self.audit.shards,
            "audit_labels": self.audit.loose,
            "apart_labels": self.apart,
            "refused": self.refused,
        }
        spec = {name: list(islice(lists[name], value)) if name in lists else value for name, value in task.spec.items()}
        return replace(task, spec=spec)

    def add(self, key: str, candidate: Candidate) -> None:
        """A candidate got its label."""
        if candidate.apart:
            self.apart[key] = None
        else:
            (self.audit if candidate.audit else self.training).add([key])
            self.added += not candidate.audit

    def compact(self, compactions: Iterable[Compaction]) -> None:
        """Single labels were written into shards."""
        for compaction in compactions:
            labels = self.audit if compaction.audit else self.training
            labels.compact(compaction.path, compaction.keys)

    def begin_training(self) -> None:
        """A training was given all labels."""
        self.in_training, self.training.unseen = self.training.unseen, 0
        self.given = self.added

    def promote(self) -> None:
        """The generation of the last training is promoted."""
        self.learned = self.given

    @property
    def unlearned(self) -> int:
        """Labels to train on that the promoted generation does not know; the last ones that came in."""
        return self.added - self.learned

    def give_up_training(self) -> None:
        """What the last training was the first to see, none has seen."""
        self.training.unseen += self.in_training

    def renew(self) -> None:
        """All labels to train on are new again, for the models that knew them are lost."""
        self.training.unseen = self.training.size
        self.learned = self.added  # an earlier generation knows most of them, and nobody knows which

    def refuse(self, reasons: Mapping[str, str], labels: LabelSet) -> None:
        """Some of these labels are not to be used, and why, by key; those that are known as such do no harm."""
        labels.size -= self._refuse(reasons)

    def lose(self, reasons: Mapping[str, str], audit: Iterable[str], shards: Iterable[str]) -> None:
        """Labels and whole shards are no longer to be had.

        Args:
            reasons: why, by key.
            audit: those of the keys that were for the audit.
            shards: files that are gone with all their labels.
        """
        held_out, gone = frozenset(audit), frozenset(shards)
        self._refuse({key: reason for key, reason in reasons.items() if key in self.apart})
        self.refuse({key: reason for key, reason in reasons.items() if key in held_out}, self.audit)
        self.refuse(reasons, self.training)  # those that are left
        for labels in (self.training, self.audit):
            labels.shards = [shard for shard in labels.shards if shard not in gone]

    def forgive(self) -> None:
        """The labels that are refused by now will not end the campaign."""
        self.forgiven = len(self.refused)

    def _refuse(self, reasons: Mapping[str, str]) -> int:
        """Returns how many of them were not refused before."""
        fresh = {key: reason for key, reason in reasons.items() if key not in self.refused}
        self.refused |= fresh
        return len(fresh)
