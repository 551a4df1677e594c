"""The quickstart's first training, run with whichever alpot is first on the path."""

from __future__ import annotations

import time
from pathlib import Path

from alpot.config_file import read_campaign
from alpot.potential.training import train
from alpot.store.extxyz import read_extxyz
from engine_benchmarks.isolation import answer


def measure(labels: str, level_of_theory: str, campaign: str, seed: int) -> dict[str, float]:
    """Times in s of a training by the settings of a campaign file, its errors (eV/atom, eV/Å), and the cold start."""
    config = read_campaign(Path(campaign))
    frames = read_extxyz(Path(labels), level_of_theory)
    begin = time.perf_counter()
    few = config.training.model_copy(update={"max_epochs": 1})
    train(frames[:16], config.material.elements, config.potential, few, seed=seed)
    cold = time.perf_counter() - begin
    wall, cpu = time.perf_counter(), time.process_time()
    result = train(frames, config.material.elements, config.potential, config.training, seed=seed)
    return {
        "wall": time.perf_counter() - wall,
        "cpu": time.process_time() - cpu,
        "cold": cold,
        "epochs": len(result.history),
        **result.errors,
    }


if __name__ == "__main__":
    answer(measure)
