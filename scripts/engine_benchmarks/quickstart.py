"""The quickstart's first training against the same by an older revision, in processes that take turns."""

from __future__ import annotations

import io
import subprocess
import tarfile
import tempfile
import zlib
from pathlib import Path
from statistics import mean, median

import numpy as np

from alpot.config_file import read_campaign
from alpot.errors import ReferenceError
from alpot.reference import label, level_of_theory, open_reference
from alpot.store.extxyz import write_extxyz
from alpot.store.labels import Label, label_key
from alpot.structures.starts import draw_start
from engine_benchmarks.isolation import ROOT, MeasurementError, run_isolated
from engine_benchmarks.measuring import Ratio, Row, Timings

_CAMPAIGN = Path("workflows/aluminum_quickstart/campaign.toml")


def compare_revisions(baseline: str, repeats: int) -> list[Row]:
    """The ratio of both, and their errors.

    Args:
        baseline: git revision of the old code; each side reads its own campaign file, both the same labels.
        repeats: trainings of each side, each with another seed.
    """
    what = f"first training of the quickstart, wall / revision {baseline}"
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        try:
            _extract(baseline, folder / "old")
        except (OSError, subprocess.CalledProcessError) as error:
            return [Row(what=what, malloc="tuned", reason=f"git cannot show {baseline}: {error}")]
        n_labels, level = _write_labels(folder / "labels.extxyz")
        answers: dict[str, list[dict[str, float]]] = {"new": [], "old": []}
        for seed in range(repeats):
            for side, package in (("new", ROOT), ("old", folder / "old")):
                job = {
                    "labels": str(folder / "labels.extxyz"),
                    "level_of_theory": level,
                    "campaign": str(package / _CAMPAIGN),
                    "seed": seed,
                }
                try:
                    answers[side].append(run_isolated("first_generation", job, package=package))
                except MeasurementError as error:
                    return [Row(what=what, malloc="tuned", reason=f"the {side} code failed: {error}")]
    new, old = (Timings([run["cpu"] for run in runs], [run["wall"] for run in runs]) for runs in answers.values())
    errors = {
        side: ", ".join(f"{name} {1e3 * mean(run[key] for run in runs):.3g} {unit}" for name, key, unit in _ERRORS)
        for side, runs in answers.items()
    }
    return [
        Row(
            what=f"{what} ({n_labels} labels, {answers['new'][0]['epochs']:g} epochs)",
            malloc="tuned",
            unit="s",
            ours=median(new.wall),
            other=median(old.wall),
            ratio=Ratio.of(new, old),
            must=10.0,
            by_wall=True,
        ),
        Row(
            what=f"  its errors now: {errors['new']}; before: {errors['old']}; a small training before it, cold",
            malloc="tuned",
            unit="s",
            ours=median(run["cold"] for run in answers["new"]),
            other=median(run["cold"] for run in answers["old"]),
        ),
    ]


#: What is printed of the errors: name, key of ``TrainingResult.errors``, unit after multiplication by 1000.
_ERRORS = (("validation", "validate_force", "meV/Å"), ("and", "validate_energy", "meV/atom"))


def _extract(revision: str, folder: Path) -> None:
    """The package and the workflows of a revision of the repository that this file is in."""
    command = ["git", "-C", str(ROOT), "archive", revision, "alpot", "workflows"]
    archive = subprocess.run(command, check=True, capture_output=True).stdout
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        tar.extractall(folder, filter="data")


def _write_labels(path: Path) -> tuple[int, str]:
    """The labels that the quickstart begins with, as its first task draws them; their number and level of theory."""
    config = read_campaign(ROOT / _CAMPAIGN)
    base_directory = ROOT / _CAMPAIGN.parent
    reference = open_reference(config.reference, base_directory=base_directory)
    level = level_of_theory(reference)
    rng = np.random.default_rng([config.seed, zlib.crc32(b"explore-000001"), 1])
    labels = []
    for walker_rng in rng.spawn(config.training.initial_labels):
        atoms = draw_start(config.material, walker_rng, base_directory=base_directory)
        try:
            result = label(reference, config.reference, atoms, path.parent)
        except ReferenceError:  # forces beyond what is worth learning
            continue
        labels.append(
            Label(
                key=label_key(atoms, level),
                atoms=atoms,
                energy=result.energy,
                forces=result.forces,
                stress=result.stress,
                level_of_theory=level,
            )
        )
    write_extxyz(path, labels)
    return len(labels), level
