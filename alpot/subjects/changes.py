"""Compares two campaign files: what has changed, and whether a campaign that has begun may go on with it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from alpot.config import Campaign
from alpot.errors import ConfigError

#: What may change when a campaign goes on, tables and single keys, and why that is no other physics. All else decides
#: which structures are found, what their labels are, or what is learned from them.
MAY_CHANGE: Mapping[str, str] = {
    "stopping": "when it ends, not what it finds",
    "resources": "where the work runs and how much of it at a time; which task ends first is never certain anyway",
    "assessment": "what is measured of the potentials, and whether that holds one back; labels stay what they are",
    "reference.time_limit": "a label that is finished is the same, however long it was allowed to take",
    "reference.attempts": "an attempt that succeeds is the same as the first",
    "reference.isolated_atoms": "nothing is learned from them",
    "exploration.walkers": "how many walkers share a batch; each has random numbers of its own",
    "exploration.walkers_per_task": "how the same walkers are divided into tasks",
}
_LONGEST_VALUE = 60
_UNSET = object()


@dataclass(frozen=True)
class Change:
    """One value that differs.

    Attributes:
        field: where, e.g. ``stopping.max_labels``.
        old: the value that the campaign has.
        new: the value that the file asks for.
    """

    field: str
    old: Any
    new: Any

    def __str__(self) -> str:
        return f"{self.field}: {_shown(self.old)} -> {_shown(self.new)}"

    @property
    def is_physics(self) -> bool:
        """Whether it would make another campaign."""
        return not any(self.field == name or self.field.startswith(f"{name}.") for name in MAY_CHANGE)


def changes(before: Campaign, after: Campaign) -> list[Change]:
    """All values that differ, in the order of the file; lists count as one value."""
    return list(_differences("", before.model_dump(), after.model_dump()))


def refuse_physics(found: Sequence[Change], *, file: str, directory: str) -> None:
    """Refuses changes that would make another campaign.

    Args:
        found: what has changed.
        file: the changed file, for the message.
        directory: the campaign, for the message.

    Raises:
        ConfigError: it names every such field, and the two ways out.
    """
    physics = [change for change in found if change.is_physics]
    if physics:
        raise ConfigError(
            f"{file} is another campaign than the one in {directory}:\n"
            + "".join(f"  - {change}\n" for change in physics)
            + f"A campaign that has begun may change {', '.join(MAY_CHANGE)}. Put the old values back, or begin a new"
            f" campaign, which takes over the labels that are still valid: alpot run {file} --fork NEWDIR"
        )


def _differences(name: str, old: Any, new: Any) -> Iterator[Change]:
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for key in [*old, *(key for key in new if key not in old)]:
            path = f"{name}.{key}" if name else str(key)
            yield from _differences(path, old.get(key, _UNSET), new.get(key, _UNSET))
    elif old != new:
        yield Change(name, old, new)


def _shown(value: Any) -> str:
    if value is None or value is _UNSET:
        return "not set"
    text = json.dumps(value, default=str, ensure_ascii=False)
    return text if len(text) <= _LONGEST_VALUE else text[: _LONGEST_VALUE - 4] + " ..."
