"""Reads what GPAW says: in its log, and in the results of ``gpaw_job``."""

from __future__ import annotations

import re
from typing import Any

import numpy as np

from alpot.reference.dft_code import Calculation, OutputError, Reading
from alpot.reference.witnesses import agree

_NUMBER = r"(-?\d+\.\d+)"
_ROW = rf"\| +{_NUMBER} +\| +{_NUMBER} +\| +{_NUMBER} +\|"


def read_results(results: dict[str, Any], log: Reading) -> Reading:
    """What the job has written; what has no spin has no moments."""
    has_spin = log.magnetic_moment is not None
    moment, moments = results["magnetic_moment"], np.array(results["magnetic_moments"], dtype=float)
    if has_spin:
        agree("moment of the cell", moment, log.magnetic_moment, 1e-6)
        agree("moments of the atoms", moments, log.magnetic_moments, 1e-6)
    stress = results["stress"]
    return Reading(
        energy=float(results["free_energy"]),
        forces=np.array(results["forces"], dtype=float),
        stress=None if stress is None else np.array(stress, dtype=float),
        smearing_energy=log.smearing_energy,
        positions=np.array(results["positions"], dtype=float),
        cell=np.array(results["cell"], dtype=float),
        magnetic_moment=float(moment) if has_spin else None,
        magnetic_moments=moments if has_spin else None,
        facts={**log.facts, "program": f"GPAW {results['version']}"},
    )


def read_log(text: str, calculation: Calculation) -> Reading:
    """The numbers in the log."""
    n_atoms = len(calculation.atoms)
    block = _between(text, "^Energy contributions:$", r"\n\n")
    terms = {name.strip(): float(value) for name, value in re.findall(rf"^  (.+): +{_NUMBER}$", block, re.MULTILINE)}
    energy, entropy = terms.pop("Free energy"), terms["Entropy"]
    terms.pop("Extrapolated")
    agree("sum of the terms of the energy", sum(terms.values()), energy, 0.51e-6 * (len(terms) + 1))
    stress = None
    if calculation.atoms.pbc.all():
        stress = _table(_between(text, "^Stress tensor", r"\n\n"), _ROW, 3).flat[[0, 4, 8, 5, 2, 1]]
    moment, moments = None, None
    if calculation.has_spin:
        found = _between(text, "^Total magnetic moment:", "$")
        moment = float(found.strip(" ()").split(",")[-1])
        moments = _table(_between(text, "^Local magnetic moments", r"\n\n"), rf"{_ROW}  # .*", n_atoms)[:, 2]
    frame = _between(text, "^Atoms  #", r"\n\n")
    if re.findall(r"^\| +\d+ \| +([A-Z][a-z]?) ", frame, re.MULTILINE) != list(calculation.atoms.symbols):
        raise OutputError("the log of GPAW has not the atoms that were asked for")
    return Reading(
        energy=energy,
        forces=_table(_between(text, "^Forces  # eV/Ang", r"\n\n"), rf"{_ROW}  # .*", n_atoms),
        stress=stress,
        smearing_energy=None if told(text, r"^    width: (\S+)  # eV$") is None else entropy,
        positions=_table(frame, rf"\| +\d+ \| +[A-Z][a-z]? {_ROW}.*", n_atoms),
        cell=_table(_between(text, "^Unit cell  #", r"\n\n"), rf"\| +(?:yes|no) {_ROW}.*", 3),
        magnetic_moment=moment,
        magnetic_moments=moments,
        facts={
            "scf_steps": int(_between(text, "^Converged in ", " steps$")),
            "n_kpoints": int(_between(text, "^  Number of IBZ points: ", "$")),
            "n_electrons": float(_between(text, "^  Valence electrons: ", "$")),
        },
    )


def told(text: str, pattern: str) -> float | None:
    """The number in the one line that matches; None where there is no such line."""
    found = re.findall(pattern, text, re.MULTILINE)
    if len(found) > 1:
        raise OutputError(f"the log of GPAW has {len(found)} lines that match {pattern!r}")
    return float(found[0]) if found else None


def _between(text: str, begin: str, end: str) -> str:
    """The one part of the log between two patterns."""
    parts = re.split(begin, text, flags=re.MULTILINE)
    if len(parts) != 2:
        raise OutputError(f"the log of GPAW has {len(parts) - 1} parts that begin with {begin!r}, not one")
    return re.split(end, parts[1], maxsplit=1, flags=re.MULTILINE)[0]


def _table(block: str, row: str, count: int) -> np.ndarray:
    """(count, 3) numbers of all lines that are such rows."""
    found = re.findall(rf"^{row}$", block, re.MULTILINE)
    if len(found) != count:
        raise OutputError(f"a table in the log of GPAW has {len(found)} rows, not {count}")
    return np.array(found, dtype=float)
