"""What tests with real density-functional codes share: frames, cheap settings, and how to find the programs."""

import importlib.util
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from ase import Atoms
from ase.build import bulk, make_supercell

from alpot.config import Dft, Reference
from alpot.reference.dft import DftReference
from alpot.reference.registry import open_reference


def need(program: str, install: str) -> None:
    """Skips the test where a program is not installed; fails instead where all must be."""
    if shutil.which(program) is None:
        _do_without(program, install)


def need_gpaw() -> None:
    """The same for the Python package."""
    if importlib.util.find_spec("gpaw") is None:
        _do_without("gpaw", "pip install 'alpot[gpaw]'")


def _do_without(name: str, install: str) -> None:
    reason = f"{name} is not installed: {install}"
    if "ALPOT_REQUIRE_PROGRAMS" in os.environ:
        pytest.fail(reason)
    pytest.skip(reason)


def rattled(n_atoms: int, seed: int = 1) -> Atoms:
    """Fcc aluminum of 1, 2, 4 or 8 atoms, strained a little and rattled: no symmetry is left."""
    primitive = bulk("Al", a=4.05)
    shapes: dict[int, Any] = {
        1: [[1, 0, 0], [0, 1, 0], [0, 0, 1]],
        2: [[2, 0, 0], [0, 1, 0], [0, 0, 1]],
        4: [[-1, 1, 1], [1, -1, 1], [1, 1, -1]],
        8: [[2, 0, 0], [0, 2, 0], [0, 0, 2]],
    }
    atoms = make_supercell(primitive, shapes[n_atoms])
    strain = [[1.01, 0.01, 0.0], [0.0, 0.99, 0.02], [0.005, 0.0, 1.0]]
    atoms.set_cell(atoms.cell.array @ strain, scale_atoms=True)
    atoms.rattle(0.1, seed=seed)
    return atoms


def open_code(code: str, arguments: dict[str, Any] | None = None, folder: Path = Path(), **dft: Any) -> DftReference:
    """A reference with these settings."""
    reference = open_reference(
        Reference(code=code, dft=Dft(**dft), arguments=arguments or {}), base_directory=folder.resolve()
    )
    assert isinstance(reference, DftReference)
    return reference
