"""Takes the results of a campaign elsewhere: what `alpot export` does."""

from __future__ import annotations

from pathlib import Path

from alpot.campaign.state import State
from alpot.errors import UsageError
from alpot.potential.saved import CARD, WEIGHTS
from alpot.store.ani_hdf5 import HDF5_SUFFIXES, write_ani_hdf5
from alpot.store.dataset import read_labels
from alpot.store.directory import CampaignDirectory
from alpot.store.extxyz import write_extxyz
from alpot.store.files import publish, read_bytes
from alpot.store.ledger import Ledger


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
    """Write the labels of a campaign to one file: those for the audit too, but none that was refused or is lost.

    Isolated atoms go into extended XYZ only, where they can be told from what is to be trained on.

    Args:
        path: the campaign directory.
        target: ``*.extxyz`` or ``*.xyz`` for extended XYZ, ``*.h5`` or ``*.hdf5`` for ANI-style HDF5.

    Returns:
        The number of labels.

    Raises:
        UsageError: there is no label yet, or the target exists.
    """
    directory = CampaignDirectory.open(path)
    if target.exists():
        raise UsageError(f"{target} exists already; choose another name, or remove it")
    with Ledger(directory.ledger, read_only=True) as ledger:
        state = State.replay(ledger.events())
        left_out = {*state.dataset.refused, *(state.dataset.apart if target.suffix in HDF5_SUFFIXES else ())}
        rows = [row for row in ledger.label_rows() if row.key not in left_out]
    found = read_labels(directory.path / name for name in sorted({row.path for row in rows}))
    labels = [label for label in found if label.key not in left_out]
    if not labels:
        raise UsageError(f"the campaign in {directory.path} has no labels yet")
    if target.suffix in HDF5_SUFFIXES:
        write_ani_hdf5(target, labels)
    else:
        write_extxyz(target, labels, isolated=state.dataset.apart)
    return len(labels)
