"""Which frames a member of the ensemble trains on, validates on, and never sees.

As in Smith et al., Nat. Commun. 12, 1257 (2021): the data lie in blocks, and each member has another choice of
blocks to validate on and to test on. A frame's block depends on its key only, so that it is the same in every
generation: a member that continues from the last generation's weights never trains on what validates it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from alpot.config import Training


class Role(IntEnum):
    """What a frame is for one member."""

    TRAIN = 0
    VALIDATE = 1
    TEST = 2


def block_of(key: str, n_blocks: int) -> int:
    """The block of a frame, from a hash of its key."""
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big") % n_blocks


def member_roles(keys: Sequence[str], n_members: int, settings: Training) -> NDArray[np.int64]:
    """(n_members, n_frames) ``Role`` of each frame for each member.

    Blocks are given out round robin, so that the members' validation and test blocks are spread evenly. Where a
    member would be left without a frame to validate on, or to train on (very few labels), frames are dealt in order
    instead.
    """
    by_key = np.array([block_of(key, settings.blocks) for key in keys])
    roles = _roles_of_blocks(by_key, n_members, settings)
    if all({Role.TRAIN, Role.VALIDATE} <= set(row.tolist()) for row in roles):
        return roles
    ranks = np.argsort(np.argsort(np.array(keys)))
    return _roles_of_blocks(ranks % min(settings.blocks, max(len(keys), 2)), n_members, settings, len(keys))


def _roles_of_blocks(
    blocks: NDArray[np.int64], n_members: int, settings: Training, n_frames: int | None = None
) -> NDArray[np.int64]:
    n_blocks = settings.blocks if n_frames is None else min(settings.blocks, max(n_frames, 2))
    n_test = settings.test_blocks if n_blocks == settings.blocks else 0
    n_validate = settings.validation_blocks if n_blocks == settings.blocks else 1
    roles = np.full((n_members, len(blocks)), int(Role.TRAIN))
    for member in range(n_members):
        first = (member * n_blocks) // n_members
        distance = (blocks - first) % n_blocks
        roles[member, distance < n_validate + n_test] = Role.VALIDATE
        roles[member, distance < n_test] = Role.TEST
    return roles
