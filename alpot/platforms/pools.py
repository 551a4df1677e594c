"""Which pool of workers runs which kind of task, where not every kind has a pool of its own."""

from __future__ import annotations

from collections.abc import Collection

from alpot.campaign.subject import Kind

#: The names that pools may have, and in whose place one that is missing is looked for, the nearest first.
_INSTEAD = {
    "explore": ("explore", "train", "label"),
    "label": ("label", "explore", "train"),
    "train": ("train", "explore", "label"),
}
_HOME = {
    Kind.EXPLORE: "explore",
    Kind.LABEL: "label",
    Kind.SCORE: "explore",  # what was found waits for it, and a training may take hours
    Kind.TRAIN: "train",
    Kind.ASSESS: "train",
    Kind.MEASURE: "label",  # the reference may be measured, too
}
NAMES = tuple(_INSTEAD)


def pool_of_kinds(given: Collection[str]) -> dict[Kind, str]:
    """The pool that runs each kind of task.

    Args:
        given: the pools that there are, at least one of ``NAMES``.
    """
    return {kind: next(name for name in _INSTEAD[home] if name in given) for kind, home in _HOME.items()}


def pool_of_labels(given: Collection[str]) -> str:
    """The pool that computes labels; arguments as of ``pool_of_kinds``."""
    return pool_of_kinds(given)[Kind.LABEL]
