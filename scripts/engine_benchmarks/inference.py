"""Energies, forces and stress of one frame: alpot against torchani, one thread.

Each contestant of torchani has a process of its own: glibc's malloc adapts to the largest block that a process ever
freed, so that with default settings one contestant would change the speed of another.
"""

from __future__ import annotations

from functools import partial
from statistics import median

from engine_benchmarks.frames import read_frame
from engine_benchmarks.isolation import answer
from engine_benchmarks.measuring import Ratio, Row, Timings, interleave
from engine_benchmarks.potentials import TorchaniSide, evaluate, load_ensemble

#: Methods of ``TorchaniSide``, and what they are called in the table.
CONTESTANTS = {
    "mean": "mean energy, forces, stress / Ensemble",
    "members": "forces of every member / members_forces",
    "separate": "forces of every member / 8 separate models",
}
#: What is asked for at 108 atoms: must, aim.
_TARGETS = {
    ("mean", "tuned"): (8.0, 15.0),
    ("mean", "default"): (12.0, 22.0),
    ("members", "tuned"): (20.0, 40.0),
    ("members", "default"): (40.0, 80.0),
    ("separate", "tuned"): (60.0, 120.0),
    ("separate", "default"): (60.0, 120.0),
}


def measure(
    weights: str | None, frames: str, n_atoms: int, contestant: str, malloc: str, repeats: int, budget_s: float
) -> list[Row]:
    """One row for each kind of frame."""
    ensemble = load_ensemble(weights)
    torchani = TorchaniSide(weights, ensemble)
    must, aim = _TARGETS[contestant, malloc] if n_atoms == 108 else (None, None)
    rows = []
    # The liquid first, which has fewer triples: its blocks do not change malloc for the crystal's larger ones.
    for kind in ("liquid", "rattled"):
        atoms = read_frame(frames, kind, n_atoms)
        timings = interleave(
            {
                "alpot": partial(evaluate, ensemble, atoms, mean_only=contestant == "mean"),
                "torchani": partial(getattr(torchani, contestant), atoms),
            },
            repeats=repeats,
            budget_s=budget_s,
        )
        rows.append(
            Row(
                what=f"{kind} {n_atoms}: {CONTESTANTS[contestant]}",
                malloc=malloc,
                unit="µs/atom",
                ours=per_atom(timings["alpot"], n_atoms),
                other=per_atom(timings["torchani"], n_atoms),
                ratio=Ratio.of(timings["alpot"], timings["torchani"]),
                must=must,
                aim=aim,
            )
        )
    return rows


def per_atom(timings: Timings, n_evaluations: int) -> float:
    """Median processor time in µs of one of ``n_evaluations`` atoms (times steps)."""
    return median(timings.cpu) / n_evaluations * 1e6


if __name__ == "__main__":
    answer(measure)
