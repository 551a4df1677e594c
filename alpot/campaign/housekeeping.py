"""Removes what a campaign has no use for any more, so that 100,000 labels are hundreds of files.

Nothing is removed that is not on record elsewhere: single label files once they lie in a shard, frames of candidates
once all of them are settled, folders of tasks once their result is recorded.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from alpot.campaign.state import State
from alpot.errors import StorageError
from alpot.store.directory import CampaignDirectory
from alpot.store.files import published, sha256
from alpot.store.json_files import read_json
from alpot.store.ledger import LabelRow, Ledger


def remove_superseded(directory: CampaignDirectory, moved: Sequence[LabelRow]) -> None:
    """Removes single label files whose labels were recorded as lying in a shard.

    A shard that is not on the disk as it was recorded supersedes nothing.
    """
    is_whole = {
        path: _has_checksum(directory.path / path, checksum)
        for path, checksum in {(row.path, row.checksum) for row in moved}
    }
    for row in moved:
        if is_whole[row.path]:
            _remove(directory.label_path(row.key))


def remove_spent(directory: CampaignDirectory, state: State) -> None:
    """Removes the frames of explorations whose candidates are all settled."""
    while state.candidates.spent:
        _remove(directory.candidates_path(state.candidates.spent.pop()))


def sweep(directory: CampaignDirectory, state: State, ledger: Ledger) -> None:
    """Removes what a controller that was killed had no time to remove."""
    spent, state.candidates.spent = state.candidates.spent, set()
    for path in published(directory.path / "candidates", "*.h5"):
        if path.stem in spent:
            _remove(path)
    singles = ((path, ledger.label_row(path.stem)) for path in published(directory.path / "labels", "*/*.h5"))
    moved = [row for path, row in singles if row is not None and row.path != directory.relative(path)]
    remove_superseded(directory, moved)
    alive = {task.id for tasks in (state.work.tasks, *state.work.failed.values()) for task in tasks.values()}
    remove_worker_scratch(directory)
    for folder in (directory.path / "tasks").glob("*/*"):
        if folder.name not in alive and _has_finished(folder):  # what has failed is kept: somebody may want to look
            shutil.rmtree(folder, ignore_errors=True)


def remove_worker_scratch(directory: CampaignDirectory) -> None:
    """Removes what workers kept for themselves; there are none any more."""
    shutil.rmtree(directory.worker_scratch, ignore_errors=True)


def _has_finished(folder: Path) -> bool:
    try:
        return read_json(folder / "result.json").get("status") == "finished"
    except StorageError:
        return False


def _has_checksum(path: Path, checksum: str) -> bool:
    return path.exists() and sha256(path) == checksum


def _remove(path: Path) -> None:
    # What cannot be removed now is swept by the next controller.
    with suppress(OSError):
        path.unlink(missing_ok=True)
