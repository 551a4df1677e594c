"""CP2K: its input, what becomes of damaged outputs, and labels of the real program against finite differences."""

from __future__ import annotations

import re
import tomllib
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from ase.build import fcc111
from dft_codes import believed_despite_damage, need, open_code, rattled

from alpot.config import Dft
from alpot.errors import ConfigError, FailureClass, ReferenceError
from alpot.reference import cp2k_data, level_of_theory
from alpot.reference.contract import check_reference_contract
from alpot.reference.cp2k import Cp2k
from alpot.reference.cp2k_data import kind_entries, names
from alpot.reference.dft import DftReference
from alpot.reference.ladder import Ladder, dotted_keys, is_below, merged

DATA = """
# comment
Al GTH-PBE-q3 GTH-PBE
    2    1
     0.45000000    1    -7.55476126
     2
     0.48743529    2     6.95993832    -1.88883584
                                        2.43847659
     0.56218949    1     1.86529857
#
Al SZV-MOLOPT-SR-GTH SZV-MOLOPT-SR-GTH-q3
 1
 2 0 1 4 1 1
      1.212902319099  0.095248915182  0.017523273525
      0.454181446881  0.238368062117  0.031530615904
      0.242418503788 -0.551005849330 -0.395233201731
      0.078268495175 -0.241350820340 -0.270737591969
"""
#: Cheap, and smooth enough for finite differences: noise of the energy is 1e-7 eV.
CHEAP: dict[str, Any] = {
    "cutoff": 1500.0,
    "pseudopotentials": {"Al": "GTH-PBE"},
    "basis": {"Al": "SZV-MOLOPT-SR-GTH"},
    "kpoint_density": 6.0,
    "arguments": {"FORCE_EVAL": {"DFT": {"MGRID": {"REL_CUTOFF": "[Ry] 40"}, "QS": {"EPS_DEFAULT": 1e-10}}}},
}


def arguments(**scf: Any) -> dict[str, Any]:
    cheap = CHEAP["arguments"]["FORCE_EVAL"]["DFT"]
    return {"FORCE_EVAL": {"DFT": {**cheap, "SCF": scf}}}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A folder with CP2K's data, as far as aluminum needs them."""
    folder = tmp_path / "data"
    folder.mkdir()
    for name in ("GTH_POTENTIALS", "BASIS_MOLOPT"):
        (folder / name).write_text(DATA)
    return folder


def written(tmp_path: Path, data: Path, atoms: Atoms, **settings: Any) -> str:
    reference = open_code("cp2k", **{**CHEAP, "pseudopotential_folder": str(data), **settings})
    directory = tmp_path / "input"
    directory.mkdir(exist_ok=True)
    reference.code.write(reference.calculation(atoms, directory))
    return (directory / "alpot.inp").read_text()


def test_input(tmp_path: Path, data: Path) -> None:
    text = written(tmp_path, data, rattled(1))
    assert text == (Path(__file__).parent / "golden" / "cp2k.inp").read_text()
    assert (tmp_path / "input" / "GTH").read_text().splitlines()[:2] == ["Al GTH-PBE", "    2    1"]


def test_spin_charge_and_an_isolated_atom(tmp_path: Path, data: Path) -> None:
    text = written(tmp_path, data, rattled(4), spin="collinear", magnetic_moments={"Al": 0.5}, charge=1.0)
    assert "UKS T\n" in text
    assert "MULTIPLICITY 4\n" in text  # 11 electrons, 3 of them unpaired rather than 2
    assert "MAGNETIZATION 0.5\n" in text
    assert "CHARGE 1\n" in text
    atom = written(tmp_path, data, Atoms("Al"), smearing="none")
    assert "MULTIPLICITY 2\n" in atom
    assert "KPOINTS" not in atom
    assert "ELECTRONIC_TEMPERATURE [K] 232." in atom


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"functional": "PBEE"}, "reference.dft.functional = 'PBEE'"),
        ({"smearing": "cold"}, "reference.dft.smearing = 'cold'"),
        ({"density_cutoff": 3000.0}, "density_cutoff"),
        ({"charge": 0.5}, "whole number"),
        ({"pseudopotentials": {}}, "no entry for Al"),
        ({"pseudopotentials": {"Al": "GTH-PBE-q11"}}, "is in none of CP2K's data files; for Al they have"),
        ({"basis": {"Al": "TZ"}}, "reference.dft.basis.Al = 'TZ'"),
        ({"arguments": {"force_eval": {"dft": {"charge": 1}}}}, "in capitals"),
        ({"arguments": {"GLOBAL": {"WALLTIME": "1\n&END GLOBAL"}}}, "more than a value"),
        ({"arguments": {"GLOBAL": {"RUN_TYPE": "ENERGY"}}}, "GLOBAL.RUN_TYPE, which alpot decides"),
        ({"arguments": arguments(EPS_SCF=1e-3)}, "reference.dft.scf_tolerance decides"),
    ],
)
def test_refusals(tmp_path: Path, data: Path, settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        written(tmp_path, data, rattled(1), **settings)
    assert said in str(caught.value)


def test_functionals_of_libxc(tmp_path: Path, data: Path) -> None:
    text = written(tmp_path, data, rattled(1), functional="GGA_X_B86_R+GGA_C_PBE")
    assert "&GGA_X_B86_R\n" in text
    assert "&GGA_C_PBE\n" in text


def test_the_basis_set_is_a_good_one_where_none_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def chosen(*offered: str) -> str:
        (tmp_path / "BASIS_MOLOPT").write_text(DATA + "".join(f"Al {name}\n 1\n 2 0 1 1 1\n" for name in offered))
        dft = Dft(pseudopotentials={"Al": "GTH-PBE"}, pseudopotential_folder=str(tmp_path))
        return names(kind_entries("Al", dft, tmp_path)[0])[1]

    (tmp_path / "GTH_POTENTIALS").write_text(DATA)
    monkeypatch.setattr(cp2k_data, "folders_of", lambda *_: [])
    assert chosen("DZVP-MOLOPT-SR-GTH", "TZV2P-MOLOPT-SR-GTH") == "TZV2P-MOLOPT-SR-GTH"
    assert chosen("TZV2P-MOLOPT-GTH-q3 TZV2P-MOLOPT-GTH", "DZVP-MOLOPT-SR-GTH") == "TZV2P-MOLOPT-GTH"
    assert chosen("DZVP-MOLOPT-SR-GTH") == "DZVP-MOLOPT-SR-GTH"
    with pytest.raises(ConfigError, match=r"basis\.Al = 'TZV2P-MOLOPT-SR-GTH' is in none .* SZV-MOLOPT-SR-GTH"):
        chosen()


def test_the_level_of_theory_is_the_text_of_the_entries(data: Path) -> None:
    def hashes() -> dict[str, str]:
        reference = open_code("cp2k", **{**CHEAP, "pseudopotential_folder": str(data)})
        return dict(reference.settings()["pseudopotentials"])

    before = hashes()
    (data / "GTH_POTENTIALS").write_text(DATA.replace("# comment", "# another comment"))
    assert hashes() == before
    (data / "GTH_POTENTIALS").write_text(DATA.replace("-7.55476126", "-7.55476127"))
    assert hashes() != before


def test_the_ladder_keeps_the_level_of_theory() -> None:
    ladder = Ladder.of("cp2k")
    assert {symptom.name for symptom in ladder.symptom} >= {"scf_not_converged", "too_few_bands", "cholesky"}
    for rung in ladder.rung:
        assert all(is_below(key, Cp2k.free) for key in dotted_keys(rung.change)), rung.why
    tomllib.loads(files("alpot.reference").joinpath("ladders", "cp2k.toml").read_text("utf-8"))


def test_the_rung_without_cholesky_leaves_out_no_orbitals(tmp_path: Path, data: Path) -> None:
    """What CP2K would leave out by itself counts in dense frames; a threshold of the user's is a level of theory."""
    (rung,) = (rung for rung in Ladder.of("cp2k").rung if "CHOLESKY" in str(rung.change))
    text = written(tmp_path, data, rattled(2), arguments=merged(CHEAP["arguments"], rung.change))
    assert "CHOLESKY OFF\n" in text and "EPS_EIGVAL 1e-10\n" in text
    settings = {**CHEAP, "pseudopotential_folder": str(data)}
    own = open_code("cp2k", **{**settings, "arguments": arguments(EPS_EIGVAL=1e-4)})
    assert level_of_theory(own) != level_of_theory(open_code("cp2k", **settings))


@pytest.mark.parametrize("smearing", ["fermi-dirac", "none"])
@pytest.mark.parametrize("repeat", [1, 4, 32])
def test_hot_electrons_have_orbitals_to_go_to_whatever_the_size(
    tmp_path: Path, data: Path, smearing: str, repeat: int
) -> None:
    """At 8000 K an electron gas as dense as aluminum needs 0.72 spare orbitals per electron to end at 1e-6."""
    atoms = rattled(8).repeat((1, 1, repeat))
    hot = next(rung for rung in Ladder.of("cp2k").rung if rung.before)
    reference = open_code("cp2k", **{**CHEAP, "pseudopotential_folder": str(data), "smearing": smearing})
    label = reference.calculation(atoms, tmp_path)
    changed = merged(merged(label.arguments, hot.change), hot.before)
    reference.code.write(replace(label, arguments=changed, bands=hot.before_bands))
    text = (tmp_path / "alpot.inp").read_text()
    assert "ELECTRONIC_TEMPERATURE [K] 8000" in text
    (added,) = re.findall(r"ADDED_MOS (\d+)\n", text)
    assert int(added) > 0.72 * 3 * len(atoms)


def test_a_program_that_is_killed(tmp_path: Path, data: Path) -> None:
    program = tmp_path / "cp2k"
    program.write_text("#!/bin/sh\necho ' **** PROGRAM STARTED AT'\nkill -9 $$\n")
    program.chmod(0o755)
    reference = open_code("cp2k", **{**CHEAP, "pseudopotential_folder": str(data), "program": str(program)})
    with pytest.raises(ReferenceError) as caught:
        reference.compute(rattled(1), tmp_path / "label")
    assert caught.value.failure is FailureClass.OUT_OF_MEMORY


# ------------------------------------------------------------------------------------------- with the program


@pytest.fixture
def cheap() -> DftReference:
    need("cp2k.psmp", Cp2k.install)
    return open_code("cp2k", **CHEAP)


def test_a_label_and_what_damage_does_to_its_output(cheap: DftReference, tmp_path: Path) -> None:
    """An atom is the cheapest label with spin; its files, cut or changed anywhere, give this label or none."""
    result = cheap.compute(Atoms("Al"), tmp_path)
    assert result.details["magnetic_moment"] == pytest.approx(1.0, abs=1e-3)
    assert result.details["n_electrons"] == 3
    assert result.details["magnetic_moments"] == [result.details["magnetic_moment"]]
    assert result.details["charges"] == [0.0] and result.details["charges_method"] == "mulliken"
    assert result.stress is None
    # No force acts on a lone atom, but for what the grid does to it.
    assert np.abs(result.forces).max() < 0.02
    frame = cheap.calculation(Atoms("Al"), tmp_path / "run-0")
    sound = cheap.code.believe(frame)
    names = (Cp2k.output, *Cp2k.witness)
    believed, refused = believed_despite_damage(cheap.code, frame, names, cuts=20, digits=60)
    for seen in believed:
        assert seen.energy == pytest.approx(sound.energy, abs=1e-8)
        assert np.allclose(seen.forces, sound.forces, rtol=0, atol=1e-8)
        assert seen.magnetic_moment == pytest.approx(1.0, abs=1e-3)
        assert seen.smearing_energy == pytest.approx(sound.smearing_energy, abs=1e-7)
        assert seen.charges is None or seen.charges.shape == (1,)
    assert refused > 100


@pytest.mark.parametrize("spin", ["none", "collinear"])
def test_charges_of_a_molecule(cheap: DftReference, spin: str, tmp_path: Path) -> None:
    """Hydrogen takes electrons from aluminum, in the table of one spin and in that of two."""
    two = {
        key: {**CHEAP[key], "H": name}
        for key, name in (("pseudopotentials", "GTH-PBE"), ("basis", "DZVP-MOLOPT-SR-GTH"))
    }
    settings = {"cutoff": 3000.0, "spin": spin, "smearing": "none", "kpoint_density": 0.1}
    reference = open_code("cp2k", **{**CHEAP, **two, **settings})
    frame = Atoms("HAl", positions=[(0, 0, 0), (0, 0, 1.65)], cell=[5, 5, 6], pbc=True)
    details = reference.compute(frame, tmp_path).details
    hydrogen, aluminum = details["charges"]
    assert hydrogen < -0.05 and aluminum == pytest.approx(-hydrogen, abs=1e-5)
    assert details["charges_method"] == "mulliken"
    assert ("magnetic_moments" in details) == (spin == "collinear")


@pytest.mark.slow
def test_contract(cheap: DftReference) -> None:
    # The grid makes translations cost half a meV/Å at this cutoff. 1 % of the largest component of the stress, which is
    # 0.14 eV/Å³.
    check_reference_contract(
        lambda: open_code("cp2k", **CHEAP),
        rattled(4),
        force_tolerance=2e-3,
        stress_tolerance=0.01 * 0.14,
        repeat_tolerance=1e-6,
        displacement=5e-3,
    )


@pytest.mark.slow
@pytest.mark.parametrize(("n_atoms", "n_kpoints"), [(1, 14), (2, 10), (8, 8)])
def test_cells_of_all_sizes(cheap: DftReference, tmp_path: Path, n_atoms: int, n_kpoints: int) -> None:
    result = cheap.compute(rattled(n_atoms), tmp_path)
    assert result.details["n_kpoints"] == n_kpoints
    assert result.energy / n_atoms == pytest.approx(-54.4, abs=1.5)
    assert result.stress is not None
    # What the grid does to the sum of the forces.
    assert np.abs(result.forces.sum(axis=0)).max() < 0.01


@pytest.mark.slow
def test_a_slab(cheap: DftReference, tmp_path: Path) -> None:
    slab = fcc111("Al", (1, 1, 2), a=4.05, vacuum=None)
    slab.rattle(0.05, seed=2)
    result = cheap.compute(slab, tmp_path)
    assert result.stress is None
    assert np.abs(result.forces.sum(axis=0)).max() < 0.02


@pytest.mark.slow
def test_trouble_with_convergence(cheap: DftReference, tmp_path: Path) -> None:
    """The ladder leads to the same label; where it ends, the failure is certain."""
    expected = cheap.compute(rattled(2), tmp_path / "expected")
    hurried = open_code("cp2k", **{**CHEAP, "arguments": arguments(MAX_SCF=4)})
    result = hurried.compute(rattled(2), tmp_path / "hurried")
    assert [step["after"] for step in result.details["ladder"]] == ["scf_not_converged"]
    # Of an energy that is known to 1e-7 eV per atom, forces are known to the root of that.
    assert result.energy == pytest.approx(expected.energy, abs=1e-6)
    assert np.allclose(result.forces, expected.forces, rtol=0, atol=1e-4)

    ladder = Ladder.of("cp2k")
    hurried.ladder = ladder.model_copy(update={"rung": ()})
    with pytest.raises(ReferenceError) as caught:
        hurried.compute(rattled(2), tmp_path / "exhausted")
    assert caught.value.failure is FailureClass.NOT_CONVERGED
    assert caught.value.is_final

    # The last rung alone: hot electrons first, whose wavefunctions the declared calculation starts from.
    hot = next(rung for rung in ladder.rung if rung.before)
    hurried.ladder = ladder.model_copy(update={"rung": (hot,)})
    result = hurried.compute(rattled(2), tmp_path / "hot")
    assert result.energy == pytest.approx(expected.energy, abs=1e-6)
    assert len(list((tmp_path / "hot").iterdir())) == 3


@pytest.mark.slow
def test_the_density_of_a_near_frame(cheap: DftReference, tmp_path: Path) -> None:
    keeping = replace(cheap, densities=tmp_path / "density")
    near = rattled(2)
    near.positions[0] += (0.01, 0.01, 0.01)
    keeping.compute(rattled(2), tmp_path / "first")
    again = keeping.compute(near, tmp_path / "again")
    fresh = cheap.compute(near, tmp_path / "fresh")
    assert again.details["ladder"] == []
    assert again.details["scf_steps"] < fresh.details["scf_steps"]
    assert again.energy == pytest.approx(fresh.energy, abs=1e-6)
    assert np.allclose(again.forces, fresh.forces, rtol=0, atol=1e-4)
