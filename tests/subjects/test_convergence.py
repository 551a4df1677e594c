"""Convergence studies of a reference whose error is known: 10^-accuracy of the force."""

import csv
import io
import json
import tomllib
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.io import write
from fake_campaign import InProcess
from rich.console import Console

from alpot.campaign import apps
from alpot.campaign.controller import Outcome
from alpot.campaign.state import State
from alpot.campaign.subject import Kind
from alpot.config import Reference
from alpot.errors import ConfigError, UsageError
from alpot.report.convergence import study_view, write_plots
from alpot.report.history import History
from alpot.store.ledger import Ledger
from alpot.store.study import Ladder, Study, write_study
from alpot.subjects import convergence, labelling
from alpot.subjects.convergence import Convergence, prepare_study

FILE = """\
[material]
elements = ["Al"]

[[material.starts]]
kind = "crystal"
prototypes = ["fcc"]
atoms = [4, 8]

[reference]
code = "bad_calculators:Converging"
arguments = {accuracy = 2.0}
attempts = 1
"""
LARGEST = 5.0
"""Largest distance from the origin in Å, hence the largest force in eV/Å."""


@pytest.fixture(autouse=True)
def in_process(monkeypatch):
    monkeypatch.setattr(labelling, "open_platform", lambda _: InProcess())


@pytest.fixture
def folder(tmp_path) -> Path:
    (tmp_path / "c.toml").write_text(FILE)
    frames = [Atoms("Al2", [(0, 0, 0), (far, 0, 0)]) for far in (1.0, 2.0, LARGEST)]
    write(tmp_path / "frames.xyz", frames)
    return tmp_path


def begin(folder: Path, *vary: str, tolerance: float = 0.01, count: int = 3, frames: bool = True) -> Convergence:
    apps._open_subject.cache_clear()  # another run has other workers
    frames_of = folder / "frames.xyz" if frames else None
    output = folder / "study"
    return prepare_study(folder / "c.toml", output, count=count, tolerance=tolerance, vary=vary, frames_of=frames_of)


def studied(folder: Path, *vary: str, **more) -> Study:
    work = begin(folder, *vary, **more)
    assert work.run().status == "finished"
    return work.study()


def stopped_at(work: Convergence, labels: int) -> Outcome:
    """Runs a study that is asked to stop once it has so many labels."""

    def stop(state: State) -> None:
        if state.dataset.training.size == labels:
            work.labelling.directory.request_stop()

    outcome = work.run(stop)
    assert outcome.status == "stopped"
    return outcome


def only(study: Study) -> Ladder:
    (ladder,) = study.ladders
    return ladder


def test_the_recommendation_is_the_cheapest_within_the_tolerance(folder):
    ladder = only(studied(folder, "arguments.accuracy=1,1.5,2,2.5,4,6"))
    for point in ladder.points:
        error = 10.0**-point.value - 1e-6
        # Positions are written with 8 decimals.
        assert point.force_max == pytest.approx(LARGEST * error, abs=1e-7)
        assert point.force_rms == pytest.approx(error * np.sqrt((1 + 4 + LARGEST**2) / 6), abs=1e-7)
        energies = 0.25 * error * np.array([1, 4, LARGEST**2])  # half of the square, for two atoms
        assert point.energy_spread == pytest.approx(np.abs(energies - energies.mean()).max(), abs=1e-7)
        offset = 7 / point.value - 7 / 6
        assert point.energy_offset == pytest.approx(offset + energies.mean(), abs=1e-7)
        assert point.stress_max is None and point.seconds is not None
    assert ladder.own == 2.0 and ladder.recommended == 4  # 5 × 10^-2.5 is 0.016
    assert "arguments.accuracy: 4 is enough" in ladder.sentence
    assert ladder.line == "accuracy = 4.0  # in [reference.arguments]"
    assert tomllib.loads(ladder.line) == {"accuracy": ladder.recommended}


@pytest.mark.parametrize(("tolerance", "recommended"), [(0.1, 2.0), (0.04, 2.5), (1.0, 1.0), (1e-4, None)])
def test_tolerances(folder, tolerance, recommended):
    ladder = only(studied(folder, "arguments.accuracy=1,1.5,2,2.5,4,6", tolerance=tolerance))
    assert ladder.recommended == recommended
    assert ("must go further" in ladder.sentence) == (recommended is None)


def test_a_setting_that_fails_is_shown_as_failed(folder):
    study = studied(folder, "arguments.accuracy=2,3,4,5", "arguments.offset=0,1,2")
    accuracy, offset = study.ladders
    assert [bool(point.failure) for point in accuracy.points] == [False, True, False, False]
    assert "SCF did not converge" in accuracy.points[1].failure
    assert accuracy.recommended == 4  # the one that failed says nothing about 4
    assert offset.recommended == 0  # a shift of the energy does not matter
    assert offset.points[0].energy_offset == pytest.approx(-1.0) and offset.points[0].energy_spread < 1e-9
    assert "SCF did not converge" in told(study)


def test_the_most_accurate_setting_fails(folder):
    ladder = only(studied(folder, "arguments.accuracy=1,2,2.5,3"))
    assert ladder.points[-1].failure and ladder.points[-2].force_max == 0.0
    assert ladder.recommended is None and "that at 2.5" in ladder.sentence


def test_nothing_is_computed_twice(folder):
    first = begin(folder, "arguments.accuracy=1,2,4")
    assert len(first.labelling.given) == 9
    first.run()
    longer = begin(folder, "arguments.accuracy=1,2,4,6", "arguments.offset=0,1,2")
    assert len(longer.labelling.given) == 12  # accuracy 6, and the offsets
    longer.run()
    (folder / "c.toml").write_text(FILE.replace("2.0", "4.0"))  # as recommended
    again = begin(folder, "arguments.accuracy=1,2,4,6")
    assert again.labelling.given == [] and only(again.study()).own == 4.0


def test_what_a_stopped_study_had_in_mind_is_not_computed_by_the_next(folder):
    first = begin(folder, "arguments.accuracy=1,2,4,5,6")
    stopped_at(first, 3)
    partial = only(first.study())
    assert [point.missing for point in partial.points] == [0, 3, 3, 3, 3]
    assert not any(point.failure for point in partial.points)
    second = begin(folder, "arguments.accuracy=1,2,4")
    outcome = second.run()
    assert outcome.state.dataset.training.size == 9 and outcome.state.candidates.dropped["withdrawn"] == 6
    third = begin(folder, "arguments.accuracy=1,2,4,5,6")
    assert third.run().state.dataset.training.size == 15
    assert all(point.is_known for point in only(third.study()).points)


def test_a_stopped_study_recommends_nothing(folder):
    """The least accurate settings come first: what happens to be done is not the most accurate one."""
    work = begin(folder, "arguments.accuracy=1,1.5,2,4,6", tolerance=1.0)

    def stop(state):
        if state.dataset.training.size == 7:
            work.labelling.directory.request_stop()

    assert work.run(stop).status == "stopped"
    partial = only(work.study())
    assert [point.missing for point in partial.points] == [0, 0, 2, 3, 3]
    assert partial.recommended is None and partial.line == "" and "before all settings are computed" in partial.sentence
    text = told(work.study())
    assert "not yet: 2 of 3 labels to be computed" in text and "failed" not in text and "enough" not in text
    assert "not yet" in write_plots(folder / "study", work.study())[1].read_text()
    assert only(studied(folder, "arguments.accuracy=1,1.5,2,4,6", tolerance=1.0)).recommended == 1.0


def test_what_was_withdrawn_may_be_wanted_again(folder):
    first = begin(folder, "arguments.accuracy=1,2,4")
    stopped_at(first, 0)
    stopped_at(begin(folder, "arguments.accuracy=1.5,2.5,5"), 0)
    assert not any(point.failure for point in only(studied(folder, "arguments.accuracy=1,2,4")).points)


OFFSET = FILE.replace("accuracy = 2.0", "accuracy = 2.0, offset = 0.0")


@pytest.mark.parametrize("in_flight", [False, True])
def test_what_waits_is_computed_by_the_campaign_file_of_now(folder, in_flight):
    (folder / "c.toml").write_text(OFFSET)
    first = begin(folder, "arguments.accuracy=1,2,4", "arguments.offset=0,1,2")  # both meet at the file's own setting

    def kill(state: State) -> None:
        if state.work.started[Kind.LABEL] == 4:  # the first at that setting
            raise KeyboardInterrupt

    if in_flight:
        with pytest.raises(KeyboardInterrupt):
            first.run(kill)
    else:
        stopped_at(first, 3)
    (folder / "c.toml").write_text(OFFSET.replace("offset = 0.0", "offset = 2.0"))
    second = begin(folder, "arguments.offset=0,1,2")
    outcome = second.run()
    assert not any(point.failure for point in only(second.study()).points)
    assert outcome.state.work.failures.total() == 0 and outcome.state.dataset.training.size == 3 + 9
    with Ledger(second.labelling.directory.ledger, read_only=True) as ledger:
        assert not History.replay(ledger.events()).running
    assert begin(folder, "arguments.offset=0,1,2").labelling.given == []


def test_a_label_that_was_refused_for_another_level_of_theory_is_tried_again(folder):
    first = begin(folder, "arguments.accuracy=1,2,4")
    directory = first.labelling.directory
    own, other = directory.recorded_config, FILE.replace("2.0}", "2.0, offset = 1.0}")
    directory.replace_config(other.encode(), folder / "c.toml")  # as another command in between would
    assert first.run().state.candidates.rejected == {"bad_output": 9}
    directory.replace_config(own.encode(), folder / "c.toml")
    assert not any(point.failure for point in only(studied(folder, "arguments.accuracy=1,2,4")).points)


def test_structures_of_the_campaign(folder):
    study = studied(folder, "arguments.accuracy=1,4,6", frames=False, count=2, tolerance=1.0)
    assert len(study.structures) == 2 and study.structures[0].startswith("crystal fcc, Al")
    more = begin(folder, "arguments.accuracy=1,4,6", frames=False, count=3)
    assert len(more.labelling.given) == 3  # the others are the same


def test_a_structure_that_can_have_no_label_is_left_out(folder):
    write(folder / "frames.xyz", [Atoms("Al2", [(0, 0, 0), (far, 0, 0)]) for far in (1.0, 100.0)])
    study = studied(folder, "arguments.accuracy=1,4,6", count=2)
    assert len(study.structures) == 1 and len(study.left_out) == 1 and "max_force" in study.left_out[0]
    assert only(study).recommended == 4 and only(study).points[0].energy_spread is None
    write(folder / "frames.xyz", [Atoms("Al2", [(0, 0, 0), (100, 0, 0)])])
    with pytest.raises(UsageError, match=r"none of the structures can be labelled.*max_force"):
        studied(folder, "arguments.accuracy=1,4,6", count=1)


def told(study: Study) -> str:
    console = Console(width=100, file=io.StringIO())
    console.print(study_view(study))
    return console.file.getvalue()


def test_a_study_without_any_whole_setting_does_not_speak_of_forces(folder):
    work = begin(folder, "arguments.accuracy=2,3,4")
    stopped_at(work, 1)
    (ladder,) = work.study().ladders
    assert "before all settings are computed" in ladder.sentence


def test_forces_that_vanish_by_symmetry_recommend_nothing(folder):
    write(folder / "frames.xyz", [Atoms("Al", [(0, 0, 0)])])
    (ladder,) = studied(folder, "arguments.accuracy=2,3,4").ladders
    assert ladder.recommended is None and ladder.line == ""
    assert "no forces to be compared" in ladder.sentence


def test_files(folder):
    study = studied(folder, "arguments.accuracy=1,2,3,4,6")
    write_study(folder / "study", study)
    paths = write_plots(folder / "study", study)
    assert paths[0].read_bytes().startswith(b"\x89PNG") and b"</svg>" in paths[1].read_bytes()
    content = json.loads((folder / "study" / "convergence.json").read_text())
    content.pop("sha256")
    assert Study.model_validate(content) == study
    rows = list(csv.DictReader(io.StringIO((folder / "study" / "convergence.csv").read_text())))
    assert [float(row["value"]) for row in rows] == [1, 2, 3, 4, 6] and "SCF" in rows[2]["failure"]
    text = told(study)
    assert "enough" in text and "campaign" in text and "reference" in text and "failed" in text


# --------------------------------------------------------------------------------------------- what may be varied


def test_dft_settings_are_varied_around_the_campaigns_own():
    # What the campaign leaves out has a default that only the reference knows.
    described = {"dft": {"cutoff": 400.0, "kpoint_density": 30.0, "smearing": "cold", "smearing_width": 0.1}}
    own = convergence._Own(Reference(code="emt"), described)
    ladders = convergence._ladders_around(own)
    assert ladders["dft.cutoff"] == [256.0, 320.0, 400.0, 500.0, 625.0]
    assert ladders["dft.kpoint_density"] == [15.0, 21.2, 30.0, 42.4, 60.0]
    assert ladders["dft.smearing_width"] == [0.2, 0.1, 0.05, 0.025]  # the smallest is what is meant
    # Whoever lists them otherwise means the same.
    assert convergence._parsed("dft.smearing_width=0.05,0.1,0.2", own)[1] == [0.2, 0.1, 0.05]
    assert convergence._parsed("reference.dft.cutoff=500,400,300", own) == ("dft.cutoff", [300.0, 400.0, 500.0])
    insulator = convergence._Own(Reference(code="emt"), {"dft": described["dft"] | {"smearing_width": None}})
    assert list(convergence._ladders_around(insulator)) == ["dft.cutoff", "dft.kpoint_density"]


@pytest.mark.parametrize(
    ("vary", "message"),
    [
        ("arguments.accuracy", "it must be KEY=v1,v2"),
        ("arguments.accuracy=1,two,3", "it must be KEY=v1,v2"),
        ("arguments.accuracy=1,2", "at least three values"),
        ("arguments.accuracy=1,2,2.0", "at least three values"),
        ("arguments.accuracy=1,2,inf", "it must be KEY=v1,v2"),
        ("arguments.acuracy=1,2,3", "acuracy"),
        ("acuracy=1,2,3", r"reference\.acuracy = 1 is not allowed: there is no such key; `alpot schema`"),
        ("dft.cutof=300,400,500", r"there is no such key; did you mean 'dft\.cutoff'\?"),
        ("cutoff=300,400,500", r"there is no such key; did you mean 'dft\.cutoff'\?"),
        ("code=1,2,3", r"reference\.code is .*only settings that are numbers"),
        ("time_limit=10,20,30", "does not change the results"),
        ("max_force=-1,1,2", r"reference\.max_force = -1.* is not allowed"),
    ],
)
def test_what_cannot_be_varied_is_told_before_anything_is_made(folder, vary, message):
    with pytest.raises((ConfigError, UsageError), match=message):
        begin(folder, vary)
    assert not (folder / "study").exists()


def test_without_dft_something_must_be_named(folder):
    with pytest.raises(UsageError, match="--vary arguments"):
        begin(folder)
