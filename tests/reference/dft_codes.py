"""What tests with real density-functional codes share: frames, cheap settings, and how to find the programs."""

import importlib.util
import os
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, make_supercell

from alpot.config import Dft, Reference
from alpot.reference.dft import DftReference
from alpot.reference.dft_code import Calculation, DftCode, OutputError, Reading
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


def believed_despite_damage(
    code: DftCode, calculation: Calculation, names: Iterable[str], *, cuts: int, digits: int
) -> tuple[list[Reading], int]:
    """What a code still reads from outputs of which one file is damaged, and how many such outputs it refuses.

    Args:
        code: the code.
        calculation: one that has run; its files are put right again.
        names: of the files to be damaged.
        cuts: how often each is cut off somewhere.
        digits: how often one of its digits is changed.
    """
    random = np.random.default_rng(0)
    believed: list[Reading] = []
    refused = 0
    for name in names:
        file = calculation.directory / name
        whole = file.read_bytes()
        for content in _damaged(whole, random, cuts, digits):
            file.write_bytes(content)
            try:
                believed.append(code.believe(calculation))
            except OutputError:
                refused += 1
        file.write_bytes(whole)
    return believed, refused


def _damaged(whole: bytes, random: np.random.Generator, cuts: int, digits: int) -> Iterator[bytes]:
    for _ in range(cuts):
        yield whole[: random.integers(len(whole))]
    yield whole + whole
    yield whole + whole[len(whole) // 2 :]
    places = [place for place, byte in enumerate(whole) if chr(byte).isdigit()]
    for place in random.choice(places, size=digits):
        other = (whole[place] - ord("0") + int(random.integers(1, 10))) % 10
        yield whole[:place] + str(other).encode() + whole[place + 1 :]
