"""The parts of which references of density-functional codes are made: grids, boxes, witnesses, ladders, files."""

from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, fcc111, molecule
from hypothesis import given
from hypothesis import strategies as st

from alpot.config import Dft
from alpot.errors import ConfigError, FailureClass
from alpot.reference.box import with_box
from alpot.reference.dft_code import Calculation, OutputError, Reading
from alpot.reference.kpoints import kpoint_grid
from alpot.reference.ladder import Ladder, Symptom, Trouble, dotted_keys, is_below, merged, without
from alpot.reference.pseudopotentials import folders_of, pseudopotential_file
from alpot.reference.witnesses import agree, agreed, as_declared
from tests.reference.dft_codes import rattled

# ------------------------------------------------------------------------------------------------- k points


def test_twice_the_cell_has_half_the_kpoints() -> None:
    cubic = bulk("Al", a=4.05, cubic=True)
    assert kpoint_grid(cubic, 30.0) == (8, 8, 8)  # 30 / 4.05 = 7.4
    assert kpoint_grid(cubic * (2, 1, 4), 30.0) == (4, 8, 2)
    assert kpoint_grid(cubic, 4.05 * 3) == (3, 3, 3)  # rounding costs no point


def test_lattice_planes_count_not_lengths() -> None:
    """A primitive and a sheared cell of the same planes."""
    cubic, sheared = bulk("Al", a=4.05, cubic=True), bulk("Al", a=4.05, cubic=True)
    sheared.set_cell(cubic.cell.array @ [[1, 0, 0], [3, 1, 0], [0, 0, 1]])
    assert kpoint_grid(sheared, 30.0)[1:] == kpoint_grid(cubic, 30.0)[1:]


def test_gamma_only_where_nothing_repeats() -> None:
    slab = fcc111("Al", (1, 1, 3), vacuum=8.0)
    slab.pbc = (True, True, False)
    assert kpoint_grid(slab, 30.0)[2] == 1
    assert kpoint_grid(with_box(molecule("H2O")), 30.0) == (1, 1, 1)


@given(st.integers(0, 10_000), st.floats(1.0, 60.0))
def test_kpoints_are_never_farther_apart_than_asked_for(seed: int, density: float) -> None:
    cell = np.eye(3) * 4.0 + np.random.default_rng(seed).normal(size=(3, 3)) * 0.5
    atoms = Atoms("Al", cell=cell, pbc=True)
    spacing = 2 * np.pi * np.linalg.norm(np.linalg.inv(cell), axis=0) / kpoint_grid(atoms, density)
    assert (spacing <= 2 * np.pi / density * (1 + 1e-5)).all()


# ------------------------------------------------------------------------------------------------- boxes


def test_a_molecule_gets_a_box() -> None:
    water = molecule("H2O")
    boxed = with_box(water)
    assert not water.cell.any() and not boxed.pbc.any()
    assert np.allclose(boxed.get_all_distances(), water.get_all_distances())
    assert (np.diag(boxed.cell.array) > 0).all()  # right-handed
    extent = np.ptp(water.positions, axis=0)
    assert (boxed.cell.lengths() - extent >= 11.99).all()
    assert np.allclose((boxed.positions.max(0) + boxed.positions.min(0)) / 2, boxed.cell.lengths() / 2)


def test_a_small_displacement_leaves_the_box_as_it_is() -> None:
    atoms = molecule("CH4")
    moved = atoms.copy()
    moved.positions[0] += 0.01
    assert (with_box(atoms).cell.array == with_box(moved).cell.array).all()


def test_a_slab_keeps_its_plane_and_its_vacuum_if_there_is_enough() -> None:
    thin, thick = fcc111("Al", (1, 1, 3), vacuum=2.0), fcc111("Al", (1, 1, 3), vacuum=10.0)
    for slab in (thin, thick):
        slab.pbc = (True, True, False)
    assert (with_box(thick).cell.array == thick.cell.array).all()
    boxed = with_box(thin)
    assert (boxed.cell.array[:2] == thin.cell.array[:2]).all()
    assert boxed.cell.array[2, 2] - np.ptp(thin.positions[:, 2]) >= 11.99
    assert with_box(rattled(2)) == rattled(2)


# ------------------------------------------------------------------------------------------------- witnesses


def calculation(atoms: Atoms) -> Calculation:
    return Calculation(atoms=atoms, directory=Path(), dft=Dft(cutoff=100.0), pseudopotentials={})


def reading(atoms: Atoms, **changes: object) -> Reading:
    told = {"energy": -3.0, "forces": np.zeros((len(atoms), 3)), "stress": np.zeros(6)}
    return Reading(**{**told, "positions": atoms.positions.copy(), "cell": atoms.cell.array.copy(), **changes})  # type: ignore[arg-type]


def judge(first: Reading, second: Reading, atoms: Atoms) -> Reading:
    return agreed(calculation(atoms), first, second, energy=1e-6, forces=1e-6, stress=1e-6)


def test_two_witnesses_that_agree() -> None:
    atoms = rattled(4)
    first = reading(atoms)
    assert judge(first, reading(atoms, energy=-3.0 + 5e-7), atoms) is first


@pytest.mark.parametrize(
    "changes",
    [
        {"energy": -3.00001},
        {"energy": float("nan")},
        {"forces": np.full((4, 3), 1e-5)},
        {"forces": np.zeros((3, 3))},
        {"stress": None},
        {"stress": np.full(6, np.inf)},
        {"positions": rattled(4).positions[::-1]},
        {"positions": rattled(4).positions + np.array([0, 0, 0.01])},
        {"positions": np.full((4, 3), np.nan)},
        {"cell": rattled(4).cell.array * 1.001},
        {"symbols": ["Al", "Al", "Al", "Mg"]},
    ],
)
def test_two_witnesses_that_do_not(changes: dict[str, object]) -> None:
    atoms = rattled(4)
    with pytest.raises(OutputError):
        judge(reading(atoms), reading(atoms, **changes), atoms)
    with pytest.raises(OutputError):
        judge(reading(atoms, **changes), reading(atoms), atoms)


def test_both_wrong_in_the_same_way_is_no_label_either() -> None:
    atoms = rattled(4)
    for changes in ({"energy": float("nan")}, {"positions": atoms.positions + 0.05}, {"forces": np.zeros((8, 3))}):
        with pytest.raises(OutputError):
            judge(reading(atoms, **changes), reading(atoms, **changes), atoms)


def test_atoms_that_were_wrapped_into_the_cell_are_the_same() -> None:
    atoms = rattled(4)
    wrapped = atoms.positions + [[1], [0], [-2], [3]] * atoms.cell.array[0]
    judge(reading(atoms), reading(atoms, positions=wrapped), atoms)


def test_what_is_not_finite_is_never_agreed_on() -> None:
    """Not even where the tolerance is a share of it."""
    for value in (float("inf"), float("nan")):
        with pytest.raises(OutputError, match="not finite"):
            agree("forces", [value], [1.0], value)


def test_silence_is_no_agreement() -> None:
    agree("stress", None, None, 0.0)
    for pair in ((None, 1.0), (1.0, None), ([1.0], [1.0, 2.0])):
        with pytest.raises(OutputError):
            agree("stress", *pair, 1.0)


def test_another_level_of_theory_is_named() -> None:
    as_declared("cutoff", 14.69972899, 14.699728990)
    as_declared("functional", "pbe", "pbe")
    for told, asked in ((14.7, 14.699), ("pz", "pbe"), (None, "pbe"), (float("nan"), 1.0)):
        with pytest.raises(OutputError, match=r"another level of theory: its cutoff is"):
            as_declared("cutoff", told, asked)


# ------------------------------------------------------------------------------------------------- ladders


CHOLESKY = Trouble("cholesky", FailureClass.NOT_CONVERGED)
OUT_OF_MEMORY = Trouble("out_of_memory", FailureClass.OUT_OF_MEMORY)
NODE_LOST = Trouble("node_lost", FailureClass.NODE_LOST)


@pytest.fixture
def ladder() -> Ladder:
    return Ladder.model_validate({
        "symptom": [
            {"name": "bands", "failure": "not_converged", "says": []},
            {"name": "cholesky", "failure": "not_converged", "says": ["cholesky"]},
            {"name": "scf", "failure": "not_converged", "says": ["not +converged"]},
        ]
    })  # fmt: skip


def test_the_first_symptom_counts(ladder: Ladder) -> None:
    assert ladder.diagnose(["NOT  Converged", "problems computing Cholesky"]) == CHOLESKY
    assert ladder.diagnose(["problems computing Cholesky"], told="bands") == Trouble(
        "bands", FailureClass.NOT_CONVERGED
    )
    assert ladder.diagnose(["all is well", ""]) is None
    assert ladder.diagnose(["bash: pw.x: command not found"], status=127) == Trouble(
        "missing_program", FailureClass.MISSING_PROGRAM
    )


def test_what_ends_a_program_from_outside_counts_before_symptoms(ladder: Ladder) -> None:
    """It may have got over what it had warned of."""
    warned = ["problems computing Cholesky"]
    assert ladder.diagnose([*warned, "slurmstepd: error: Detected 1 oom_kill event"], status=1) == OUT_OF_MEMORY
    assert ladder.diagnose([*warned, "slurmstepd: error: *** STEP 7.0 CANCELLED DUE TO NODE FAILURE ***"]) == NODE_LOST
    for status, failure in ((9, "out_of_memory"), (15, "node_lost"), (24, "walltime")):
        expected = Trouble(failure, FailureClass(failure))
        assert ladder.diagnose(warned, status=-status) == ladder.diagnose(warned, status=128 + status) == expected
    assert ladder.diagnose(warned, status=-11) == ladder.diagnose(warned, status=1) == CHOLESKY
    assert ladder.diagnose(["srun: error: CANCELLED DUE TO TIME LIMIT"], status=137) == Trouble(
        "walltime", FailureClass.WALLTIME
    )


def test_ranks_that_are_killed_because_one_has_given_up_were_not_killed_from_outside(ladder: Ladder) -> None:
    said = ["problems computing Cholesky", "MPI_ABORT was invoked on rank 0 in communicator MPI_COMM_WORLD"]
    assert ladder.diagnose(said, status=137) == CHOLESKY
    assert ladder.diagnose(said, status=-9) == OUT_OF_MEMORY


def test_the_line_that_tells_is_kept() -> None:
    box = [" *****", " * [ABORT]   *", " *  found an unknown keyword X  *", " *   |       *", "next"]
    ladder = Ladder(symptom=(Symptom(name="input", failure=FailureClass.WRONG_INPUT, says=("unknown keyword",)),))
    trouble = ladder.diagnose(["possible matches for unknown keyword", *box])
    assert trouble is not None and trouble.said == "[ABORT] found an unknown keyword X"
    missing = "pw.x: error while loading shared libraries: libmkl.so: cannot open shared object file"
    trouble = ladder.diagnose([missing], status=127)
    assert trouble is not None and trouble.said == missing


def test_tables_are_merged_and_left_alone() -> None:
    base = {"electrons": {"beta": 0.7, "steps": 100}, "x": 1}
    assert merged(base, {"electrons": {"beta": 0.3}, "x": {"y": 2}}) == {
        "electrons": {"beta": 0.3, "steps": 100}, "x": {"y": 2},
    }  # fmt: skip
    assert base == {"electrons": {"beta": 0.7, "steps": 100}, "x": 1}
    assert dotted_keys({"a": {"b": {"c": 1}, "d": {}}, "e": 2}) == ["a.b.c", "a.d", "e"]
    assert is_below("a.b.c", ["a.b"]) and is_below("a.b", ["a.b"]) and not is_below("a.bc", ["a.b"])


def test_tables_without_some_keys() -> None:
    table = {"scf": {"steps": 3, "smear": {"width": 1}, "mixing": {"beta": 0.4, "method": "b"}}, "cutoff": {}}
    assert without(table, ["scf.mixing", "scf.steps"]) == {"scf": {"smear": {"width": 1}}}
    assert without({"scf": {"steps": 3}}, ["scf.steps"]) == {} == without({"scf": {"steps": 3}}, ["scf"])
    assert without(table, ["mixing", "sc"]) == without(table, []) == {"scf": table["scf"]}
    assert table["cutoff"] == {}


def test_a_ladder_with_an_unknown_key_is_refused() -> None:
    with pytest.raises(ValueError, match="mixing"):
        Ladder.model_validate({"rung": [{"on": ["scf"], "why": "slower", "mixing": 0.3}]})


# ------------------------------------------------------------------------------------------------- pseudopotentials


def find(dft: Dft, base: Path, folders: list[Path]) -> tuple[str, str]:
    return pseudopotential_file("Al", dft, base, folders=folders, hint='"Al.UPF"', install="get one")


def test_pseudopotentials_are_found_by_name_and_known_by_content(tmp_path: Path) -> None:
    for folder, text in (("own", "a"), ("usual", "b"), (".", "c")):
        (tmp_path / folder).mkdir(exist_ok=True)
        (tmp_path / folder / "Al.UPF").write_text(text)
    usual = [tmp_path / "usual"]
    named = Dft(cutoff=100.0, pseudopotentials={"Al": "Al.UPF"}, pseudopotential_folder="own")
    path, content = find(named, tmp_path, usual)
    assert path == str((tmp_path / "own" / "Al.UPF").resolve())
    assert find(Dft(cutoff=100.0, pseudopotentials={"Al": "Al.UPF"}), tmp_path, usual)[0].endswith("Al.UPF")
    (tmp_path / "own" / "Al.UPF").write_text("d")
    assert find(named, tmp_path, usual)[1] != content


def test_missing_pseudopotentials_say_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r'no entry for Al \(it has Mg\); add Al = "Al.UPF"'):
        find(Dft(cutoff=100.0, pseudopotentials={"Mg": "x"}), tmp_path, [])
    with pytest.raises(ConfigError, match=r"pseudopotentials\.Al = 'none.UPF': there is no such file in .*; get one"):
        find(Dft(cutoff=100.0, pseudopotentials={"Al": "none.UPF"}), tmp_path, [tmp_path / "usual"])


def test_folders_in_the_environment_come_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_PSEUDOS", "/a::/b")
    assert folders_of("SOME_PSEUDOS", "/c") == [Path("/a"), Path("/b"), Path("/c")]
