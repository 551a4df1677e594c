"""A subject in pure Python: its world is a hash, its labels cost nothing, and it fails on command.

The campaign file is JSON: ``seconds`` (per kind, how long a task takes) and ``failures``, a list of
``{"kind", "match", "attempts", "failure"}``: a task whose id or candidate contains ``match`` fails that often.
"""

import json
import os
import random
import signal
import time
from hashlib import sha256
from pathlib import Path

from alpot.errors import FailureClass, Interrupted, ReferenceError
from alpot.store.directory import CampaignDirectory
from alpot.store.files import publish_new


def key_of(identifier: str) -> str:
    return sha256(identifier.encode()).hexdigest()


class FakeSubject:
    def __init__(self, directory: Path) -> None:
        self.directory = CampaignDirectory(directory)
        self.settings = json.loads(self.directory.config.read_text())

    def run(self, assignment):
        kind, task_id, spec = assignment.kind.value, assignment.task_id, assignment.spec
        assert assignment.scratch.is_dir() and not list(assignment.scratch.iterdir())
        time.sleep(self.settings.get("seconds", {}).get(kind, 0))
        self._fail(kind, task_id, int(assignment.scratch.name.rpartition("-")[2]), spec)
        return getattr(self, kind)(task_id, random.Random(f"{task_id} {assignment.draw}"), spec)

    def _fail(self, kind, task_id, attempt, spec):
        for rule in self.settings.get("failures", []):
            name = f"{task_id} {spec.get('candidate', '')}"
            if rule["kind"] != kind or rule["match"] not in name or attempt > rule["attempts"]:
                continue
            if rule["failure"] == "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            if rule["failure"] == "nonsense":
                raise ValueError("as told")
            if rule["failure"] == "interrupted":
                raise Interrupted("as told", progress=float(attempt))
            raise ReferenceError("as told", failure=FailureClass(rule["failure"]), evidence="line 1\nline 2")

    def explore(self, task_id, rng, spec):
        initial = spec["generation"] is None
        count = spec["starts"] if initial else self.settings.get("finds", 6)
        candidates = []
        for number in range(count):
            audit = number % 5 == 4
            identifier = f"{task_id}/{number}"
            reason = "audit" if audit else "initial" if initial else "uncertain"
            candidate = {"id": identifier, "key": key_of(identifier), "score": rng.random(), "cost": 1.0 + rng.random()}
            candidates.append(candidate | {"reason": reason, "audit": audit})
        if candidates and not initial:  # somebody finds a start of the first exploration again
            candidates.append(candidates[0] | {"id": f"{task_id}/again", "key": key_of("explore-000001/0")})
        time_ps = 0.0 if initial else 2.5
        return {"candidates": candidates, "generation": spec["generation"], "walkers": 4, "simulated_time": time_ps}

    def label(self, task_id, rng, spec):
        key = key_of(spec["candidate"])
        path = self.directory.label_path(key)
        content = json.dumps({"key": key, "energy": -1.0}).encode()
        if not path.exists():
            with (self.directory.path / "calculations.log").open("a") as log:
                log.write(key + "\n")
            publish_new(path, content)
        summary = {"candidate": spec["candidate"], "key": key, "path": self.directory.relative(path), "seconds": 1.0}
        return summary | {"checksum": sha256(content).hexdigest(), "outcome": "labelled", "reason": ""}

    def score(self, task_id, rng, spec):
        certain = [name for name in spec["candidates"] if int(key_of(name), 16) % 3 == 0]
        scores = {name: rng.random() for name in spec["candidates"]}
        return {"generation": spec["generation"], "scores": scores, "certain": certain}

    def train(self, task_id, rng, spec):
        assert not set(spec["labels"]) & set(spec["audit_labels"])
        model = self.directory.model_path(spec["generation"])
        model.mkdir(exist_ok=True)
        compacted = self._compact(spec, "labels", self.directory.shard_path)
        compacted += self._compact(spec, "audit_labels", self.directory.audit_shard_path)
        refused = {key: "as told" for key in spec["labels"] if key.startswith(tuple(self.settings.get("refuse", [])))}
        summary = {"generation": spec["generation"], "path": self.directory.relative(model), "checksum": "0"}
        return summary | {"compacted": compacted, "refused": refused}

    def _compact(self, spec, name, path_of):
        for key in spec[name]:
            assert self.directory.label_path(key).exists()
        if len(spec[name]) < self.settings.get("shard", 1):
            return []
        content = json.dumps(spec[name]).encode()
        path = path_of(spec["generation"])
        publish_new(path, content)
        entry = {"path": self.directory.relative(path), "checksum": sha256(content).hexdigest(), "keys": spec[name]}
        return [entry | {"audit": name == "audit_labels"}]

    def assess(self, task_id, rng, spec):
        error = 1.0 / spec["generation"]
        rows = [{"property": "lattice", "value": 4.05}] if spec["final"] else []
        promote = spec["generation"] not in self.settings.get("worse", [])
        summary = {"generation": spec["generation"], "promote": promote, "force_error": error, "properties": rows}
        labels = len(spec["audit_labels"]) + sum(
            len(json.loads((self.directory.path / shard).read_text())) for shard in spec["audit_shards"]
        )
        return summary | {"audit_labels": labels, "calibration": 1.0}
