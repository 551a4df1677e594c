"""Reads labelled frames of any format that is known: extended XYZ, ANI-style HDF5, and alpot's own files."""

from __future__ import annotations

from pathlib import Path

from alpot.errors import StructureError
from alpot.store.ani_hdf5 import HDF5_SUFFIXES, read_ani_hdf5
from alpot.store.container import is_container
from alpot.store.dataset import read_labels
from alpot.store.extxyz import XYZ_SUFFIXES, read_extxyz
from alpot.store.imported_label import check_level
from alpot.store.labels import Label


def read_labelled(path: Path, level_of_theory: str) -> list[Label]:
    """Reads labelled frames from extxyz, ANI-style HDF5, or a label or shard file of alpot.

    Args:
        path: the file; its suffix (and, for HDF5, its first bytes) tells the format.
        level_of_theory: hash of the reference that the frames are said to be from. A file that states another one
            is refused.

    Returns:
        The labels, each structure once: the first of several equal ones.
    """
    if not path.is_file():
        raise StructureError(f"there is no file {path}")
    if path.suffix in XYZ_SUFFIXES:
        labels = read_extxyz(path, level_of_theory)
    elif path.suffix not in HDF5_SUFFIXES:
        raise StructureError(
            f"{path}: labelled frames are read from {', '.join(XYZ_SUFFIXES + HDF5_SUFFIXES)} files,"
            f" not from {path.suffix or 'files without a suffix'}"
        )
    elif is_container(path):
        labels = read_labels([path])
        for label in labels:
            check_level(f"{path}", label.level_of_theory, level_of_theory)
    else:
        labels = read_ani_hdf5(path, level_of_theory)
    if not labels:
        raise StructureError(f"{path} holds no frames")
    unique: dict[str, Label] = {}
    for label in labels:
        unique.setdefault(label.key, label)
    return list(unique.values())
