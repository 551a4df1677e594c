"""From a campaign file or directory to a running controller: what `alpot run`, `stop` and `export` do."""

from __future__ import annotations

import json
import os
import signal
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from alpot.campaign.controller import Controller, ImportedLabels, Observer, Outcome
from alpot.campaign.settings import policy_settings
from alpot.campaign.state import State
from alpot.config import Campaign
from alpot.config_file import parse_campaign, read_campaign
from alpot.errors import CampaignDirectoryError, ConfigError, UsageError
from alpot.platforms.registry import open_platform
from alpot.potential.saved import CARD, WEIGHTS
from alpot.reference import level_of_theory, open_reference
from alpot.store.dataset import read_labels, write_shard
from alpot.store.directory import CampaignDirectory
from alpot.store.files import publish, read_bytes
from alpot.store.formats import HDF5_SUFFIXES, read_labelled, write_ani_hdf5, write_extxyz
from alpot.store.labels import Label, write_label
from alpot.store.ledger import LabelRow, Ledger
from alpot.structures import draw_start

SUBJECT = "alpot.subjects.interatomic:InteratomicSubject"
#: Tables that may change when a campaign is continued; all others are physics.
CHANGEABLE = frozenset({"stopping", "resources", "assessment"})


@dataclass(frozen=True)
class Launch:
    """A campaign that is ready to run."""

    directory: CampaignDirectory
    config: Campaign

    def run(self, on_change: Observer | None = None) -> Outcome:
        """Run until the campaign ends or is stopped; raises as ``Controller.run``."""
        platform = open_platform(self.config.resources)
        controller = Controller(
            directory=self.directory,
            settings=policy_settings(self.config, platform),
            platform=platform,
            subject=SUBJECT,
            imported=_import_labels(self.directory, self.config),
            on_change=on_change,
        )
        return controller.run()


def prepare(path: Path, directory: Path | None = None) -> Launch:
    """Start or continue a campaign.

    Args:
        path: a campaign file, or the directory of a campaign.
        directory: of the campaign, where ``path`` is a file; by default beside it, named like it without the suffix.

    Raises:
        UsageError: the file is wrong, or the directory does not belong to this campaign.
    """
    if path.is_dir():
        if directory is not None:
            raise UsageError(f"{path} is a directory; --directory goes with a campaign file only")
        opened = CampaignDirectory.open(path)
        config = read_campaign(opened.config)
        _adopt_changes(opened, opened.config, config)
        return Launch(opened, config)
    config = read_campaign(path)
    check_reference(config, path.parent)
    open_platform(config.resources)
    if directory is None and CampaignDirectory.is_campaign(path.parent):
        raise UsageError(
            f"{path} lies in a campaign directory; continue that campaign with `alpot run {path.parent}`, or begin"
            " another one elsewhere with --directory"
        )
    place = directory or path.with_suffix("")
    if CampaignDirectory.is_campaign(place):
        opened = CampaignDirectory.open(place)
        _adopt_changes(opened, path, config)
        return Launch(opened, config)
    check_files(config, path.parent)
    return Launch(CampaignDirectory.create(place, read_bytes(path), path), config)


def check_reference(config: Campaign, base_directory: Path) -> None:
    """Find out whether the reference can work, before a directory is made; raises ``UsageError``."""
    open_reference(config.reference, base_directory=base_directory).check(config.material.elements)


def check_files(config: Campaign, base_directory: Path) -> None:
    """Find out whether starts can be made and labels read, before a directory is made; raises ``UsageError``."""
    rng = np.random.default_rng(config.seed)
    for table in config.material.starts:
        draw_start(config.material.model_copy(update={"starts": (table,)}), rng, base_directory=base_directory)
    _read_initial_labels(config, base_directory)


def _read_initial_labels(config: Campaign, base_directory: Path) -> list[Label]:
    """The labels of the user's files in the order of their keys, each once."""
    if not config.material.initial_labels:
        return []
    level = level_of_theory(open_reference(config.reference, base_directory=base_directory))
    elements = config.material.elements
    labels: dict[str, Label] = {}
    for name in config.material.initial_labels:
        for label in read_labelled(base_directory / name, level):
            if foreign := sorted(set(label.atoms.symbols) - set(elements)):
                raise ConfigError(
                    f"{base_directory / name} holds a frame {label.atoms.symbols} with {', '.join(foreign)}, but"
                    f" material.elements is {list(elements)}; add them there, or take the file out of"
                    " material.initial_labels"
                )
            labels.setdefault(label.key, label)
    return [labels[key] for key in sorted(labels)]


def _adopt_changes(directory: CampaignDirectory, path: Path, config: Campaign) -> None:
    """Take over a changed campaign file, the user's or the directory's, if only budgets and resources have changed."""
    content = read_bytes(path)
    if content == directory.recorded_config.encode():
        return
    before = parse_campaign(directory.recorded_config, str(directory.config))
    changed = [name for name in Campaign.model_fields if getattr(before, name) != getattr(config, name)]
    if physics := [name for name in changed if name not in CHANGEABLE]:
        raise ConfigError(
            f"{path} differs from the campaign in {directory.path} in {', '.join(physics)}; a campaign that has begun"
            f" may change only {', '.join(sorted(CHANGEABLE))}. Put the old values back, or start a new campaign with"
            " --directory"
        )
    holder = directory.holder()
    if holder is not None:
        raise CampaignDirectoryError(f"{directory.path} is being run by {holder}; stop it before changing its settings")
    directory.replace_config(content, directory.source if path == directory.config else path)


def _import_labels(directory: CampaignDirectory, config: Campaign) -> ImportedLabels | None:
    """The labels that the user brought along, from the user's files or, once they were taken over, from our copy."""
    if not config.material.initial_labels:
        return None
    index = directory.path / "dataset" / "imported.json"
    if not index.exists():
        publish(index, json.dumps(_take_over_labels(directory, config)).encode())
    content = json.loads(read_bytes(index))
    return ImportedLabels(
        rows=[LabelRow(**row) for row in content["rows"]], audit=frozenset(content["audit"]), shard=content["shard"]
    )


def _take_over_labels(directory: CampaignDirectory, config: Campaign) -> dict[str, Any]:
    """Store the user's labels: a shard to train on, and single files for the audit; returns what lies where."""
    ordered = _read_initial_labels(config, directory.source.parent)
    # Keys are hashes, so the first of them in order are a random choice, and the same one at every start.
    n_audit = min(round(len(ordered) * config.exploration.audit_share), len(ordered) - 1)
    rows = []
    for label in ordered[:n_audit]:
        path = directory.label_path(label.key)
        rows.append({"key": label.key, "path": directory.relative(path), "checksum": write_label(path, label)})
    shard = directory.shard_path(0)
    checksum = write_shard(shard, ordered[n_audit:])
    rows += [{"key": label.key, "path": directory.relative(shard), "checksum": checksum} for label in ordered[n_audit:]]
    return {"rows": rows, "audit": [label.key for label in ordered[:n_audit]], "shard": directory.relative(shard)}


def request_stop(path: Path) -> str:
    """Ask the controller of a campaign to drain and stop; returns a sentence that says what happens."""
    directory = CampaignDirectory.open(path)
    holder = directory.holder()
    if holder is None:
        return f"no controller is running in {directory.path}; there is nothing to stop"
    if directory.stop_requested():
        # A second signal would end the running tasks at once, which is what nobody asked for here.
        return f"{holder} was asked before and is stopping: running tasks finish, nothing new starts"
    directory.request_stop()
    if holder.host == socket.gethostname():
        try:
            os.kill(holder.pid, signal.SIGTERM)
        except OSError:  # it has just ended, or belongs to another user
            return f"left a request to stop; {holder} will see it when its next task ends"
        return f"asked {holder} to stop: running tasks finish, nothing new starts"
    return f"left a request to stop; {holder} will see it when its next task ends"


def export_potential(path: Path, target: Path) -> int:
    """Copy the promoted potential of a campaign to a folder of its own; returns its generation.

    Raises:
        UsageError: there is no potential yet, or the target holds something else.
    """
    directory = CampaignDirectory.open(path)
    with Ledger(directory.ledger, read_only=True) as ledger:
        generation = State.replay(ledger.events()).promoted
    if generation is None:
        raise UsageError(f"the campaign in {directory.path} has no potential yet: no generation was promoted so far")
    if target.exists() and not target.is_dir():
        raise UsageError(f"{target} is a file; give a folder for the potential")
    foreign = [item.name for item in target.iterdir() if item.name not in (WEIGHTS, CARD)] if target.is_dir() else []
    if foreign:
        raise UsageError(f"{target} holds other things ({foreign[0]}, ...); give an empty or new folder")
    model = directory.model_path(generation)
    publish(target / WEIGHTS, read_bytes(model / WEIGHTS))
    publish(target / CARD, read_bytes(model / CARD))
    return generation


def export_labels(path: Path, target: Path) -> int:
    """Write all labels of a campaign, those for the audit included, to one file; returns their number.

    Args:
        path: the campaign directory.
        target: ``*.extxyz`` or ``*.xyz`` for extended XYZ, ``*.h5`` or ``*.hdf5`` for ANI-style HDF5.

    Raises:
        UsageError: there is no label yet, or the target exists.
    """
    directory = CampaignDirectory.open(path)
    if target.exists():
        raise UsageError(f"{target} exists already; choose another name, or remove it")
    with Ledger(directory.ledger, read_only=True) as ledger:
        files = sorted({row.path for row in ledger.label_rows()})
    labels = read_labels(directory.path / name for name in files)
    if not labels:
        raise UsageError(f"the campaign in {directory.path} has no labels yet")
    write = write_ani_hdf5 if target.suffix in HDF5_SUFFIXES else write_extxyz
    write(target, labels)
    return len(labels)
