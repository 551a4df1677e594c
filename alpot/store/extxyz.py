"""Extended XYZ: labelled frames as text, which the whole field reads and writes.

Files that are read here come from users. Whatever is wrong with one is a ``StructureError`` that names the file, the
frame (counted from 0) and the field.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator, Sequence
from itertools import repeat
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
from ase import Atoms
from ase.calculators.calculator import all_properties
from ase.io.extxyz import key_val_dict_to_str, key_val_str_to_dict
from ase.stress import voigt_6_to_full_3x3_stress

from alpot.errors import StructureError
from alpot.store.files import publish_with
from alpot.store.imported_label import check_level, imported_label
from alpot.store.labels import Label

XYZ_SUFFIXES = (".extxyz", ".xyz")
#: A column of an extended XYZ file that is wider than 99,999 numbers per atom.
_WIDE_COLUMN = re.compile(rb":[A-Za-z]:\d{6,}")
#: A line that states the number of atoms is not longer.
_LONGEST_COUNT = 100
_OURS = ("REF_energy", "REF_forces", "REF_stress", "key", "level_of_theory")
#: Names that mean something in an extended XYZ file: its own words, what ASE takes for a calculator's results, our own.
_RESERVED = frozenset(
    ("Lattice", "Properties", "pbc", "symbols", "species", "pos", "move_mask", *all_properties, *_OURS)
)
#: Names of columns that mean something: ``Z`` are atomic numbers.
_RESERVED_COLUMNS = _RESERVED | {"numbers", "positions", "Z"}
#: Readers disagree on what quotes, brackets and backslashes in a name mean.
_NAME = re.compile(r"""[^\s="'{}\[\]\\]+""")


def write_extxyz(
    path: Path, labels: Sequence[Label], *, frames: Sequence[Atoms] | None = None, isolated: Collection[str] = ()
) -> None:
    """Writes labels as extended XYZ with ``REF_energy`` (eV), ``REF_forces`` (eV/Å), ``REF_stress`` (eV/Å³, (9,)).

    Plain ``energy`` and ``forces`` are avoided, because ASE takes them for results of a calculator. Coordinates and
    forces are written with 8 decimals.

    Args:
        path: the file; it is replaced.
        labels: in order.
        frames: the users' own frames of these labels, whose other entries (``info`` and arrays) are written as well, as
            far as extended XYZ can hold them. Results of other calculations are not.
        isolated: keys of those that are isolated atoms. They get ``config_type=IsolatedAtom``, by which MACE and others
            know the energies E0 of the elements.
    """
    written = [_labelled_atoms(label, own) for label, own in zip(labels, frames or repeat(None), strict=False)]
    for label, atoms in zip(labels, written, strict=True):
        if label.key in isolated:
            atoms.info["config_type"] = "IsolatedAtom"
    publish_with(path, lambda temporary: ase.io.write(temporary, written, format="extxyz"))


def read_extxyz(path: Path, level_of_theory: str) -> list[Label]:
    """Reads extended XYZ with ``REF_energy``, ``REF_forces`` and perhaps ``REF_stress``.

    Plain names (``energy``, ``forces``, ``stress``) are read where those are missing; ``free_energy`` then goes before
    ``energy``, because forces are derivatives of the former.
    """
    refuse_impossible_xyz(path)
    return [_label_of_frame(path, i, atoms, level_of_theory) for i, atoms in enumerate(_frames_of_extxyz(path))]


def refuse_impossible_xyz(path: Path) -> None:
    """Refuses (extended) XYZ that states more atoms than it has lines, for which ASE would look for ever.

    Raises:
        StructureError: names the frame.
    """
    try:
        with path.open("rb") as file:
            n_lines = sum(block.count(b"\n") for block in iter(lambda: file.read(2**20), b"")) + 1
            file.seek(0)
            frame = 0
            while (line := file.readline(_LONGEST_COUNT)).strip().isdigit():  # ASE names what is wrong with others
                if int(line) > n_lines:
                    raise StructureError(f"{path}, frame {frame}: states {int(line)} atoms, but has {n_lines} lines")
                if _WIDE_COLUMN.search(file.readline()):
                    raise StructureError(f"{path}, frame {frame}: a column of more than 99,999 numbers per atom")
                for _ in range(int(line)):
                    file.readline()
                frame += 1
    except OSError as error:
        raise StructureError(f"{path} cannot be read: {error.strerror}") from error


def _labelled_atoms(label: Label, own: Atoms | None) -> Atoms:
    atoms = Atoms(label.atoms.numbers, label.atoms.positions, cell=label.atoms.cell, pbc=label.atoms.pbc)
    atoms.info = {"REF_energy": label.energy, "key": label.key, "level_of_theory": label.level_of_theory}
    if label.stress is not None:
        # As nine numbers, for ASE writes matrices in a way of its own.
        atoms.info["REF_stress"] = voigt_6_to_full_3x3_stress(label.stress).ravel()
    atoms.arrays["REF_forces"] = label.forces
    if own is not None:  # behind ours, which no entry of the user's can disturb then
        atoms.info |= {name: value for name, value in own.info.items() if _fits_comment(name, value)}
        atoms.arrays |= {name: array for name, array in own.arrays.items() if _fits_column(name, array)}
    return atoms


def _fits_comment(name: Any, value: Any) -> bool:
    """Whether a comment line can hold an entry, and nobody would take it for something else."""
    if not isinstance(name, str) or not _is_plain(name) or name in _RESERVED:
        return False
    if isinstance(value, np.ndarray):
        return value.dtype.kind in "bif" and value.size > 0 and _is_read_back(name, value)
    text = value
    if not isinstance(value, str):
        try:
            text = json.dumps(value.item() if isinstance(value, np.generic) else value)
        except (TypeError, ValueError):
            return False
    # ASE would break the line where a character is not printable, and drops backslashes when it reads.
    return text.isprintable() and "\\" not in text and _is_read_back(name, value)


def _is_read_back(name: str, value: Any) -> bool:
    """Whether ASE reads an entry that it has written, and that what follows is another one."""
    try:
        return key_val_str_to_dict(key_val_dict_to_str({name: value, "pbc": 1})).keys() == {name, "pbc"}
    except ValueError:
        return False


def _fits_column(name: str, array: np.ndarray) -> bool:
    """Whether an array can be columns of its own."""
    if name in _RESERVED_COLUMNS or not _is_plain(name) or ":" in name or array.ndim > 2 or not array.size:
        return False
    if array.dtype.kind == "U":
        return all(re.fullmatch(r"\S+", word) for word in array.ravel())
    return array.dtype.kind in "bif"


def _is_plain(name: str) -> bool:
    return _NAME.fullmatch(name) is not None and name.isprintable()


def _frames_of_extxyz(path: Path) -> Iterator[Atoms]:
    count = 0
    try:
        for atoms in ase.io.iread(path, index=":", format="extxyz"):
            yield atoms
            count += 1
    except Exception as error:
        # ASE's reader raises anything from KeyError to AssertionError on malformed text.
        raise StructureError(f"{path}, frame {count}: cannot be read as extended XYZ: {error!r}") from error


def _label_of_frame(path: Path, index: int, atoms: Atoms, level_of_theory: str) -> Label:
    place = f"{path}, frame {index}"
    plain = atoms.calc.results if atoms.calc is not None else {}
    energy = atoms.info.get("REF_energy", plain.get("free_energy", plain.get("energy")))
    forces = atoms.arrays.get("REF_forces", plain.get("forces"))
    stress = atoms.info.get("REF_stress", plain.get("stress"))
    if energy is None:
        raise StructureError(f"{place}: no energy; REF_energy (or energy) in eV is needed on the comment line")
    if forces is None:
        raise StructureError(f"{place}: no forces; a column REF_forces:R:3 (or forces:R:3) in eV/Å is needed")
    if "level_of_theory" in atoms.info:
        check_level(place, str(atoms.info["level_of_theory"]), level_of_theory)
    return imported_label(place, {"file": path.name, "frame": index}, atoms, energy, forces, stress, level_of_theory)
