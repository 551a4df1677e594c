"""GPAW: its input, and labels of the real program against finite differences."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from ase.build import fcc111
from dft_codes import believed_despite_damage, need_gpaw, open_code, rattled

from alpot.errors import ConfigError, FailureClass, ReferenceError, UsageError
from alpot.reference.box import with_box
from alpot.reference.contract import check_reference_contract
from alpot.reference.dft import DftReference
from alpot.reference.gpaw import Gpaw
from alpot.reference.ladder import Ladder, dotted_keys, is_below

CHEAP: dict[str, Any] = {
    "cutoff": 200.0,
    "pseudopotentials": {"Al": "paw"},
    "kpoint_density": 6.0,
    "smearing": "fermi-dirac",
}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A folder with a file that is good enough for writing input."""
    folder = tmp_path / "setups"
    folder.mkdir()
    (folder / "Al.PBE").write_text("<paw_setup>")
    return folder


def written(tmp_path: Path, data: Path, atoms: Atoms, **settings: Any) -> dict[str, Any]:
    reference = open_code("gpaw", **{**CHEAP, "pseudopotential_folder": str(data), **settings})
    directory = tmp_path / "input"
    directory.mkdir(exist_ok=True)
    reference.code.write(reference.calculation(atoms, directory))
    asked: dict[str, Any] = json.loads((directory / "input.json").read_text())
    return asked


def test_input(tmp_path: Path, data: Path) -> None:
    asked = written(tmp_path, data, rattled(4), arguments={"mixer": {"beta": 0.1}})
    assert asked["parameters"] == {
        "mode": {"name": "pw", "ecut": 200.0},
        "xc": "PBE",
        "charge": 0.0,
        "setups": {"Al": "paw"},
        "spinpol": False,
        "maxiter": 150,
        "convergence": {
            "energy": {"name": "energy", "tol": pytest.approx(4e-7), "relative": False},
            "density": 1e-5,
            "eigenstates": 4e-9,
        },
        "kpts": {"size": [2, 2, 2], "gamma": True},
        "occupations": {"name": "fermi-dirac", "width": 0.1},
        "mixer": {"beta": 0.1},
    }
    assert asked["positions"] == rattled(4).positions.tolist()
    assert asked["setup_paths"] == [str(data)]
    assert asked["mpi"] is False


def test_mpi(tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALPOT_LAUNCHER", '["mpirun", "-n", "{ranks}"]')
    assert written(tmp_path, data, rattled(1))["mpi"] is True


def test_spin_charge_and_an_isolated_atom(tmp_path: Path, data: Path) -> None:
    asked = written(tmp_path, data, rattled(2), spin="collinear", magnetic_moments={"Al": 0.5}, charge=1.0)
    assert asked["parameters"]["spinpol"] is True
    assert asked["parameters"]["charge"] == 1.0
    assert asked["moments"] == [0.5, 0.5]
    atom = written(tmp_path, data, Atoms("Al"), smearing="none")
    assert atom["moments"] == [1.0]
    assert atom["parameters"]["occupations"] == {"name": "fermi-dirac", "width": 0.02}
    assert "kpts" not in atom["parameters"]
    assert atom["stress"] is False


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"functional": "SCANN"}, "there is no PAW data set Al.SCANN"),
        ({"density_cutoff": 3000.0}, "density_cutoff"),
        ({"pseudopotentials": {}}, "no entry for Al"),
        ({"pseudopotentials": {"Al": "sv"}}, "there is no PAW data set Al.sv.PBE"),
        ({"arguments": {"xc": "LDA"}}, "reference.dft.functional decides"),
        ({"arguments": {"convergence": {"energy": 1.0}}}, "reference.dft.scf_tolerance decides"),
    ],
)
def test_refusals(tmp_path: Path, data: Path, settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        written(tmp_path, data, rattled(1), **settings)
    assert said in str(caught.value)


def test_the_ladder_keeps_the_level_of_theory() -> None:
    for rung in Ladder.of("gpaw").rung:
        assert all(is_below(key, Gpaw.free) for key in dotted_keys(rung.change)), rung.why
        assert not rung.before


def test_python_without_gpaw(tmp_path: Path, data: Path) -> None:
    program = tmp_path / "python"
    program.write_text("#!/bin/sh\necho \"ModuleNotFoundError: No module named 'gpaw'\" >&2\nexit 1\n")
    program.chmod(0o755)
    reference = open_code("gpaw", **{**CHEAP, "pseudopotential_folder": str(data), "program": str(program)})
    with pytest.raises(UsageError, match="pip install gpaw"):
        reference.check(["Al"])
    with pytest.raises(ReferenceError) as caught:
        reference.compute(rattled(1), tmp_path / "label")
    assert caught.value.failure is FailureClass.MISSING_PROGRAM


# ------------------------------------------------------------------------------------------- with the program


@pytest.fixture
def cheap() -> DftReference:
    need_gpaw()
    return open_code("gpaw", **CHEAP)


def test_a_label_and_what_damage_does_to_its_output(cheap: DftReference, tmp_path: Path) -> None:
    """Its files, cut or changed anywhere, give this label or none."""
    result = cheap.compute(rattled(1), tmp_path)
    assert result.details["n_kpoints"] >= 14
    assert result.details["n_electrons"] == 3
    frame = cheap.calculation(rattled(1), tmp_path / "run-0")
    sound = cheap.code.believe(frame)
    believed, refused = believed_despite_damage(cheap.code, frame, Gpaw.witness, cuts=30, digits=100)
    for seen in believed:
        # What the log's last digits can tell.
        assert seen.energy == pytest.approx(sound.energy, abs=2e-6)
        assert np.allclose(seen.forces, sound.forces, rtol=0, atol=2e-5)
        assert seen.stress is not None
        assert sound.stress is not None
        assert np.allclose(seen.stress, sound.stress, rtol=0, atol=2e-6)
        assert seen.smearing_energy == pytest.approx(sound.smearing_energy, abs=2e-5)
    assert refused > 40


def test_a_damaged_data_set(cheap: DftReference, tmp_path: Path, data: Path) -> None:
    reference = open_code("gpaw", **CHEAP, pseudopotential_folder=str(data))
    with pytest.raises(ReferenceError) as caught:
        reference.compute(rattled(1), tmp_path / "label")
    assert caught.value.evidence


@pytest.mark.slow
def test_contract(cheap: DftReference) -> None:
    # Plane waves are counted anew in a strained cell: at 200 eV the stress is 6e-4 eV/Å³ from the derivative, at 400 eV
    # 5e-5. The tolerance is 1 % of the largest component.
    check_reference_contract(
        lambda: open_code("gpaw", **{**CHEAP, "cutoff": 400.0}),
        rattled(2),
        force_tolerance=2e-3,
        stress_tolerance=0.01 * 0.03,
        repeat_tolerance=1e-6,
        displacement=5e-3,
    )


@pytest.mark.slow
@pytest.mark.parametrize("n_atoms", [2, 8])
def test_cells_of_all_sizes(cheap: DftReference, tmp_path: Path, n_atoms: int) -> None:
    result = cheap.compute(rattled(n_atoms), tmp_path)
    assert result.energy / n_atoms == pytest.approx(-3.2, abs=0.8)
    assert np.abs(result.forces.sum(axis=0)).max() < 0.05


@pytest.mark.slow
def test_an_atom_and_a_slab(cheap: DftReference, tmp_path: Path) -> None:
    atom = cheap.compute(Atoms("Al"), tmp_path / "atom")
    assert atom.details["magnetic_moment"] == pytest.approx(1.0, abs=0.01)
    assert atom.stress is None
    slab = fcc111("Al", (1, 1, 2), a=4.05, vacuum=None)
    slab.rattle(0.05, seed=2)
    assert cheap.compute(slab, tmp_path / "slab").stress is None


@pytest.mark.slow
def test_trouble_with_convergence(cheap: DftReference, tmp_path: Path) -> None:
    """The ladder leads to the same label; where it ends, the failure is certain."""
    expected = cheap.compute(rattled(1), tmp_path / "expected")
    hurried = open_code("gpaw", **CHEAP, arguments={"maxiter": 4})
    result = hurried.compute(rattled(1), tmp_path / "hurried")
    assert [step["after"] for step in result.details["ladder"]] == ["scf_not_converged"]
    # Of an energy that is known to 1e-7 eV per atom, forces are known to the root of that.
    assert result.energy == pytest.approx(expected.energy, abs=1e-6)
    assert np.allclose(result.forces, expected.forces, rtol=0, atol=5e-4)
    hurried.ladder = Ladder.of("gpaw").model_copy(update={"rung": ()})
    with pytest.raises(ReferenceError) as caught:
        hurried.compute(rattled(1), tmp_path / "exhausted")
    assert caught.value.failure is FailureClass.NOT_CONVERGED
    assert caught.value.is_final


def test_the_box_of_an_atom_has_positive_vectors() -> None:
    assert (with_box(Atoms("Al")).cell.array == 12.0 * np.eye(3)).all()
