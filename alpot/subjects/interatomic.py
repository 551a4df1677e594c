"""Interatomic potentials as the subject of a campaign: what each of its five tasks does.

This class says in which order the rooms below are used; the work itself is done there.
"""

from __future__ import annotations

import hashlib
import json
import zlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ase import Atoms

from alpot.config import Campaign
from alpot.config_file import read_campaign
from alpot.errors import StorageError
from alpot.exploration.explorer import Ending, Explorer, WalkerReport
from alpot.exploration.uncertainty import force_deviation
from alpot.exploration.walker import Snapshot
from alpot.potential.batch import Batch
from alpot.potential.calculator import AlpotCalculator
from alpot.potential.ensemble import Ensemble
from alpot.potential.neighbors import NeighborSearch
from alpot.potential.saved import Card, load_potential, save_potential
from alpot.potential.training import TrainingResult, train
from alpot.reference import label, level_of_theory, open_reference
from alpot.store.dataset import read_labels, read_shard, write_shard
from alpot.store.directory import CampaignDirectory
from alpot.store.files import publish, sha256
from alpot.store.frames import read_frame, read_frames, write_frames
from alpot.store.labels import Label, label_key, read_label, write_label
from alpot.structures import draw_start
from alpot.subjects.assessment import AuditErrors, audit_errors, is_worse
from alpot.validation.suite import validate

#: Waiting candidates that are evaluated together.
_SCORED_FRAMES_PER_BATCH = 16


@dataclass(frozen=True)
class _Found:
    """A frame on its way to become a candidate."""

    atoms: Atoms
    score: float
    reason: str
    audit: bool
    provenance: dict[str, Any]


class InteratomicSubject:
    """The tasks of a campaign that learns an interatomic potential; see ``alpot.campaign.subject.Subject``."""

    def __init__(self, directory: Path) -> None:
        self.directory = CampaignDirectory.open(directory)
        self.config = read_campaign(self.directory.config)
        self.base_directory = self.directory.source.parent
        self.reference = open_reference(self.config.reference, base_directory=self.base_directory)
        self.level = level_of_theory(self.reference)

    def run(self, kind: str, task_id: str, attempt: int, spec: dict[str, Any], task_directory: Path) -> dict[str, Any]:
        """Run one task; spec and summary are described in ``alpot.campaign.subject``."""
        match kind:
            case "explore" if spec["generation"] is None:
                return self._emit_starts(task_id, spec["starts"], self._rng(task_id))
            case "explore":
                return self._explore(task_id, spec["generation"], self._rng(task_id, attempt))
            case "label":
                return self._label(spec["candidate"], task_directory)
            case "score":
                return self._score(spec["generation"], spec["candidates"])
            case "train":
                return self._train(task_id, spec)
            case "assess":
                return self._assess(spec, task_directory)
        raise ValueError(f"there is no task of kind {kind!r}")

    def _rng(self, task_id: str, attempt: int = 1) -> np.random.Generator:
        return np.random.default_rng([self.config.seed, zlib.crc32(task_id.encode()), attempt])

    @cached_property
    def device(self) -> str:
        """Where potentials are trained and explored."""
        return device_of(self.config)

    def potential(self, generation: int) -> tuple[Ensemble, Card]:
        """The ensemble of a generation, on the device where it is used."""
        ensemble, card = load_potential(self.directory.model_path(generation))
        return ensemble.to(self.device), card

    # ---------------------------------------------------------------------------------------------- explore

    def _starts(self, rng: np.random.Generator, count: int) -> Iterator[tuple[Atoms, np.random.Generator]]:
        """Starts, each with random numbers of its own, so that one does not depend on the fate of another."""
        for walker_rng in rng.spawn(count):
            yield draw_start(self.config.material, walker_rng, base_directory=self.base_directory), walker_rng

    def _emit_starts(self, task_id: str, count: int, rng: np.random.Generator) -> dict[str, Any]:
        """Before there is a potential: random starts are labelled as they are, some for the audit."""
        n_audit = round(count * self.config.exploration.audit_share)
        found = [
            _Found(atoms, 1.0, "initial", index >= count, {"start": atoms.info["start"]})
            for index, (atoms, _) in enumerate(self._starts(rng, count + n_audit))
        ]
        return {"generation": None, "candidates": self._candidates(task_id, found)}

    def _explore(self, task_id: str, generation: int, rng: np.random.Generator) -> dict[str, Any]:
        ensemble, card = self.potential(generation)
        explorer = Explorer(ensemble, self.config.exploration, card.calibration)
        starts = self._starts(rng, self.config.exploration.walkers_per_task)
        reports = list(explorer.run(starts))
        found = [item for number, report in enumerate(reports) for item in self._worth(report, number, generation)]
        return {
            "generation": generation,
            "candidates": self._candidates(task_id, found),
            "walkers": len(reports),
            "simulated_time": sum(report.time for report in reports),
            "endings": dict(Counter(report.ending.value for report in reports)),
        }

    def _worth(self, report: WalkerReport, walker: int, generation: int) -> Iterator[_Found]:
        """The frames of one walker that may be worth a label."""
        for snapshot, reason, audit in ((report.audit, "audit", True), (report.found, report.ending.value, False)):
            if snapshot is not None:
                score = self._urgency(snapshot.mean_error, snapshot.max_error)
                yield _Found(snapshot.atoms, score, reason, audit, _provenance(snapshot, walker, generation))

    def _urgency(self, mean_error: float, max_error: float) -> float:
        """Expected force error relative to what the user accepts; above 1 the frame is uncertain."""
        limits = self.config.exploration
        return max(mean_error / limits.mean_force_error, max_error / limits.max_force_error)

    def _candidates(self, task_id: str, found: list[_Found]) -> list[dict[str, Any]]:
        """Store frames, and describe what is then in the file: another attempt may have been first."""
        path = self.directory.candidates_path(task_id)
        provenance = [
            {
                **item.provenance,
                "key": label_key(item.atoms, self.level),
                "score": item.score,
                "reason": item.reason,
                "audit": item.audit,
            }
            for item in found
        ]
        if not write_frames(path, [item.atoms for item in found], provenance):
            _, provenance = read_frames(path)
        names = ("key", "score", "reason", "audit")
        return [
            {"id": f"{task_id}/{index}", **{name: entry[name] for name in names}}
            for index, entry in enumerate(provenance)
        ]

    def _candidate(self, candidate: str) -> tuple[Atoms, dict[str, Any]]:
        task_id, _, index = candidate.rpartition("/")
        return read_frame(self.directory.candidates_path(task_id), int(index))

    # ------------------------------------------------------------------------------------------------ label

    def _label(self, candidate: str, scratch: Path) -> dict[str, Any]:
        """Compute one label, unless an earlier attempt has left it behind."""
        atoms, provenance = self._candidate(candidate)
        key = label_key(atoms, self.level)
        path = self.directory.label_path(key)
        seconds = 0.0
        if not _is_whole(path):
            result = label(self.reference, self.config.reference, atoms, scratch)
            seconds = result.details["wall_s"]
            write_label(
                path,
                Label(
                    key=key,
                    atoms=atoms,
                    energy=result.energy,
                    forces=result.forces,
                    stress=result.stress,
                    level_of_theory=self.level,
                    provenance={**provenance, "candidate": candidate, "details": result.details},
                ),
            )
        return {
            "candidate": candidate,
            "key": key,
            "outcome": "labelled",
            "path": self.directory.relative(path),
            "checksum": sha256(path),
            "seconds": seconds,
        }

    # ------------------------------------------------------------------------------------------------ score

    def _score(self, generation: int, candidates: list[str]) -> dict[str, Any]:
        """Judge waiting candidates again.

        A frame that was kept because its walker ran into a contact or blew up was certain when it was found; what is
        wrong came after it. So it stays, whatever the new model says of it.
        """
        ensemble, card = self.potential(generation)
        scores: dict[str, float] = {}
        certain: list[str] = []
        for begin in range(0, len(candidates), _SCORED_FRAMES_PER_BATCH):
            names = candidates[begin : begin + _SCORED_FRAMES_PER_BATCH]
            frames, provenances = zip(*(self._candidate(name) for name in names), strict=True)
            batch = Batch.from_atoms(frames)
            result = ensemble.evaluate(batch, NeighborSearch(ensemble.cutoff).pairs(batch))
            errors = np.split(card.calibration * force_deviation(result.forces), batch.offsets[1:-1])
            for name, error, provenance in zip(names, errors, provenances, strict=True):
                urgency = self._urgency(float(error.mean()), float(error.max()))
                scores[name] = urgency if np.isfinite(urgency) else float(provenance["score"])
                if urgency <= 1.0 and provenance["reason"] == Ending.UNCERTAIN:
                    certain.append(name)
        return {"generation": generation, "scores": scores, "certain": certain}

    # ------------------------------------------------------------------------------------------------ train

    def _train(self, task_id: str, spec: dict[str, Any]) -> dict[str, Any]:
        """Compact the loose labels into a shard, then fit all members to everything."""
        generation = spec["generation"]
        shard = self._compact(generation, spec["labels"]) if spec["labels"] else {}
        shards = [self.directory.path / path for path in spec["shards"]]
        if shard:
            shards.append(self.directory.path / shard["shard"])
        labels = read_labels(shards)
        parent = None
        if self.config.training.warm_start and spec["parent"] is not None:
            parent, _ = self.potential(spec["parent"])
        result = train(
            labels,
            self.config.material.elements,
            self.config.potential,
            self.config.training,
            seed=int(self._rng(task_id).integers(2**31)),
            parent=parent,
            device=self.device,
        )
        folder = self._save(generation, result, labels)
        return {
            "generation": generation,
            "path": self.directory.relative(folder),
            "checksum": sha256(folder / "weights.safetensors"),
            **shard,
            "metrics": {
                **result.errors,
                "epochs": len(result.history),
                "labels": len(labels),
                "retrained": result.retrained,
            },
        }

    def _compact(self, generation: int, keys: list[str]) -> dict[str, Any]:
        """Write single labels into the generation's shard; the number is raised where it holds others already."""
        labels = [read_label(self.directory.label_path(key)) for key in keys]
        number = generation
        path = self.directory.shard_path(number)
        while path.exists() and {label.key for label in read_shard(path)} != set(keys):
            number += 1
            path = self.directory.shard_path(number)
        checksum = write_shard(path, labels)
        return {"shard": self.directory.relative(path), "shard_keys": keys, "shard_checksum": checksum}

    def _save(self, generation: int, result: TrainingResult, labels: list[Label]) -> Path:
        folder = self.directory.model_path(generation)
        curve = [asdict(epoch) for epoch in result.history]
        publish(folder / "learning_curve.json", json.dumps(curve).encode())
        card = Card(
            elements=self.config.material.elements,
            level_of_theory={"hash": self.level, **self.reference.settings()},
            n_labels=len(labels),
            errors=result.errors,
            training=self.config.training.model_dump(mode="json"),
            generation=generation,
            provenance={
                "campaign": self.directory.path.name,
                "seed": self.config.seed,
                "labels_sha256": _hash_of(labels),
            },
        )
        save_potential(folder, result.ensemble, card)
        return folder

    # ----------------------------------------------------------------------------------------------- assess

    def _assess(self, spec: dict[str, Any], scratch: Path) -> dict[str, Any]:
        """Measure a generation on the audit labels against the one it would replace; at the end, its properties."""
        generation, incumbent = spec["generation"], spec["incumbent"]
        labels = [read_label(self.directory.label_path(key)) for key in spec["audit"]]
        ensemble, card = self.potential(generation)
        errors = audit_errors(ensemble, labels)
        self._record(generation, ensemble, card, errors)
        promote = True
        if incumbent not in (None, generation):
            promote = not is_worse(errors, audit_errors(self.potential(incumbent)[0], labels))
        return {
            "generation": generation,
            "promote": promote,
            "force_error": errors.force,
            "energy_error": errors.energy,
            "audit_labels": len(labels),
            "calibration": errors.calibration,
            "properties": self._properties(generation, scratch) if spec["final"] else [],
        }

    def _record(self, generation: int, ensemble: Ensemble, card: Card, errors: AuditErrors) -> None:
        """Write what was measured onto the generation's card."""
        measured = {"audit_force": errors.force, "audit_energy": errors.energy}
        known = {name: value for name, value in measured.items() if value is not None}
        changed = replace(card, errors={**card.errors, **known}, calibration=errors.calibration)
        save_potential(self.directory.model_path(generation), ensemble, changed)

    def _properties(self, generation: int, scratch: Path) -> list[dict[str, Any]]:
        settings = self.config.assessment
        calculator = AlpotCalculator.load(self.directory.model_path(generation), device=self.device)
        reference = self.reference.calculator(scratch) if settings.compare_reference else None
        rows = validate(
            calculator,
            self.config.material.elements,
            settings.properties,
            reference_calculator=reference,
            seed=self.config.seed,
        )
        return [asdict(row) for row in rows]


def device_of(config: Campaign) -> str:
    """The device that the campaign file asks for, as torch names it."""
    wanted = config.resources.device
    if wanted == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    return wanted


def _provenance(snapshot: Snapshot, walker: int, generation: int) -> dict[str, Any]:
    """Where a frame comes from."""
    return {
        "start": snapshot.atoms.info.get("start", ""),
        "walker": walker,
        "generation": generation,
        "time_ps": snapshot.time,
        "temperature_K": snapshot.temperature,
        "density_g_per_cm3": snapshot.density,
        "mean_force_error": snapshot.mean_error,
        "max_force_error": snapshot.max_error,
    }


def _is_whole(path: Path) -> bool:
    """Whether a label was finished here before."""
    if not path.exists():
        return False
    try:
        read_label(path)
    except StorageError:
        return False
    return True


def _hash_of(labels: list[Label]) -> str:
    """One hash for a set of labels."""
    return hashlib.sha256("".join(sorted(label.key for label in labels)).encode()).hexdigest()
