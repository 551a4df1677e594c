"""From a campaign file or directory to a running controller: what `alpot run` does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from alpot.campaign.controller import Controller, Observer, Outcome
from alpot.campaign.executor import Platform
from alpot.campaign.policy import PolicySettings
from alpot.campaign.settings import policy_settings
from alpot.campaign.state import State
from alpot.config import Campaign
from alpot.config_file import parse_campaign, read_text
from alpot.errors import CampaignDirectoryError, StorageError, UsageError
from alpot.platforms.label_environment import label_environment
from alpot.platforms.registry import open_platform
from alpot.reference import open_cheap, open_reference
from alpot.store.directory import CampaignDirectory
from alpot.store.permissions import refuse_writable_by_others
from alpot.structures import draw_start
from alpot.subjects.changes import Change, changes, refuse_physics
from alpot.subjects.fork import fork
from alpot.subjects.imports import import_labels, read_initial_labels

SUBJECT = "alpot.subjects.interatomic:InteratomicSubject"


@dataclass(frozen=True)
class Launch:
    """A campaign that is ready to run.

    Attributes:
        directory: the campaign.
        config: its settings.
        changes: what is to be recorded of them: what the user has changed, or what a fork took over.
    """

    directory: CampaignDirectory
    config: Campaign
    changes: Sequence[str] = ()

    def run(self, *observers: Observer) -> Outcome:
        """Run until the campaign ends or is stopped, telling ``observers`` of it; raises as ``Controller.run``."""

        def on_change(state: State) -> None:
            for observer in observers:
                observer(state)

        platform = open_platform(self.config.resources)
        controller = Controller(
            directory=self.directory,
            settings=policy_settings(self.config, platform),
            platform=platform,
            subject=SUBJECT,
            imported=import_labels(self.directory, self.config),
            on_change=on_change,
            changes=self.changes,
            reload=partial(_reload, self.directory, platform),
        )
        return controller.run()


@dataclass(frozen=True, kw_only=True)
class _Order:
    """What the user wants to run.

    Attributes:
        file: the campaign file that counts.
        text: its content.
        config: what it says.
        source: the user's own file; file names in it are relative to its folder.
        directory: of the campaign, whether it is there or not.
    """

    file: Path
    text: str
    config: Campaign
    source: Path
    directory: CampaignDirectory

    @property
    def is_begun(self) -> bool:
        """Whether the campaign is there already."""
        return CampaignDirectory.is_campaign(self.directory.path)


def prepare(
    path: Path, directory: Path | None = None, *, fork_to: Path | None = None, trust_directory: bool = False
) -> Launch:
    """Start or continue a campaign.

    Args:
        path: a campaign file, or the directory of a campaign.
        directory: of the campaign, where ``path`` is a file; by default beside it, named like it without the suffix.
        fork_to: leave that campaign as it is, and begin a new one here that takes over its labels.
        trust_directory: accept a campaign directory that other users may write to.

    Raises:
        UsageError: the file is wrong, or the directory does not belong to this campaign.
    """
    order = _understand(path, directory)
    if order.is_begun and not trust_directory:
        refuse_writable_by_others(order.directory.path)
    if fork_to is not None:
        if not order.is_begun:
            raise UsageError(
                f"there is no campaign in {order.directory.path} to fork; say where it is with --directory"
            )
        check_files(order.config, order.source.parent)
        made, sentences = fork(order.directory, order.config, order.text.encode(), order.source, fork_to)
        return Launch(made, order.config, sentences)
    if order.is_begun:
        return Launch(order.directory, order.config, [str(change) for change in _take_over(order)])
    check_files(order.config, order.source.parent)
    try:
        made = CampaignDirectory.create(order.directory.path, order.text.encode(), order.source)
    except CampaignDirectoryError:
        if not CampaignDirectory.is_campaign(order.directory.path):
            raise
        return prepare(path, directory, trust_directory=trust_directory)  # somebody else has just made it
    return Launch(made, order.config)


def plan(path: Path, directory: Path | None = None) -> tuple[CampaignDirectory, list[tuple[str, str]]]:
    """What ``prepare`` and ``Launch.run`` would hand to the scheduler; nothing is made or submitted.

    Returns:
        The campaign's directory, which need not exist, and the names and contents of job scripts and files.

    Raises:
        UsageError: as ``prepare``.
    """
    order = _understand(path, directory)
    if order.is_begun:
        allowed_changes(order.directory, order.config, order.file)
    else:
        check_files(order.config, order.source.parent)
    return order.directory, open_platform(order.config.resources).dry_run(order.directory)


def check_reference(config: Campaign, base_directory: Path) -> None:
    """Find out whether the reference can work, before a directory is made; raises ``UsageError``."""
    with label_environment(config.resources):
        open_reference(config.reference, base_directory=base_directory).check(config.material.elements)
        if (cheap := open_cheap(config.reference, base_directory=base_directory)) is not None:
            cheap.check(config.material.elements)


def check_files(config: Campaign, base_directory: Path) -> None:
    """Find out whether starts can be made and labels read, before a directory is made; raises ``UsageError``."""
    rng = np.random.default_rng(config.seed)
    for table in config.material.starts:
        draw_start(config.material.model_copy(update={"starts": (table,)}), rng, base_directory=base_directory)
    read_initial_labels(config, base_directory)


def allowed_changes(directory: CampaignDirectory, config: Campaign, file: Path) -> list[Change]:
    """What ``file`` changes in a campaign; ``ConfigError`` if that would make another one."""
    recorded = _recorded(directory)
    before = parse_campaign(read_text(directory.config) if recorded is None else recorded, str(directory.config))
    found = changes(before, config)
    refuse_physics(found, file=str(file), directory=str(directory.path))
    return found


def refuse_without_campaign(directory: CampaignDirectory) -> None:
    """Refuses a directory in which labels are made for somebody else, and nothing is learned."""
    if directory.purpose.exists():
        raise CampaignDirectoryError(
            f"{directory.path} is not the directory of a campaign; `{directory.command}` goes on with it"
        )


def _recorded(directory: CampaignDirectory) -> str | None:
    """The campaign file as it was last taken over; None where the record and its copy are damaged."""
    try:
        return directory.recorded_config
    except StorageError:
        return None


def _understand(path: Path, directory: Path | None) -> _Order:
    if path.is_dir():
        if directory is not None:
            raise UsageError(f"{path} is a directory; --directory goes with a campaign file only")
        opened = CampaignDirectory.open(path)
        refuse_without_campaign(opened)
        return _order(opened.config, opened.source, opened)
    place = directory or path.with_suffix("")
    opened = CampaignDirectory.open(place) if CampaignDirectory.is_campaign(place) else CampaignDirectory(place)
    refuse_without_campaign(opened)
    order = _order(path, path, opened)
    check_reference(order.config, path.parent)
    open_platform(order.config.resources)
    if directory is None and CampaignDirectory.is_campaign(path.parent):
        raise UsageError(
            f"{path} lies in a campaign directory; continue that campaign with `alpot run {path.parent}`, or begin"
            " another one elsewhere with --directory"
        )
    return order


def _order(file: Path, source: Path, directory: CampaignDirectory) -> _Order:
    text = read_text(file)
    return _Order(file=file, text=text, config=parse_campaign(text, str(file)), source=source, directory=directory)


def _take_over(order: _Order) -> list[Change]:
    """Stores a changed campaign file, the user's or the directory's, in the campaign."""
    if order.text == _recorded(order.directory):
        return []
    found = allowed_changes(order.directory, order.config, order.file)
    holder = order.directory.living_holder()
    if holder is not None:
        raise CampaignDirectoryError(
            f"{order.directory.path} is being run by {holder}; to change its settings meanwhile, use"
            f" `alpot reload {order.directory.path} {order.file}`"
        )
    order.directory.replace_config(order.text.encode(), order.source)
    return found


def _reload(directory: CampaignDirectory, platform: Platform) -> tuple[PolicySettings, list[str]]:
    """Reads the campaign file of a running campaign again; the workers' pools stay as they are.

    Raises:
        UsageError: it is not valid, or would make another campaign; nothing has changed.
    """
    order = _order(directory.config, directory.source, directory)
    found = allowed_changes(directory, order.config, order.file)
    directory.replace_config(order.text.encode(), order.source)
    return policy_settings(order.config, platform), [str(change) for change in found]
