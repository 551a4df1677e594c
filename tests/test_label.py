"""`alpot label` and `alpot converge` as a user types them: real workers, kills, stops, and who computed what."""

import json
import os
import re
import signal
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from ase import Atoms
from ase.build import bulk
from ase.io import read, write

from tests.command_line import Run, Said, until

FRAMES = 12
SECONDS_PER_LABEL = 0.4
REFERENCE = """\
[reference]
code = "crash.logged_reference:LoggedEMT"

[resources]
workers = 2
"""
SCRIPTS = Path(__file__).parents[1] / "scripts"


@pytest.fixture
def verb(verb, tmp_path, monkeypatch) -> Callable[..., Said]:
    """Runs a verb in this process, in the test's folder, where it needs no workers."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(SCRIPTS)
    return verb


@pytest.fixture
def start(launch, tmp_path) -> Callable[..., Run]:
    """Starts a verb in the test's folder, where ``in.xyz`` and ``ref.toml`` are."""
    (tmp_path / "ref.toml").write_text(REFERENCE)
    write(tmp_path / "in.xyz", crystals())
    path = os.pathsep.join(filter(None, (str(SCRIPTS), os.environ.get("PYTHONPATH"))))
    book = {"ALPOT_CRASH_BOOK": str(tmp_path / "book"), "ALPOT_CRASH_SECONDS": str(SECONDS_PER_LABEL)}
    return lambda *arguments: launch(*arguments, PYTHONPATH=path, **book)


LABEL = ("label", "in.xyz", "--reference", "ref.toml", "-o", "out.xyz")


def crystals() -> list[Atoms]:
    frames = [bulk("Al", cubic=True) for _ in range(FRAMES)]
    for number, atoms in enumerate(frames):
        atoms.rattle(0.1, seed=number)
        atoms.info["number"] = number
    return frames


def colliding() -> Atoms:
    atoms = crystals()[0]
    atoms.positions[1] = (0.1, 0.0, 0.0)
    return atoms


def contents(folder: Path) -> dict[str, int]:
    """Every file in the directory of the labels, and when it was written last."""
    return {str(path): path.stat().st_mtime_ns for path in folder.glob("out.labelling/**/*") if path.is_file()}


def calculations(folder: Path) -> Counter[str]:
    """How often each structure was computed, according to the reference itself."""
    book = folder / "book"
    return Counter(line.split()[0] for line in book.read_text().splitlines()) if book.exists() else Counter()


def labels(folder: Path) -> set[str]:
    return {path.stem for path in folder.glob("out.labelling/labels/*/*.h5") if path.name[0] != "."}


def assert_complete(folder: Path) -> None:
    assert [atoms.info["number"] for atoms in read(folder / "out.xyz", ":")] == list(range(FRAMES))
    assert len(labels(folder)) == FRAMES
    counts = calculations(folder)
    assert len(counts) == FRAMES and set(counts.values()) == {1}


def test_from_the_first_to_the_last_label_and_once_more(start, verb, tmp_path):
    write(tmp_path / "in.xyz", [*crystals(), colliding()])
    run = start(*LABEL)
    said = run.end()
    assert said.code == 1, said
    assert said.err == f"error: {FRAMES} of {FRAMES + 1} frames have a label; the others are left out\n"
    assert f"wrote {FRAMES} of {FRAMES + 1} frames to out.xyz" in said.out
    assert f"{FRAMES + 1} of {FRAMES + 1} labels" in said.out  # progress
    assert "Frames without a label" in said.out and "unphysical geometry" in said.out and "max_force" in said.out
    assert not run.descendants()
    (tmp_path / "out.xyz").rename(tmp_path / "first.xyz")
    began = time.monotonic()
    assert verb(*LABEL).code == 1
    assert time.monotonic() - began < 5  # no workers were started
    assert (tmp_path / "out.xyz").read_bytes() == (tmp_path / "first.xyz").read_bytes()
    assert set(calculations(tmp_path).values()) == {1} and calculations(tmp_path).total() == FRAMES + 1
    status = json.loads(verb("status", "out.labelling", "--json").out)
    assert (status["phase"], status["labels"]["training"], status["labels"]["queued"]) == ("finished", FRAMES, 0)
    assert verb("stop", "out.labelling").out.startswith("no controller is running")
    refused = verb("run", "out.labelling")
    assert refused.code == 2 and "is not the directory of a campaign" in refused.err


def test_dry_run(start, verb, tmp_path):
    write(tmp_path / "in.xyz", [*crystals()[:3], colliding()])
    said = verb(*LABEL, "--dry-run")
    assert said.code == 0 and "out.labelling; nothing is made or submitted\n" in said.out
    assert "\n4 structures: 0 labelled, 0 rejected, 4 to be computed\n" in said.out and "will take" not in said.out
    assert "processes of this machine" in said.out
    assert {path.name for path in tmp_path.iterdir()} == {"in.xyz", "ref.toml"}
    assert start(*LABEL).end().code == 1
    kept = contents(tmp_path)
    said = verb(*LABEL, "--dry-run")
    assert "\n4 structures: 3 labelled, 1 rejected, 0 to be computed\n" in said.out and "will take" not in said.out
    # What was rejected is tried again where the reference has changed.
    slurm = 'platform = "slurm"\ninterface = "lo"\n\n[resources.label]\npartition = "long"\n'
    changed = REFERENCE.replace("workers = 2\n", slurm).replace("\n\n", "\nmax_force = 60.0\n\n", 1)
    (tmp_path / "ref.toml").write_text(changed)
    said = verb(*LABEL, "--dry-run")
    assert said.code == 0 and "\n4 structures: 3 labelled, 0 rejected, 1 to be computed\n" in said.out
    assert re.search(r"^these will take about .* core-s .* for 1 label ", said.out, re.MULTILINE)
    assert re.search(r"^==> .*label.* <==\n#!/bin/bash\n", said.out, re.MULTILINE)
    assert "#SBATCH --partition=long\n" in said.out
    assert contents(tmp_path) == kept
    write(tmp_path / "in.xyz", crystals()[:2])
    said = verb(*LABEL, "--dry-run")
    assert said.code == 2 and "was begun with another list of frames" in said.err


@pytest.mark.slow
@pytest.mark.parametrize("labels_before", [0, 4])
def test_kill_9_computes_nothing_twice(start, tmp_path, labels_before):
    run = start(*LABEL)
    until(lambda: (tmp_path / "out.labelling" / "ledger.sqlite").exists() and len(labels(tmp_path)) >= labels_before)
    run.process.kill()
    kept = labels(tmp_path)
    said = start(*LABEL).end()
    assert said.code == 0, said
    assert kept <= labels(tmp_path)
    assert_complete(tmp_path)
    until(lambda: not run.descendants())


@pytest.mark.slow
def test_ctrl_c_writes_what_there_is_and_the_same_command_goes_on(start, tmp_path):
    run = start(*LABEL)
    until(lambda: len(labels(tmp_path)) >= 3)
    os.killpg(run.process.pid, signal.SIGINT)  # as a terminal does: to the whole foreground group
    said = run.end()
    assert said.code == 1 and "stopped: stopped as asked" in said.out and "not yet" in said.out
    assert "frames have a label; the others are left out" in said.err and "Traceback" not in said.err
    numbers = [atoms.info["number"] for atoms in read(tmp_path / "out.xyz", ":")]
    assert numbers == sorted(numbers) and 3 <= len(numbers) == len(labels(tmp_path)) < FRAMES
    assert start(*LABEL).end().code == 0
    assert_complete(tmp_path)


ARGON = """\
[material]
elements = ["Ar"]

[[material.starts]]
kind = "crystal"
prototypes = ["fcc"]
atoms = [8, 16]
density = [1.4, 1.7]

[reference]
code = "lj"
arguments = {sigma = 3.4, epsilon = 0.0104, rc = 8.0}

[resources]
workers = 2
"""


@pytest.mark.slow
def test_converge(start, verb, tmp_path):
    (tmp_path / "argon.toml").write_text(ARGON)
    words = ("converge", "argon.toml", "--vary", "arguments.rc=5,7,10,14", "--force-tolerance", "0.001", "-n", "2")
    said = start(*words).end()
    assert said.code == 0, said
    # ASE's cutoff function is smooth: what lies beyond the cutoff is a hundredth of the well here.
    assert "arguments.rc: 10 is enough" in said.out or "arguments.rc: 7 is enough" in said.out
    folder = tmp_path / "convergence"
    assert {path.name for path in folder.iterdir()} == {
        *("convergence.json", "convergence.csv", "convergence.png", "convergence.svg", "labels"),
    }
    study = json.loads((folder / "convergence.json").read_text())
    errors = [point["force_max"] for point in study["ladders"][0]["points"]]
    assert errors == sorted(errors, reverse=True) and errors[-1] == 0
    again = verb(*words)  # from what is kept
    assert again.out.splitlines()[1:] == said.out.splitlines()[-len(again.out.splitlines()) + 1 :]
    wrong = verb("converge", "argon.toml", "--vary", "arguments.cr=5,7,10")
    assert wrong.code == 2 and "arguments" in wrong.err and "rc" in wrong.err
