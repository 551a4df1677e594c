"""What workers of alpot report in the simulation: the summaries of a virtual subject, and how long each task takes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from hashlib import sha256
from typing import Any

import numpy as np

from alpot.campaign.events import Task
from alpot.campaign.subject import Kind
from alpot.errors import FailureClass
from simulation.world import Found, World

#: Loose labels are compacted into a shard when there are so many, as alpot's own subject does.
_COMPACT_AT = 500
#: Share of generations that turn out worse than the one before. Assumed.
_WORSE = 0.02


@dataclass(frozen=True)
class Planned:
    """How an attempt goes if nothing happens to its node.

    Attributes:
        seconds: for how long.
        outcome: what the worker reports ...
        kills: ... unless the task brings it down.
        is_found: the label was there already.
    """

    seconds: float
    outcome: dict[str, Any]
    kills: bool = False
    is_found: bool = False


class VirtualSubject:
    """Plans tasks, and keeps what they leave behind on the virtual disk: models, shards, unfinished work."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._structures: dict[str, int] = {}
        self._labels_of: dict[int, int] = {}
        self._shards: dict[str, int] = {}
        self._saved: dict[tuple[str, int], float] = {}

    def plan(self, task: Task) -> Planned:
        """How an attempt will go."""
        draw = np.random.default_rng((self._world.workload.seed, int(task.id.rpartition("-")[2]), task.draw))
        planned = getattr(self, f"_{task.kind}")(task, draw)
        saved = self._saved.get((task.id, task.draw), 0.0)
        return replace(planned, seconds=max(planned.seconds - saved, 1.0))

    def save(self, task: Task, seconds: float) -> float:
        """An attempt was interrupted after so long; returns how far the task has come."""
        self._saved[task.id, task.draw] = self._saved.get((task.id, task.draw), 0.0) + seconds
        return self._saved[task.id, task.draw]

    def conclude(self, task: Task, planned: Planned, time: float) -> None:
        """An attempt came to its end: what it made is on the disk."""
        self._saved.pop((task.id, task.draw), None)
        summary = planned.outcome.get("summary")
        if summary is None:
            return
        if task.kind == Kind.LABEL and not planned.is_found:
            self._world.publish(self._structures[task.spec["candidate"]], time)
        elif task.kind == Kind.ASSESS and summary["promote"]:
            self._world.labels_of = self._labels_of[summary["generation"]]

    # ----------------------------------------------------------------------------------------------- kinds

    def _explore(self, task: Task, draw: np.random.Generator) -> Planned:
        workload, generation = self._world.workload, task.spec["generation"]
        if generation is None:
            found = self._world.initial(task.spec["starts"])
            seconds, simulated = workload.start_cost, 0.0
        else:
            found = self._world.explore(self._labels_of[generation], draw)
            seconds, simulated = workload.explore_time(draw), workload.walkers * workload.walker_time
        candidates = [self._candidate(task, number, one) for number, one in enumerate(found)]
        summary = {"candidates": candidates, "generation": generation, "walkers": workload.walkers}
        summary |= {"simulated_time": simulated, "endings": {"uncertain": len(found)}}
        return _finished(seconds, summary)

    def _candidate(self, task: Task, number: int, found: Found) -> dict[str, Any]:
        identifier = f"{task.id}/{number}"
        self._structures[identifier] = found.structure
        reason = "audit" if found.audit else "initial" if task.spec["generation"] is None else "uncertain"
        candidate = {"id": identifier, "key": _key(found.structure), "score": 1.0 - found.difficulty, "cost": 1.0}
        return candidate | {"reason": reason, "audit": found.audit}

    def _label(self, task: Task, draw: np.random.Generator) -> Planned:
        structure = self._structures[task.spec["candidate"]]
        if task.attempt == 1:
            self._world.begin(structure)
        attempt = self._world.attempt(structure, task.attempt)
        if attempt.failure is not None:
            return _failed(attempt.seconds, attempt.failure)
        key = _key(structure)
        summary = {"candidate": task.spec["candidate"], "key": key, "outcome": "labelled", "reason": ""}
        summary |= {"path": f"labels/{key[:2]}/{key}.h5", "checksum": key[::-1], "seconds": attempt.seconds}
        outcome = {"status": "finished", "summary": summary}
        return Planned(attempt.seconds, outcome, attempt.kills, attempt.is_found)

    def _score(self, task: Task, draw: np.random.Generator) -> Planned:
        generation, candidates = task.spec["generation"], task.spec["candidates"]
        labels = self._labels_of[generation]
        certain = [name for name in candidates if not self._world.is_uncertain(self._structures[name], labels)]
        scores = {name: draw.random() for name in candidates}
        summary = {"generation": generation, "scores": scores, "certain": certain}
        return _finished(self._world.workload.score_time(len(candidates)), summary)

    def _train(self, task: Task, draw: np.random.Generator) -> Planned:
        spec, generation = task.spec, task.spec["generation"]
        labels = sum(self._shards[path] for path in spec["shards"]) + len(spec["labels"])
        seconds = self._world.workload.train_time(labels)
        if draw.random() < self._world.workload.training_failure and task.attempt == 1:
            return _failed(0.5 * seconds, FailureClass.UNKNOWN)
        self._labels_of[generation] = labels
        compacted = []
        for keys, name in ((spec["labels"], "shard"), (spec["audit_labels"], "audit")):
            if len(keys) >= _COMPACT_AT:
                path = f"dataset/{name}-{generation:05d}.h5"
                self._shards[path] = len(keys)
                audit = name == "audit"
                compacted.append({"path": path, "checksum": _key(generation), "keys": keys, "audit": audit})
        summary = {"generation": generation, "path": f"models/gen-{generation:04d}", "checksum": _key(generation)}
        return _finished(seconds, summary | {"compacted": compacted})

    def _assess(self, task: Task, draw: np.random.Generator) -> Planned:
        spec, generation = task.spec, task.spec["generation"]
        audit = sum(self._shards[path] for path in spec["audit_shards"]) + len(spec["audit_labels"])
        promote = spec["incumbent"] is None or spec["final"] or bool(draw.random() > _WORSE)
        error = 0.1 * self._world.workload.novelty(self._labels_of[generation])
        summary = {"generation": generation, "promote": promote, "force_error": error, "audit_labels": audit}
        return _finished(self._world.workload.score_time(2 * audit), summary)


def _key(number: int) -> str:
    return sha256(str(number).encode()).hexdigest()


def _finished(seconds: float, summary: dict[str, Any]) -> Planned:
    return Planned(seconds, {"status": "finished", "summary": summary})


def _failed(seconds: float, failure: FailureClass) -> Planned:
    outcome = {
        "status": "failed",
        "failure": failure.value,
        "message": f"virtual: {failure}",
        "evidence": "line\n" * 12,
    }
    return Planned(seconds, outcome)
