"""A subject that needs no torch: its workers start at once, so that many of them can be killed in little time.

Labels are real files with made-up numbers, and are computed, written and compacted as the real subject does.
"""

from __future__ import annotations

import json
import random
import time
from pathlib import Path
from typing import Any

from ase import Atoms

from alpot.campaign.subject import Assignment
from alpot.errors import StorageError
from alpot.store.dataset import read_labels, write_shard
from alpot.store.directory import CampaignDirectory
from alpot.store.files import publish, sha256
from alpot.store.labels import Label, label_key, read_label, write_label
from crash.logged_reference import record

LEVEL = "made up"
#: Loose labels from which on a training compacts them.
_COMPACT_FROM = 12


class CheapSubject:
    """See ``alpot.campaign.subject.Subject``; the campaign file is JSON: ``seconds`` per label."""

    def __init__(self, directory: Path) -> None:
        self.directory = CampaignDirectory(directory)
        self.seconds = json.loads(self.directory.config.read_text())["seconds"]

    def run(self, assignment: Assignment) -> dict[str, Any]:
        """Runs one attempt at a task."""
        rng = random.Random(f"{assignment.task_id} {assignment.draw}")
        found: dict[str, Any] = getattr(self, f"_{assignment.kind}")(assignment.task_id, assignment.spec, rng)
        return found

    def _explore(self, task_id: str, spec: dict[str, Any], rng: random.Random) -> dict[str, Any]:
        names = [f"{task_id}/{number}" for number in range(spec.get("starts", 8))]
        found = [
            {
                "id": name,
                "key": label_key(_structure(name), LEVEL),
                "score": rng.random(),
                "reason": "audit" if number % 5 == 4 else "uncertain",
                "audit": number % 5 == 4,
            }
            for number, name in enumerate(names)
        ]
        return {"candidates": found, "generation": spec["generation"], "walkers": 4, "simulated_time": 1.0}

    def _label(self, _task_id: str, spec: dict[str, Any], _rng: random.Random) -> dict[str, Any]:
        atoms = _structure(spec["candidate"])
        key = label_key(atoms, LEVEL)
        path = self.directory.label_path(key)
        if not _is_whole(path):
            time.sleep(self.seconds)
            record(key)
            forces = atoms.positions - 1.0
            write_label(path, Label(key=key, atoms=atoms, energy=-1.0, forces=forces, level_of_theory=LEVEL))
        found = {"candidate": spec["candidate"], "key": key, "outcome": "labelled", "seconds": self.seconds}
        return found | {"path": self.directory.relative(path), "checksum": sha256(path)}

    def _score(self, _task_id: str, spec: dict[str, Any], rng: random.Random) -> dict[str, Any]:
        return {"generation": spec["generation"], "scores": {name: rng.random() for name in spec["candidates"]}}

    def _train(self, _task_id: str, spec: dict[str, Any], _rng: random.Random) -> dict[str, Any]:
        generation, loose = spec["generation"], spec["labels"]
        compacted = []
        if len(loose) >= _COMPACT_FROM:
            shard = self.directory.shard_path(generation)
            checksum = write_shard(shard, [read_label(self.directory.label_path(key)) for key in loose])
            compacted.append({"path": self.directory.relative(shard), "checksum": checksum, "keys": loose})
        rest = [] if compacted else [self.directory.label_path(key) for key in loose]
        labels = read_labels([*(self.directory.path / path for path in spec["shards"]), *rest])
        weights = self.directory.model_path(generation) / "weights"
        publish(weights, json.dumps(sorted(label.key for label in labels)).encode())
        found = {"generation": generation, "path": self.directory.relative(weights.parent), "checksum": sha256(weights)}
        return found | {"compacted": compacted}

    def _assess(self, _task_id: str, spec: dict[str, Any], _rng: random.Random) -> dict[str, Any]:
        return {"generation": spec["generation"], "promote": True, "force_error": 1.0 / spec["generation"]}


def _structure(name: str) -> Atoms:
    rng = random.Random(name)
    return Atoms("Al2", positions=[[rng.random() for _ in range(3)] for _ in range(2)])


def _is_whole(path: Path) -> bool:
    try:
        read_label(path)
    except StorageError:
        return False
    return True
