from pathlib import Path
from typing import Any

import pytest
from ase import Atoms

from alpot.config import Dft, Reference
from alpot.errors import ConfigError, UsageError
from alpot.reference import level_of_theory, open_reference

PLUGIN = """
from alpot.reference.ase_reference import AseReference
from ase.calculators.emt import EMT

def open_mine(*, base_directory, cutoff=3):
    return AseReference(name="mine", make=EMT, described={"cutoff": cutoff})
"""


def opened(code: str, base: Path = Path(), **arguments: Any) -> Any:
    return open_reference(Reference(code=code, arguments=arguments), base_directory=base)


@pytest.mark.parametrize(
    ("code", "arguments", "kind", "parts"),
    [
        ("em", {}, ConfigError, ["'em'", "did you mean 'emt'", "lj, eam, ani"]),
        ("emt", {"asap_cutof": True}, ConfigError, ["'asap_cutof'", "did you mean 'asap_cutoff'"]),
        ("emt", {"asap_cutoff": "yes"}, ConfigError, ["asap_cutoff = 'yes'", "true or false"]),
        ("lj", {"sigma": 3.4}, ConfigError, ["needs epsilon"]),
        ("lj", {"sigma": 3.4, "epsilon": -1}, ConfigError, ["epsilon = -1", "positive"]),
        ("lj", {"sigma": "a", "epsilon": 1}, ConfigError, ["sigma = 'a'", "positive"]),
        ("lj", {"sigma": 3.4, "epsilon": 1, "rc": 6, "ro": 7}, ConfigError, ["ro = 7", "below rc = 6"]),
        ("eam", {"potential": "none.alloy"}, ConfigError, ["'none.alloy'", "there is no"]),
        ("ani", {"folder": "none"}, ConfigError, ["'none'", "there is no"]),
        ("ase.calculators.emt:EMTT", {}, ConfigError, ["no class 'EMTT'", "did you mean 'EMT'"]),
        ("not_a_module:Class", {}, UsageError, ["'not_a_module'", "install"]),
        ("gpaw", {}, ConfigError, ["'gpaw'", "[reference.dft]", "pseudopotentials"]),
        ("hotbit", {}, UsageError, ["'hotbit'", "install"]),
        ("ase.calculators.emt:EMT", {"directory": "x"}, ConfigError, ["may not set directory"]),
        ("ase.calculators.emt:EMT", {"file": "./none"}, ConfigError, ["'./none'", "there is no"]),
    ],
)
def test_mistakes_are_explained(
    code: str, arguments: dict[str, Any], kind: type[Exception], parts: list[str], tmp_path: Path
) -> None:
    with pytest.raises(kind) as caught:
        opened(code, tmp_path, **arguments)
    for part in parts:
        assert part in str(caught.value)


def test_a_misspelt_code_is_told_before_its_table() -> None:
    dft = Dft(cutoff=300.0)
    with pytest.raises(ConfigError, match=r"'espreso' is not known; did you mean 'espresso'\?"):
        open_reference(Reference(code="espreso", dft=dft), base_directory=Path())
    # ASE's castep is like vasp only in its spelling.
    with pytest.raises(ConfigError, match=r"'castep' does not use it; choose one of espresso"):
        open_reference(Reference(code="castep", dft=dft), base_directory=Path())


def test_values_that_json_does_not_know_are_refused() -> None:
    with pytest.raises(UsageError, match="JSON"):
        opened("ase.calculators.emt:EMT", value={1, 2})


def test_plugin_by_entry_point(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, aluminum: Atoms) -> None:
    (tmp_path / "my_plugin.py").write_text(PLUGIN)
    information = tmp_path / "my_plugin-1.0.dist-info"
    information.mkdir()
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: my_plugin\nVersion: 1.0\n")
    (information / "entry_points.txt").write_text(
        "[alpot.references]\nmine = my_plugin:open_mine\nlost = my_plugin:gone\n"
    )
    monkeypatch.syspath_prepend(tmp_path)

    assert opened("mine", tmp_path, cutoff=4).compute(aluminum, tmp_path).forces.shape == (4, 3)
    with pytest.raises(ConfigError, match="did you mean 'cutoff'"):
        opened("mine", tmp_path, cutof=4)
    with pytest.raises(UsageError, match="my_plugin:gone"):
        opened("lost", tmp_path)


def test_level_of_theory_follows_arguments_only() -> None:
    assert level_of_theory(opened("emt")) == level_of_theory(opened("emt", Path("/"), asap_cutoff=False))
    assert level_of_theory(opened("emt")) != level_of_theory(opened("emt", asap_cutoff=True))
    # The default cutoff written out is the same level of theory.
    assert level_of_theory(opened("lj", sigma=2.0, epsilon=0.1)) == level_of_theory(
        opened("lj", sigma=2.0, epsilon=0.1, rc=6.0)
    )


def test_level_of_theory_follows_the_content_of_files(eam_file: Path, tmp_path: Path) -> None:
    before = level_of_theory(opened("eam", tmp_path, potential=eam_file.name))
    copy = tmp_path / "elsewhere" / "other.eam.alloy"
    copy.parent.mkdir()
    copy.write_bytes(eam_file.read_bytes())
    assert level_of_theory(opened("eam", Path("/"), potential=str(copy))) == before
    copy.write_bytes(copy.read_bytes().replace(b"made", b"Made"))
    assert level_of_theory(opened("eam", tmp_path, potential=str(copy))) != before


def test_files_of_any_ase_calculator_enter_by_content(eam_file: Path, tmp_path: Path, aluminum: Atoms) -> None:
    reference = opened("ase.calculators.eam:EAM", tmp_path, potential=f"./{eam_file.name}")
    assert reference.settings()["arguments"]["potential"].startswith("sha256:")
    own = opened("eam", tmp_path, potential=eam_file.name)
    assert reference.compute(aluminum, tmp_path).energy == own.compute(aluminum, tmp_path).energy


def test_unreadable_eam_file(tmp_path: Path) -> None:
    (tmp_path / "bad.alloy").write_text("this is\nno\npotential\n")
    with pytest.raises(ConfigError, match="cannot be read as an EAM file"):
        opened("eam", tmp_path, potential="bad.alloy")
    (tmp_path / "Al.txt").write_text("")
    with pytest.raises(ConfigError, match=r"ends in \.eam"):
        opened("eam", tmp_path, potential="Al.txt")


def test_folder_without_ani_weights(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"one \*.params file"):
        opened("ani", tmp_path, folder=".")
