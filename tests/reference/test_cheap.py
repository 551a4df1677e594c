"""The cheap reference: what it lets pass, what it stops, and whose name is on its failures."""

from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from ase import Atoms
from ase.calculators.calculator import FileIOCalculator
from ase.calculators.emt import EMT
from ase.calculators.lj import LennardJones
from dft_codes import need, rattled

from alpot.config import Reference
from alpot.config_file import parse_campaign
from alpot.errors import ConfigError, FailureClass, ReferenceError, UsageError
from alpot.reference import label, level_of_theory, open_cheap, open_reference, screened_label
from alpot.reference.ase_reference import AseReference
from alpot.reference.espresso import Espresso
from alpot.reference.protocol import ReferenceResult

LJ = {"sigma": 2.5, "epsilon": 0.1}
DFT = {
    "functional": "LDA",
    "cutoff": 150.0,
    "kpoint_density": 5.0,
    "smearing_width": 0.3,
    "pseudopotentials": {"Al": "Al.pz-vbc.UPF"},
}


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


def with_espresso(**more: Any) -> Reference:
    return settings(code="espresso", arguments={}, dft={**DFT, **more})


@pytest.mark.parametrize("use", [["baseline"], ["screen", "baseline"]])
def test_a_density_functional_code_is_no_baseline(tmp_path: Path, use: list[str]) -> None:
    with pytest.raises(ConfigError, match=r"reference\.cheap\.code = 'espresso': .* each step of each walker would be"):
        open_cheap(settings(code="espresso", arguments={}, dft=DFT, use=use), base_directory=tmp_path)


@pytest.mark.parametrize(
    ("table", "said"),
    [
        (
            {"code": "espresso", "arguments": {}},
            "reference.cheap.code = 'espresso' needs a table [reference.cheap.dft]",
        ),
        ({"dft": DFT}, "there is a table [reference.cheap.dft], but reference.cheap.code = 'lj' does not use it"),
        (
            {"code": "espresso", "arguments": {"system": {"ecutwfc": 3}}, "dft": DFT},
            "reference.cheap.arguments sets system.ecutwfc, which reference.cheap.dft.cutoff decides",
        ),
    ],
)
def test_its_keys_are_those_of_its_own_table(tmp_path: Path, table: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        open_cheap(settings(**table), base_directory=tmp_path)
    assert said in str(caught.value)


def test_its_program_and_pseudopotentials_are_looked_for(aluminum: Atoms, tmp_path: Path) -> None:
    (tmp_path / "Al.UPF").write_text('<UPF version="2.0.1">\n<PP_HEADER element="Al" z_valence="3.00"/>\n')
    with pytest.raises(UsageError, match=r"table \[reference.cheap\]: .*none.UPF"):
        reference = with_espresso(pseudopotentials={"Al": "./none.UPF"})
        open_cheap(reference, base_directory=tmp_path).check(["Al"])  # type: ignore[union-attr]
    missing = with_espresso(pseudopotentials={"Al": "./Al.UPF"}, program="./none.x")
    with pytest.raises(UsageError, match=r"needs the program .*none.x.*reference\.cheap\.dft\.program"):
        open_cheap(missing, base_directory=tmp_path).check(["Al"])  # type: ignore[union-attr]
    error = screened(missing, aluminum, tmp_path)  # the same on a worker
    assert error.failure is FailureClass.MISSING_PROGRAM and "reference.cheap.dft.program" in error.message


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
    assert "the screen by reference.cheap has failed" in error.message


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


# ------------------------------------------------------------------------------------------------- what it costs


class Unconverged(AseReference):
    """Gives up at the same price each time."""

    def compute(self, atoms: Atoms, directory: Path) -> ReferenceResult:
        raise ReferenceError("no", failure=FailureClass.NOT_CONVERGED, is_final=True, core_seconds=70.0)


@pytest.mark.parametrize("use", [["screen"], ["baseline"]])
def test_a_label_says_what_its_screen_took(
    aluminum: Atoms, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, use: list[str]
) -> None:
    monkeypatch.setenv("ALPOT_CORES", "4")
    reference = open_reference(settings(), base_directory=tmp_path)
    cheap = open_cheap(settings(use=use), base_directory=tmp_path)
    alone = label(reference, settings(), aluminum, tmp_path)
    result = screened_label(cheap, reference, settings(), aluminum, tmp_path)
    assert result.energy == alone.energy
    took = {name: result.details[name] for name in result.details.keys() - alone.details.keys()}
    assert took.keys() == ({"screen_core_seconds", "screen_wall_s"} if use == ["screen"] else set())
    if took:
        assert took["screen_core_seconds"] == pytest.approx(4 * took["screen_wall_s"], abs=1e-3)
        assert took["screen_core_seconds"] > 0


def test_what_the_screen_stops_costs_what_the_screen_took(aluminum: Atoms, tmp_path: Path) -> None:
    close = aluminum.copy()
    close.positions[1] = close.positions[0] + [1.0, 0.0, 0.0]
    stopped = screened(settings(), close, tmp_path)
    assert stopped.core_seconds is not None and stopped.core_seconds > 0


def test_a_screen_that_does_not_converge_has_no_verdict(aluminum: Atoms, tmp_path: Path) -> None:
    """Coarse settings fail on disordered frames first, which are those to be learned."""
    cheap = open_cheap(settings(), base_directory=tmp_path)
    assert cheap is not None
    unsettled = replace(cheap, reference=Unconverged(name="cheap", make=EMT))
    reference = open_reference(settings(), base_directory=tmp_path)
    details = screened_label(unsettled, reference, settings(), aluminum, tmp_path).details
    assert details["screen_core_seconds"] == 70.0 and details["screen_failed"] == "no"


def test_what_fails_after_its_screen_costs_both(aluminum: Atoms, tmp_path: Path) -> None:
    cheap = open_cheap(settings(), base_directory=tmp_path)
    with pytest.raises(ReferenceError) as caught:
        screened_label(cheap, Unconverged(name="dear", make=EMT), settings(), aluminum, tmp_path)
    assert caught.value.message == "no"
    assert caught.value.core_seconds is not None and 70.0 < caught.value.core_seconds < 80.0


# -------------------------------------------------------------------------------------------------- with pw.x


def test_a_coarse_calculation_screens_for_a_better_one(tmp_path: Path) -> None:
    need("pw.x", Espresso.install)
    better = {**DFT, "cutoff": 204.0, "kpoint_density": 7.0}
    coarse = {"code": "espresso", "dft": DFT, "max_force": 10.0}
    both = Reference.model_validate({"code": "espresso", "dft": better, "cheap": coarse})
    reference, cheap = open_reference(both, base_directory=tmp_path), open_cheap(both, base_directory=tmp_path)
    assert cheap is not None
    cheap.check(["Al"])
    assert level_of_theory(reference) == level_of_theory(
        open_reference(both.model_copy(update={"cheap": None}), base_directory=tmp_path)
    )

    def scratch(name: str) -> Path:
        (tmp_path / name).mkdir()
        return tmp_path / name

    result = screened_label(cheap, reference, both, rattled(2), scratch("both"))
    assert result.details["screen_core_seconds"] > 0 and result.details["core_seconds"] > 0
    inputs = [tmp_path / "both" / level / "run-0" / "espresso.pwi" for level in (".", "screen")]
    assert inputs[0].read_text() != inputs[1].read_text()
    alone = label(reference, both, rattled(2), scratch("alone"))
    np.testing.assert_allclose(alone.forces, result.forces, atol=1e-6)

    close = rattled(2)
    close.positions[1] = close.positions[0] + [1.5, 0.0, 0.0]
    with pytest.raises(ReferenceError, match="the force of 'espresso' on atom") as caught:
        screened_label(cheap, reference, both, close, scratch("close"))
    assert caught.value.failure is FailureClass.UNPHYSICAL_GEOMETRY
    assert caught.value.core_seconds is not None and caught.value.core_seconds > 0
    assert not (tmp_path / "close" / "run-0").exists()  # the better one was not begun
