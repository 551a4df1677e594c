"""Outputs of real runs, good ones and those that were brought into trouble: exactly the good ones are believed."""

import re
from pathlib import Path

import pytest

from alpot.reference.dft import RunFailed
from alpot.reference.ladder import Ladder
from alpot.reference.program import STANDARD_ERROR
from tests.reference.dft_corpus import Case, cases, code_of, codes, unpack, wrong_number

ALL = [case for code in codes() for case in cases(code)]
GOOD = [case for case in ALL if case.failure is None]
BAD = [case for case in ALL if case.failure is not None]


def name_of(case: Case) -> str:
    return f"{case.code}-{case.name}"


def test_the_corpus_is_large_enough() -> None:
    assert codes()
    for code in codes():
        assert len(cases(code)) >= 40


@pytest.mark.parametrize("case", GOOD, ids=name_of)
def test_good_outputs_are_believed(case: Case, tmp_path: Path) -> None:
    unpack(case.files, tmp_path)
    assert wrong_number(case.judge(tmp_path), case) is None


@pytest.mark.parametrize("case", BAD, ids=name_of)
def test_bad_outputs_have_the_right_class(case: Case, tmp_path: Path) -> None:
    unpack(case.files, tmp_path)
    with pytest.raises(RunFailed) as caught:
        case.judge(tmp_path)
    assert (caught.value.trouble.failure, caught.value.trouble.symptom) == (case.failure, case.symptom)


@pytest.mark.parametrize("case", GOOD, ids=name_of)
def test_sound_outputs_have_no_symptom(case: Case) -> None:
    lines = [line for content in case.files.values() for line in content.decode(errors="replace").splitlines()]
    assert Ladder.of(case.code).diagnose(lines) is None


#: How the four codes tell that the density has become self-consistent.
CONVERGED = re.compile(rb"convergence has been achieved|SCF run converged in|etot is converged|Converged in \d+ steps")


@pytest.mark.parametrize(
    ("words", "status", "symptom"),
    [
        ("slurmstepd: error: Detected 1 oom_kill event in StepId=7.0.", 1, "out_of_memory"),
        ("slurmstepd: error: Detected 1 oom_kill event in StepId=7.0.", 137, "out_of_memory"),
        ("slurmstepd: error: *** STEP 7.0 ON n1 CANCELLED DUE TO NODE FAILURE ***", 1, "node_lost"),
        ("slurmstepd: error: *** STEP 7.0 ON n1 CANCELLED DUE TO NODE FAILURE ***", 137, "node_lost"),
        ("srun: error: n1: task 0: Terminated", 143, "node_lost"),
        ("srun: error: n1: task 0: Exited with exit code 1", 1, "unknown"),
    ],
)
@pytest.mark.parametrize("code", codes())
def test_sound_runs_that_something_ends_before_they_converge(
    code: str, words: str, status: int, symptom: str, tmp_path: Path
) -> None:
    for case in [case for case in GOOD if case.code == code]:
        directory = tmp_path / case.name
        unpack({name: CONVERGED.split(content)[0] for name, content in case.files.items()}, directory)
        for name in code_of(code).witness:
            (directory / name).unlink(missing_ok=True)
        (directory / STANDARD_ERROR).write_text(f"{words}\n")
        with pytest.raises(RunFailed) as caught:
            case.judge(directory, status)
        assert caught.value.trouble.symptom == symptom, case.name


@pytest.mark.parametrize("case", [case for case in BAD if case.status != 0], ids=name_of)
def test_a_launcher_that_hides_the_exit_status_makes_no_wrong_label(case: Case, tmp_path: Path) -> None:
    """It may have been killed when all was written."""
    unpack(case.files, tmp_path)
    try:
        reading = case.judge(tmp_path, status=0)
    except RunFailed:
        return
    right = next(good for good in GOOD if (good.code, good.declared) == (case.code, case.declared))
    assert wrong_number(reading, right) is None


def test_a_log_of_cp2k_without_the_entropy_is_refused(tmp_path: Path) -> None:
    """Where the entropy is next to nothing, the sum of the terms does not miss it."""
    case = next(case for case in GOOD if (case.code, case.name) == ("cp2k", "al8"))
    unpack(case.files, tmp_path)
    log = tmp_path / "alpot.out"
    lines = log.read_text().splitlines(keepends=True)
    log.write_text("".join(line for line in lines if "Electronic entropic energy" not in line))
    with pytest.raises(RunFailed, match="entropy of the smearing"):
        case.judge(tmp_path)


def test_cp2k_has_too_few_bands_where_its_last_step_says_so(tmp_path: Path) -> None:
    """Whether it converged or not; but not where its basis set has no more orbitals, as that of the atom."""
    atom = next(case for case in GOOD if (case.code, case.name) == ("cp2k", "atom"))
    hurried = next(case for case in BAD if (case.code, case.name) == ("cp2k", "few-steps"))
    warning = " *** the last MO => Add more MOs for proper smearing.                   ***\n"
    early, late = " Re-scaling the density matrix", "  Leaving inner SCF loop"
    for name, case, old, new, symptom in [
        ("atom", atom, "More added MOs requested", "", "too_few_bands"),
        ("early", hurried, early, warning + early, "scf_not_converged"),
        ("late", hurried, late, warning + late, "too_few_bands"),
    ]:
        unpack(case.files, tmp_path / name)
        log = tmp_path / name / "alpot.out"
        text = log.read_text()
        assert old in text
        log.write_text(text.replace(old, new))
        with pytest.raises(RunFailed) as caught:
            case.judge(tmp_path / name)
        assert caught.value.trouble.symptom == symptom, name


@pytest.mark.parametrize(
    ("code", "name", "file", "row", "lost"),
    [
        ("cp2k", "gamma", "alpot.out", "       3     Al       1          2.996569", "charges"),
        ("abinit", "spin", "abinit.abo", "    2   2.00000     0.443627", "magnetic_moments"),
    ],
)
def test_a_garbled_table_of_information_refuses_no_label(
    code: str, name: str, file: str, row: str, lost: str, tmp_path: Path
) -> None:
    case = next(case for case in GOOD if (case.code, case.name) == (code, name))
    unpack(case.files, tmp_path)
    text = (tmp_path / file).read_text()
    assert text.count(row) == 1
    (tmp_path / file).write_text(text.replace(row, "*" * len(row)))
    reading = case.judge(tmp_path)
    assert getattr(reading, lost) is None
    assert wrong_number(reading, case, is_damaged=True) is None
