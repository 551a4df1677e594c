"""Labels without a campaign: what is written, what is refused, and that nothing is computed twice. In this process."""

import io
import os
import re
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.io import read, write
from fake_campaign import InProcess
from rich.console import Console
from tiny_campaign import TINY, with_emt

from alpot.campaign import apps, controller, events
from alpot.campaign.state import State
from alpot.campaign.subject import LabelSummary
from alpot.errors import (
    CampaignDirectoryError,
    CampaignFailed,
    CampaignLockedError,
    ConfigError,
    StructureError,
    UsageError,
)
from alpot.report.history import History
from alpot.report.status import campaign_status
from alpot.report.tables import status_view
from alpot.store.directory import CampaignDirectory
from alpot.store.formats import read_labelled
from alpot.store.labels import read_label
from alpot.store.ledger import Ledger
from alpot.subjects import labelling
from alpot.subjects.label_files import LabelledFile, label_file, plan_file
from alpot.subjects.launch import prepare
from alpot.subjects.mending import mend
from alpot.subjects.requests import request_reload

EMT = '[reference]\ncode = "emt"\n'


@pytest.fixture(autouse=True)
def in_process(monkeypatch):
    monkeypatch.setattr(labelling, "open_platform", lambda _: InProcess())


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    (tmp_path / "ref.toml").write_text(EMT)
    monkeypatch.setenv("PICKY_BOOK", str(tmp_path / "book"))
    return tmp_path


def crystals(count: int, seed: int = 0) -> list[Atoms]:
    """Different crystals whose first atom lies at the origin."""
    frames = [bulk("Al", cubic=True) for _ in range(count)]
    for number, atoms in enumerate(frames):
        atoms.rattle(0.1, seed=seed + number)
        atoms.positions -= atoms.positions[0]
    return frames


def colliding() -> Atoms:
    atoms = bulk("Al", cubic=True)
    atoms.positions[1] = (0.1, 0.0, 0.0)
    return atoms


def begin(folder: Path, frames: list[Atoms] | None = None, **more) -> LabelledFile:
    if frames is not None:
        write(folder / "in.traj", frames)  # in contrast to XYZ, it keeps all digits
    apps._open_subject.cache_clear()  # another run has other workers
    output = folder / more.pop("output", "out.xyz")
    return label_file(folder / "in.traj", folder / "ref.toml", output, **more)


def events_of(work: LabelledFile) -> list[str]:
    with Ledger(work.labelling.directory.ledger, read_only=True) as ledger:
        return [event.kind for event in ledger.events()]


def test_every_frame_is_labelled_in_order_with_its_own_entries(folder):
    frames = crystals(3)
    frames = [frames[2], frames[0], frames[1], frames[0].copy(), colliding(), frames[2].copy()]
    for number, atoms in enumerate(frames):
        atoms.info = {"name": f"no. {number}", "weight": 0.5 * number, "list": [number, 1], "energy": 99.0}
        atoms.set_tags(range(4))
    frames.append(bulk("Al"))
    frames[-1].positions[0] = np.nan
    work = begin(folder, frames)
    assert work.run().status == "finished"
    report = work.write()
    assert report.labelled == 5
    assert {number: why.reason for number, why in report.missing.items()} == {
        4: "unphysical_geometry",
        6: "unphysical_geometry",
    }
    written = read(folder / "out.xyz", ":")
    for number, atoms in zip((0, 1, 2, 3, 5), written, strict=True):
        true = with_emt(frames[number])
        # The file keeps 8 decimals of positions and forces.
        np.testing.assert_allclose(atoms.positions, true.positions, atol=1e-8)
        assert atoms.info["REF_energy"] == pytest.approx(true.get_potential_energy(force_consistent=True), abs=1e-9)
        np.testing.assert_allclose(atoms.arrays["REF_forces"], true.get_forces(), atol=1e-8)
        assert atoms.info["name"] == f"no. {number}" and atoms.info["weight"] == 0.5 * number
        assert list(atoms.info["list"]) == [number, 1] and list(atoms.get_tags()) == [0, 1, 2, 3]
        assert atoms.calc is None
    level = written[0].info["level_of_theory"]
    assert len(read_labelled(folder / "out.xyz", level)) == 3  # what `material.initial_labels` reads
    assert events_of(work).count("task_finished") == 3  # equal frames are computed once


def test_what_extended_xyz_cannot_hold_is_left_out(folder):
    frames = crystals(1)
    work = begin(folder, frames)
    work.run()
    own = work.frames[0]
    own.info = {
        "object": {1, 2},
        5: "x",
        "stress": np.eye(3),
        "line": "two\nlines",
        "empty": "",
        "pbc": "no",
        "n": None,
    }
    own.new_array("three", np.zeros((4, 2, 2)))
    own.new_array("with space", np.zeros(4))
    own.new_array("words", np.array(["a", "b c", "", "d"]))
    own.new_array("site", np.array(["a", "b", "c", "d"]))
    own.new_array("REF_forces", np.ones((4, 3)))
    assert work.write().labelled == 1
    atoms = read(folder / "out.xyz")
    assert {"object", "5", "stress", "line"}.isdisjoint(atoms.info) and atoms.pbc.all()
    assert atoms.arrays.keys() == {"numbers", "positions", "REF_forces", "site"}
    np.testing.assert_allclose(atoms.arrays["REF_forces"], with_emt(frames[0]).get_forces(), atol=1e-8)


def test_hdf5(folder):
    work = begin(folder, crystals(2), output="out.h5")
    work.run()
    assert work.write().labelled == 2
    assert len(read_labelled(folder / "out.h5", read_label(next(iter(labels(work)))).level_of_theory)) == 2


def labels(work: LabelledFile) -> list[Path]:
    return sorted((work.labelling.directory.path / "labels").glob("*/*.h5"))


def test_once_more_computes_nothing(folder):
    work = begin(folder, [*crystals(2), colliding()])
    work.run()
    first = work.write()
    content, stamps = (folder / "out.xyz").read_bytes(), [path.stat().st_mtime_ns for path in labels(work)]
    (folder / "out.xyz").unlink()
    again = begin(folder)
    assert again.labelling.given == []
    again.run()
    assert again.write() == first
    assert (folder / "out.xyz").read_bytes() == content
    assert [path.stat().st_mtime_ns for path in labels(work)] == stamps


def test_a_frame_that_fails_stops_no_other_and_is_tried_as_often_as_asked(folder):
    (folder / "ref.toml").write_text('[reference]\ncode = "bad_calculators:Picky"\nattempts = 2\n')
    frames = crystals(60)
    for atoms in frames[:56]:  # more than any failure budget
        atoms.positions += 0.5
    work = begin(folder, frames)
    assert work.run().status == "finished"
    report = work.write()
    assert report.labelled == 4 and set(report.missing) == set(range(56))
    assert "not where it should be" in report.missing[0].message
    assert len((folder / "book").read_text().split()) == 2 * 56 + 4


def test_rejected_frames_are_tried_again_with_other_limits(folder):
    work = begin(folder, [*crystals(2), colliding()])
    work.run()
    assert set(work.write().missing) == {2}
    (folder / "ref.toml").write_text(EMT + "max_force = 1e4\n")
    again = begin(folder)
    assert again.labelling.changes == ["reference.max_force: 50.0 -> 10000.0"]
    assert again.run().status == "finished"
    assert again.write().missing == {}
    assert events_of(again).count("task_finished") == 3
    assert begin(folder).labelling.given == []


@pytest.mark.parametrize("given", [0, 1])
def test_rejected_frames_are_tried_again_also_when_the_first_run_with_other_limits_is_killed(
    folder, monkeypatch, given
):
    monkeypatch.setattr(controller, "_GIVEN_AT_ONCE", 1)
    other = colliding()
    other.positions[1] = (0.11, 0.0, 0.0)
    begin(folder, [colliding(), other]).run()
    (folder / "ref.toml").write_text(EMT + "max_force = 1e4\n")

    def kill(state: State) -> None:
        if len(state.candidates.waiting) == given:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        begin(folder).run(kill)
    assert "2 structures: 0 labelled, 0 rejected, 2 to be" in planned(folder)
    again = begin(folder)
    assert again.run().status == "finished" and again.write().missing == {}
    assert events_of(again).count("task_finished") == 2


def planned(folder: Path) -> str:
    return "\n".join(plan_file(folder / "in.traj", folder / "ref.toml", folder / "out.xyz")[0])


def test_what_an_older_version_rejected_is_tried_once_more(folder, monkeypatch):
    work = begin(folder, [colliding()])
    with monkeypatch.context() as older:
        event = events.candidates_given(work.labelling.given, "")
        del event.payload["reference"]
        older.setattr(events, "candidates_given", lambda *_: event)
        work.run()
    again = begin(folder)
    assert len(again.labelling.given) == 1
    again.run()
    assert set(again.write().missing) == {0} and begin(folder).labelling.given == []


def test_a_missing_program_stops_it_and_it_goes_on_once_the_program_is_there(folder, monkeypatch):
    import bad_calculators

    (folder / "ref.toml").write_text('[reference]\ncode = "bad_calculators:Absent"\n')
    work = begin(folder, crystals(3))
    with pytest.raises(CampaignFailed, match=r"no label can be computed.*pw\.x"):
        work.run()
    assert work.write().labelled == 0 and not (folder / "out.xyz").exists()
    monkeypatch.setattr(bad_calculators.Absent, "calculate", bad_calculators.EMT.calculate)
    again = begin(folder)
    assert again.run().status == "finished"
    assert again.write().missing == {}


def test_a_stop_writes_what_there_is(folder):
    work = begin(folder, crystals(5))

    def stop_after_two(state: State) -> None:
        if state.dataset.training.size == 2:
            work.labelling.directory.request_stop()

    assert work.run(stop_after_two).status == "stopped"
    report = work.write()
    assert report.labelled == len(read(folder / "out.xyz", ":")) < 5
    assert {why.reason for why in report.missing.values()} == {"not yet"}
    assert "alpot label" in campaign_status(work.labelling.directory).message
    again = begin(folder)
    assert again.run().status == "finished" and again.write().missing == {}
    assert events_of(again).count("task_finished") == 5


def test_the_status_counts_structures_and_predicts_for_those_that_are_left(folder):
    (folder / "ref.toml").write_text('[reference]\ncode = "bad_calculators:Picky"\nattempts = 3\n')
    frames = crystals(6)
    frames[0].positions += 0.5  # rejected after three attempts
    work = begin(folder, frames)

    def stop_after_two(state: State) -> None:
        if state.dataset.training.size == 2:
            work.labelling.directory.request_stop()

    work.run(stop_after_two)
    status = campaign_status(work.labelling.directory)
    assert status.labels.calculations == 5 and (status.labels.settled, status.labels.budget) == (3, 6)
    assert status.costs.prediction.labels == 3
    console = Console(width=120, file=io.StringIO())
    console.print(status_view(status))
    assert "3 of 6 structures" in console.file.getvalue() and "for 3 labels" in console.file.getvalue()
    begin(folder).run()
    status = campaign_status(work.labelling.directory)
    assert (status.labels.settled, status.labels.budget, status.costs.prediction) == (6, 6, None)


def test_the_plan_knows_the_sizes_of_the_frames_that_are_missing(folder, monkeypatch):
    history = History()
    for atoms in [4, 32] * 20:  # an atom costs a core-second, and every label has needed two attempts
        label = {"candidate": "c", "key": "k", "outcome": "labelled", "path": "p", "checksum": "0"}
        history.costs.add_label(LabelSummary(**label, atoms=atoms, core_seconds=atoms), apart=False)
        history.costs.add_failure("not_converged", atoms, apart=False)
    monkeypatch.setattr(labelling.History, "replay", lambda _: history)
    begin(folder, [atoms * (2, 2, 2) for atoms in crystals(100)])
    sentences, _ = plan_file(folder / "in.traj", folder / "ref.toml", folder / "out.xyz")
    told = re.search(r"about ([\d.]+) core-hours .* for 100 labels", sentences[-1])
    assert float(told[1]) == pytest.approx(100 * 32 * 2 / 3600, rel=0.05)


def test_a_damaged_label_is_computed_again_after_repair(folder):
    work = begin(folder, crystals(3))
    work.run()
    labels(work)[1].write_bytes(b"damaged")
    assert len(mend(work.labelling.directory.path).report.lost) == 1
    again = begin(folder)
    assert len(again.labelling.given) == 1
    again.run()
    assert again.write().missing == {}


def test_all_labels_are_lost_and_computed_again(folder):
    work = begin(folder, crystals(3))
    work.run()
    for path in labels(work):
        path.unlink()
    assert "3 labels are lost" in mend(work.labelling.directory.path).problem
    again = begin(folder)
    assert again.run().status == "finished" and again.write().missing == {}


def test_the_record_of_what_is_labelled_may_be_damaged_or_lost(folder):
    work = begin(folder, crystals(2))
    work.run()
    work.labelling.directory.purpose.write_text("{}")
    again = begin(folder)  # sets it aside and writes another one
    assert again.labelling.given == []
    again.labelling.directory.purpose.write_text('{"same": ')
    plan_file(folder / "in.traj", folder / "ref.toml", folder / "out.xyz")  # touches nothing
    assert "labelling.json" in [damage.path for damage in mend(again.labelling.directory.path).report.damaged]
    last = begin(folder)
    assert last.labelling.given == [] and last.run().status == "finished" and last.write().missing == {}


def test_labels_survive_the_loss_of_the_ledger(folder):
    work = begin(folder, crystals(3))
    work.run()
    work.labelling.directory.ledger.unlink()
    mend(work.labelling.directory.path, rebuild=True)
    again = begin(folder)
    assert again.labelling.given == [] and again.run().status == "finished"
    assert again.write().missing == {}


# ------------------------------------------------------------------------------------------------------- refused


def test_other_frames_and_other_methods_are_refused(folder):
    frames = crystals(3)
    begin(folder, frames).run()
    with pytest.raises(ConfigError, match="begun with another list of frames"):
        begin(folder, frames[::-1])
    write(folder / "in.traj", frames)
    (folder / "ref.toml").write_text('[reference]\ncode = "lj"\narguments = {sigma = 2.5, epsilon = 0.1}\n')
    with pytest.raises(ConfigError, match="begun with another level of theory"):
        begin(folder)


def test_an_output_that_is_not_ours_is_not_overwritten(folder):
    (folder / "out.xyz").write_text("precious")
    with pytest.raises(UsageError, match=r"out\.xyz exists already"):
        begin(folder, crystals(1))
    with pytest.raises(UsageError, match="are written to files"):
        begin(folder, crystals(1), output="out.traj")
    assert not (folder / "out.labelling").exists()


@pytest.mark.parametrize("more", [{}, {"directory": "elsewhere"}])
def test_what_was_written_from_other_labels_is_not_overwritten(folder, more):
    more = {name: folder / value for name, value in more.items()}
    work = begin(folder, crystals(1), **more)
    work.run()
    (folder / "out.h5").write_text("precious")
    with pytest.raises(UsageError, match=r"out\.h5 exists already, and it is not on record .*; move it away"):
        begin(folder, output="out.h5", **more)
    with pytest.raises(UsageError, match=r"out\.h5 exists already"):
        plan_file(folder / "in.traj", folder / "ref.toml", folder / "out.h5", **more)
    (folder / "out.xyz").write_text("precious")  # since the work began
    with pytest.raises(UsageError, match=r"out\.xyz exists already"):
        work.write()
    assert (folder / "out.h5").read_text() == (folder / "out.xyz").read_text() == "precious"


def test_outputs_of_one_directory_are_all_known_when_it_was_moved_with_them(folder):
    (folder / "a").mkdir()
    for name in ("a/out.xyz", "a/out.h5"):
        work = begin(folder, crystals(1), output=name)
        work.run()
        assert work.write().labelled == 1
    (folder / "a").rename(folder / "b")
    for name in ("b/out.xyz", "b/out.h5"):
        assert begin(folder, output=name).write().labelled == 1


def test_two_at_a_time_are_refused(folder):
    work = begin(folder, crystals(1))
    with work.labelling.directory.lock(), pytest.raises(CampaignLockedError, match=f"{os.getpid()}"):
        begin(folder).run()


def test_campaigns_and_labellings_are_kept_apart(folder):
    work = begin(folder, crystals(1))
    work.run()
    path = work.labelling.directory.path
    (folder / "c.toml").write_text(TINY)
    for refused in (lambda: prepare(path), lambda: prepare(folder / "c.toml", path), lambda: request_reload(path)):
        with pytest.raises(CampaignDirectoryError, match="is not the directory of a campaign; `alpot label"):
            refused()
    campaign = CampaignDirectory.create(folder / "c", TINY.encode(), folder / "c.toml")
    with Ledger(campaign.ledger) as ledger:
        ledger.append(events.stop_requested())
    with pytest.raises(CampaignDirectoryError, match="is the directory of a campaign"):
        begin(folder, directory=campaign.path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[resources]\nworkers = 2\n", r"table \[reference\].*is missing"),
        ('[reference]\ncod = "emt"\n', "did you mean 'code'"),
        ('[material]\nelements = "Al"\n' + EMT, r"table \[material\], key elements"),
        ('[reference]\ncode = "emtt"\n', "did you mean 'emt'"),
    ],
)
def test_what_is_wrong_in_the_campaign_file_is_told_before_anything_is_made(folder, text, message):
    (folder / "ref.toml").write_text(text)
    with pytest.raises(ConfigError, match=message):
        begin(folder, crystals(1))
    assert not (folder / "out.labelling").exists()


def test_elements_that_the_reference_does_not_know(folder):
    with pytest.raises(UsageError, match="Zr"):
        begin(folder, [bulk("Zr")])
    assert not (folder / "out.labelling").exists()
    with pytest.raises(StructureError, match="holds no atoms"):
        begin(folder, [Atoms()])


def test_a_whole_campaign_file_will_do(folder):
    (folder / "ref.toml").write_text(TINY.replace('"Al"', '"Cu"'))  # what it learns does not matter here
    work = begin(folder, crystals(1))
    work.run()
    assert work.write().labelled == 1
