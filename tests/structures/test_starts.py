from pathlib import Path

import numpy as np
import pytest
from ase.build import bulk
from ase.io import write

from alpot.config import CrystalStarts, FileStarts, Material, PackingStarts
from alpot.structures import closest_approach, draw_start


def test_defaults_for_aluminum_are_the_papers() -> None:
    rng = np.random.default_rng(0)
    starts = [draw_start(Material(elements=("Al",)), rng, base_directory=Path()) for _ in range(60)]
    texts = {atoms.info["start"] for atoms in starts}
    assert texts == {"packing", *(f"crystal {name}" for name in ("fcc", "bcc", "hcp", "sc", "diamond", "a15"))}
    for atoms in starts:
        assert 25 <= len(atoms) <= 250
        assert atoms.pbc.all()
        assert closest_approach(atoms) > 0.6
        assert atoms.positions.dtype == np.float64


def test_tables_are_drawn_by_weight(tmp_path: Path) -> None:
    write(tmp_path / "cell.xyz", bulk("Al", cubic=True), format="extxyz")
    tables = (
        PackingStarts(weight=1.0, atoms=(2, 4)),
        CrystalStarts(weight=2.0, atoms=(2, 4)),
        FileStarts(weight=1.0, path="cell.xyz"),
    )
    rng = np.random.default_rng(0)
    material = Material(elements=("Al",), starts=tables)
    texts = [draw_start(material, rng, base_directory=tmp_path).info["start"] for _ in range(400)]
    # 400 draws: five standard deviations are 50 for a half and 43 for a quarter.
    assert sum(text.startswith("crystal") for text in texts) == pytest.approx(200, abs=50)
    assert texts.count("file:cell.xyz#0") == pytest.approx(100, abs=43)


def test_the_same_generator_gives_the_same_start() -> None:
    material = Material(elements=("Ni", "Al"))
    first, second = (draw_start(material, np.random.default_rng(7), base_directory=Path()) for _ in range(2))
    assert first == second
    assert first.info == second.info
    other = draw_start(material, np.random.default_rng(8), base_directory=Path())
    assert first != other


def test_a_lowered_distance_is_told() -> None:
    table = PackingStarts(atoms=(50, 50), density=(28.9, 28.9))
    atoms = draw_start(Material(elements=("W",), starts=(table,)), np.random.default_rng(0), base_directory=Path())
    assert atoms.info["start"].startswith("packing (min_distance_factor lowered to 0.")


def test_shares_replace_the_weights_and_the_audit_makes_up_for_it() -> None:
    tables = (PackingStarts(weight=3.0, atoms=(2, 4)), CrystalStarts(weight=1.0, atoms=(2, 4)))
    material, rng = Material(elements=("Al",), starts=tables), np.random.default_rng(0)
    starts = [draw_start(material, rng, base_directory=Path(), shares=[0.2, 0.8]) for _ in range(400)]
    drawn = [atoms.info["table"] for atoms in starts]
    # Five standard deviations of 400 draws.
    assert drawn.count(1) == pytest.approx(320, abs=40)
    assert all(atoms.info["start"].startswith("crystal") == table for atoms, table in zip(starts, drawn, strict=True))
    # Frames for the audit are then three quarters from the first table again.
    factors = {atoms.info["table"]: atoms.info["audit_factor"] for atoms in starts}
    assert 0.2 * factors[0] == pytest.approx(0.75) and 0.8 * factors[1] == pytest.approx(0.25)


def test_shares_like_the_weights_give_the_same_starts() -> None:
    material = Material(elements=("Al",))
    plain = draw_start(material, np.random.default_rng(5), base_directory=Path())
    shared = draw_start(material, np.random.default_rng(5), base_directory=Path(), shares=[0.5, 0.5])
    assert plain == shared


def test_a_table_says_how_its_walkers_move() -> None:
    """What it says is drawn last, so that the structure is the same with and without it."""
    tables = (
        PackingStarts(atoms=(4, 4)),
        PackingStarts(atoms=(4, 4), recoil=(5, 20), compression=(0.1, 0.2), bias=2.0),
    )
    plain, moved = (
        [
            draw_start(Material(elements=("Al",), starts=(table,)), np.random.default_rng(seed), base_directory=Path())
            for seed in range(20)
        ]
        for table in tables
    )
    assert plain == moved
    assert all(atoms.info == {"start": "packing", "table": 0} for atoms in plain)
    recoils, strains = ([atoms.info[name] for atoms in moved] for name in ("recoil", "compression"))
    assert 5 <= min(recoils) < 8 < 17 < max(recoils) <= 20
    assert 0.1 <= min(strains) < 0.12 < 0.18 < max(strains) <= 0.2
    assert {atoms.info["bias"] for atoms in moved} == {2.0}
