"""Reads what GPAW says: in its log, and in the results of ``gpaw_job``."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from alpot.reference.dft_code import Calculation, OutputError, Reading
from alpot.reference.witnesses import agree, as_declared

#: What the log calls the smearings.
_TITLES = {
    "marzari-vanderbilt": "Marzari-Vanderbilt", "methfessel-paxton": "Methfessel-Paxton",
    "fermi-dirac": "Fermi-Dirac", "fixed-uniform": "Fixed-uniform occupations",
}  # fmt: skip
_NUMBER = r"(-?\d+\.\d+)"
_ROW = rf"\| +{_NUMBER} +\| +{_NUMBER} +\| +{_NUMBER} +\|"


def check_convergence(text: str) -> None:
    """Raises ``OutputError`` unless the log is that of a finished, converged run."""
    if text.count("Input parameters:") != 1 or text.count("Force computation time:") != 1:
        raise OutputError("the log of GPAW is not that of one finished run")
    if len(re.findall(r"^Converged in \d+ steps$", text, re.MULTILINE)) != 1:
        raise OutputError("the self-consistent field of GPAW did not converge")


def check_level(text: str, calculation: Calculation, asked: Mapping[str, Any]) -> None:
    """Raises ``OutputError`` unless the log repeats the settings; tolerances are its last digits.

    Args:
        text: of the log.
        calculation: what was asked for.
        asked: the keywords of GPAW's calculator.
    """
    agree("cutoff", told(text, r"^Cutoff: (\S+) eV$"), calculation.cutoff, 0.051)
    agree("number of k points", told(text, r"^  Number of BZ points: (\d+)$"), math.prod(calculation.kpoints), 0.1)
    if calculation.kpoints != (1, 1, 1):
        agree("k-point grid", _grid(text), calculation.kpoints, 0.1)
    agree("charge", told(text, r"^  Charge: (\S+) "), calculation.dft.charge, 1e-3)
    agree("number of spins", told(text, r"^  Components: (\d+)$"), 2 if calculation.has_spin else 1, 0.1)
    occupations = asked["occupations"]
    titles = re.findall(r"^occupation numbers:\n  (.+):$", text, re.MULTILINE)
    as_declared("smearing", ", ".join(titles), _TITLES[occupations["name"]])
    agree("width of the smearing", told(text, r"^    width: (\S+)  # eV$"), occupations.get("width"), 1e-4)
    agree("order of the smearing", told(text, r"^    order: (\d+)$"), occupations.get("order"), 0.1)
    as_declared("functional", _functional(text), asked["xc"])
    used = re.findall(r"^ *file: +(\S.*)$", text, re.MULTILINE)
    if sorted(used) != sorted(calculation.pseudopotentials.values()):
        raise OutputError(f"GPAW used other PAW data sets than those asked for: {', '.join(used)}")


def _functional(text: str) -> str:
    """What the log says was used; GPAW's own LDA has no name there, but where the log repeats the input."""
    names = re.findall(r"^xc functional:\n  name: (\S+)", text, re.MULTILINE)
    if names == ["None"]:
        names = re.findall(r"^  xc=XC\(name='(LDA)'\)", text, re.MULTILINE)
    return ", ".join(names)


def _grid(text: str) -> list[float] | None:
    found = re.findall(r"^  Monkhorst-Pack size: \[(\d+), (\d+), (\d+)\]$", text, re.MULTILINE)
    return [float(n) for n in found[0]] if len(found) == 1 else None


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
