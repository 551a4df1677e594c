"""Whether alpot and torchani give the same energies, forces and stresses: without that, no ratio is printed."""

from __future__ import annotations

import torch

from engine_benchmarks.frames import read_frame
from engine_benchmarks.isolation import answer
from engine_benchmarks.potentials import TorchaniSide, difference, load_ensemble


def measure(weights: str | None, frames: str, n_atoms: int) -> str:
    """What differs on the frames of one size; empty if nothing does."""
    ensemble = load_ensemble(weights)
    torchani = TorchaniSide(weights, ensemble, torch.float64)
    problems = {
        kind: difference(ensemble, torchani, read_frame(frames, kind, n_atoms)) for kind in ("rattled", "liquid")
    }
    return "; ".join(f"{kind} {n_atoms}: {problem}" for kind, problem in problems.items() if problem)


if __name__ == "__main__":
    answer(measure)
