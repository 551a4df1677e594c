"""Reads what ORCA says: in its gradient file, and in its output."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
from ase.io import read
from ase.units import Bohr, Hartree

from alpot.reference.dft_code import Calculation, OutputError, Reading
from alpot.reference.populations import per_atom
from alpot.reference.witnesses import as_declared


def check_convergence(text: str) -> None:
    """Raises ``OutputError`` unless the output is that of a finished, converged run."""
    if text.count("ORCA TERMINATED NORMALLY") != 1:
        raise OutputError("the output of orca is not that of one calculation that has ended normally")
    if text.count("SCF CONVERGED AFTER") != 1 or re.search("SCF NOT CONVERGED|not fully converged", text, re.I):
        raise OutputError("the self-consistent field of orca did not converge")


def check_level(text: str, *, functional: str, basis: str, charge: int, multiplicity: int) -> None:
    """Raises ``OutputError`` unless the output repeats the settings.

    Args:
        text: of the output.
        functional, basis: the words that the first line of the input begins with; not checked where ORCA was told not
            to repeat its input.
        charge, multiplicity: of the molecule.
    """
    words = f"{functional} {basis}".lower().split()
    if (line := re.search(r"^\| *1> *!(.*)$", text, re.MULTILINE)) is not None:
        told = line[1].lower().split()[: len(words)]
        as_declared("functional and basis set", " ".join(told), " ".join(words))
    for title, asked in (("Total Charge +Charge", charge), ("Multiplicity +Mult", multiplicity)):
        numbers = re.findall(rf"^ *{title} +\.+ +(-?\d+) *$", text, re.MULTILINE)
        as_declared(title.partition(" +")[0].lower(), ", ".join(sorted(set(numbers))), str(asked))


def read_gradient(calculation: Calculation, text: str) -> Reading:
    """``orca.engrad``: number of atoms, energy, gradient, then atomic numbers and coordinates; atomic units."""
    lines = (calculation.directory / "orca.engrad").read_text().splitlines()
    values = " ".join(line for line in lines if not line.startswith("#")).split()
    n_atoms = int(values[0])
    if len(values) != 2 + 7 * n_atoms:
        raise OutputError("orca.engrad is not complete")
    gradient = np.array(values[2 : 2 + 3 * n_atoms], dtype=float).reshape(-1, 3)
    atoms = np.array(values[2 + 3 * n_atoms :], dtype=float).reshape(-1, 4)
    if atoms[:, 0].astype(int).tolist() != calculation.atoms.numbers.tolist():
        raise OutputError("orca.engrad is of another frame: it has other elements")
    (steps,) = re.findall(r"SCF CONVERGED AFTER +(\d+) +CYCLES", text)
    electrons = re.findall(r"Number of Electrons .*?(\d+)\s*$", text, re.MULTILINE)
    return Reading(
        energy=float(values[1]) * Hartree,
        forces=-gradient * Hartree / Bohr,
        positions=atoms[:, 1:] * Bohr,
        charges=_charges(text, n_atoms),
        charges_method="mulliken",
        facts={
            "program": "ORCA " + re.findall(r"Program Version +(\S+)", text)[0],
            "scf_steps": int(steps),
            "n_electrons": float(electrons[0]),
        },
    )


def _charges(text: str, n_atoms: int) -> np.ndarray | None:
    """Mulliken's charges of the atoms, e; behind them in a row is a moment where there are two spins.

    Loewdin's, which are printed below, have no sum.
    """
    return per_atom(
        text,
        n_atoms,
        title=r"^MULLIKEN ATOMIC CHARGES(?: AND SPIN POPULATIONS)? *\n-+\n",
        row=r" *(\d+) +[A-Z][a-z]? *: +(-?\d+\.\d+)(?: +-?\d+\.\d+)? *",
        total=r"Sum of atomic charges *: +(-?\d+\.\d+)",
        first=0,
    )


def read_output(file: Path, text: str) -> Reading:
    """The numbers of the output, by ASE.

    Args:
        file: of the output.
        text: its content.
    """
    if text.count("FINAL SINGLE POINT ENERGY") != 1 or text.count("CARTESIAN GRADIENT") != 1:
        raise OutputError("the output of orca does not hold one energy and one gradient")
    frames: Any = read(file, index=":", format="orca-output")
    (frame,) = frames
    results = frame.calc.results
    return Reading(energy=results["energy"], forces=results["forces"], positions=frame.positions)
