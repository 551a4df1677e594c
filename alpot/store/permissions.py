"""Refuses a campaign directory that other users may write to: its files decide what runs under the user's name.

The sticky bit is no cure: it keeps others from removing files, not from adding or changing them.
"""

from __future__ import annotations

import grp
import os
import pwd
import stat
from pathlib import Path

from alpot.errors import CampaignDirectoryError

#: Whoever may write to one of these can change what a campaign does, or what it has learned.
_ENTRIES = (
    "campaign.toml",
    "campaign.source.json",
    "ledger.sqlite",
    "candidates",
    "dataset",
    "labels",
    "models",
    "tasks",
)


def refuse_writable_by_others(path: Path) -> None:
    """Checks the directory of a campaign and what lies directly in it.

    Root may always write. A group counts as other users, unless it is the private group of the user.

    Raises:
        CampaignDirectoryError: another user owns it or may write to it; names the path, its mode and the cure.
    """
    for entry in (path, *(path / name for name in _ENTRIES)):
        try:
            status = entry.stat()
        except FileNotFoundError:
            continue
        except OSError as error:
            raise CampaignDirectoryError(f"cannot look at {entry}: {error.strerror}") from error
        if writer := _other_writer(status):
            raise CampaignDirectoryError(
                f"{entry} may be written by {writer} (mode {stat.S_IMODE(status.st_mode):04o}), which could make alpot"
                f" run anything under your name; forbid it with `chmod -R go-w {path}`, or add --trust-directory if you"
                " trust whoever may write there"
            )


def _other_writer(status: os.stat_result) -> str:
    """Who besides this user and root may write; empty if nobody."""
    if status.st_uid not in (os.geteuid(), 0):
        return f"{_user_name(status.st_uid)}, who owns it"
    if status.st_mode & stat.S_IWOTH:
        return "everybody"
    if status.st_mode & stat.S_IWGRP and not _is_private(status.st_gid):
        return f"the group {_group_name(status.st_gid)}"
    return ""


def _is_private(group_id: int) -> bool:
    """Whether a group has no member but this user: it bears the user's name and is the user's first group."""
    try:
        user, group = pwd.getpwuid(os.geteuid()), grp.getgrgid(group_id)
    except KeyError:
        return False
    return user.pw_gid == group_id and user.pw_name == group.gr_name and set(group.gr_mem) <= {user.pw_name}


def _user_name(number: int) -> str:
    try:
        return f"the user {pwd.getpwuid(number).pw_name}"
    except KeyError:
        return f"the user with the number {number}"


def _group_name(number: int) -> str:
    try:
        return grp.getgrgid(number).gr_name
    except KeyError:
        return f"number {number}"
