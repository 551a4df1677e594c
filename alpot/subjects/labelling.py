"""Labels structures that the user gives, without a campaign around them: what `alpot label` and `alpot converge` share.

It is a campaign directory, run by the same controller with simpler rules, so that no label that was paid for is lost:
results are label files the moment they are there, what was killed goes on, and nothing is computed twice.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ase import Atoms

from alpot.campaign.controller import Controller, Observer, Outcome
from alpot.campaign.labelling import decide_labels
from alpot.campaign.settings import policy_settings
from alpot.campaign.state import State
from alpot.campaign.subject import Candidate, Kind
from alpot.config import Campaign, Reference, Resources
from alpot.config_file import parse_campaign, written
from alpot.errors import CampaignDirectoryError, ConfigError, StorageError, UsageError
from alpot.platforms.registry import open_platform
from alpot.report.costs import Costs
from alpot.report.history import History
from alpot.report.wording import plural, to_come
from alpot.store.dataset import read_labels
from alpot.store.directory import CampaignDirectory
from alpot.store.files import set_aside
from alpot.store.frames import write_frames
from alpot.store.json_files import publish_json, read_json
from alpot.store.labels import Label
from alpot.store.ledger import Ledger
from alpot.store.permissions import refuse_writable_by_others
from alpot.subjects.changes import Change, changes
from alpot.subjects.label_task import OTHER_LEVEL

SUBJECT = "alpot.subjects.label_task:LabellingSubject"
#: Structures in one file: a worker reads all of a file for each label.
_FRAMES_PER_FILE = 200


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """One label that the user wants.

    Attributes:
        key: its name, see ``alpot.store.labels.label_key``.
        atoms: the structure.
        setting: values that take the place of those in the table ``[reference]``.
        provenance: where the structure comes from; JSON-able.
    """

    key: str
    atoms: Atoms
    setting: Mapping[str, float] = field(default_factory=dict)
    provenance: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Rejection:
    """Why there is no label.

    Attributes:
        reason: the class of the failure.
        message: what was said about it.
        reference: hash of the settings by which it was to be labelled; empty in older ledgers.
    """

    reason: str
    message: str
    reference: str = ""


@dataclass(frozen=True, kw_only=True)
class Order:
    """What is to be labelled, and how.

    Attributes:
        config: the campaign file; its tables ``[reference]`` and ``[resources]`` are used. The elements of its material
            are those of the structures.
        source: that file; file names in it are relative to its folder.
        wanted: each key once.
        same: what must stay the same when the directory is used again, by its name for messages.
        command: what the user types to go on.
    """

    config: Campaign
    source: Path
    wanted: Sequence[Wanted]
    same: Mapping[str, str]
    command: str

    def text(self) -> str:
        """The campaign file as it is kept: what matters of the user's."""
        tables = self.config.model_dump(exclude_unset=True, include={"reference", "resources"})
        return written({"material": {"elements": list(self.config.material.elements)}} | tables)


@dataclass(frozen=True)
class Labelling:
    """A directory that is ready to label.

    Attributes:
        directory: where labels are kept.
        config: what the directory's own campaign file says.
        given: candidates that are new, or are to be tried once more.
        wanted: keys of all labels that are asked for.
        changes: what the user has changed in the campaign file since the last run, in words.
    """

    directory: CampaignDirectory
    config: Campaign
    given: Sequence[Candidate]
    wanted: frozenset[str]
    changes: Sequence[str]

    def run(self, on_change: Observer | None = None) -> Outcome:
        """Run until every structure was labelled or rejected, or it is stopped; raises as ``Controller.run``."""
        platform = open_platform(_for_labels(self.config.resources))
        controller = Controller(
            directory=self.directory,
            settings=policy_settings(self.config, platform),
            platform=platform,
            subject=SUBJECT,
            policy=decide_labels,
            given=self.given,
            wanted=self.wanted,
            reference=_hash_of(self.config.reference),
            on_change=on_change,
            changes=self.changes,
        )
        return controller.run()

    def claim_output(self, output: Path) -> None:
        """Puts on record that a file is about to be written; raises as ``refuse_foreign_output``."""
        refuse_foreign_output(self.directory.path, output)
        outputs = {*_outputs(self.directory), _from(self.directory, output)}
        publish_json(self.directory.purpose, {**read_json(self.directory.purpose), "outputs": sorted(outputs)})

    def labels(self, keys: Sequence[str]) -> dict[str, Label]:
        """Those of the labels that there are, by key; ``StorageError`` if a file is damaged."""
        with Ledger(self.directory.ledger, read_only=True) as ledger:
            rows = [row for key in dict.fromkeys(keys) if (row := ledger.label_row(key)) is not None]
        paths = sorted({self.directory.path / row.path for row in rows})
        return {label.key: label for label in read_labels(paths, allow_mixed=True)}

    def rejections(self) -> dict[str, Rejection]:
        """Why structures have no label, by key of the label that they would have."""
        with Ledger(self.directory.ledger, read_only=True) as ledger:
            return _rejections(ledger)


def open_labelling(path: Path, order: Order, *, trust_directory: bool = False) -> Labelling:
    """Makes a directory for labels, or takes up one that is there.

    Args:
        path: the directory.
        order: what is to be labelled, and how.
        trust_directory: accept a directory that other users may write to.

    Raises:
        UsageError: the directory is not for this.
    """
    text = order.text()
    config = parse_campaign(text, str(order.source))
    if not CampaignDirectory.is_campaign(path):
        directory = CampaignDirectory.create(path, text.encode(), order.source)
        found: list[Change] = []
    else:
        directory = CampaignDirectory.open(path)
        if not trust_directory:
            refuse_writable_by_others(directory.path)
        if not _refuse_other_purpose(directory, order):
            set_aside(directory.purpose)
        found = _take_over(directory, text, config, order.source)
    record = {"same": dict(order.same), "command": order.command, "outputs": _outputs(directory)}
    publish_json(directory.purpose, record)
    given = _give(directory, order.wanted, _hash_of(config.reference))
    return Labelling(directory, config, given, frozenset(entry.key for entry in order.wanted), _told(found))


def plan_labelling(path: Path, order: Order) -> tuple[list[str], list[tuple[str, str]]]:
    """What ``open_labelling`` and ``Labelling.run`` would do: in words, and names and contents of job scripts.

    Nothing is made or submitted. Raises as ``open_labelling``.
    """
    directory = CampaignDirectory(path)
    labelled: set[str] = set()
    rejected: set[str] = set()
    costs = Costs()
    if CampaignDirectory.is_campaign(path):
        directory = CampaignDirectory.open(path)
        _refuse_other_purpose(directory, order)
        with Ledger(directory.ledger, read_only=True) as ledger:
            costs = History.replay(ledger.events()).costs
            labelled = {entry.key for entry in order.wanted if ledger.has_label(entry.key)}
            rejected = _settled(ledger, _hash_of(order.config.reference)) & {entry.key for entry in order.wanted}
    settled = labelled | rejected
    sizes = Counter(len(entry.atoms) for entry in order.wanted if entry.key not in settled)
    platform = open_platform(_for_labels(order.config.resources))
    cost = costs.predict_labels(sizes.total(), platform.slots[platform.pool_of[Kind.LABEL]], sizes=sizes)
    said = [
        f"labels in {directory.path}; nothing is made or submitted",
        f"{plural(len(order.wanted), 'structure')}: {len(labelled)} labelled, {len(rejected)} rejected,"
        f" {sizes.total()} to be computed",
    ]
    return said if cost is None else [*said, f"these will take {to_come(cost)}"], platform.dry_run(directory)


def refuse_foreign_output(path: Path, output: Path) -> None:
    """Refuses a file that is there already, unless it was written from the labels in this directory.

    Args:
        path: the directory; may be missing.
        output: the file.

    Raises:
        UsageError: it would be overwritten.
    """
    directory = CampaignDirectory(path)
    if output.exists() and _from(directory, output) not in _outputs(directory):
        raise UsageError(
            f"{output} exists already, and it is not on record that it was written from the labels in"
            f" {directory.path}; move it away, or choose another name with --output"
        )


def _outputs(directory: CampaignDirectory) -> list[str]:
    """Files that were written from the labels of a directory; none if the record is lost."""
    try:
        return list(read_json(directory.purpose).get("outputs", []))
    except StorageError:
        return []


def _from(directory: CampaignDirectory, output: Path) -> str:
    """A file as seen from the directory: both may be moved."""
    return os.path.relpath(output.resolve(), directory.path.resolve())


def _refuse_other_purpose(directory: CampaignDirectory, order: Order) -> bool:
    """Refuses a directory that was begun for something else; returns whether its record of that can be read."""
    if not directory.purpose.exists():
        with Ledger(directory.ledger, read_only=True) as ledger:
            kinds = {event.kind for event in ledger.events()}
        if kinds and "candidates_given" not in kinds:
            raise CampaignDirectoryError(
                f"{directory.path} is the directory of a campaign; labels without one need a directory of their own"
            )
        return True  # killed before it had begun, or quarantined by `alpot repair`
    try:
        before = dict(read_json(directory.purpose).get("same", {}))
    except StorageError:  # labels are named by structure and method: nothing can be mixed up
        return False
    for name, value in order.same.items():
        if before.get(name) != value:
            raise ConfigError(
                f"{directory.path} was begun with another {name} than is asked for now; put the old one back, or begin"
                " in another directory"
            )
    return True


def _take_over(directory: CampaignDirectory, text: str, config: Campaign, source: Path) -> list[Change]:
    """Stores a changed campaign file; returns what has changed."""
    recorded = directory.recorded_config
    if text == recorded and source.absolute() == directory.source:
        return []
    found = changes(parse_campaign(recorded, str(directory.config)), config)
    holder = directory.living_holder()
    if holder is not None:
        raise CampaignDirectoryError(
            f"{directory.path} is being used by {holder}; stop it first: alpot stop {directory.path}"
        )
    directory.replace_config(text.encode(), source)
    return found


def _told(found: Sequence[Change]) -> list[str]:
    return [str(change) for change in found if change.field.startswith(("reference.", "resources."))]


def _hash_of(reference: Reference) -> str:
    """Of the settings by which labels are computed, in whatever order; a default may be written out."""
    settings = reference.model_dump(mode="json", exclude_defaults=True)
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()


def _give(directory: CampaignDirectory, wanted: Sequence[Wanted], reference: str) -> list[Candidate]:
    """Stores the structures that are to be labelled now, and describes them.

    What waits for a label by other settings is among them: the controller will withdraw it. So is what was rejected by
    other settings: it may succeed now, with more time, more attempts, another launcher.
    """
    with Ledger(directory.ledger, read_only=True) as ledger:
        state = State.replay(ledger.events())
        begun = (*state.candidates.waiting.values(), *state.candidates.labelling.values())
        settled = _settled(ledger, reference) | {entry.candidate.key for entry in begun if entry.reference == reference}
        missing = [entry for entry in wanted if entry.key not in settled and not ledger.has_label(entry.key)]
    return [
        candidate
        for begin in range(0, len(missing), _FRAMES_PER_FILE)
        for candidate in _store(directory, missing[begin : begin + _FRAMES_PER_FILE])
    ]


def _store(directory: CampaignDirectory, wanted: Sequence[Wanted]) -> Iterator[Candidate]:
    # Named by content: a second run that was interrupted here, or one of another selection, cannot go astray.
    content = json.dumps([(entry.key, dict(entry.setting)) for entry in wanted], sort_keys=True)
    name = f"given-{hashlib.sha256(content.encode()).hexdigest()[:16]}"
    provenance = [{**entry.provenance, "key": entry.key, "setting": dict(entry.setting)} for entry in wanted]
    write_frames(directory.candidates_path(name), [entry.atoms for entry in wanted], provenance)
    for index, entry in enumerate(wanted):
        yield Candidate(id=f"{name}/{index}", key=entry.key, score=1.0, cost=1.0, reason="given", audit=False)


def _settled(ledger: Ledger, reference: str) -> set[str]:
    """Keys of labels that were given up and would be again, by the same settings.

    That a worker has met other settings than those that were meant says nothing about these.
    """
    return {
        key for key, why in _rejections(ledger).items() if why.reference == reference and why.message != OTHER_LEVEL
    }


def _rejections(ledger: Ledger) -> dict[str, Rejection]:
    given: dict[str, tuple[str, str]] = {}
    candidates: dict[str, str] = {}
    messages: dict[str, str] = {}
    found: dict[str, Rejection] = {}
    for event in ledger.events():
        payload = event.payload
        match event.kind:
            case "candidates_given":
                for entry in payload["candidates"]:
                    given[entry["id"]] = (entry["key"], payload.get("reference", ""))
                    found.pop(entry["key"], None)
            case "task_started":
                candidates[payload["id"]] = payload["spec"]["candidate"]
            case "task_failed" | "task_lost":
                messages[payload["id"]] = payload["message"]
            case "task_abandoned":
                task = payload["id"]
                key, reference = given[candidates[task]]
                found[key] = Rejection(reason=payload["reason"], message=messages[task], reference=reference)
    return found


def _for_labels(resources: Resources) -> Resources:
    """Only the pool that labels run in: the others would wait in vain, on nodes that cost something."""
    pools = ("label", "explore", "train")
    own = next((name for name in pools if getattr(resources, name) is not None), None)
    return resources.model_copy(update={name: None for name in pools if name != own})
