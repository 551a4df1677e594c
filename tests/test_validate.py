"""`alpot validate` as a user types it: real workers, a table, what is kept, and what is refused."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from ase.calculators.emt import EMT

from alpot.store.directory import CampaignDirectory
from alpot.store.property_file import read_property_file
from alpot.validation import validate
from tests.command_line import Run, Said, until

REFERENCE = """\
[material]
elements = ["Cu"]

[reference]
code = "emt"

[resources]
workers = 1
"""


@pytest.fixture
def verb(verb: Callable[..., Said], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Said]:
    monkeypatch.chdir(tmp_path)
    return verb


def kept(folder: Path) -> dict[str, float]:
    """When each measurement was written, by its question."""
    found = {}
    for path in folder.glob("measurements/*.json"):
        found[json.dumps(json.loads(path.read_text())["question"])] = path.stat().st_mtime_ns
    return found


def test_the_table_is_that_of_the_library_and_nothing_is_measured_twice(launch: Callable[..., Run], tmp_path: Path):
    (tmp_path / "copper.toml").write_text(REFERENCE)
    arguments = ("validate", "emt", "--reference", "copper.toml", "-e", "Cu", "-p", "lattice")
    said = launch(*arguments).end()
    assert said.code == 0, said.err
    assert "lattice constant" in said.out and "fcc Cu" in said.out and "2 of 2 measurements" in said.out
    found = read_property_file(tmp_path / "validation" / "properties.json")
    (expected,) = validate(EMT(), ["Cu"], ["lattice"], reference=EMT())
    assert found.results[0].rows == expected.rows
    assert found.provenance["potential"] == found.provenance["reference"]
    with (tmp_path / "validation" / "properties.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [float(row["value"]) for row in rows] == [row.value for row in expected.rows]

    # One more property: only that one is measured. Potential and reference are the same: so are their measurements.
    before = kept(tmp_path / "validation")
    assert len(before) == 1
    said = launch(*arguments, "-p", "elastic").end()
    assert said.code == 0, said.err
    after = kept(tmp_path / "validation")
    assert len(after) == 2 and before.items() <= after.items()
    assert [result.property for result in read_property_file(tmp_path / "validation" / "properties.json").results] == [
        "lattice",
        "elastic",
    ]


@pytest.mark.slow
def test_killed_in_the_middle_it_goes_on(launch: Callable[..., Run], tmp_path: Path):
    arguments = ("validate", "emt", "-e", "Al", "-p", "langevin", "-p", "vacancy", "-p", "lattice", "--workers", 2)
    run = launch(*arguments)
    until(lambda: len(kept(tmp_path / "validation")) >= 1)
    run.clear()  # with all its workers, one of which is in the middle of a long run
    before = kept(tmp_path / "validation")
    assert before
    said = launch("validate", "emt", "-e", "Al", "-p", "vacancy", "-p", "lattice").end()
    assert said.code == 0, said.err
    assert before.items() <= kept(tmp_path / "validation").items()


def test_what_cannot_be_measured_is_refused_before_anything_is_made(verb: Callable[..., Said], tmp_path: Path):
    (tmp_path / "slurm.toml").write_text(REFERENCE.replace("workers = 1", 'platform = "slurm"\n[resources.label]'))
    for arguments, words in (
        (("nowhere/at-all",), "there is no nowhere/at-all"),
        (("emtt", "-e", "Al"), "did you mean"),
        (("emt",), "name one with --element"),
        (("emt", "-e", "Al", "-p", "latice"), "unknown properties ['latice']"),
        (("emt", "-e", "Al", "--suite", "all"), "the suites are quick, metal, full"),
        (("emt", "-e", "W"), "does not know the element W"),
        (("emt", "-e", "cu"), "'cu' is no chemical symbol"),
        (("emt", "-e", "Al", "-p", "fresh_frames"), "fresh_frames compares with a reference"),
        (("emt", "-e", "Al", "-r", "slurm.toml", "--workers", 2), "asks for the platform 'slurm'"),
        ((str(tmp_path), "-e", "Al"), "is neither a potential"),
    ):
        said = verb("validate", *arguments)
        assert said.code == 2 and words in said.err, said
        assert not (tmp_path / "validation").exists()


def test_a_folder_that_holds_something_else_is_left_alone(verb: Callable[..., Said], tmp_path: Path):
    (tmp_path / "validation").mkdir()
    (tmp_path / "validation" / "thesis.tex").write_text("mine")
    said = verb("validate", "emt", "-e", "Al")
    assert said.code == 2 and "is not empty" in said.err
    assert [path.name for path in (tmp_path / "validation").iterdir()] == ["thesis.tex"]


def test_a_folder_that_others_may_write_to_is_refused(verb: Callable[..., Said], tmp_path: Path):
    (tmp_path / "validation").mkdir()
    (tmp_path / "validation").chmod(0o777)
    said = verb("validate", "emt", "-e", "Al")
    assert said.code == 2 and "--trust-directory" in said.err


@pytest.mark.slow
def test_ended_by_a_batch_system_it_says_what_is_kept(launch: Callable[..., Run], tmp_path: Path):
    run = launch("validate", "emt", "-e", "Al", "-p", "langevin", "-p", "lattice", "--workers", 2)
    until(lambda: len(kept(tmp_path / "validation")) >= 1)
    run.process.terminate()
    said = run.end()
    assert said.code == 130 and "of 2 measurements are kept" in said.out


def test_one_at_a_time_in_a_folder(verb: Callable[..., Said], tmp_path: Path):
    (tmp_path / "validation").mkdir()
    with CampaignDirectory(tmp_path / "validation").lock():
        (tmp_path / "validation" / "request.json").write_text("{}")
        said = verb("validate", "emt", "-e", "Al", "-p", "lattice")
    assert said.code != 0 and "another `alpot validate` is at work" in said.err


@pytest.mark.slow
def test_where_nothing_can_be_measured_the_exit_code_says_so(launch: Callable[..., Run], tmp_path: Path):
    (tmp_path / "w.toml").write_text(
        REFERENCE.replace('"Cu"', '"W"').replace('"emt"', '"lj"\narguments = {sigma = 2.4, epsilon = 0.4, rc = 6.0}')
    )
    said = launch("validate", "w.toml", "-e", "W", "-p", "stacking_faults", "-o", "w").end()
    assert said.code == 1 and "nothing could be measured" in said.err
