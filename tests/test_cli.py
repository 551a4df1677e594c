"""The verbs as a user types them: a real campaign in processes of its own, and everything that can be mistyped."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk

sys.path.insert(0, str(Path(__file__).parent / "subjects"))

from tiny_campaign import MAX_LABELS, TINY, changed, with_emt

import alpot
from alpot.campaign.state import State
from alpot.potential.saved import load_potential
from alpot.store.directory import CampaignDirectory
from alpot.store.labels import read_label
from alpot.store.ledger import Ledger
from tests.command_line import COMMAND, Run, Said, until


def state_of(directory: CampaignDirectory) -> State:
    with Ledger(directory.ledger, read_only=True) as ledger:
        return State.replay(ledger.events())


def label_files(path: Path) -> dict[str, tuple[int, int]]:
    """Every finished label and what would change if it were written again."""
    return {f.stem: (f.stat().st_mtime_ns, f.stat().st_ino) for f in path.glob("labels/*/*.h5") if f.name[0] != "."}


def assert_complete(directory: CampaignDirectory) -> None:
    """Every label is on disk and in the ledger, once, and none of the audit was trained on."""
    state = state_of(directory)
    assert state.finished and not state.has_failed
    with Ledger(directory.ledger, read_only=True) as ledger:
        events = list(ledger.events())
        rows = {row.key for row in ledger.label_rows()}
    labelled = [e.payload["summary"]["key"] for e in events if "outcome" in e.payload.get("summary", {})]
    assert len(labelled) == len(set(labelled)) == MAX_LABELS + len(state.dataset.apart)
    known = state.dataset.training.loose.keys() | state.dataset.audit.loose.keys() | state.dataset.apart.keys()
    assert set(labelled) == rows == label_files(directory.path).keys() == known
    assert len(state.dataset.apart) == 1
    assert not state.dataset.training.loose.keys() & state.dataset.audit.loose.keys()


# -------------------------------------------------------------------------------------------- a campaign, for real


@pytest.fixture
def start(launch, tmp_path) -> Callable[..., Run]:
    """Starts `alpot run` in the test's folder, where ``tiny.toml`` is."""
    (tmp_path / "tiny.toml").write_text(TINY)
    return lambda *arguments: launch("run", *(arguments or ("tiny.toml",)))


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> tuple[CampaignDirectory, Said]:
    """A campaign that `alpot run` took from its file to its end; tests only look at it."""
    folder = tmp_path_factory.mktemp("a user's folder")
    (folder / "tiny.toml").write_text(TINY)
    run = Run("run", "tiny.toml", cwd=folder)
    said = run.end()
    assert said.code == 0, said
    assert not run.descendants()
    return CampaignDirectory.open(folder / "tiny"), said


def test_run_ends_with_a_potential_and_a_report(finished):
    directory, said = finished
    assert said.err == ""
    assert f"finished: the budget of {MAX_LABELS} labels is spent" in said.out
    model, report = directory.model_path(state_of(directory).promoted), directory.path / "report" / "index.html"
    assert f"potential: {model}\n" in said.out and f"report:    {report}\n" in said.out
    assert "lattice constant" in said.out
    assert "<html" in report.read_text()
    assert_complete(directory)


def test_labels_are_those_of_emt(finished):
    for path in (finished[0].path / "labels").glob("*/*.h5"):
        label = read_label(path)
        # The same code on the same numbers: only the last bit may differ, where atoms went through a file.
        assert label.energy == pytest.approx(with_emt(label.atoms).get_potential_energy(True), abs=1e-12)
        np.testing.assert_allclose(label.forces, with_emt(label.atoms).get_forces(), atol=1e-12)


def test_every_generation_has_a_card(finished):
    directory, _ = finished
    generations = state_of(directory).generations
    assert generations >= 2
    for generation in range(1, generations + 1):
        _, card = load_potential(directory.model_path(generation))
        assert (card.generation, card.elements) == (generation, ("Al",))
        assert card.level_of_theory["code"] == "emt" and card.level_of_theory["hash"]
        assert card.n_labels >= 10 and {"train_force", "audit_force"} <= card.errors.keys()


def test_status(finished, verb, monkeypatch):
    directory, _ = finished
    state = state_of(directory)
    monkeypatch.chdir(directory.path.parent)
    said = verb("status", "tiny")
    assert said.code == 0 and f"{MAX_LABELS} of {MAX_LABELS} calculations" in said.out
    assert "lattice constant" in said.out
    said = verb("status", "tiny", "--json")
    status = json.loads(said.out)
    assert (said.code, status["phase"], status["controller"]) == (0, "finished", None)
    assert status["labels"]["training"] == state.dataset.training.size
    assert status["labels"]["audit"] == state.dataset.audit.size
    assert status["labels"]["calculations"] == status["labels"]["budget"] == MAX_LABELS
    assert status["isolated_atoms"] == {"Al": pytest.approx(with_emt(Atoms("Al")).get_potential_energy(), abs=1e-9)}
    costs = status["costs"]
    assert 0 < costs["label_core_hours"] < 0.1 and costs["failure_core_hours"] == 0 and costs["prediction"] is None
    assert [g["number"] for g in status["generations"]] == list(range(1, state.generations + 1))
    assert status["promoted"] == state.promoted
    assert sum(status["exploration"]["endings"].values()) == status["exploration"]["walkers"]
    assert status["tasks"] == {} and status["properties"]


def test_export_and_load_from_elsewhere(finished, verb, monkeypatch, tmp_path):
    directory, _ = finished
    monkeypatch.chdir(tmp_path)
    said = verb("export", os.path.relpath(directory.path), "potential/")
    assert said.code == 0 and "alpot.load('potential')" in said.out
    atoms = bulk("Al", cubic=True)
    atoms.rattle(0.1, seed=1)
    atoms.calc = alpot.load("potential/")
    forces = atoms.get_forces()
    assert forces.shape == (4, 3) and np.isfinite(forces).all() and np.abs(forces).max() > 0
    (tmp_path / "else").mkdir()
    monkeypatch.chdir(tmp_path / "else")
    again = atoms.copy()
    again.calc = alpot.load("../potential")
    assert np.array_equal(again.get_forces(), forces)
    assert verb("export", os.path.relpath(directory.path), "../potential").code == 0  # the same again


def test_a_finished_campaign_has_nothing_to_do(finished, verb, monkeypatch):
    directory, _ = finished
    before = label_files(directory.path)
    monkeypatch.chdir(directory.path.parent.parent)
    began = time.monotonic()
    for path in (Path(directory.path.parent.name) / "tiny", Path(directory.path.parent.name) / "tiny.toml"):
        said = verb("run", path)
        assert said.code == 0 and "finished: the budget" in said.out
    assert time.monotonic() - began < 5  # no workers were started
    assert label_files(directory.path) == before
    assert verb("stop", directory.path).out.startswith("no controller is running")


# -------------------------------------------------------------------------------------------------- interruptions


def test_kill_9_loses_no_label(start, tmp_path):
    run = start()
    until(lambda: len(label_files(tmp_path / "tiny")) >= 5)
    run.process.kill()
    kept = label_files(tmp_path / "tiny")
    directory = CampaignDirectory.open(tmp_path / "tiny")
    with Ledger(directory.ledger, read_only=True) as ledger:
        recorded = {row.key: row for row in ledger.label_rows()}
    assert recorded.keys() <= kept.keys()
    again = start("tiny")
    said = again.end()
    assert said.code == 0, said
    assert kept.items() <= label_files(tmp_path / "tiny").items()
    assert_complete(directory)
    until(lambda: not run.descendants() and not again.descendants())


@pytest.mark.slow
def test_stop_drains_and_run_continues(start, verb, tmp_path):
    run = start()
    until(lambda: len(label_files(tmp_path / "tiny")) >= 4)
    status = json.loads(verb("status", tmp_path / "tiny", "--json").out)
    assert (status["phase"], status["controller"]["pid"]) == ("running", run.process.pid)
    said = verb("stop", tmp_path / "tiny")
    assert said.code == 0 and f"asked process {run.process.pid}" in said.out
    said = run.end()
    assert said.code == 0 and "stopped: stopped as asked" in said.out
    assert not run.descendants()
    directory = CampaignDirectory.open(tmp_path / "tiny")
    state = state_of(directory)
    assert not state.work.tasks and not any(state.work.failed.values()) and 3 <= state.calculations < MAX_LABELS
    assert state.calculations + len(state.dataset.apart) == len(label_files(tmp_path / "tiny"))
    assert json.loads(verb("status", tmp_path / "tiny", "--json").out)["phase"] == "stopped"
    assert start().end().code == 0  # by the file this time
    assert_complete(directory)


@pytest.mark.slow
def test_ctrl_c_drains(start, tmp_path):
    run = start()
    until(lambda: len(label_files(tmp_path / "tiny")) >= 4)
    os.killpg(run.process.pid, signal.SIGINT)  # as a terminal does: to the whole foreground group
    said = run.end()
    assert said.code == 0 and "stopped: stopped as asked" in said.out and "Traceback" not in said.err
    assert not run.descendants()
    directory = CampaignDirectory.open(tmp_path / "tiny")
    state = state_of(directory)
    assert not state.work.tasks and not state.work.failures
    assert state.calculations + len(state.dataset.apart) == len(label_files(tmp_path / "tiny"))
    assert start("tiny").end().code == 0
    assert_complete(directory)


# ------------------------------------------------------------------------------------------------------- full disk


@pytest.fixture
def small_disk(tmp_path) -> Iterator[Path]:
    disk = tmp_path / "disk"
    disk.mkdir()
    try:
        mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=240k", "tmpfs", disk], capture_output=True)
    except FileNotFoundError:
        pytest.skip("there is no mount program")
    if mounted.returncode:
        pytest.skip("mounting a tmpfs is not permitted")
    yield disk
    subprocess.run(["umount", "--lazy", disk], check=True)


def enlarge(disk: Path) -> None:
    subprocess.run(["mount", "-o", "remount,size=8m", disk], check=True)


@pytest.mark.slow
def test_a_disk_that_runs_full(start, small_disk):
    said = start("tiny.toml", "-d", small_disk / "c").end()
    assert said.code == 1
    # Whoever finds the disk full first says so, the controller or a worker.
    assert re.search(rf"error: .*cannot write .*{small_disk}.*(full|No space).*free some space", said.err), said.err
    assert "Traceback" not in said.err
    assert not list(small_disk.rglob("*.tmp*"))
    kept = label_files(small_disk / "c")
    assert kept
    enlarge(small_disk)
    assert start(small_disk / "c").end().code == 0
    assert kept.items() <= label_files(small_disk / "c").items()
    assert_complete(CampaignDirectory.open(small_disk / "c"))


def test_a_disk_that_is_full_already(verb, small_disk, tmp_path):
    (tmp_path / "tiny.toml").write_text(TINY)
    with pytest.raises(OSError, match="No space left"), (small_disk / "filler").open("wb", buffering=0) as file:
        while file.write(bytes(4096)):
            pass
    said = verb("run", tmp_path / "tiny.toml", "-d", small_disk / "c")
    assert said.code == 2
    assert "cannot create the campaign directory" in said.err and "free some space" in said.err
    # An empty lock is left where it is: somebody else may wait for it.
    assert {path.name for path in (small_disk / "c").rglob("*") if path.is_file()} <= {"controller.lock"}
    said = verb("export", small_disk / "c", tmp_path / "p")
    assert said.code == 2 and "not a campaign directory" in said.err


# --------------------------------------------------------------------------------------------------------- mistakes


@pytest.mark.parametrize("command", ["run", "check"])
@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("walkers = 4", "wakers = 4"), ["tiny.toml", "[exploration]", "wakers", "did you mean 'walkers'?"]),
        (("[potential]", "[potental]"), ["tiny.toml", "potental", "did you mean 'potential'?"]),
        (("members = 2", "members = 1"), ["tiny.toml", "[potential]", "members", "1", "greater than or equal to 2"]),
        (('["Al"]', '["Al", "Qq"]'), ["tiny.toml", "[material]", "elements", "'Qq'", "not a chemical symbol"]),
        (('["Al"]', '["Xe"]'), ["emt", "Xe", "Al"]),
        (('code = "emt"', 'code = "vaspp"'), ["'vaspp'", "did you mean 'vasp'"]),
        (("hidden = [8]", "hidden = [8"), ["tiny.toml", "not valid TOML", "line"]),
        (("[exploration]", '[[material.starts]]\nkind = "file"\npath = "gone.xyz"\n[exploration]'), ["gone.xyz"]),
    ],
)
def test_a_bad_campaign_file(verb, tmp_path, command, change, words):
    path = tmp_path / "tiny.toml"
    path.write_text(changed(change))
    said = verb(command, path)
    assert said.code == 2
    message = " ".join((said.out + said.err).split())
    assert all(word in message for word in words), message
    assert "Traceback" not in message
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_that_is_not_there(verb, tmp_path):
    for command in ("run", "check"):
        said = verb(command, tmp_path / "campain.toml")
        assert said.code == 2 and "campain.toml: No such file" in said.err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("command", [["run"], ["status"], ["stop"], ["reload"], ["repair"], ["export", "potential"]])
def test_a_directory_that_is_no_campaign(verb, tmp_path, command):
    foreign = tmp_path / "holiday"
    foreign.mkdir()
    (foreign / "photo.jpg").write_bytes(b"")
    said = verb(command[0], foreign, *[tmp_path / name for name in command[1:]])
    assert said.code == 2 and f"{foreign} is not a campaign directory" in said.err
    assert [path.name for path in tmp_path.rglob("*")] == ["holiday", "photo.jpg"]


def test_a_running_controller_is_named(verb, tmp_path):
    directory = CampaignDirectory.create(tmp_path / "c", TINY.encode(), tmp_path / "tiny.toml")
    with directory.lock():
        said = verb("run", tmp_path / "c")
    assert said.code == 2
    assert f"process {os.getpid()} on" in said.err and "alpot stop" in said.err


def test_changed_physics_is_refused(verb, tmp_path):
    path = tmp_path / "tiny.toml"
    path.write_text(changed(("timestep = 3.0", "timestep = 2.0")))
    directory = CampaignDirectory.create(tmp_path / "tiny", TINY.encode(), path)
    said = verb("run", path)
    assert said.code == 2 and "exploration.timestep: 3.0 -> 2.0" in said.err and "--fork NEWDIR" in said.err
    assert directory.config.read_text() == TINY and state_of(directory).seq == 0


@pytest.mark.slow
def test_a_fork_runs_with_the_labels_of_the_old_campaign(finished, start, tmp_path):
    directory, _ = finished
    before = label_files(directory.path)
    (tmp_path / "tiny.toml").write_text(
        changed(("timestep = 3.0", "timestep = 2.0"), ("max_labels = 20", "max_labels = 2"))
    )
    said = start("tiny.toml", "-d", directory.path, "--fork", "new").end()
    assert said.code == 0, said
    assert f"forked from {directory.path}: took over {MAX_LABELS + 1} of its {MAX_LABELS + 1} labels" in said.out
    state = state_of(CampaignDirectory.open(tmp_path / "new"))
    assert state.calculations == 2 and len(label_files(directory.path)) == len(before)
    assert label_files(directory.path) == before


@pytest.mark.slow
def test_a_running_campaign_reads_its_file_again(start, verb, tmp_path):
    run = start()
    until(lambda: len(label_files(tmp_path / "tiny")) >= 4)
    (tmp_path / "tiny.toml").write_text(changed((f"max_labels = {MAX_LABELS}", "max_labels = 12")))
    said = verb("reload", tmp_path / "tiny", tmp_path / "tiny.toml")
    assert said.code == 0 and f"asked process {run.process.pid}" in said.out
    assert f"stopping.max_labels: {MAX_LABELS} -> 12\n" in said.out
    said = run.end()
    assert said.code == 0 and "finished: the budget of 12 labels is spent" in said.out
    assert state_of(CampaignDirectory.open(tmp_path / "tiny")).calculations == 12


def test_dry_run(verb, tmp_path):
    (tmp_path / "tiny.toml").write_text(TINY)
    said = verb("run", "--dry-run", tmp_path / "tiny.toml")
    assert said.code == 0 and "nothing is made or submitted" in said.out and "processes of this machine" in said.out
    slurm = 'platform = "slurm"\ninterface = "lo"\n\n[resources.label]\npartition = "long"'
    (tmp_path / "tiny.toml").write_text(changed(("workers = 2\n", ""), ('device = "cpu"', slurm)))
    said = verb("run", "--dry-run", tmp_path / "tiny.toml")
    assert said.code == 0 and re.search(r"^==> .*label.* <==\n#!/bin/bash\n", said.out, re.MULTILINE), said
    assert "#SBATCH --partition=long\n" in said.out
    assert [path.name for path in tmp_path.iterdir()] == ["tiny.toml"]


def test_repair(finished, verb, tmp_path):
    shutil.copytree(finished[0].path, tmp_path / "c")
    said = verb("repair", tmp_path / "c")
    assert said.code == 0 and "all is well" in said.out and re.search(rf"labels .* {MAX_LABELS + 1} ", said.out)
    path = next((tmp_path / "c").glob("labels/*/*.h5"))
    path.write_bytes(path.read_bytes()[:-1])
    said = verb("repair", tmp_path / "c")
    assert said.code == 1 and f"lost: label {path.stem}" in said.out and "1 labels are lost" in said.err
    assert "quarantine/labels" in said.out and not path.exists()
    assert verb("repair", tmp_path / "c").code == 0


# ---------------------------------------------------------------------------------------- init, check, schema, version


def test_init_writes_a_file_that_check_accepts(verb, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    said = verb("init", "--element", "Al")
    assert said.code == 0 and "wrote campaign.toml" in said.out
    text = Path("campaign.toml").read_text()
    assert "# " in text and 'elements = ["Al"]' in text
    # The defaults are the paper's; here everything is smaller, so that the test takes seconds.
    small = {
        "atoms = [55, 250]": "atoms = [8, 12]",
        "atoms = [30, 120]": "atoms = [4, 8]",
        "members = 8": "members = 2",
        "hidden = [96, 96, 64]": "hidden = [8]",
    }
    for default, ours in small.items():
        assert text.count(default) == 1, default
        text = text.replace(default, ours)
    Path("campaign.toml").write_text(text)
    said = verb("check", "campaign.toml")
    assert said.code == 0, said
    stages = ["reference", "start", "label", "train", "walker", "platform"]
    assert re.findall(r"^ok +(\w+)", said.out, re.MULTILINE) == stages
    assert "labels: at most 5000 of" in said.out and re.search(r"about .* core-(s|hours) \(68 % range", said.out)
    assert [path.name for path in Path().iterdir()] == ["campaign.toml"]


def test_init_overwrites_nothing_and_knows_elements(verb, tmp_path):
    target = tmp_path / "mine.toml"
    target.write_text("precious")
    said = verb("init", "-e", "Al", "-o", target)
    assert said.code == 2 and "exists already" in said.err and target.read_text() == "precious"
    said = verb("init", "-e", "Alu", "-o", tmp_path / "new.toml")
    assert said.code == 2 and "'Alu'" in said.err and not (tmp_path / "new.toml").exists()


@pytest.mark.parametrize("stage", ["reference", "start", "label", "train", "walker", "platform"])
def test_each_stage_alone(verb, tmp_path, stage):
    (tmp_path / "tiny.toml").write_text(TINY)
    said = verb("check", tmp_path / "tiny.toml", "--stage", stage)
    assert said.code == 0 and re.findall(r"^ok +(\w+)", said.out, re.MULTILINE) == [stage]


def test_a_stage_that_does_not_work(verb, tmp_path):
    (tmp_path / "tiny.toml").write_text(changed(('code = "emt"', 'code = "emt"\nmax_force = 1e-9')))
    said = verb("check", tmp_path / "tiny.toml")
    assert said.code == 2
    assert re.search(r"^ok +start .*\nfailed +label .*force", said.out, re.MULTILINE), said.out
    assert "the stage label does not work yet" in said.err and "nothing was spent" in said.err
    assert verb("check", tmp_path / "tiny.toml", "--stage", "train").code == 2  # needs labels
    said = verb("check", tmp_path / "tiny.toml", "--stage", "labels")
    assert said.code == 2 and "there is no stage 'labels'" in said.err and "label" in said.err


def test_schema(verb):
    said = verb("schema")
    schema = json.loads(said.out)
    assert said.code == 0 and {"material", "reference"} <= set(schema["required"])
    assert "fs" in schema["$defs"]["Exploration"]["properties"]["timestep"]["description"]
    for table in schema["$defs"].values():
        for name, key in table["properties"].items():
            # `kind` has one value only; tables say what they are themselves.
            assert name in ("kind", "descriptor") or "description" in key, (table["title"], name)


def test_version(verb):
    assert verb("--version").out.strip() == alpot.__version__


def test_as_a_program(tmp_path):
    """The exit code of the installed program, once."""
    done = subprocess.run([*COMMAND, "status", "nowhere"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr == f"error: there is no folder {tmp_path / 'nowhere'}\n"
