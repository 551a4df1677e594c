"""Frames and potential files that the tests of this room share."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk

sys.path.insert(0, str(Path(__file__).parent))  # what tests with density-functional codes share


@pytest.fixture
def aluminum() -> Atoms:
    """Four atoms of fcc aluminum without any symmetry left."""
    atoms = bulk("Al", cubic=True)
    atoms.rattle(0.1, seed=1)
    return atoms


@pytest.fixture
def eam_file(tmp_path: Path) -> Path:
    """A small, smooth EAM potential for Al: embedding −√ρ, exponential density and repulsion, all 0 at 6 Å."""
    n, cutoff = 1000, 6.0
    distance = np.linspace(0.0, cutoff, n)
    switch = (1.0 - (distance / cutoff) ** 2) ** 3
    density = np.exp(-distance) * switch
    repulsion = 30.0 * np.exp(-2.0 * distance) * switch
    rho = np.linspace(0.0, 10.0, n)
    columns = [-np.sqrt(rho), density, distance * repulsion]
    header = f"made\nfor\ntests\n1 Al\n{n} {rho[1]!r} {n} {distance[1]!r} {cutoff}\n13 26.98 4.05 fcc\n"
    path = tmp_path / "Al.eam.alloy"
    path.write_text(
        header.replace("np.float64(", "").replace(")", "") + "\n".join(f"{x:.16e}" for c in columns for x in c)
    )
    return path
