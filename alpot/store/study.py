"""What a convergence study found, as values, and as files that other programs read.

Differences are against the most accurate setting of the same ladder that could be computed.
"""

from __future__ import annotations

import csv
import io
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from alpot.store.files import publish
from alpot.store.json_files import publish_json


class Part(BaseModel):
    """Base of a study and its parts: values that do not change."""

    model_config = ConfigDict(frozen=True)


class Point(Part):
    """One setting. Without a label for each structure the numbers are None: it has failed, or is not computed yet.

    Attributes:
        value: of the setting that is varied.
        force_max: largest difference of the force on any atom in eV/Å (norm of the vector).
        force_rms: root mean square of these in eV/Å.
        energy_spread: largest difference of the energy per atom in eV/atom, after the mean over structures, which does
            not matter, was taken off; None for a single structure.
        energy_offset: that mean in eV/atom.
        stress_max: largest difference of a component of the stress in eV/Å³; None where there is no stress.
        seconds: mean wall time of a label in s.
        failure: why there can be no label, for one of the structures.
        missing: labels that are still to be computed, where none has failed.
    """

    value: int | float
    force_max: float | None = None
    force_rms: float | None = None
    energy_spread: float | None = None
    energy_offset: float | None = None
    stress_max: float | None = None
    seconds: float | None = None
    failure: str = ""
    missing: int = 0

    @property
    def is_known(self) -> bool:
        """Whether there is a label for each structure."""
        return self.force_max is not None


class Ladder(Part):
    """One setting varied, all others held.

    Attributes:
        key: its path below ``[reference]``.
        unit: of its values; empty if unknown.
        own: the campaign's own value, if it has one.
        points: from the least to the most accurate.
        recommended: the cheapest value that is good enough, if the study can tell.
        sentence: the same for people.
        line: what to write into the campaign file, its table in a comment; empty without a recommendation.
    """

    key: str
    unit: str
    own: int | float | None
    points: tuple[Point, ...]
    recommended: int | float | None
    sentence: str
    line: str


class Study(Part):
    """A convergence study.

    Attributes:
        campaign: the campaign file.
        force_tolerance: in eV/Å.
        structures: a few words on each structure that was used.
        left_out: why others were not.
        ladders: one for each setting that was varied.
    """

    campaign: str
    force_tolerance: float
    structures: tuple[str, ...]
    left_out: tuple[str, ...]
    ladders: tuple[Ladder, ...]


def write_study(folder: Path, study: Study) -> None:
    """Writes ``convergence.json`` and ``convergence.csv``; files that are there are replaced."""
    publish_json(folder / "convergence.json", study.model_dump(mode="json"))
    publish(folder / "convergence.csv", _csv(study).encode())


def _csv(study: Study) -> str:
    text = io.StringIO()
    units = {
        "force_max": "force_max_eV/A",
        "force_rms": "force_rms_eV/A",
        "energy_spread": "energy_spread_eV/atom",
        "energy_offset": "energy_offset_eV/atom",
        "stress_max": "stress_max_eV/A^3",
        "seconds": "seconds_per_label",
        "failure": "failure",
        "missing": "missing",
    }
    rows = csv.writer(text)
    rows.writerow(["key", "value", *units.values()])
    for ladder in study.ladders:
        for point in ladder.points:
            rows.writerow([ladder.key, point.value, *(getattr(point, name) for name in units)])
    return text.getvalue()
