from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from ase.calculators.emt import EMT
from ase.constraints import FixAtoms
from ase.io import write

from alpot.config import FileStarts, Material
from alpot.errors import StructureError
from alpot.structures.files import draw_from_file

ALUMINUM = Material(elements=("Al",))


def drawn(path: Path, material: Material = ALUMINUM, *, seed: int = 0, **settings: object) -> tuple[Atoms, int]:
    starts = FileStarts(path=path.name, **settings)  # type: ignore[arg-type]
    return draw_from_file(material, starts, np.random.default_rng(seed), base_directory=path.parent)


@pytest.mark.parametrize("name", ["frames.extxyz", "POSCAR", "cell.cif", "start.traj"])
def test_any_format_of_ase(name: str, tmp_path: Path) -> None:
    crystal = bulk("Al", cubic=True)
    write(tmp_path / name, crystal)
    atoms, place = drawn(tmp_path / name)
    assert place == 0
    assert atoms.pbc.all()
    np.testing.assert_allclose(atoms.cell.array, crystal.cell.array, atol=1e-6)  # formats round
    np.testing.assert_allclose(np.sort(atoms.positions, axis=0), np.sort(crystal.positions, axis=0), atol=1e-6)


def test_all_frames_are_drawn_and_index_selects(tmp_path: Path) -> None:
    path = tmp_path / "frames.extxyz"
    write(path, [bulk("Al", a=a, cubic=True) for a in (4.0, 4.1, 4.2)])
    assert {drawn(path, seed=seed)[1] for seed in range(20)} == {0, 1, 2}
    assert drawn(path, index="-1")[0].cell[0, 0] == pytest.approx(4.2)
    assert drawn(path, index="1:2")[0].cell[0, 0] == pytest.approx(4.1)


def test_nothing_but_the_structure_is_taken(tmp_path: Path) -> None:
    crystal = bulk("Al", cubic=True)
    crystal.calc = EMT()
    crystal.get_forces()
    crystal.set_constraint(FixAtoms([0]))
    crystal.info["note"] = "old"
    write(tmp_path / "start.traj", crystal)
    atoms, _ = drawn(tmp_path / "start.traj")
    assert atoms.calc is None
    assert atoms.info == {}
    assert not atoms.constraints
    assert set(atoms.arrays) == {"numbers", "positions"}


def test_rattle_leaves_the_next_draw_alone(tmp_path: Path) -> None:
    path = tmp_path / "start.traj"
    write(path, bulk("Al", cubic=True))
    moved, _ = drawn(path, rattle=(0.1, 0.1))
    still, _ = drawn(path)
    assert np.abs(moved.positions - still.positions).max() > 0.01
    np.testing.assert_allclose(still.positions, bulk("Al", cubic=True).positions)


def test_a_changed_file_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "start.extxyz"
    write(path, bulk("Al", a=4.0, cubic=True))
    drawn(path)
    path.unlink()
    write(path, bulk("Al", a=4.1, cubic=True))
    assert drawn(path)[0].cell[0, 0] == pytest.approx(4.1)


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(StructureError, match=r"none\.xyz: there is no file"):
        drawn(tmp_path / "none.xyz")


@pytest.mark.parametrize("content", ["", "not a structure\n", "3\nhalf of\nAl 0 0 0\n"])
def test_an_unreadable_file(content: str, tmp_path: Path) -> None:
    (tmp_path / "bad.xyz").write_text(content)
    with pytest.raises(StructureError, match=r"bad\.xyz"):
        drawn(tmp_path / "bad.xyz")


@pytest.mark.parametrize("index", ["7", "5:", "a"])
def test_an_index_without_frames(index: str, tmp_path: Path) -> None:
    write(tmp_path / "start.extxyz", bulk("Al", cubic=True))
    with pytest.raises(StructureError, match=f"index '{index}'"):
        drawn(tmp_path / "start.extxyz", index=index)


def test_foreign_elements(tmp_path: Path) -> None:
    write(tmp_path / "water.xyz", molecule("H2O"))
    with pytest.raises(StructureError, match=r"frame 0 has the elements H, O, but material.elements is \['Al'\]"):
        drawn(tmp_path / "water.xyz")


def test_molecules_stay_without_cell(tmp_path: Path) -> None:
    write(tmp_path / "water.xyz", molecule("H2O"))
    atoms, _ = drawn(tmp_path / "water.xyz", Material(elements=("H", "O")))
    assert not atoms.pbc.any()


def test_coinciding_atoms(tmp_path: Path) -> None:
    crystal = bulk("Al", cubic=True)
    crystal.positions[1] = crystal.positions[0] + 0.01
    write(tmp_path / "start.extxyz", crystal)
    with pytest.raises(StructureError, match="two atoms closer"):
        drawn(tmp_path / "start.extxyz")


def test_periodic_without_cell(tmp_path: Path) -> None:
    write(tmp_path / "start.traj", Atoms("Al", pbc=True))
    with pytest.raises(StructureError, match="three independent vectors"):
        drawn(tmp_path / "start.traj")
