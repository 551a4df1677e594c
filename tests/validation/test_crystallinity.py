from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk

from alpot.validation.bars import build_bar
from alpot.validation.crystallinity import crystalline_share, lateral_wave_vectors

CELLS = {
    "fcc": bulk("Al", "fcc", a=4.05, cubic=True),
    "bcc": bulk("Fe", "bcc", a=2.87, cubic=True),
    "hcp": bulk("Mg", "hcp", a=3.21, c=5.21, orthorhombic=True),
    "diamond": bulk("Si", "diamond", a=5.43, cubic=True),
}


@pytest.mark.parametrize("cell", CELLS.values(), ids=CELLS)
def test_crystal_and_disorder_are_told_apart(cell: Atoms) -> None:
    rng = np.random.default_rng(0)
    bar = build_bar(cell, 600, 3.0)
    assert 600 <= len(bar) < 900
    wave_vectors = lateral_wave_vectors(bar)
    assert crystalline_share(bar, wave_vectors) == 1.0
    hot = bar.copy()
    hot.rattle(0.15, rng=rng)  # Å: about what Al has at its melting point
    assert crystalline_share(hot, wave_vectors) == 1.0
    half = hot.copy()
    upper = half.get_scaled_positions()[:, 2] > 0.5
    half.positions[upper, :2] = rng.uniform(0, 50, (upper.sum(), 2))
    assert crystalline_share(half, wave_vectors) == pytest.approx(0.5, abs=0.07)  # one layer of some twenty
    half.positions[:, :2] = rng.uniform(0, 50, (len(half), 2))
    assert crystalline_share(half, wave_vectors) == 0.0


def test_wave_vectors_of_fcc_are_200_of_its_cells() -> None:
    bar = CELLS["fcc"].repeat((3, 3, 6))
    assert sorted(map(tuple, lateral_wave_vectors(bar).tolist())) == [(0, 6, 0), (6, 0, 0)]
