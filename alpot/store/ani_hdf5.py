"""ANI-style HDF5: labelled frames in groups of the same atoms, as the published ANI data are.

Files that are read here come from users. Whatever is wrong with one is a ``StructureError`` that names the file, the
group, the frame (counted from 0) and the field.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import h5py
import numpy as np
from ase import Atoms
from ase.data import atomic_numbers, chemical_symbols
from ase.units import Hartree

from alpot.errors import StructureError
from alpot.store.container import MALFORMED, Column, hdf5_image
from alpot.store.files import publish
from alpot.store.imported_label import check_level, imported_label
from alpot.store.labels import Label

HDF5_SUFFIXES = (".h5", ".hdf5")
#: A dataset of more bytes per byte of its file than this is no data: compression gains far less on labels.
_LARGEST_EXPANSION = 100
_ENERGY_UNITS = {"hartree": Hartree, "ha": Hartree, "ev": 1.0}


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
                check_level(str(path), str(file.attrs["level_of_theory"]), level_of_theory)
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
        imported_label(
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
