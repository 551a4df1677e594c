"""Structures from the user's files, in any format that ASE reads, checked before they cost anything."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.io import read

from alpot.config import FileStarts, Material
from alpot.errors import StructureError
from alpot.store.extxyz import XYZ_SUFFIXES, refuse_impossible_xyz
from alpot.structures.contacts import closest_approach
from alpot.structures.crystals import rattle

#: Two atoms closer than this fraction of the sum of their covalent radii are a mistake in the file.
_COINCIDENCE = 0.2


def draw_from_file(
    material: Material, starts: FileStarts, rng: np.random.Generator, *, base_directory: Path
) -> tuple[Atoms, int]:
    """Draws one frame of a file.

    Returns:
        The frame, rattled, with nothing but atoms, cell and boundary conditions; and its place among those read.

    Raises:
        StructureError: the file is missing or not readable, or the frame is not usable for this material.
    """
    path = base_directory / Path(starts.path).expanduser()
    if not path.is_file():
        raise StructureError(
            f"{starts.path}: there is no file {path}; path in material.starts is relative to the campaign file"
        )
    path = path.resolve()
    frames = _read(path, starts.index, path.stat().st_mtime_ns)
    place = int(rng.integers(len(frames)))
    _check(frames[place], f"{path}, frame {place}", material)
    atoms = frames[place].copy()
    rattle(atoms, starts.rattle, rng)
    return atoms, place


@lru_cache(maxsize=8)
def _read(path: Path, index: str, _modified: int) -> tuple[Atoms, ...]:
    """Frames of a file without what came with them; kept, because every start asks for the same files again."""
    frames = read_structures(path, index)
    return tuple(Atoms(numbers=f.numbers, positions=f.positions, cell=f.cell, pbc=f.pbc) for f in frames)


def read_structures(path: Path, index: str = ":") -> list[Atoms]:
    """Frames of a file with all that came with them.

    Args:
        path: a file in any format that ASE reads.
        index: which frames, in ASE's notation.

    Raises:
        StructureError: the file is missing, not readable, or has no such frame.
    """
    if not path.is_file():
        raise StructureError(f"there is no file {path}")
    if path.suffix in XYZ_SUFFIXES:
        refuse_impossible_xyz(path)
    try:
        read_frames = read(path, index=index)
    except Exception as error:  # ASE's many readers raise anything at all on a file that they cannot read
        raise StructureError(
            f"{path} cannot be read with index {index!r} ({type(error).__name__}: {error}); it must be in a format that"
            " ASE reads, with its usual file name ending"
        ) from error
    frames = read_frames if isinstance(read_frames, list) else [read_frames]
    if not frames:
        raise StructureError(f"{path} has no frame with index {index!r}; ':' takes all")
    return frames


def _check(atoms: Atoms, place: str, material: Material) -> None:
    foreign = sorted(set(atoms.symbols) - set(material.elements))
    if foreign:
        raise StructureError(
            f"{place} has the elements {', '.join(foreign)}, but material.elements is {list(material.elements)};"
            " add them there or choose other frames with index"
        )
    if len(atoms) == 0:
        raise StructureError(f"{place} has no atoms; choose other frames with index")
    if np.any(atoms.pbc & (atoms.cell.lengths() < 1e-6)) or (atoms.pbc.all() and atoms.get_volume() < 1e-6):
        raise StructureError(
            f"{place} is periodic along {atoms.pbc.tolist()}, but its cell is {atoms.cell.array.tolist()};"
            " give it a cell with three independent vectors, or no periodicity"
        )
    closest = closest_approach(atoms)
    if not closest >= _COINCIDENCE:
        raise StructureError(
            f"{place} has two atoms closer than {_COINCIDENCE} of the sum of their covalent radii (the closest are at"
            f" {closest:.3g}), or positions that are not finite; mend the file"
        )
