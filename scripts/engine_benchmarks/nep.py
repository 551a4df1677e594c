"""Against one NEP (calorine's CPU code, UNEP-v1): energy, forces and stress through ASE, new positions in each call."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.calculators.calculator import BaseCalculator, all_changes

from alpot.potential.calculator import AlpotCalculator
from engine_benchmarks.frames import read_frame
from engine_benchmarks.inference import per_atom
from engine_benchmarks.isolation import answer
from engine_benchmarks.measuring import Ratio, Row, interleave
from engine_benchmarks.potentials import load_ensemble

#: Header of UNEP-v1 (Song et al., Nat. Commun. 15, 10208 (2024)) as published in GPUMD's repository.
_HEADER = """\
nep4_zbl 16 Ag Al Au Cr Cu Mg Mo Ni Pb Pd Pt Ta Ti V W Zr
zbl 1 2
cutoff 6 5 200 134
n_max 4 4
basis_size 8 8
l_max 4 2 1
ANN 80 0
"""
#: Numbers after the header: networks (80 × 35 weights, 80 biases, 80 weights for each element, one common bias),
#: coefficients of the descriptor (16² × (5 × 9 + 5 × 9)), scales of the 35 features.
_N_PARAMETERS, _N_SCALES = 16 * (80 * 35 + 80 + 80) + 1 + 16**2 * 90, 35


def measure(
    weights: str | None, frames: str, sizes: list[int], malloc: str, repeats: int, model: str | None
) -> list[Row]:
    """Rows of all sizes for the mean and for every member's forces, the verdict on the mean.

    Args:
        weights: as for ``load_ensemble``.
        frames: folder of the frames.
        sizes: numbers of atoms.
        malloc: what the process runs with.
        repeats: rounds.
        model: the file of UNEP-v1; None writes one of its shape with random numbers, on which the time does not depend.
    """
    try:
        from calorine.calculators import CPUNEP
    except ImportError:
        return [Row(what="one NEP", malloc=malloc, reason="calorine is not installed (pip install calorine)")]
    ensemble = load_ensemble(weights)
    name = "one NEP (UNEP-v1)" if model else "one NEP (random parameters in UNEP-v1's shape)"
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        file = model or _write_random_model(Path(folder))
        for n_atoms in sizes:
            atoms = read_frame(frames, "liquid", n_atoms)
            nep = _fresh_evaluation(CPUNEP(file), atoms)
            for forces, mean_only in (("mean forces", True), ("every member's forces", False)):
                ours = _fresh_evaluation(AlpotCalculator(ensemble, mean_forces_only=mean_only, skin=0.0), atoms)
                timings = interleave({"alpot": ours, "nep": nep}, repeats=repeats, budget_s=30.0)
                must, aim = (1.0, 3.0) if mean_only else (None, None)
                rows.append(
                    Row(
                        what=f"liquid {n_atoms}: 8 members, {forces}, through ASE / {name}",
                        malloc=malloc,
                        unit="µs/atom",
                        ours=per_atom(timings["alpot"], n_atoms),
                        other=per_atom(timings["nep"], n_atoms),
                        ratio=Ratio.of(timings["alpot"], timings["nep"]),
                        must=must,
                        aim=aim,
                    )
                )
    return rows


def _write_random_model(folder: Path) -> str:
    rng = np.random.default_rng(0)
    numbers = np.concatenate([rng.normal(0.0, 0.3, _N_PARAMETERS), np.ones(_N_SCALES)])
    path = folder / "nep.txt"
    path.write_text(_HEADER + "\n".join(f"{number:15.7e}" for number in numbers) + "\n")
    return str(path)


def _fresh_evaluation(calculator: BaseCalculator, atoms: Atoms) -> Callable[[], None]:
    """A call that evaluates slightly other positions each time, so that nothing can be remembered."""
    rng = np.random.default_rng(0)
    moved = atoms.copy()

    def evaluate() -> None:
        moved.positions = atoms.positions + rng.normal(0.0, 1e-3, atoms.positions.shape)
        calculator.calculate(moved, ["energy", "forces", "stress"], all_changes)

    return evaluate


if __name__ == "__main__":
    answer(measure)
