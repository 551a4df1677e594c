"""The aluminum frames on which everything is measured."""

from __future__ import annotations

from pathlib import Path

import ase.io
import numpy as np
from ase import Atoms
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.optimize import FIRE

from alpot.structures.packing import build_packing

#: Repetitions of the four atoms of the cubic cell.
SIZES = {108: 3, 500: 5, 4000: 10}
#: g/cm³: aluminum at its melting point.
_LIQUID_DENSITY = 2.37


def rattled(repetitions: int, seed: int = 1) -> Atoms:
    """A crystal whose atoms are displaced by 0.1 Å (standard deviation), as at some hundred K."""
    atoms = bulk("Al", a=4.05, cubic=True).repeat(repetitions)
    atoms.rattle(0.1, seed=seed)
    # torchani's cell list with its default stress is wrong for atoms outside of the cell.
    atoms.wrap()
    return atoms


def liquid(n_atoms: int, seed: int = 1) -> Atoms:
    """A random packing of liquid density, relaxed by EMT for a moment, then rattled by 0.08 Å.

    Large ones are repetitions of a smaller one, rattled.
    """
    rng = np.random.default_rng(seed)
    repetitions = 1 if n_atoms <= 1000 else 2
    atoms, _ = build_packing(np.full(n_atoms // repetitions**3, 13), _LIQUID_DENSITY, 0.9, rng)
    atoms.calc = EMT()
    FIRE(atoms, logfile=None).run(fmax=0.5, steps=40)
    atoms = atoms.repeat(repetitions)
    atoms.positions += rng.normal(0.0, 0.08, atoms.positions.shape)
    atoms.wrap()
    return atoms


def write_frames(folder: Path, sizes: list[int]) -> None:
    """Write ``rattled-108.extxyz`` and so on, which ``read_frame`` reads."""
    for n_atoms in sizes:
        ase.io.write(folder / f"rattled-{n_atoms}.extxyz", rattled(SIZES[n_atoms]))
        ase.io.write(folder / f"liquid-{n_atoms}.extxyz", liquid(n_atoms))


def read_frame(folder: str, kind: str, n_atoms: int) -> Atoms:
    """One of the frames that ``write_frames`` has written."""
    return next(ase.io.iread(Path(folder) / f"{kind}-{n_atoms}.extxyz"))
