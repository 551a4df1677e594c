"""Knows whether workers are at work in a campaign, even those whose controller was killed.

Such an orphan still finishes what it does, or is ended by its platform. Waiting for it is cheaper than computing a
label twice, and keeps attempts of one task apart. However a process ends, the kernel lets go of its lock.
"""

from __future__ import annotations

import fcntl
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager

from alpot.store.directory import CampaignDirectory
from alpot.store.files import storage_error

logger = logging.getLogger(__name__)


@contextmanager
def at_work(directory: CampaignDirectory) -> Iterator[None]:
    """Marks this process as one that works on a task."""
    with _opened(directory) as descriptor:
        fcntl.flock(descriptor, fcntl.LOCK_SH)
        yield


def wait_for_orphans(directory: CampaignDirectory) -> None:
    """Returns when no worker of an earlier controller is at work."""
    with _opened(directory) as descriptor:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            logger.warning("waiting for workers of a controller that was killed in %s", directory.path)
            fcntl.flock(descriptor, fcntl.LOCK_EX)


@contextmanager
def _opened(directory: CampaignDirectory) -> Iterator[int]:
    path = directory.path / "workers.lock"
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise storage_error("open", path, error) from error
    try:
        yield descriptor
    finally:
        os.close(descriptor)
