"""Draws how a walker or a first label begins: picks one of the material's tables by weight and builds it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from ase import Atoms

from alpot.config import CrystalStarts, FileStarts, Material, PackingStarts, StartTable
from alpot.structures.crystals import build_crystal
from alpot.structures.density import draw_density, draw_numbers
from alpot.structures.files import draw_from_file
from alpot.structures.packing import build_packing


def draw_start(material: Material, rng: np.random.Generator, *, base_directory: Path) -> Atoms:
    """Builds one random start; the same generator state gives the same start.

    Args:
        material: elements, composition, and the tables of starts.
        rng: the only source of randomness.
        base_directory: folder of the campaign file, for files of structures.

    Returns:
        A frame whose ``info["start"]`` says what it is, such as ``packing``, ``crystal fcc`` or ``file:melt.xyz#3``,
        and whose ``info`` holds how a walker is to move from there, where its table says so: ``recoil`` (eV),
        ``compression`` (strain at the end) and ``bias`` (eV).

    Raises:
        StructureError: a file or density is not usable; the message says what to do.
    """
    weights = np.array([starts.weight for starts in material.starts])
    starts = material.starts[int(rng.choice(len(weights), p=weights / weights.sum()))]
    match starts:
        case PackingStarts():
            atoms, text = _packing(material, starts, rng)
        case CrystalStarts():
            atoms, name = build_crystal(material, starts, rng)
            text = f"crystal {name}"
        case FileStarts():
            atoms, place = draw_from_file(material, starts, rng, base_directory=base_directory)
            text = f"file:{starts.path}#{place}"
    atoms.info = {"start": text, **_draw_motion(starts, rng)}
    return atoms


def _draw_motion(starts: StartTable, rng: np.random.Generator) -> dict[str, float]:
    """How a walker is to move, drawn last: where nothing is asked for, no random number is used up."""
    motion: dict[str, float] = {}
    if starts.recoil is not None:
        motion["recoil"] = float(rng.uniform(*starts.recoil))
    if starts.compression is not None:
        motion["compression"] = float(rng.uniform(*starts.compression))
    if starts.bias:
        motion["bias"] = starts.bias
    return motion


def _packing(material: Material, starts: PackingStarts, rng: np.random.Generator) -> tuple[Atoms, str]:
    numbers = draw_numbers(material, int(rng.integers(starts.atoms[0], starts.atoms[1] + 1)), rng)
    density = draw_density(numbers, starts.density, rng)
    atoms, factor = build_packing(numbers, density, starts.min_distance_factor, rng)
    if factor < starts.min_distance_factor:
        return atoms, f"packing (min_distance_factor lowered to {factor:.3f})"
    return atoms, "packing"
