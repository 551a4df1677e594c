"""What the first call of a process costs: imports, compilation, allocation."""

from __future__ import annotations

import time

_BEGIN = time.perf_counter()

from engine_benchmarks.frames import read_frame  # noqa: E402 - the imports are what is timed
from engine_benchmarks.isolation import answer  # noqa: E402
from engine_benchmarks.potentials import evaluate, load_ensemble  # noqa: E402


def measure(weights: str | None, frames: str) -> dict[str, float]:
    """Wall times in s by stage."""
    imported = time.perf_counter()
    ensemble = load_ensemble(weights)
    atoms = read_frame(frames, "rattled", 108)
    spent = {"imports": imported - _BEGIN}
    for name in ("first evaluation", "second evaluation"):
        begin = time.perf_counter()
        evaluate(ensemble, atoms, mean_only=False)
        spent[name] = time.perf_counter() - begin
    return spent


if __name__ == "__main__":
    answer(measure)
