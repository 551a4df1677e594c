"""Asks the controller of a running campaign for something: what `alpot stop` and `alpot reload` do."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Sequence
from pathlib import Path

from alpot.config_file import parse_campaign, read_text
from alpot.platforms.registry import open_platform
from alpot.store.directory import CampaignDirectory, Holder
from alpot.store.files import publish
from alpot.store.permissions import refuse_writable_by_others
from alpot.subjects.changes import Change
from alpot.subjects.launch import allowed_changes, refuse_without_campaign

#: Settings that a controller uses itself. All others are read by workers, or by the platform, when they start.
_AT_ONCE = ("stopping.", "resources.waiting_candidates", "reference.attempts")


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
    if _signal(holder, signal.SIGTERM):
        return f"asked {holder} to stop: running tasks finish, nothing new starts"
    return f"left a request to stop; {holder} will see it within seconds"


def request_reload(path: Path, file: Path | None = None, *, trust_directory: bool = False) -> list[str]:
    """Have the controller of a campaign read the campaign file again.

    The file is checked here first: where it is wrong, nothing changes.

    Args:
        path: the campaign directory.
        file: a campaign file that takes the place of the directory's; by default the latter, edited by the user.
        trust_directory: accept a campaign directory that other users may write to.

    Returns:
        Sentences that say what changes, and when.

    Raises:
        UsageError: the file is not valid, or would make another campaign.
    """
    directory = CampaignDirectory.open(path)
    if not trust_directory:
        refuse_writable_by_others(directory.path)
    refuse_without_campaign(directory)
    changed = file or directory.config
    text = read_text(changed)
    config = parse_campaign(text, str(changed))
    found = allowed_changes(directory, config, changed)
    open_platform(config.resources)
    holder = directory.holder()
    if holder is None:
        return [f"no controller is running in {directory.path}; `alpot run {file or path}` takes over what has changed"]
    if not found:
        return [f"{changed} asks for nothing else than what {holder} knows already"]
    if file is not None:
        publish(directory.config, text.encode())
    directory.request_reload()
    if _signal(holder, signal.SIGHUP):
        return [f"asked {holder} to read {directory.config} again", *_when(found)]
    return [f"left a request to read {directory.config} again; {holder} will see it within seconds", *_when(found)]


def _when(found: Sequence[Change]) -> list[str]:
    return [f"{change}" + ("" if change.field.startswith(_AT_ONCE) else " (at the next start)") for change in found]


def _signal(holder: Holder, number: signal.Signals) -> bool:
    """Wakes a controller on this host; it looks for requests every few seconds in any case."""
    if holder.host != socket.gethostname():
        return False
    try:
        os.kill(holder.pid, number)
    except OSError:  # it has just ended, or belongs to another user
        return False
    return True
