"""Reads what VASP says: in vasprun.xml, which has all digits, and in OUTCAR."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np
from ase.io import read

from alpot.reference.dft_code import Calculation, OutputError, Reading
from alpot.reference.witnesses import agree, as_declared

#: Those that are called the same in INCAR and in vasprun.xml; "--" there is that of POTCAR.
_FUNCTIONALS = ("CA", "PE", "PS", "RP", "RE")


def check_convergence(text: str) -> None:
    """Raises ``OutputError`` unless OUTCAR is that of a finished, converged run."""
    if text.count("General timing and accounting informations for this job") != 1:
        raise OutputError("OUTCAR is not that of one calculation that has ended")
    if text.count("aborting loop because EDIFF is reached") != 1:
        raise OutputError("the self-consistent field of VASP did not converge")


def check_level(root: Any, calculation: Calculation, asked: Mapping[str, Any], electrons: float) -> None:
    """Raises ``OutputError`` unless vasprun.xml repeats the settings.

    Args:
        root: of vasprun.xml.
        calculation: what was asked for.
        asked: the tags of INCAR, in lower case.
        electrons: number of valence electrons.
    """
    # Some versions put spaces behind the names.
    told = {tag.get("name", "").strip(): (tag.text or "").strip() for tag in root.iterfind("parameters//i")}
    agree("cutoff in eV", float(told["ENMAX"]), asked["encut"], 1e-6)
    as_declared("ISMEAR", told["ISMEAR"], str(asked["ismear"]))
    agree("width of the smearing in eV", float(told["SIGMA"]), asked["sigma"], 1e-6)
    as_declared("ISPIN", told["ISPIN"], str(asked["ispin"]))
    # POTCAR says with three digits how many each atom has.
    agree("number of electrons", float(told["NELECT"]), electrons, 1e-3 * len(calculation.atoms))
    mesh = root.findtext("kpoints/generation/v[@name='divisions']", "")
    as_declared("k-point grid", " ".join(mesh.split()), " ".join(map(str, calculation.kpoints)))
    # What is told of the functional has changed with the versions.
    if "gga" in asked and told.get("GGA") in _FUNCTIONALS:
        as_declared("GGA", told["GGA"], asked["gga"])
    if "LHFCALC" in told:
        as_declared("LHFCALC", told["LHFCALC"], "T" if asked.get("lhfcalc") else "F")
    if asked.get("lhfcalc") and "HFSCREEN" in told:
        agree("HFSCREEN", float(told["HFSCREEN"]), asked.get("hfscreen", 0.0), 1e-6)


def read_xml(calculation: Calculation, root: Any) -> Reading:
    """The numbers of vasprun.xml, whose root is given, and the moment from OSZICAR."""
    frames: Any = read(calculation.directory / "vasprun.xml", index=":", format="vasp-xml")
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
