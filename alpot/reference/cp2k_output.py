"""Reads what CP2K says: in its log, and in the files that it writes for a run of dynamics."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.units import Bohr, GPa, Hartree

from alpot.reference.dft_code import Calculation, OutputError, Reading
from alpot.reference.populations import per_atom
from alpot.reference.witnesses import agree, as_declared

_NUMBER = r"([-+]?\d+\.\d+(?:E[-+]\d+)?)"
_VECTOR = rf"{_NUMBER} +{_NUMBER} +{_NUMBER}"
_BAR = GPa / 1e4


def check_convergence(text: str) -> None:
    """Raises ``OutputError`` unless the log is that of a finished, converged run."""
    if not text.count("PROGRAM STARTED AT") == text.count("PROGRAM ENDED AT") == 1:
        raise OutputError("the log of CP2K is not that of one finished run")
    # A warning of the last step; where the basis set has no more orbitals, there is nothing to add.
    last_step = re.split("SCF run converged in|Leaving inner SCF loop", text, maxsplit=1)[0].splitlines()[-10:]
    if any("Add more MOs" in line for line in last_step) and "More added MOs requested" not in text:
        raise OutputError("CP2K had too few bands for the smearing: Add more MOs", symptom="too_few_bands")
    if "SCF run NOT converged" in text or text.count("SCF run converged in") != 1:
        raise OutputError("the self-consistent field of CP2K did not converge")


def check_level(text: str, calculation: Calculation, asked: Mapping[str, Any], electrons: int) -> None:
    """Raises ``OutputError`` unless the log repeats the settings; tolerances are its last digits.

    Args:
        text: of the log.
        calculation: what was asked for.
        asked: the section DFT of the input.
        electrons: number of valence electrons.
    """
    scf = asked["SCF"]
    cutoff = _told_number(text, r"QS\| Density cutoff \[a\.u\.\]:")
    agree("cutoff of the density in Hartree", cutoff, calculation.cutoff / Hartree, 0.051)
    agree(
        "threshold of self-consistency",
        _told_number(text, "eps_scf:"),
        float(scf["EPS_SCF"]),
        0.01 * float(scf["EPS_SCF"]),
    )
    if "SMEAR" in scf:
        temperature = float(scf["SMEAR"]["ELECTRONIC_TEMPERATURE"].removeprefix("[K]"))
        agree("electronic temperature in K", _told_number(text, r"Electronic temperature \[K\]:"), temperature, 0.1)
    elif "Electronic temperature" in text:
        raise OutputError("CP2K has smeared the occupations, which it was not asked for")
    if ("SMEAR" in scf) != ("Electronic entropic energy:" in text):
        raise OutputError("the log of CP2K does not tell the entropy of the smearing, or tells one without smearing")
    agree("number of electrons", _count_electrons(text), electrons, 1e-9)
    spins = _told_number(text, r"DFT\| Number of spin states")
    agree("number of spins", spins, 2 if calculation.has_spin else 1, 1e-9)
    told = _told_number(text, r"BRILLOUIN\| List of Kpoints .*") if "BRILLOUIN|" in text else None
    agree("number of k points", told, len(asked["KPOINTS"]["KPOINT"]) if "KPOINTS" in asked else None, 1e-9)
    names_told = sorted(set(re.findall(r"^ *FUNCTIONAL\| ([A-Z][A-Z0-9_]+):", text, re.MULTILINE)))
    as_declared("functional", "+".join(names_told), "+".join(sorted(asked["XC"]["XC_FUNCTIONAL"])))
    for variant in ("PBEsol", "revPBE"):
        is_told = re.search(rf"^ *FUNCTIONAL\| +{variant},", text, re.MULTILINE) is not None
        if is_told != (calculation.dft.functional == variant):
            said = variant if is_told else f"not {variant}"
            raise OutputError(f"the output is of another level of theory: its functional is {said}")


def read_files(calculation: Calculation) -> Reading:
    """The numbers in the files."""
    folder = calculation.directory
    energy, positions = _xyz(folder / "alpot-pos-1.xyz", calculation)
    same_energy, forces = _xyz(folder / "alpot-frc-1.xyz", calculation)
    cell, stress = _one_row(folder / "alpot-1.cell", 12), _one_row(folder / "alpot-1.stress", 11)
    if energy != same_energy:
        raise OutputError("the files of CP2K are not those of one frame")
    return Reading(
        energy=energy * Hartree,
        forces=forces * Hartree / Bohr,
        stress=_stress(stress[2:].reshape(3, 3)) * _BAR,
        positions=positions,
        cell=cell_signs(calculation.atoms) * cell[2:11].reshape(3, 3),
    )


def cell_signs(atoms: Atoms) -> np.ndarray:
    """(3, 1) signs with which CP2K takes the cell vectors; the lattice is the same.

    On a diagonal cell with negative entries its grids are nonsense (seen in 2023.1, energies of 500 Hartree), and it
    wants right-handed cells.
    """
    cell = atoms.cell.array
    diagonal = np.diag(cell)
    if np.array_equal(cell, np.diag(diagonal)):
        return np.sign(diagonal)[:, np.newaxis]
    return np.full((3, 1), np.sign(np.linalg.det(cell)))


def _xyz(file: Path, calculation: Calculation) -> tuple[float, np.ndarray]:
    head, comment, *rows = file.read_text().splitlines()
    words = [row.split() for row in rows]
    if int(head) != len(calculation.atoms) or [row[0] for row in words] != list(calculation.atoms.symbols):
        raise OutputError(f"{file.name} has not the atoms that were asked for")
    return float(comment.split("E =")[1]), np.array([row[1:] for row in words], dtype=float)


def _one_row(file: Path, count: int) -> np.ndarray:
    """The numbers below a line of titles."""
    _, row = file.read_text().splitlines()
    numbers = np.array(row.split(), dtype=float)
    if numbers.shape != (count,):
        raise OutputError(f"{file.name} has {len(numbers)} numbers, not {count}")
    return numbers


def _stress(tensor: np.ndarray) -> np.ndarray:
    """ASE's components and sign of a tensor whose sign is that of the pressure; it must be symmetric."""
    agree("off-diagonal stress", tensor, tensor.T, 1e-9 * float(np.abs(tensor).max()))
    return -tensor.flat[[0, 4, 8, 5, 2, 1]]


def read_log(text: str, calculation: Calculation) -> Reading:
    """The numbers in the log. Titles are those of versions up to 2024, or of later ones."""
    n_atoms = len(calculation.atoms)
    ((energy,),) = _rows(text, rf"ENERGY\| Total FORCE_EVAL .*energy \[.*\]:? +{_NUMBER}", 1)
    block = _between(text, r"FORCES\| Atomic forces \[hartree/bohr\]|ATOMIC FORCES in \[a\.u\.\]", "SUM OF|Sum")
    forces = _rows(block, rf"(?:FORCES\|)? *\d+ +(?:\d+ +[A-Z][a-z]? +)?{_VECTOR}(?: +[\d.E+-]+)?", n_atoms)
    block = _between(text, r"STRESS\| Analytical stress tensor \[GPa\]", r"STRESS\| 1/3 Trace")
    stress = np.array(_rows(block, rf"STRESS\| +[xyz] +{_VECTOR}", 3), dtype=float)
    ((trace,),) = _rows(text, rf"STRESS\| 1/3 Trace +{_NUMBER}", 1)
    agree("trace of the stress", np.trace(stress) / 3.0, float(trace), 1e-9 * float(np.abs(stress).max()))
    moment, moments = _moments(text, calculation)
    return Reading(
        energy=float(energy) * Hartree,
        forces=np.array(forces, dtype=float) * Hartree / Bohr,
        stress=_stress(stress) * GPa,
        smearing_energy=_smearing_energy(text),
        magnetic_moment=moment,
        magnetic_moments=moments,
        charges=_charges(text, calculation),
        charges_method="mulliken",
        facts={
            "program": _one(text, r"CP2K\| version string: +(.+)"),
            "scf_steps": int(_one(text, r"SCF run converged in +(\d+) steps")),
            "n_kpoints": int(_one(text, r"BRILLOUIN\| List of Kpoints .* (\d+)") if "BRILLOUIN|" in text else 1),
            "n_electrons": _count_electrons(text),
        },
    )


def _told_number(text: str, title: str) -> float:
    """The one number that stands behind a title."""
    found = re.findall(rf"{title} +([-+.\dE]+) *$", text, re.MULTILINE)
    if len(found) != 1:
        raise OutputError(f"the log of CP2K has {len(found)} lines that end with {title!r} and a number, not one")
    return float(found[0])


def _count_electrons(text: str) -> int:
    """Of both spins, which have a line each."""
    return sum(int(count) for (count,) in _rows(text, r"Number of electrons: +(\d+)"))


def _smearing_energy(text: str) -> float | None:
    """−TS in eV; the other witness is the sum, of which it is a term."""
    if "Electronic entropic energy:" not in text:
        return None
    block = _between(text, "Overlap energy of the core charge distribution", r"^ *Total energy:", keep_first_line=True)
    terms = {name.strip(): float(value) for name, value in _rows(block, rf"(.+?): +{_NUMBER}")}
    terms.pop("Fermi energy")
    ((total,),) = _rows(text, rf"Total energy: +{_NUMBER}", 1)
    # The terms are those of the last step's end, the total is that of its beginning.
    tolerance = 1e-9 + 0.1 * _told_number(text, "eps_scf:")
    agree("sum of the terms of the energy", sum(terms.values()), float(total), tolerance)
    return terms["Electronic entropic energy"] * Hartree


def _moments(text: str, calculation: Calculation) -> tuple[float | None, np.ndarray | None]:
    """Moment of the cell, and Mulliken's of the atoms, in Bohr magnetons."""
    if not calculation.has_spin:
        return None, None
    ((moment,),) = _rows(text, rf"# Total charge and spin +(?:\S+ +){{3}}{_NUMBER}", 1)
    block = _between(text, r"Atomic population \(alpha,beta\) Net charge  Spin moment", "# Total charge and spin")
    rows = _rows(block, rf"\d+ +[A-Z][a-z]? +\d+ +(?:\S+ +){{3}}{_NUMBER}", len(calculation.atoms))
    moments = np.array(rows, dtype=float)[:, 0]
    agree("moment of the cell", float(moments.sum()), float(moment), 1e-6 * len(moments))
    return float(moment), moments


def _charges(text: str, calculation: Calculation) -> np.ndarray | None:
    """Mulliken's charges of the atoms, e; before them in a row is the population of each spin, behind them a moment."""
    before, after = (r" +\S+ +\S+", r" +\S+") if calculation.has_spin else (r" +\S+", "")
    return per_atom(
        text,
        len(calculation.atoms),
        title=r"^ *#  Atom  Element  Kind  Atomic population .*\n",
        row=rf" *(\d+) +[A-Z][a-z]? +\d+{before} +{_NUMBER}{after} *",
        total=rf" *# Total charge(?: and spin)?{before} +{_NUMBER}",
    )


def _between(text: str, begin: str, end: str, *, keep_first_line: bool = False) -> str:
    """The one part of the log between two patterns."""
    parts = re.split(begin, text, flags=re.MULTILINE)
    if len(parts) != 2:
        raise OutputError(f"the log of CP2K has {len(parts) - 1} blocks that begin with {begin!r}")
    ends = re.split(end, parts[1], maxsplit=1, flags=re.MULTILINE)
    if len(ends) != 2:
        raise OutputError(f"the log of CP2K has no end of the block that begins with {begin!r}")
    return f"{begin}{ends[0]}" if keep_first_line else ends[0]


def _rows(text: str, pattern: str, count: int | None = None) -> list[tuple[str, ...]]:
    """The groups of all whole lines that match; as many as ``count``."""
    found = [match.groups() for match in re.finditer(rf"^ *{pattern} *$", text, re.MULTILINE)]
    if count is not None and len(found) != count:
        raise OutputError(f"the log of CP2K has {len(found)} lines that match {pattern!r}, not {count}")
    return found


def _one(text: str, pattern: str) -> str:
    found = re.search(pattern, text)
    if found is None:
        raise OutputError(f"the log of CP2K has no line that matches {pattern!r}")
    return found[1]
