"""What a label is, how it is named, and how one finished reference calculation is stored.

The name (key) of a label is a hash of structure and method: who computes the same again finds it done.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms

from alpot.errors import LevelOfTheoryError, StorageError
from alpot.store.container import json_texts, pack, understood, unpack
from alpot.store.files import publish_new, set_aside, sha256
from alpot.store.frames import structure_columns, structures

#: Part of every key. Raised by hand when a change of alpot makes labels computed before it invalid.
LABEL_VERSION = 1
_KIND = "labels"
#: Structures closer than this (Å, in every coordinate) are the same structure.
_RESOLUTION = 1e-8


@dataclass(frozen=True, kw_only=True, eq=False)
class Label:
    """The result of a reference calculation.

    Attributes:
        key: name of the label, see ``label_key``.
        atoms: the structure; only numbers, positions, cell and pbc count.
        energy: total energy in eV.
        forces: (n_atoms, 3) eV/Å.
        stress: (6,) eV/Å³ in Voigt order xx, yy, zz, yz, xz, xy with ASE's sign (positive under tension); or None.
        level_of_theory: hash of the reference's settings.
        provenance: where structure and numbers come from; JSON-able.
    """

    key: str
    atoms: Atoms
    energy: float
    forces: np.ndarray
    stress: np.ndarray | None = None
    level_of_theory: str
    provenance: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "energy", float(self.energy))
        object.__setattr__(self, "forces", _array("forces", self.forces, (len(self.atoms), 3), "eV/Å"))
        if self.stress is not None:
            object.__setattr__(self, "stress", _array("stress", self.stress, (6,), "eV/Å³"))
        if not np.isfinite(self.energy):
            raise StorageError(f"a label's energy is {self.energy} eV; it must be finite")


def _array(name: str, values: Any, shape: tuple[int, ...], unit: str) -> np.ndarray:
    array = np.asarray(values, dtype=float)
    if array.shape != shape:
        raise StorageError(f"a label's {name} have shape {array.shape}, but {shape} ({unit}) is needed")
    if not np.isfinite(array).all():
        raise StorageError(f"a label's {name} are not finite: {array[~np.isfinite(array)][0]} {unit}")
    return array


def structure_hash(atoms: Atoms) -> str:
    """SHA-256 of atomic numbers, positions, cell and pbc; lengths are rounded to 1e-8 Å.

    The order of atoms and the choice of the periodic image matter: this recognises the same calculation, not
    symmetry-equivalent structures.
    """
    lengths = np.concatenate([atoms.cell.array, atoms.positions])
    if not np.isfinite(lengths).all():
        raise StorageError("a structure with positions or a cell that are not finite cannot be named or stored")
    digest = hashlib.sha256()
    digest.update(np.asarray(atoms.numbers, dtype="<i4").tobytes())
    digest.update(np.asarray(atoms.pbc, dtype="u1").tobytes())
    digest.update(np.rint(lengths / _RESOLUTION).astype("<i8").tobytes())
    return digest.hexdigest()


def label_key(atoms: Atoms, level_of_theory: str) -> str:
    """The name of the label that ``level_of_theory`` (a hash of settings) gives for a structure: 64 hex digits."""
    text = json.dumps([structure_hash(atoms), level_of_theory, LABEL_VERSION])
    return hashlib.sha256(text.encode()).hexdigest()


def write_label(path: Path, label: Label) -> str:
    """Stores a finished calculation for good: when this returns, the label survives a power cut.

    A label with the same key that is there already stays (both were paid for, one is enough). A damaged file is set
    aside.

    Returns:
        SHA-256 of the file that is now at ``path``.
    """
    content = pack_labels([label], path)
    if publish_new(path, content):
        return hashlib.sha256(content).hexdigest()
    try:
        present = read_label(path)
    except StorageError:
        set_aside(path)
        publish_new(path, content)
        present = read_label(path)
    if present.key != label.key:
        raise StorageError(f"{path} holds label {present.key} already; label {label.key} cannot be written there")
    return sha256(path)


def read_label(path: Path) -> Label:
    """Reads one stored calculation; ``StorageError`` if it is missing or damaged."""
    labels = unpack_labels(path)
    if len(labels) != 1:
        raise StorageError(f"{path} holds {len(labels)} labels, where one was expected")
    return labels[0]


def pack_labels(labels: Sequence[Label], path: Path) -> bytes:
    """The bytes of a file with these labels, which must be of one level of theory; ``path`` is for messages."""
    levels = {label.level_of_theory for label in labels}
    if len(levels) != 1:
        raise LevelOfTheoryError(
            f"{path} would hold labels of {len(levels)} levels of theory ({', '.join(sorted(levels)) or 'no labels'});"
            " a file holds labels of exactly one"
        )
    no_stress = np.full(6, np.nan)
    columns = {
        **structure_columns([label.atoms for label in labels]),
        "energy": (np.array([label.energy for label in labels]), "eV"),
        "forces": (np.concatenate([label.forces for label in labels]), "eV/Å"),
        # NaN where the reference gave no stress; a label itself never holds NaN.
        "stress": (np.array([no_stress if label.stress is None else label.stress for label in labels]), "eV/Å³"),
        "key": ([label.key for label in labels], ""),
        "provenance": (json_texts([label.provenance for label in labels], path), ""),
    }
    return pack(_KIND, columns, {"level_of_theory": levels.pop(), "stress_order": "xx yy zz yz xz xy"})


def provenances(path: Path) -> dict[str, dict[str, Any]]:
    """Key and provenance of every label in a file, be it one label or a shard."""
    texts = unpack(path, _KIND).texts
    return {key: json.loads(text) for key, text in zip(texts["key"], texts["provenance"], strict=True)}


def unpack_labels(path: Path) -> list[Label]:
    """Reads a file of labels, be it one label or a shard."""
    content = unpack(path, _KIND)
    with understood(path):
        arrays = content.arrays
        forces = np.split(arrays["forces"], arrays["offsets"][1:-1])
        return [
            Label(
                key=key,
                atoms=atoms,
                energy=energy,
                forces=forces[i],
                stress=None if np.isnan(arrays["stress"][i]).all() else arrays["stress"][i],
                level_of_theory=content.attributes["level_of_theory"],
                provenance=dict(json.loads(content.texts["provenance"][i])),
            )
            for i, (key, atoms, energy) in enumerate(
                zip(content.texts["key"], structures(content), arrays["energy"], strict=True)
            )
        ]
