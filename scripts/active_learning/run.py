"""One run: one policy at one seed, from its first labels to its last, measured at each generation."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms

from active_learning.alpot_policy import Alpot, Ingredients
from active_learning.engine import Engine
from active_learning.fingerprints import distances, fingerprints
from active_learning.frames import bench_frames
from active_learning.measures import bench_errors, properties, property_errors, stability
from active_learning.plan import Plan
from active_learning.policies import FarthestPoints, FixedThresholds, Policy, RandomFrames, TrustLevels
from alpot.config import Reference
from alpot.potential.ensemble import Ensemble
from alpot.reference import ReferenceCalculator, level_of_theory, open_reference
from alpot.store.json_files import publish_json, read_json

POLICIES: dict[str, Callable[[], Policy]] = {
    "random": RandomFrames,
    "paper": lambda: FixedThresholds(limit=0.044),
    "paper-loose": lambda: FixedThresholds(limit=0.25),
    "dpgen": TrustLevels,
    "fps": FarthestPoints,
    "alpot": Alpot,
}
ABLATIONS: dict[str, Callable[[], Policy]] = {
    f"alpot-{field.name.replace('_', '-')}": partial(Alpot, Ingredients(**{field.name: False}))
    for field in fields(Ingredients)
}
_BENCH_SEED = 2003_04934
#: Random numbers for: the first labels, the runs of the test of stability.
_FIRST, _STABILITY = 0, 4
#: Frames whose fingerprints differ by less, in deviations of the training data, teach the same.
_NEAR = 0.05


@dataclass(frozen=True, kw_only=True)
class Bench:
    """The reference, and what is known of it.

    Attributes:
        frames: hidden from all policies.
        truth: its properties, by name.
    """

    reference: ReferenceCalculator
    frames: list[Atoms]
    truth: dict[str, float | None]


def reference_settings(name: str) -> Reference:
    """The reference of a name on the command line: "ani", "emt", or the path of an embedded-atom file."""
    if name == "ani":
        return Reference(code="ani", arguments={"folder": "ani-al"})
    if name == "emt":
        return Reference(code="emt")
    return Reference(code="eam", arguments={"potential": name})


def open_bench(settings: Reference, folder: Path, cache: Path, plan: Plan) -> Bench:
    """The bench of a reference, made if it is not in the cache.

    Args:
        settings: of the reference.
        folder: where its files are.
        cache: folder for the bench.
        plan: how large it is.
    """
    reference = open_reference(settings, base_directory=folder)
    frames = bench_frames(reference, cache, plan.bench, np.random.default_rng(_BENCH_SEED))
    path = cache / f"properties-{level_of_theory(reference)[:12]}.json"
    if not path.exists():
        publish_json(path, properties(reference.calculator(cache)))
    return Bench(reference=reference, frames=frames, truth=read_json(path))


def run_policy(name: str, seed: int, plan: Plan, bench: Bench, scratch: Path) -> dict[str, Any]:
    """Everything that is recorded of a run, JSON-able."""
    began = time.process_time()
    policy = (POLICIES | ABLATIONS)[name]()
    engine = Engine(plan, bench.reference, seed, scratch)
    bench.reference.compute(bench.frames[0], scratch)  # what is compiled at the first call is no part of any label
    starts = [atoms for atoms, _ in engine.starts(_FIRST, 0, plan.schedule[0])]
    engine.pay(policy.first_choices(starts, plan.exploration.audit_share))
    ensemble = engine.train()
    curve = [_point(engine, ensemble, policy, bench)]
    for n_labels in plan.schedule[1:]:
        engine.pay(policy.choose(engine, ensemble, n_labels - len(engine.keys)))
        ensemble = engine.train()
        curve.append(_point(engine, ensemble, policy, bench))
    calculator = bench.reference.calculator(scratch)
    facts = policy.facts(engine)
    return {
        "policy": name,
        "seed": seed,
        "labels": len(engine.keys),
        "curve": curve,
        "stability": stability(ensemble, bench.frames, calculator, plan, engine.rng(_STABILITY)),
        "properties": property_errors(ensemble, bench.truth),
        "duplicates": _duplicates(engine, ensemble),
        "facts": facts,
        "seconds": round(time.process_time() - began, 1),
    }


def _point(engine: Engine, ensemble: Ensemble, policy: Policy, bench: Bench) -> dict[str, Any]:
    """A point of the learning curve."""
    return {
        "labels": len(engine.keys),
        "trained_on": len(engine.labels),
        "audit": len(engine.audit),
        **bench_errors(ensemble, bench.frames, policy.bound(engine, ensemble)),
        "costs": engine.costs.to_json(),
    }


def _duplicates(engine: Engine, ensemble: Ensemble) -> dict[str, int]:
    """Labels that were paid for twice: of the same frame, and of frames that look the same."""
    rows = fingerprints(ensemble, [label.atoms for label in (*engine.labels, *engine.audit)])
    near = distances(rows, rows) < _NEAR
    earlier = np.tril(near, -1).any(axis=1)
    return {"exact": len(engine.keys) - len(set(engine.keys)), "near": int(earlier.sum())}
