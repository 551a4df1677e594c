"""Stores frames (structures without labels) with their provenance: the candidates that wait for a label.

Also the layout of structures that label files share: atoms of all frames one after the other, and the offset at which
each frame begins, so that frames of different sizes need no padding.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.data import chemical_symbols

from alpot.errors import StorageError
from alpot.store.container import Column, Content, json_texts, pack, understood, unpack
from alpot.store.files import publish_new, set_aside

_KIND = "frames"


def write_frames(path: Path, frames: Sequence[Atoms], provenance: Sequence[Mapping[str, Any]]) -> bool:
    """Writes frames and where each comes from, once: frames that are there already stay.

    Two attempts at one task find different frames, and whoever reported first must be able to rely on the file. So
    an attempt that comes second (False is returned) has to report the frames that are in the file, not its own.

    Args:
        path: the file. A damaged one is set aside first.
        frames: numbers, positions, cell and pbc are stored, nothing else.
        provenance: one JSON-able dictionary per frame.

    Returns:
        Whether the file was written by this call.
    """
    if len(frames) != len(provenance):
        raise ValueError(f"{len(frames)} frames need as many provenances, not {len(provenance)}")
    columns = {**structure_columns(frames), "provenance": (json_texts(provenance, path), "")}
    content = pack(_KIND, columns, {})
    if publish_new(path, content):
        return True
    try:
        read_frames(path)
    except StorageError:
        set_aside(path)
        return publish_new(path, content)
    return False


def read_frames(path: Path) -> tuple[list[Atoms], list[dict[str, Any]]]:
    """All frames of a file and their provenances."""
    content = unpack(path, _KIND)
    with understood(path):
        return structures(content), [dict(json.loads(text)) for text in content.texts["provenance"]]


def read_frame(path: Path, index: int) -> tuple[Atoms, dict[str, Any]]:
    """One frame of a file, counted from 0, and its provenance."""
    frames, provenance = read_frames(path)
    if not 0 <= index < len(frames):
        raise StorageError(f"{path} holds frames 0 to {len(frames) - 1}; there is no frame {index}")
    return frames[index], provenance[index]


def structure_columns(frames: Sequence[Atoms]) -> dict[str, Column]:
    """Structures as columns of a file.

    Returns:
        ``numbers`` (n_atoms_total,), ``positions`` (n_atoms_total, 3) Å, ``cell`` (n_frames, 3, 3) Å with lattice
        vectors as rows, ``pbc`` (n_frames, 3), ``offsets`` (n_frames + 1,): frame i has the atoms offsets[i] up to,
        not including, offsets[i + 1].
    """
    offsets = np.cumsum([0, *(len(atoms) for atoms in frames)], dtype=np.int64)
    return {
        "numbers": (np.concatenate([np.empty(0, np.int32), *(atoms.numbers for atoms in frames)], dtype=np.int32), ""),
        "positions": (np.concatenate([np.empty((0, 3)), *(atoms.positions for atoms in frames)]), "Å"),
        "cell": (np.array([atoms.cell.array for atoms in frames], dtype=float).reshape(-1, 3, 3), "Å"),
        "pbc": (np.array([atoms.pbc for atoms in frames], dtype=bool).reshape(-1, 3), ""),
        "offsets": (offsets, ""),
    }


def structures(content: Content) -> list[Atoms]:
    """The structures in a file's columns; the inverse of ``structure_columns``.

    Raises:
        ValueError: the columns do not fit together, or are no structures.
    """
    arrays = content.arrays
    numbers, offsets = arrays["numbers"], arrays["offsets"]
    if offsets[0] != 0 or offsets[-1] != len(numbers) or (np.diff(offsets) < 0).any():
        raise ValueError(f"the offsets {offsets[:3]} ... {offsets[-1]} do not divide {len(numbers)} atoms")
    if ((numbers < 0) | (numbers >= len(chemical_symbols))).any():
        raise ValueError("an atomic number is not that of an element")
    if not (np.isfinite(arrays["positions"]).all() and np.isfinite(arrays["cell"]).all()):
        raise ValueError("positions or a cell are not finite")
    return [
        Atoms(arrays["numbers"][begin:end], arrays["positions"][begin:end], cell=cell, pbc=pbc)
        for (begin, end), cell, pbc in zip(
            pairwise(arrays["offsets"].tolist()), arrays["cell"], arrays["pbc"], strict=True
        )
    ]
