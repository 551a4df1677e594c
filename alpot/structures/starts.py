"""Draws how a walker or a first label begins: picks one of the material's tables by weight and builds it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from ase import Atoms

from alpot.config import CrystalStarts, FileStarts, Material, PackingStarts, StartTable, SurfaceStarts
from alpot.structures.crystals import build_crystal
from alpot.structures.density import draw_density, draw_numbers
from alpot.structures.files import draw_from_file
from alpot.structures.packing import build_packing
from alpot.structures.surfaces import build_surface


def draw_start(
    material: Material, rng: np.random.Generator, *, base_directory: Path, shares: Sequence[float] | None = None
) -> Atoms:
    """Builds one random start; the same generator state gives the same start.

    Args:
        material: elements, composition, and the tables of starts.
        rng: the only source of randomness.
        base_directory: folder of the campaign file, for files of structures.
        shares: how often each table is drawn, instead of its weight.

    Returns:
        A frame whose ``info["start"]`` says what it is, such as ``packing``, ``crystal fcc`` or ``file:melt.xyz#3``;
        ``info["table"]`` is the number of its table. With shares, ``info["audit_factor"]`` says how much rarer its
        table has become: an audit that takes frames so much more often is of the distribution that was configured.
        It also holds how a walker is to move from there, where its table says so: ``recoil`` (eV), ``compression``
        (strain at the end) and ``bias`` (eV).

    Raises:
        StructureError: a file or density is not usable; the message says what to do.
    """
    configured = _distribution([starts.weight for starts in material.starts])
    drawn = configured if shares is None else _distribution(shares)
    table = int(rng.choice(len(configured), p=drawn))
    starts = material.starts[table]
    match starts:
        case PackingStarts():
            atoms, text = _packing(material, starts, rng)
        case CrystalStarts():
            atoms, name = build_crystal(material, starts, rng)
            text = f"crystal {name}"
        case SurfaceStarts():
            atoms, name = build_surface(material, starts, rng)
            text = f"surface {name}"
        case FileStarts():
            atoms, place = draw_from_file(material, starts, rng, base_directory=base_directory)
            text = f"file:{starts.path}#{place}"
    atoms.info = {"start": text, "table": table, **_draw_motion(starts, rng)}
    if shares is not None:
        atoms.info["audit_factor"] = float(configured[table] / drawn[table])
    return atoms


def _distribution(weights: Sequence[float]) -> np.ndarray:
    """Probabilities (n,)."""
    return np.array(weights) / np.sum(weights)


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
