"""What it saves to start each calculation from the density of its neighbor in a chain: both ways in one run.

    python scripts/bench_density_restart.py [--steps 6] [--atoms 8]

The chain is aluminum whose atoms move by so many Å from frame to frame. Printed are ratios: with restart / without.
"""

from __future__ import annotations

import argparse
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.build import bulk

from alpot.config import Dft, Reference
from alpot.reference.dft import DftReference
from alpot.reference.registry import open_reference

#: Å between two frames: a time step of molecular dynamics, a few of them, and candidates that a walker leaves.
_STEPS = (0.005, 0.02, 0.1)


def main() -> None:
    """Prints a table: displacement, SCF steps and CPU time as ratios, largest difference of forces."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--frames", type=int, default=6)
    parser.add_argument("--atoms", type=int, choices=(4, 32), default=4)
    options = parser.parse_args()
    dft = Dft(
        functional="LDA", cutoff=272, kpoint_density=12, smearing_width=0.3, pseudopotentials={"Al": "Al.pz-vbc.UPF"}
    )
    print("Å/frame   SCF steps   CPU time   largest difference of forces (eV/Å)")
    for step in _STEPS:
        reference = open_reference(Reference(code="espresso", dft=dft), base_directory=Path())
        assert isinstance(reference, DftReference)
        frames = _chain(options.atoms, options.frames, step)
        steps, seconds, forces = _run(reference, frames)
        with tempfile.TemporaryDirectory() as folder:
            keeping = replace(reference, densities=Path(folder) / "density")
            kept_steps, kept_seconds, kept_forces = _run(keeping, frames)
        difference = np.abs(forces - kept_forces).max()
        print(f"{step:7.3f} {kept_steps / steps:11.2f} {kept_seconds / seconds:10.2f} {difference:12.1e}")


def _chain(n_atoms: int, n_frames: int, step: float) -> list[Atoms]:
    rng = np.random.default_rng(0)
    atoms = bulk("Al", cubic=True).repeat({4: 1, 32: 2}[n_atoms])
    atoms.rattle(0.1, seed=1)
    velocities = rng.normal(size=(n_atoms, 3))
    velocities *= step / np.linalg.norm(velocities, axis=1).mean()
    frames = []
    for number in range(n_frames):
        frame = atoms.copy()
        frame.positions += number * velocities
        frames.append(frame)
    return frames


def _run(reference: DftReference, frames: list[Atoms]) -> tuple[int, float, np.ndarray]:
    """SCF steps and CPU seconds, the first frame (which has no neighbor) left out, and all forces."""
    results = []
    for frame in frames:
        with tempfile.TemporaryDirectory() as scratch:
            results.append(reference.compute(frame, Path(scratch)))
    later = [result.details for result in results[1:]]
    return (
        sum(facts["scf_steps"] for facts in later),
        sum(facts["cpu_seconds"] for facts in later),
        np.array([result.forces for result in results]),
    )


if __name__ == "__main__":
    main()
