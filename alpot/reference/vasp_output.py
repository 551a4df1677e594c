"""Reads what VASP says: in vasprun.xml, which has all digits, and in OUTCAR."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
from ase.io import read
from defusedxml import ElementTree

from alpot.reference.dft_code import Calculation, OutputError, Reading


def check_convergence(text: str) -> None:
    """Raises ``OutputError`` unless OUTCAR is that of a finished, converged run."""
    if text.count("General timing and accounting informations for this job") != 1:
        raise OutputError("OUTCAR is not that of one calculation that has ended")
    if text.count("aborting loop because EDIFF is reached") != 1:
        raise OutputError("the self-consistent field of VASP did not converge")


def read_xml(calculation: Calculation) -> Reading:
    """The numbers of vasprun.xml, and the moment from OSZICAR."""
    file = calculation.directory / "vasprun.xml"
    # ASE takes what there is of a torn file; this does not.
    root = ElementTree.parse(file, forbid_dtd=True).getroot()
    frames: Any = read(file, index=":", format="vasp-xml")
    if len(frames) != 1 or len(root.findall("calculation")) != 1:
        raise OutputError(f"vasprun.xml holds {len(frames)} calculations")
    (frame,) = frames
    steps = root.findall("calculation/scstep")
    if not len(steps) < int(frame.calc.parameters["nelm"]):
        raise OutputError("the self-consistent field of VASP used up its steps")
    terms = {item.attrib["name"]: float(item.text or "nan") for item in steps[-1].findall("energy/i")}
    order = order_of(calculation)
    if list(frame.symbols) != list(calculation.atoms.symbols[order]):
        raise OutputError("vasprun.xml is of another frame: it has other elements")
    moments = re.findall(r"^ +1 F=.* mag= *(\S+)", (calculation.directory / "OSZICAR").read_text(), re.MULTILINE)
    return Reading(
        energy=frame.calc.results["free_energy"],
        forces=_unsorted(frame.calc.results["forces"], order),
        stress=frame.calc.results["stress"],
        smearing_energy=terms["e_fr_energy"] - terms["e_wo_entrp"],
        positions=_unsorted(frame.positions, order),
        cell=frame.cell.array,
        magnetic_moment=float(moments[-1]) if calculation.has_spin else None,
        facts={
            "program": "VASP " + root.findtext("generator/i[@name='version']", "").strip(),
            "scf_steps": len(steps),
            "n_kpoints": len(root.findall("kpoints/varray[@name='kpointlist']/v")),
            "n_electrons": float(frame.calc.parameters["nelect"]),
        },
    )


def read_outcar(calculation: Calculation, text: str) -> Reading:
    """The numbers of OUTCAR, whose text is given; most of them by ASE."""
    frames: Any = read(calculation.directory / "OUTCAR", index=":", format="vasp-out")
    order = order_of(calculation)
    if len(frames) != 1 or list(frames[0].symbols) != list(calculation.atoms.symbols[order]):
        raise OutputError("OUTCAR does not hold one calculation of the elements that were asked for")
    results = frames[0].calc.results
    moments = re.findall(r"^ number of electron +\S+ +magnetization +(\S+)", text, re.MULTILINE)
    return Reading(
        energy=results["free_energy"],
        forces=_unsorted(results["forces"], order),
        stress=results["stress"],
        smearing_energy=float(re.findall(r"EENTRO *= *(\S+)", text)[-1]),
        positions=_unsorted(frames[0].positions, order),
        cell=frames[0].cell.array,
        magnetic_moment=float(moments[-1]) if calculation.has_spin else None,
    )


def order_of(calculation: Calculation) -> np.ndarray:
    """(n_atoms,) indices of the atoms in VASP's order, which is element by element."""
    return np.argsort(calculation.atoms.numbers, kind="stable")


def _unsorted(values: np.ndarray, order: np.ndarray) -> np.ndarray:
    result = np.empty_like(values)
    result[order] = values
    return result
