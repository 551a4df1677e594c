"""A reference of a density-functional code: its ladder, its record, and that a label is at the declared level only."""

import json
import shutil
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule

from alpot.config import Dft, Reference
from alpot.errors import ConfigError, FailureClass, ReferenceError, UsageError
from alpot.reference.dft import DftReference
from alpot.reference.dft_code import Calculation, DftCode, OutputError, Reading, at_zero_smearing
from alpot.reference.labelling import label
from alpot.reference.ladder import Ladder, dotted_keys, is_below, merged
from alpot.reference.protocol import level_of_theory
from alpot.reference.registry import DFT_CODES
from tests.reference.dft_codes import open_code, rattled

#: A program that has its troubles: it reads what it should do, and writes what came of it.
PROGRAM = """
import json, os, pathlib, sys
asked = json.loads(pathlib.Path("input.json").read_text())
trouble = asked["trouble"]
def fails(what, status=0):
    print(what)
    sys.exit(status)
start = pathlib.Path("density")
density = start.read_text() if start.exists() else ""
beta, method = asked["arguments"]["beta"], asked["arguments"]["method"]
if trouble == "mixing" and beta > 0.3: fails("SCF NOT CONVERGED")
if trouble == "mixing and method" and beta > 0.3: fails("SCF NOT CONVERGED")
if trouble == "mixing and method" and method != "slow": fails("CHOLESKY FAILED", 1)
if trouble == "hot start" and asked["arguments"]["width"] < 1 and "hot" not in density: fails("SCF NOT CONVERGED")
if trouble == "bands" and asked["bands"] < 1.4: fails("TOO FEW BANDS", 2)
if trouble == "memory" and int(sys.argv[1]) > 2: fails("Cannot allocate memory", 1)
if trouble == "bad density" and density: fails("SCF NOT CONVERGED")
if trouble == "always": fails("SCF NOT CONVERGED")
if trouble == "memory on one rank": print("CHOLESKY FAILED", flush=True); os.kill(os.getpid(), 9)
if trouble == "crash": os.kill(os.getpid(), 11)
if trouble == "silence": fails("", 0)
pathlib.Path("density").write_text("hot" if asked["arguments"]["width"] >= 1 else "cold")
pathlib.Path("wavefunctions").mkdir(exist_ok=True)
pathlib.Path("wavefunctions/large").write_bytes(bytes(100000))
if trouble == "late": fails("SCF NOT CONVERGED")
print(json.dumps({"energy": -1.0, "width": asked["arguments"]["width"], "from": density}))
print("DONE")
"""

LADDER = """
[[symptom]]
name = "cholesky"
failure = "not_converged"
says = ["CHOLESKY FAILED"]
[[symptom]]
name = "too_few_bands"
failure = "not_converged"
says = ["TOO FEW BANDS"]
[[symptom]]
name = "scf_not_converged"
failure = "not_converged"
says = ["SCF NOT CONVERGED"]
[[rung]]
on = ["too_few_bands"]
why = "more bands"
bands = 1.5
[[rung]]
on = ["scf_not_converged"]
why = "slower mixing"
change = { beta = 0.2 }
[[rung]]
on = ["cholesky"]
why = "another method"
change = { method = "slow" }
[[rung]]
on = ["scf_not_converged"]
why = "hot electrons first"
before = { width = 2.0 }
before_bands = 3.0
[[rung]]
on = ["out_of_memory"]
why = "half the ranks"
ranks = 0.5
"""


class Moody(DftCode):
    """A code whose troubles are chosen by the functional."""

    name = "moody"
    program = sys.executable
    install = "nothing"
    restart = ("density", "wavefunctions")
    owned: ClassVar[dict[str, str]] = {"width": "reference.dft.smearing_width"}
    free = frozenset({"beta", "method"})

    def find_pseudopotential(self, element: str, dft: Dft, base_directory: Path) -> tuple[str, str]:
        return element, f"hash of {element}"

    def write(self, calculation: Calculation) -> None:
        if calculation.start_from is not None:
            shutil.copy(calculation.start_from / "density", calculation.directory / "density")
        usual = {"beta": 0.7, "method": "fast", "width": calculation.smearing()[1]}
        asked = {
            "trouble": calculation.dft.functional,
            "arguments": merged(usual, calculation.arguments),
            "bands": calculation.bands,
        }
        (calculation.directory / "input.json").write_text(json.dumps(asked))

    def command(self, calculation: Calculation, program: str) -> Sequence[str]:
        return [program, "-I", "-S", "-c", PROGRAM]

    def read(self, calculation: Calculation) -> Reading:
        lines = (calculation.directory / self.output).read_text().splitlines()
        if lines[-1] != "DONE":
            raise OutputError("it is not done")
        told = json.loads(lines[-2])
        declared = merged({"width": calculation.smearing()[1]}, calculation.arguments)["width"]
        if told["width"] != declared:
            raise OutputError("another width")
        forces = np.zeros((len(calculation.atoms), 3))
        facts = {"from": told["from"], "width": told["width"]}
        return Reading(energy=told["energy"], forces=forces, stress=np.zeros(6), smearing_energy=-0.1, facts=facts)


@pytest.fixture(autouse=True)
def ladder_of_moody(monkeypatch: pytest.MonkeyPatch) -> None:
    import tomllib

    ladder = Ladder.model_validate(tomllib.loads(LADDER))
    monkeypatch.setattr(Ladder, "of", classmethod(lambda cls, code: ladder))


def moody(trouble: str, arguments: dict[str, Any] | None = None, **settings: Any) -> DftReference:
    given = arguments or {}
    dft = Dft(functional=trouble, cutoff=100.0, kpoint_density=5.0)
    return DftReference(Moody(), dft, given, given, Path(), **settings)


def climbed(reference: DftReference, directory: Path) -> list[dict[str, Any]]:
    details = reference.compute(rattled(2), directory).details
    return [{"after": step["after"], "why": step["why"]} for step in details["ladder"]]


def failure(reference: DftReference, directory: Path) -> ReferenceError:
    with pytest.raises(ReferenceError) as caught:
        reference.compute(rattled(2), directory)
    return caught.value


def inputs(directory: Path) -> list[dict[str, Any]]:
    return [json.loads((run / "input.json").read_text()) for run in sorted(directory.glob("run-*"))]


def test_without_trouble_there_is_one_run(tmp_path: Path) -> None:
    result = moody("none").compute(rattled(2), tmp_path)
    assert result.energy == -1.0
    assert result.details["ladder"] == []
    assert [path.name for path in tmp_path.iterdir()] == ["run-0"]
    json.dumps(result.details)


def test_each_rung_is_recorded_and_changes_accumulate(tmp_path: Path) -> None:
    assert climbed(moody("mixing and method"), tmp_path) == [
        {"after": "scf_not_converged", "why": "slower mixing"},
        {"after": "cholesky", "why": "another method"},
    ]
    assert [run["arguments"] for run in inputs(tmp_path)] == [
        {"beta": 0.7, "method": "fast", "width": 0.27},
        {"beta": 0.2, "method": "fast", "width": 0.27},
        {"beta": 0.2, "method": "slow", "width": 0.27},
    ]


def test_rungs_that_do_not_help_are_passed_over(tmp_path: Path) -> None:
    assert climbed(moody("bands"), tmp_path) == [{"after": "too_few_bands", "why": "more bands"}]
    assert [run["bands"] for run in inputs(tmp_path)] == [1.0, 1.5]


def test_a_preparatory_run_leaves_its_density_and_nothing_else(tmp_path: Path) -> None:
    """Its smearing is not the declared one: the label must come from the run after it."""
    result = moody("hot start").compute(rattled(2), tmp_path)
    assert [run["arguments"]["width"] for run in inputs(tmp_path)] == [0.27, 0.27, 2.0, 0.27]
    assert [run["bands"] for run in inputs(tmp_path)] == [1.0, 1.0, 3.0, 1.0]
    assert result.details["width"] == 0.27
    assert result.details["from"] == "hot"


def test_the_user_s_arguments_stay(tmp_path: Path) -> None:
    moody("mixing", {"method": "mine"}).compute(rattled(2), tmp_path)
    assert [run["arguments"]["method"] for run in inputs(tmp_path)] == ["mine", "mine"]


def test_an_exhausted_ladder_is_final_and_says_what_was_tried(tmp_path: Path) -> None:
    error = failure(moody("always"), tmp_path)
    assert error.failure is FailureClass.NOT_CONVERGED
    assert error.is_final
    assert "scf_not_converged, in 3 ways" in str(error)
    tried = [line for line in error.evidence.splitlines() if line.startswith("--- after")]
    assert tried == [f"--- after scf_not_converged: {why}" for why in ("slower mixing", "hot electrons first")]
    assert "SCF NOT CONVERGED" in error.evidence


@pytest.mark.parametrize(
    ("trouble", "expected"), [("crash", FailureClass.UNKNOWN), ("silence", FailureClass.BAD_OUTPUT)]
)
def test_troubles_without_a_name_may_be_tried_again(trouble: str, expected: FailureClass, tmp_path: Path) -> None:
    error = failure(moody(trouble), tmp_path)
    assert error.failure is expected
    assert not error.is_final
    assert len(inputs(tmp_path)) == 1


def test_what_the_kernel_has_killed_is_no_matter_of_the_warnings_before(tmp_path: Path) -> None:
    error = failure(moody("memory on one rank"), tmp_path)
    assert error.failure is FailureClass.OUT_OF_MEMORY
    assert not error.is_final


@pytest.mark.parametrize(("prefix", "ranks"), [(["env", "LAUNCHED=1"], "4"), (["env", "LAUNCHED={ranks}"], "8")])
def test_costs_are_those_of_all_runs(
    prefix: list[str], ranks: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ALPOT_LAUNCHER", json.dumps(prefix))
    monkeypatch.setenv("ALPOT_RANKS", ranks)
    monkeypatch.setenv("ALPOT_CORES", ranks)
    one = moody("none").compute(rattled(2), tmp_path / "one").details
    three = moody("mixing and method").compute(rattled(2), tmp_path / "three").details
    assert three["core_seconds"] > 1.5 * one["core_seconds"]
    assert one["core_seconds"] >= 0.9 * int(ranks) * one["cpu_seconds"]
    assert one["peak_memory_MB"] > 1.0


def test_memory_runs_out_with_many_ranks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Ranked(Moody):
        def command(self, calculation: Calculation, program: str) -> Sequence[str]:
            return [*super().command(calculation, program), str(calculation.ranks)]

    monkeypatch.setenv("ALPOT_RANKS", "4")
    reference = moody("memory")
    reference.code = Ranked()
    assert climbed(reference, tmp_path) == [{"after": "out_of_memory", "why": "half the ranks"}]
    monkeypatch.setenv("ALPOT_RANKS", "8")
    assert failure(reference, tmp_path / "again").failure is FailureClass.OUT_OF_MEMORY


def test_one_rank_is_not_halved(tmp_path: Path) -> None:
    """It would be the same calculation once more."""
    assert failure(moody("memory on one rank"), tmp_path).failure is FailureClass.OUT_OF_MEMORY
    assert len(inputs(tmp_path)) == 1


# ------------------------------------------------------------------------------------------------- densities


def test_large_files_are_discarded(tmp_path: Path) -> None:
    moody("mixing").compute(rattled(2), tmp_path / "good")
    failure(moody("late"), tmp_path / "bad")
    assert not [path for path in tmp_path.rglob("*") if path.name in ("density", "wavefunctions")]


def test_a_density_is_kept_for_a_near_frame_only(tmp_path: Path) -> None:
    reference = moody("none", densities=tmp_path / "density")

    def origin(name: str, atoms: Atoms) -> str:
        return str(reference.compute(atoms, tmp_path / name).details["from"])

    near, far = rattled(2), rattled(2)
    near.positions[0, 0] += 0.02
    far.positions[0, 0] += 0.6
    assert origin("first", rattled(2)) == ""
    assert origin("near", near) == "cold"
    assert origin("far", far) == ""
    assert origin("other", rattled(4)) == ""


def test_a_density_that_cannot_be_kept_costs_no_label(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    reference = moody("none", densities=tmp_path / "file" / "density")
    for number in range(2):
        result = reference.compute(rattled(2), tmp_path / str(number))
        assert result.details["from"] == "" and np.isfinite(result.energy)


def test_a_density_that_misleads_is_left(tmp_path: Path) -> None:
    reference = moody("bad density", densities=tmp_path / "density")
    reference.compute(rattled(2), tmp_path / "first")
    result = reference.compute(rattled(2), tmp_path / "second")
    assert [step["why"] for step in result.details["ladder"]] == ["start from atomic densities instead"]
    assert result.details["from"] == ""


# ------------------------------------------------------------------------------------------------- the level of theory


def test_owned_keys_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"sets width, which reference\.dft\.smearing_width decides"):
        moody("none", {"width": 0.3})


def test_what_was_tried_does_not_enter_the_level_of_theory(tmp_path: Path) -> None:
    reference = moody("mixing")
    before = level_of_theory(reference)
    reference.compute(rattled(2), tmp_path)
    assert level_of_theory(reference) == before == level_of_theory(moody("mixing"))


def test_how_it_converges_is_no_level_of_theory() -> None:
    before = level_of_theory(moody("mixing"))
    assert level_of_theory(moody("mixing", {"method": "slow", "beta": 0.1})) == before
    assert level_of_theory(moody("mixing", {"method": "slow", "hubbard": 2.0})) != before


def test_a_missing_program_is_found_before_anything_is_spent() -> None:
    reference = moody("none")
    reference.dft = reference.dft.model_copy(update={"program": "no-such-program"})
    with pytest.raises(UsageError, match=r"'no-such-program'.*install it with `nothing`"):
        reference.check(["Al"])


@pytest.mark.parametrize("prefix", [[], ["env"]])
def test_a_program_that_is_missing_on_the_worker_is_named(
    prefix: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ALPOT_LAUNCHER", json.dumps(prefix))
    reference = moody("none")
    reference.dft = reference.dft.model_copy(update={"program": "no-such-program"})
    with pytest.raises(ReferenceError, match=r"'no-such-program'.*install it with `nothing`") as caught:
        label(reference, Reference(code="espresso"), rattled(2), tmp_path)
    assert caught.value.failure is FailureClass.MISSING_PROGRAM


def test_a_program_beside_the_campaign_file_is_found(tmp_path: Path) -> None:
    (tmp_path / "pw").write_text("#!/bin/sh\n")
    (tmp_path / "pw").chmod(0o755)
    upf = {"Al": "Al.UPF"}
    (tmp_path / "Al.UPF").write_text('<PP_HEADER element="Al" z_valence="3.0"/>')
    reference = open_code("espresso", folder=tmp_path, cutoff=100.0, pseudopotentials=upf, program="./pw")
    reference.check(["Al"])
    elsewhere = open_code("espresso", folder=tmp_path, cutoff=100.0, pseudopotentials=upf)
    assert level_of_theory(reference) == level_of_theory(elsewhere)


def test_rydbergs_are_not_taken_for_electronvolts() -> None:
    dft = Dft(functional="none", cutoff=30.0)
    with pytest.raises(ConfigError, match=r"cutoff = 30: it is in eV, .* 30 Ry are 408 eV"):
        DftReference(Moody(), dft, {}, {}, Path())


def test_forces_that_do_not_add_up_to_zero_are_no_label(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read = Moody.read
    shift = 0.05
    monkeypatch.setattr(Moody, "read", lambda *given: replace(read(*given), forces=np.full((2, 3), shift)))
    assert moody("none").compute(rattled(2), tmp_path / "some").forces.max() == shift
    shift = 0.06  # a mean of 0.104 eV/Å
    error = failure(moody("none"), tmp_path / "more")
    assert "the mean of the forces is 0.1 eV/Å" in error.message and error.is_final
    assert error.message.endswith("raise reference.dft.cutoff")
    assert error.failure is FailureClass.BAD_OUTPUT


def test_a_width_without_smearing_is_refused() -> None:
    dft = Dft(cutoff=100.0, material="insulator", smearing_width=0.1)
    with pytest.raises(ConfigError, match=r"smearing_width = 0\.1 has no effect.*material = 'insulator'"):
        DftReference(Moody(), dft, {}, {}, Path())


def test_molecules_have_no_stress(tmp_path: Path) -> None:
    assert moody("none").compute(molecule("H2"), tmp_path).stress is None


def test_a_reader_that_stumbles_is_a_bad_output(tmp_path: Path) -> None:
    class Clumsy(Moody):
        def read(self, calculation: Calculation) -> Reading:
            raise UnboundLocalError("as readers do on damaged files")

    reference = moody("none")
    reference.code = Clumsy()
    error = failure(reference, tmp_path)
    assert error.failure is FailureClass.BAD_OUTPUT
    assert "UnboundLocalError" in str(error)


def test_an_endless_output_is_not_read(tmp_path: Path) -> None:
    calculation = moody("none").calculation(rattled(2), tmp_path)
    with (tmp_path / Moody.output).open("wb") as file:
        file.truncate(2**30)  # a hole: it takes no place
    with pytest.raises(OutputError, match="no sound run writes so much"):
        Moody().believe(calculation)


def test_a_label_is_checked_as_any_other(tmp_path: Path) -> None:
    result = label(moody("none"), Reference(code="emt"), rattled(2), tmp_path)
    assert result.details["wall_s"] > 0.0


@pytest.mark.parametrize(("kind", "expected"), [("gaussian", 0.95), ("fermi-dirac", 0.95), ("cold", 0.9 + 1 / 15)])
def test_extrapolation_to_zero_smearing(kind: str, expected: float) -> None:
    assert at_zero_smearing(0.9, -0.1, kind) == pytest.approx(0.9 + 0.1 / 2 if expected == 0.95 else 0.9 + 0.1 / 3)


# ------------------------------------------------------------------------------------------------- all ladders


@pytest.mark.parametrize("code", list(DFT_CODES))
def test_ladders_change_free_keys_only_and_name_what_is_known(code: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    from importlib.util import find_spec

    if find_spec(DFT_CODES[code].partition(":")[0]) is None:
        pytest.skip(f"there is no adapter for {code}")
    from tests.reference.dft_corpus import code_of

    ladder, adapter = Ladder.of(code), code_of(code)
    assert ladder.rung, "a code needs a ladder"
    names = {symptom.name for symptom in ladder.symptom}
    assert len(names) == len(ladder.symptom)
    for rung in ladder.rung:
        assert set(rung.on) <= names | {failure.value for failure in FailureClass}
        assert all(is_below(key, adapter.free) for key in dotted_keys(rung.change)), rung.why
        assert rung.change or rung.before or rung.bands > 1 or rung.ranks < 1, rung.why
