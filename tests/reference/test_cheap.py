"""The cheap reference: what it lets pass, what it stops, and whose name is on its failures."""

from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from ase import Atoms
from ase.calculators.calculator import FileIOCalculator
from ase.calculators.lj import LennardJones

from alpot.config import Reference
from alpot.config_file import parse_campaign
from alpot.errors import ConfigError, FailureClass, ReferenceError, UsageError
from alpot.reference import level_of_theory, open_cheap, open_reference

LJ = {"sigma": 2.5, "epsilon": 0.1}


class NoProgram(FileIOCalculator):
    """Starts a program that is not there."""

    implemented_properties: ClassVar[list[str]] = ["energy", "forces"]
    _legacy_default_command = "there-is-no-such-program"

    def write_input(self, atoms: Atoms, properties: Any = None, system_changes: Any = None) -> None:
        raise FileNotFoundError(2, "No such file or directory", "there-is-no-such-program")


class Misshapen(LennardJones):
    """Gives one force too few."""

    def calculate(self, *args: Any) -> None:
        super().calculate(*args)
        self.results["forces"] = self.results["forces"][1:]


def settings(**cheap: Any) -> Reference:
    return Reference.model_validate({"code": "emt", "cheap": {"code": "lj", "arguments": LJ, **cheap}})


def screened(reference: Reference, atoms: Atoms, directory: Path) -> ReferenceError:
    cheap = open_cheap(reference, base_directory=directory)
    assert cheap is not None
    with pytest.raises(ReferenceError) as caught:
        cheap.screen(atoms, directory)
    return caught.value


def test_a_density_functional_code_is_not_cheap(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"reference\.cheap\.code = 'espresso': .* is not cheap; choose emt"):
        open_cheap(settings(code="espresso", arguments={}), base_directory=tmp_path)


def test_there_may_be_none(tmp_path: Path) -> None:
    assert open_cheap(Reference(code="emt"), base_directory=tmp_path) is None


def test_sound_frames_pass(aluminum: Atoms, tmp_path: Path) -> None:
    cheap = open_cheap(settings(), base_directory=tmp_path)
    assert cheap is not None
    cheap.screen(aluminum, tmp_path)
    cheap.check(["Al"])


def test_large_forces_are_stopped(aluminum: Atoms, tmp_path: Path) -> None:
    aluminum.positions[1] = aluminum.positions[0] + [1.0, 0.0, 0.0]
    error = screened(settings(), aluminum, tmp_path)
    assert error.failure is FailureClass.UNPHYSICAL_GEOMETRY
    assert error.message.startswith("screened by reference.cheap, not labelled: the force of 'lj' on atom")
    assert error.message.endswith("above reference.cheap.max_force = 100 eV/Å")
    largest = np.linalg.norm(LennardJones(**LJ, smooth=True).get_property("forces", aluminum), axis=1).max()
    open_cheap(settings(max_force=1.01 * largest), base_directory=tmp_path).screen(aluminum, tmp_path)  # type: ignore[union-attr]


def test_what_is_not_finite_is_the_frames_fault(aluminum: Atoms, tmp_path: Path) -> None:
    aluminum.positions[1] = aluminum.positions[0]
    error = screened(settings(), aluminum, tmp_path)
    assert error.failure is FailureClass.UNPHYSICAL_GEOMETRY
    assert error.message.startswith("screened by reference.cheap, not labelled: reference 'lj' gave the energy")


@pytest.mark.parametrize(
    ("code", "failure"),
    [(NoProgram, FailureClass.MISSING_PROGRAM), (Misshapen, FailureClass.BAD_OUTPUT)],
)
def test_its_own_failures_keep_their_class(
    aluminum: Atoms, tmp_path: Path, code: type[Any], failure: FailureClass
) -> None:
    error = screened(settings(code=f"{__name__}:{code.__name__}", arguments={}), aluminum, tmp_path)
    assert error.failure is failure
    assert "screened by reference.cheap" in error.message


def test_its_mistakes_name_its_table(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"table \[reference.cheap\]: .*needs sigma"):
        open_cheap(settings(arguments={"epsilon": 0.1}), base_directory=tmp_path)
    with pytest.raises(UsageError, match=r"table \[reference.cheap\]: .*nowhere"):
        open_cheap(settings(code="nowhere:Code", arguments={}), base_directory=tmp_path)
    cheap = open_cheap(settings(code="emt", arguments={}), base_directory=tmp_path)
    with pytest.raises(UsageError, match=r"table \[reference.cheap\]: .*Xe"):
        cheap.check(["Xe"])  # type: ignore[union-attr]


def test_it_is_a_baseline_only_where_it_is_asked_to_be(aluminum: Atoms, tmp_path: Path) -> None:
    cheap = open_cheap(settings(use=["screen"]), base_directory=tmp_path)
    assert cheap is not None and cheap.baseline(tmp_path) is None
    cheap = open_cheap(settings(use=["baseline"], max_force=1e-6), base_directory=tmp_path)
    assert cheap is not None
    cheap.screen(aluminum, tmp_path)  # screens nothing
    baseline = cheap.baseline(tmp_path)
    same = open_reference(Reference(code="lj", arguments=LJ), base_directory=tmp_path)
    assert baseline is not None and baseline.identity == level_of_theory(same)
    answer = baseline.answer(aluminum)
    expected = same.compute(aluminum, tmp_path)
    assert answer is not None and answer.energy == expected.energy
    np.testing.assert_array_equal(answer.forces, expected.forces)
    np.testing.assert_array_equal(answer.stress, expected.stress)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("use = []", r"\[reference.cheap\], key use: .*at least 1 item"),
        ('use = ["baseline", "sceen"]', "did you mean 'screen'"),
        ("max_force = 0", "greater than 0"),
        ("time_limit = 3", "there is no such key"),
    ],
)
def test_mistakes_in_the_file(line: str, words: str) -> None:
    text = f'[material]\nelements = ["Al"]\n[reference]\ncode = "emt"\n[reference.cheap]\ncode = "emt"\n{line}\n'
    with pytest.raises(ConfigError, match=words):
        parse_campaign(text, "al.toml")
