"""The corpus of outputs in ``corpus/``, good ones and those of runs that went wrong: scripts/make_dft_corpus.py."""

import gzip
import json
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import numpy as np
from ase import Atoms

from alpot.config import Dft
from alpot.reference.dft import judged
from alpot.reference.dft_code import Calculation, DftCode, Reading
from alpot.reference.ladder import Ladder
from alpot.reference.registry import DFT_CODES

ROOT = Path(__file__).parent / "corpus"


@dataclass(frozen=True)
class Case:
    """An output, and what was asked for when it was written.

    Attributes:
        code: name of the code.
        name: folder in ``corpus/<code>/``.
        status: exit status of the program.
        declared: frame, settings, and what else makes a ``Calculation``.
        failure, symptom: what is wrong with it; None for a good one.
        numbers: what a good one says, in eV, eV/Å, eV/Å³, Bohr magnetons and e.
        is_disk_full: whether the disk was full when it ended.
    """

    code: str
    name: str
    status: int
    declared: dict[str, Any]
    failure: str | None
    symptom: str | None
    numbers: dict[str, Any]
    is_disk_full: bool = False

    @property
    def files(self) -> dict[str, bytes]:
        """Content of the files by their names in the run's directory."""
        folder = ROOT / self.code / self.name
        return {
            path.relative_to(folder).as_posix().removesuffix(".gz"): gzip.decompress(path.read_bytes())
            for path in sorted(folder.rglob("*.gz"))
        }

    def calculation(self, directory: Path) -> Calculation:
        """What was asked for, as if it had run in this directory."""
        given = dict(self.declared)
        frame = given.pop("frame")
        folder = ROOT / self.code
        beside = {path.name for path in folder.iterdir()}
        return Calculation(
            atoms=Atoms(frame["symbols"], positions=frame["positions"], cell=frame["cell"], pbc=frame["pbc"]),
            directory=directory,
            dft=Dft(**given["dft"]),
            pseudopotentials={
                symbol: str(folder / name) if name in beside else name
                for symbol, name in given["pseudopotentials"].items()
            },
            arguments=given["arguments"],
            kpoints=tuple(given["kpoints"]),
        )

    def judge(self, directory: Path, status: int | None = None) -> Reading:
        """The verdict of a campaign on the files in a directory; ``status``: another than the recorded one."""
        used = self.status if status is None else status
        with ExitStack() as stack:
            if self.is_disk_full:
                full = patch("shutil.disk_usage", lambda path: SimpleNamespace(free=0))
                stack.enter_context(full)
            return judged(code_of(self.code), Ladder.of(self.code), self.calculation(directory), used)


def unpack(files: dict[str, bytes], directory: Path) -> None:
    """Writes the files of a case into a directory."""
    for name, content in files.items():
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).write_bytes(content)


@cache
def code_of(name: str) -> DftCode:
    """The adapter of a code."""
    module, _, kind = DFT_CODES[name].partition(":")
    adapter: DftCode = getattr(import_module(module), kind)()
    return adapter


def codes() -> list[str]:
    """Codes that have a corpus and an adapter."""
    return [name for name in DFT_CODES if (ROOT / name / "corpus.json").is_file()]


@cache
def cases(code: str) -> tuple[Case, ...]:
    """The corpus of a code."""
    table = json.loads((ROOT / code / "corpus.json").read_text())
    return tuple(Case(code=code, **row) for row in table["cases"])


def numbers_of(reading: Reading) -> dict[str, Any]:
    """What a label holds of a reading."""
    return {
        "energy": reading.energy,
        "forces": reading.forces.tolist(),
        "stress": None if reading.stress is None else reading.stress.tolist(),
        "smearing_energy": reading.smearing_energy,
        "magnetic_moment": reading.magnetic_moment,
        "magnetic_moments": None if reading.magnetic_moments is None else reading.magnetic_moments.tolist(),
        "charges": None if reading.charges is None else reading.charges.tolist(),
    }


#: Numbers with one value for each atom that an output tells once: information, without which a label is as good.
_INFORMATION = {"abinit": ("magnetic_moments",), "cp2k": ("charges",)}
#: What rounding in the coarser of two places may hide, in eV, eV/Å, eV/Å³, Bohr magnetons, e.
TOLERANCES = {
    "energy": 2e-6,
    "forces": 2e-6,
    "stress": 2e-6,
    "smearing_energy": 2e-6,
    "magnetic_moment": 6e-3,
    "magnetic_moments": 6e-3,
    "charges": 1e-9,
}
#: GPAW's log has 5 digits of the forces, and 6 of each of the eight energies whose sum is the entropy's other witness.
_COARSER = {"gpaw": {"forces": 1.1e-5, "smearing_energy": 1e-5}}


def wrong_number(reading: Reading, case: Case, *, is_damaged: bool = False) -> str | None:
    """The first number in which a reading is not what a good case says, in words; None if all are right.

    In a damaged output, what is information only may be missing, or be another, but is a finite number of each atom.
    """
    tolerances = TOLERANCES | _COARSER.get(case.code, {})
    seen = numbers_of(reading)
    for key, value in seen.items():
        expected = case.numbers.get(key)
        if is_damaged and key in _INFORMATION.get(case.code, ()):
            if value is not None and (len(value) != len(reading.forces) or not np.isfinite(value).all()):
                return f"{key} is {value}, of {len(reading.forces)} atoms"
            continue
        if (value is None) != (expected is None):
            return f"{key} is {value}, not {expected}"
        if value is None:
            continue
        a, b = np.asarray(value, dtype=float), np.asarray(expected, dtype=float)
        if a.shape != b.shape or not np.abs(a - b).max(initial=0.0) <= tolerances[key]:
            return f"{key} is {value}, not {expected}"
    return None
