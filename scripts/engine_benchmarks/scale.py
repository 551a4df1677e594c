"""One evaluation of a large crystal in a process of its own: wall time, processor time and memory."""

from __future__ import annotations

import resource
import time

import numpy as np
import psutil

from alpot.potential.calculator import AlpotCalculator
from engine_benchmarks.frames import rattled
from engine_benchmarks.isolation import answer
from engine_benchmarks.potentials import load_ensemble


def measure(weights: str | None, repetitions: int, repeats: int) -> dict[str, float]:
    """Shortest times in s of one call of the calculator for mean energy, forces and stress, and memory in bytes.

    Memory is the peak that the process ever held, and what it held before: libraries, the frame, and what a call
    with 108 atoms had compiled and allocated.
    """
    calculator = AlpotCalculator(load_ensemble(weights), mean_forces_only=True)
    calculator.calculate(rattled(3), ["forces"])
    atoms = rattled(repetitions)
    before = psutil.Process().memory_info().rss
    spent = []
    for _ in range(repeats):
        wall, cpu = time.perf_counter(), time.process_time()
        calculator.calculate(atoms, ["forces"])
        spent.append((time.perf_counter() - wall, time.process_time() - cpu))
        # The calculator keeps neighbor pairs between steps: displaced by more than the skin, they are searched again.
        atoms.positions += np.array([0.5, 0.0, 0.0])
    return {
        "n_atoms": len(atoms),
        "wall": min(wall for wall, _ in spent),
        "cpu": min(cpu for _, cpu in spent),
        "before": before,
        "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    }


if __name__ == "__main__":
    answer(measure)
