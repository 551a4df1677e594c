"""The task of making one label, and the subject of those who want nothing but labels.

It loads no torch: a node that only runs reference calculations need not wait for it.
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from ase import Atoms

from alpot.campaign.subject import Assignment
from alpot.config import Reference
from alpot.config_file import read_campaign
from alpot.errors import FailureClass, ReferenceError
from alpot.reference import CheapLevel, level_of_theory, open_cheap, open_reference, screened_label
from alpot.reference.dft import DftReference
from alpot.reference.protocol import ReferenceCalculator
from alpot.reference.variation import varied
from alpot.store.directory import CampaignDirectory
from alpot.store.files import sha256
from alpot.store.frames import read_frame, read_frames
from alpot.store.labels import Label, label_key, read_label, write_label
from alpot.structures import is_isolated_atom
from alpot.subjects.training_data import is_whole

#: Why a label is refused that would have another name than the one that was asked for.
OTHER_LEVEL = (
    "the campaign file has another level of theory now than when this label was asked for; run the same command again"
)


@dataclass(frozen=True)
class Method:
    """How labels are computed.

    Attributes:
        reference: what computes them.
        settings: the table ``[reference]``.
        level: hash of the level of theory.
        cheap: the cheap level that screens frames first, if there is one.
    """

    reference: ReferenceCalculator
    settings: Reference
    level: str
    cheap: CheapLevel | None = None

    @classmethod
    def open(cls, settings: Reference, base_directory: Path, setting: Mapping[str, float]) -> Method:
        """Opens a reference.

        Args:
            settings: the table ``[reference]``.
            base_directory: folder of the campaign file.
            setting: values that take the place of those in ``settings``, see ``alpot.reference.variation``.
        """
        settings = varied(settings, setting)
        reference = open_reference(settings, base_directory=base_directory)
        return cls(reference, settings, level_of_theory(reference), open_cheap(settings, base_directory=base_directory))


class LabellingSubject:
    """Labels the structures that the user gave, each with its own setting of the reference; knows no other task.

    See ``alpot.campaign.subject.Subject``.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = CampaignDirectory.open(directory)
        self.settings = read_campaign(self.directory.config).reference
        self.method = cache(self._open)

    def run(self, assignment: Assignment) -> dict[str, Any]:
        """Compute one label, unless an earlier attempt has left it behind."""
        candidate = assignment.spec["candidate"]
        atoms, provenance = read_candidate(self.directory, candidate)
        method = self.method(json.dumps(provenance["setting"]))
        if label_key(atoms, method.level) != provenance["key"]:
            raise ReferenceError(OTHER_LEVEL, failure=FailureClass.BAD_OUTPUT)
        return make_label(self.directory, method, candidate, atoms, provenance, assignment.scratch)

    def _open(self, setting: str) -> Method:
        values = json.loads(setting)
        method = Method.open(self.settings, self.directory.source.parent, values)
        if values or not isinstance(method.reference, DftReference):
            return method
        # Structures of a file are often those of a trajectory: each is a start for the next one.
        densities = self.directory.worker_scratch / f"{socket.gethostname()}-{os.getpid()}"
        return replace(method, reference=replace(method.reference, densities=densities))


def read_candidate(directory: CampaignDirectory, candidate: str) -> tuple[Atoms, dict[str, Any]]:
    """The structure of a candidate, and where it comes from."""
    name, _, index = candidate.rpartition("/")
    return read_frame(directory.candidates_path(name), int(index))


def read_candidates(directory: CampaignDirectory, candidates: Sequence[str]) -> dict[str, tuple[Atoms, dict[str, Any]]]:
    """Structures of candidates and where they come from, by id; without those that were settled meanwhile.

    Frames are removed once nothing more will be done with any that the same exploration found.
    """
    files: dict[str, list[tuple[int, str]]] = {}
    for candidate in candidates:
        name, _, index = candidate.rpartition("/")
        files.setdefault(name, []).append((int(index), candidate))
    found: dict[str, tuple[Atoms, dict[str, Any]]] = {}
    for name, entries in files.items():
        path = directory.candidates_path(name)
        if path.exists():
            frames, provenances = read_frames(path)
            found |= {candidate: (frames[index], provenances[index]) for index, candidate in entries}
    return {candidate: found[candidate] for candidate in candidates if candidate in found}


def make_label(
    directory: CampaignDirectory,
    method: Method,
    candidate: str,
    atoms: Atoms,
    provenance: Mapping[str, Any],
    scratch: Path,
) -> dict[str, Any]:
    """Computes one label and stores it for good, unless an earlier attempt has left it behind.

    Args:
        directory: the campaign.
        method: how it is computed.
        candidate: id of the candidate.
        atoms: its structure.
        provenance: where that comes from; goes into the label.
        scratch: an existing folder for scratch files.

    Returns:
        The summary of the task, see ``alpot.campaign.subject.LabelSummary``.

    Raises:
        ReferenceError: there is no label; carries the class of the failure.
    """
    key = label_key(atoms, method.level)
    path = directory.label_path(key)
    seconds = 0.0
    if is_whole(path):
        made = read_label(path)
    else:
        cheap = None if is_isolated_atom(atoms) else method.cheap  # nothing in one can be unphysical
        result = screened_label(cheap, method.reference, method.settings, atoms, scratch)
        seconds = result.details["wall_s"] + result.details.get("screen_wall_s", 0.0)
        made = Label(
            key=key,
            atoms=atoms,
            energy=result.energy,
            forces=result.forces,
            stress=result.stress,
            level_of_theory=method.level,
            provenance={**provenance, "candidate": candidate, "details": result.details},
        )
        write_label(path, made)
    return {
        "candidate": candidate,
        "key": key,
        "outcome": "labelled",
        "path": directory.relative(path),
        "checksum": sha256(path),
        "seconds": seconds,
        "atoms": len(atoms),
        "isolated_atoms": {str(atoms.symbols[0]): made.energy} if is_isolated_atom(atoms) else {},
        **_cost(made),
    }


def _cost(label: Label) -> dict[str, Any]:
    """What a label has cost, its screen included, as far as its reference says; see ``LabelSummary``."""
    details = label.provenance.get("details", {})
    cost = {name: details[name] for name in ("core_seconds", "scf_steps", "peak_memory_MB") if name in details}
    if "core_seconds" in cost:
        cost["core_seconds"] += details.get("screen_core_seconds", 0.0)
    return cost
