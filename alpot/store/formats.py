"""Exchanges labelled frames with the rest of the field: extended XYZ and ANI-style HDF5.

Files that are read here come from users. Whatever is wrong with one is a ``StructureError`` that names the file, the
frame (counted from 0) and the field.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import repeat
from pathlib import Path
from typing import Any, Literal

import ase.io
import h5py
import numpy as np
from ase import Atoms
from ase.calculators.calculator import all_properties
from ase.data import atomic_numbers, chemical_symbols
from ase.io.extxyz import key_val_dict_to_str, key_val_str_to_dict
from ase.stress import full_3x3_to_voigt_6_stress, voigt_6_to_full_3x3_stress
from ase.units import Hartree

from alpot.errors import LevelOfTheoryError, StorageError, StructureError
from alpot.store.container import MALFORMED, Column, hdf5_image, is_container
from alpot.store.dataset import read_labels
from alpot.store.files import publish, publish_with
from alpot.store.labels import Label, label_key

XYZ_SUFFIXES = (".extxyz", ".xyz")
HDF5_SUFFIXES = (".h5", ".hdf5")
#: A dataset of more bytes per byte of its file than this is no data: compression gains far less on labels.
_LARGEST_EXPANSION = 100
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
_ENERGY_UNITS = {"hartree": Hartree, "ha": Hartree, "ev": 1.0}


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
            _check_level(f"{path}", label.level_of_theory, level_of_theory)
    else:
        labels = read_ani_hdf5(path, level_of_theory)
    if not labels:
        raise StructureError(f"{path} holds no frames")
    unique: dict[str, Label] = {}
    for label in labels:
        unique.setdefault(label.key, label)
    return list(unique.values())


# ------------------------------------------------------------------------------------------------------ extxyz


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
        _check_level(place, str(atoms.info["level_of_theory"]), level_of_theory)
    return _label(place, {"file": path.name, "frame": index}, atoms, energy, forces, stress, level_of_theory)


def _check_level(place: str, stated: str, wanted: str) -> None:
    if stated != wanted:
        raise LevelOfTheoryError(
            f"{place} states the level of theory {stated}, but this campaign's reference is {wanted};"
            " a dataset must not mix them"
        )


def _label(
    place: str,
    source: dict[str, Any],
    atoms: Atoms,
    energy: Any,
    forces: Any,
    stress: Any,
    level_of_theory: str,
) -> Label:
    """A label from what a file holds; stress: (6,) Voigt, (3, 3), (9,) or None, eV/Å³."""
    try:
        if stress is not None and np.size(stress) == 9:
            stress = full_3x3_to_voigt_6_stress(np.reshape(stress, (3, 3)))
        bare = Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=atoms.pbc)
        return Label(
            key=label_key(bare, level_of_theory),
            atoms=bare,
            energy=energy,
            forces=forces,
            stress=stress,
            level_of_theory=level_of_theory,
            provenance={"imported": source},
        )
    except (StorageError, ValueError, TypeError) as error:
        raise StructureError(f"{place}: {error}") from error


# ------------------------------------------------------------------------------------------------ ANI-style HDF5


def write_ani_hdf5(path: Path, labels: Sequence[Label]) -> None:
    """Writes labels as ANI-style HDF5: one group for each list of species, with all its frames.

    Datasets of a group: ``species`` (n_atoms,) symbols, ``coordinates`` (n_frames, n_atoms, 3) Å, ``cell``
    (n_frames, 3, 3) Å, ``pbc`` (n_frames, 3), ``energies`` (n_frames,) Hartree, ``forces`` (n_frames, n_atoms, 3)
    Hartree/Å, that is −dE/dR, and ``stress`` (n_frames, 6) Hartree/Å³ in Voigt order, NaN where there is none.
    """
    groups: dict[tuple[str, ...], list[Label]] = {}
    for label in labels:
        groups.setdefault(tuple(label.atoms.symbols), []).append(label)
    columns: dict[str, Column] = {}
    names: set[str] = set()
    for species, members in groups.items():
        formula = members[0].atoms.get_chemical_formula()
        # The same atoms in another order are another group; numbers tell them apart.
        name = next(name for name in _numbered(formula) if name not in names)
        names.add(name)
        columns |= {f"{name}/{field}": column for field, column in _ani_group(species, members).items()}
    levels = sorted({label.level_of_theory for label in labels})
    publish(path, hdf5_image(columns, {"level_of_theory": " ".join(levels), "written_by": "alpot"}))


def read_ani_hdf5(
    path: Path, level_of_theory: str, *, forces_name: str = "forces", forces_sign: Literal[1, -1] = 1
) -> list[Label]:
    """Reads ANI-style HDF5: every group, at any depth, that has ``coordinates``.

    Energies (``energies`` or ``energy``) and forces are in Hartree and Hartree/Å, as ANI files are, unless the
    dataset has an attribute ``unit`` that says eV and eV/Å. Without ``pbc``, a frame with a cell is periodic.

    Args:
        path: the file.
        level_of_theory: hash of the reference that computed the labels.
        forces_name: name of the forces' dataset.
        forces_sign: 1 if the dataset holds forces, −dE/dR; −1 if it holds gradients, +dE/dR. The published ANI-Al
            data holds gradients under the name ``force``: read it with ``forces_name="force", forces_sign=-1``.
    """
    labels: list[Label] = []
    try:
        with h5py.File(path, "r") as file:
            if "level_of_theory" in file.attrs:
                _check_level(str(path), str(file.attrs["level_of_theory"]), level_of_theory)
            for group in _ani_groups(file, set()):
                place = f"{path}, group {group.name}"
                arrays = {name: item for name, item in _members(group) if isinstance(item, h5py.Dataset)}
                for name, item in arrays.items():
                    _refuse_tricks(f"{place}: `{name}`", item, path.stat().st_size)
                labels += _labels_of_group(place, path.name, arrays, level_of_theory, forces_name, forces_sign)
    except MALFORMED as error:
        raise StructureError(f"{path} cannot be read as ANI-style HDF5: {error}") from error
    if not labels:
        raise StructureError(f"{path} holds no ANI-style group: none has a dataset `coordinates` with frames in it")
    return labels


def _numbered(name: str) -> Iterator[str]:
    yield name
    number = 2
    while True:
        yield f"{name}_{number}"
        number += 1


def _ani_group(species: Sequence[str], labels: Sequence[Label]) -> dict[str, Column]:
    no_stress = np.full(6, np.nan)
    stress = np.array([no_stress if label.stress is None else label.stress for label in labels])
    return {
        "species": (list(species), ""),
        "coordinates": (np.array([label.atoms.positions for label in labels]), "Å"),
        "cell": (np.array([label.atoms.cell.array for label in labels]), "Å"),
        "pbc": (np.array([label.atoms.pbc for label in labels]), ""),
        "energies": (np.array([label.energy for label in labels]) / Hartree, "Hartree"),
        "forces": (np.array([label.forces for label in labels]) / Hartree, "Hartree/Å"),
        "stress": (stress / Hartree, "Hartree/Å³"),
    }


def _ani_groups(group: h5py.Group, seen: set[int]) -> Iterator[h5py.Group]:
    # A group can be its own member.
    address = h5py.h5o.get_info(group.id).addr
    if address in seen:
        return
    seen.add(address)
    members = dict(_members(group))
    if "coordinates" in members:
        yield group
    for item in members.values():
        if isinstance(item, h5py.Group):
            yield from _ani_groups(item, seen)


def _members(group: h5py.Group) -> Iterator[tuple[str, Any]]:
    """What lies in a group itself; links to other places and files are not followed."""
    for name in group:
        if isinstance(group.get(name, getlink=True), h5py.HardLink):
            yield name, group[name]


def _refuse_tricks(place: str, dataset: h5py.Dataset, file_bytes: int) -> None:
    """Refuses datasets that read other files, or that would fill the memory."""
    if dataset.is_virtual or dataset.external is not None:
        raise StructureError(f"{place} is stored in other files, which are not read; copy it into one")
    if dataset.shape is None or dataset.nbytes > _LARGEST_EXPANSION * file_bytes:
        raise StructureError(f"{place} has the shape {dataset.shape}, more than a file of {file_bytes} bytes can hold")
    is_text = dataset.dtype.kind == "S" or h5py.check_string_dtype(dataset.dtype) is not None
    if dataset.dtype.kind not in "biuf" and not is_text:
        raise StructureError(f"{place} is of the type {dataset.dtype}; numbers are needed, and symbols for the species")


def _labels_of_group(
    place: str,
    file_name: str,
    arrays: Mapping[str, h5py.Dataset],
    level_of_theory: str,
    forces_name: str,
    forces_sign: int,
) -> list[Label]:
    energy_name = "energies" if "energies" in arrays else "energy"
    if "force" in arrays and forces_name not in arrays:
        raise StructureError(
            f"{place}: the dataset `force` is not read by itself, because its sign is uncertain (the published ANI-Al"
            ' data holds +dE/dR there); read_ani_hdf5(..., forces_name="force", forces_sign=-1) reads gradients'
        )
    for name in ("species", energy_name, forces_name):
        if name not in arrays:
            raise StructureError(f"{place}: the dataset `{name}` is missing; there are {', '.join(sorted(arrays))}")
    positions = np.asarray(arrays["coordinates"][...], dtype=float)
    if positions.ndim != 3 or positions.shape[2] != 3:
        raise StructureError(
            f"{place}: `coordinates` have shape {positions.shape}, not (number of frames, number of atoms, 3)"
        )
    n_frames, n_atoms, _ = positions.shape
    numbers = _frame_rows(place, "species", _atomic_numbers(place, arrays["species"]), n_frames, (n_atoms,))
    energies = _frame_rows(place, energy_name, _in_electronvolts(place, arrays[energy_name]), n_frames, ())
    forces = _in_electronvolts(place, arrays[forces_name]) * forces_sign
    forces = _frame_rows(place, forces_name, forces, n_frames, (n_atoms, 3))
    cells = arrays["cell"][...] if "cell" in arrays else np.zeros((3, 3))
    cells = _frame_rows(place, "cell", cells, n_frames, (3, 3))
    periodic = np.array([[cell.any()] * 3 for cell in cells]).reshape(n_frames, 3)
    pbc = _frame_rows(place, "pbc", arrays["pbc"][...], n_frames, (3,)) if "pbc" in arrays else periodic
    stress = _in_electronvolts(place, arrays["stress"]) if "stress" in arrays else np.full(6, np.nan)
    stress = _frame_rows(place, "stress", stress, n_frames, stress.shape[-2:] if stress.shape[-2:] == (3, 3) else (6,))
    return [
        _label(
            f"{place}, frame {i}",
            {"file": file_name, "group": place.rpartition(" ")[2], "frame": i},
            Atoms(numbers[i], positions[i], cell=cells[i], pbc=pbc[i]),
            energies[i],
            forces[i],
            None if np.isnan(stress[i]).all() else stress[i],
            level_of_theory,
        )
        for i in range(n_frames)
    ]


def _frame_rows(place: str, name: str, values: np.ndarray, n_frames: int, shape: tuple[int, ...]) -> np.ndarray:
    """Values per frame, (n_frames, *shape); what is given once counts for all frames."""
    if values.shape == (n_frames, *shape):
        return values
    if shape and values.shape == shape:
        return np.broadcast_to(values, (n_frames, *shape))
    if values.size == n_frames and not shape:
        return values.reshape(n_frames)
    raise StructureError(f"{place}: `{name}` has shape {values.shape}, where {(n_frames, *shape)} is needed")


def _in_electronvolts(place: str, dataset: h5py.Dataset) -> np.ndarray:
    unit = str(dataset.attrs.get("unit", "Hartree"))
    factor = _ENERGY_UNITS.get(unit.split("/")[0].strip().lower())
    if factor is None:
        raise StructureError(f"{place}: `{dataset.name}` has the unit {unit!r}; Hartree and eV (per Å) are known")
    return np.asarray(dataset[...], dtype=float) * factor


def _atomic_numbers(place: str, dataset: h5py.Dataset) -> np.ndarray:
    values = dataset[...]
    if np.issubdtype(values.dtype, np.integer):
        if values.size and not 0 < values.min() <= values.max() < len(chemical_symbols):
            raise StructureError(f"{place}: `species` has atomic numbers from {values.min()} to {values.max()}")
        return np.asarray(values)
    symbols = [s.decode() if isinstance(s, bytes) else str(s) for s in values.ravel()]
    unknown = sorted({symbol for symbol in symbols if symbol not in atomic_numbers})
    if unknown:
        raise StructureError(f"{place}: `species` names {', '.join(unknown)}, which are not chemical symbols")
    return np.array([atomic_numbers[symbol] for symbol in symbols]).reshape(values.shape)
