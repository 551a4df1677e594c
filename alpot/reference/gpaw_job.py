"""Computes one frame with GPAW in a process of its own; run as a script, by a Python that has GPAW.

It needs nothing of alpot, so that GPAW may live in another environment. The results are written at the very end, whole
or not at all, with all digits; GPAW's own log is beside them.
"""

import json
import os
import sys
from pathlib import Path


def main(settings_file: str) -> None:
    """Reads the settings, computes energy, forces and stress, writes ``results.json``."""
    settings = json.loads(Path(settings_file).read_text("utf-8"))
    # GPAW's choice when it is not asked for: one process, even under MPI.
    os.environ["GPAW_MPI_BACKEND"] = "cgpaw" if settings["mpi"] else "serial"
    import gpaw
    from ase import Atoms
    from gpaw.mpi import world

    gpaw.setup_paths[:0] = settings["setup_paths"]
    frame = {key: settings[key] for key in ("symbols", "positions", "cell", "pbc")}
    atoms = Atoms(**frame, magmoms=settings["moments"])
    calculator = gpaw.GPAW(txt="gpaw.txt", **settings["parameters"])
    atoms.calc = calculator
    results = {
        "free_energy": atoms.get_potential_energy(force_consistent=True),
        "energy": atoms.get_potential_energy(),
        "forces": atoms.get_forces().tolist(),
        "stress": atoms.get_stress().tolist() if settings["stress"] else None,
        "positions": atoms.positions.tolist(),
        "cell": atoms.cell.array.tolist(),
        "magnetic_moment": float(atoms.get_magnetic_moment()),
        "magnetic_moments": atoms.get_magnetic_moments().tolist(),
        "n_kpoints": len(calculator.get_ibz_k_points()),
        "n_bands": calculator.get_number_of_bands(),
        "version": gpaw.__version__,
    }
    if world.rank == 0:
        unfinished = Path("results.json.unfinished")
        unfinished.write_text(json.dumps(results), "utf-8")
        unfinished.replace("results.json")


if __name__ == "__main__":
    main(sys.argv[1])
