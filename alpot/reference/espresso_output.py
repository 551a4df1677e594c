"""Reads what pw.x says: in its XML file, which has all digits, and in its log, which ASE reads."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from ase.io import read
from ase.io.espresso import label_to_symbol
from ase.units import Bohr, Hartree, Rydberg, create_units

from alpot.reference.dft_code import Calculation, OutputError, Reading
from alpot.reference.witnesses import as_declared

#: What pw.x calls the functionals, in its input and in the XML file.
FUNCTIONALS = {
    "LDA": "pz", "PBE": "pbe", "PBEsol": "pbesol", "RPBE": "rpbe", "revPBE": "revpbe", "SCAN": "scan",
    "r2SCAN": "r2scan", "PBE0": "pbe0", "HSE06": "hse",
}  # fmt: skip
#: Others that it knows by a name (Modules/funct.f90); of a name that it does not know it takes what it understands.
OTHER_FUNCTIONALS = frozenset({
    "b3lyp", "b3lyp-v1r", "b86bpbe", "b86bpbex", "blyp", "bp", "ev93", "gaup", "gaupbe", "hcth", "hf", "m06l", "oep",
    "olyp", "optb86b-vdw", "optbk88", "pw86pbe", "pw91", "q2d", "rscan", "rvv10", "scan0", "sogga", "tb09", "tpss",
    "vdw-df", "vdw-df-c09", "vdw-df-cx", "vdw-df-ob86", "vdw-df-obk8", "vdw-df2", "vdw-df2-b86r", "vdw-df2-c09",
    "vdw-df3-opt1", "vdw-df3-opt2", "wc", "x3lyp",
})  # fmt: skip
_SMEARINGS_TOLD = {"mv": "cold", "mp": "mp", "gaussian": "gauss", "fd": "fd"}
#: ASE converts the log with the constants of 2006.
_OLD = create_units("2006")
_FORCE_RATIO = (Rydberg / Bohr) / (_OLD["Ry"] / _OLD["Bohr"])
_STRESS_RATIO = (Rydberg / Bohr**3) / (_OLD["Ry"] / _OLD["Bohr"] ** 3)


def check_convergence(text: str) -> None:
    """Raises ``OutputError`` unless the log is that of a finished, converged run."""
    if "JOB DONE." not in text:
        raise OutputError("the log of pw.x does not end with JOB DONE")
    # Hybrid functionals converge the exchange around the density, many times, and mark the last energy with !!.
    is_hybrid = "EXX self-consistency reached" in text
    n_converged = text.count("convergence has been achieved")
    if "convergence NOT achieved" in text or n_converged < 1 or (n_converged > 1 and not is_hybrid):
        raise OutputError("the self-consistent field of pw.x did not converge")


def check_level(root: Any, calculation: Calculation, asked: Mapping[str, Any], electrons: float) -> None:
    """Raises ``OutputError`` unless the XML file repeats the settings.

    Args:
        root: of the XML file.
        calculation: what was asked for.
        asked: the namelists, with energies in Rydberg.
        electrons: number of valence electrons.
    """

    def told(path: str) -> str:
        return root.findtext(path, "nothing").lower()

    system = asked["system"]
    as_declared("ecutwfc", float(told("output/basis_set/ecutwfc")), system["ecutwfc"] / 2)  # Hartree there
    as_declared("ecutrho", float(told("output/basis_set/ecutrho")), system["ecutrho"] / 2)
    as_declared("tot_charge", float(told("input/bands/tot_charge")), float(system["tot_charge"]))
    as_declared("occupations", told("input/bands/occupations"), system["occupations"])
    as_declared("number of electrons", float(told("output/band_structure/nelec")), electrons)
    as_declared("spin", told("output/magnetization/lsda"), "true" if system.get("nspin") == 2 else "false")
    # It has other names for others, and for its parts (sla+pw+pbx+pbc).
    if told("output/dft/functional") in FUNCTIONALS.values() and "+" not in system["input_dft"]:
        as_declared("functional", told("output/dft/functional"), system["input_dft"].lower())
    width = root.find("output/band_structure/smearing")
    if system["occupations"] == "smearing" and width is not None:
        as_declared("smearing", _SMEARINGS_TOLD.get(told("output/band_structure/smearing")), system["smearing"])
        as_declared("degauss", float(width.get("degauss", "nan")), system["degauss"] / 2)
    grid = root.find("output/band_structure/starting_k_points/monkhorst_pack")
    mesh = {} if grid is None else grid.attrib
    told_mesh = tuple(int(mesh.get(f"nk{i}", "1")) for i in (1, 2, 3))
    as_declared("k-point grid", str(told_mesh), str(tuple(calculation.kpoints)))


def read_xml(root: Any) -> Reading:
    """The numbers of the XML file, in Hartree atomic units there."""

    def numbers(path: str) -> np.ndarray:
        return np.array(root.findtext(f"output/{path}", "").split(), dtype=float)

    def number(path: str) -> float:
        (value,) = numbers(path)
        return float(value)

    if root.findtext("output/convergence_info/scf_conv/convergence_achieved") != "true" or root.find("closed") is None:
        raise OutputError("the XML file of pw.x is not that of a converged, finished calculation")
    if root.findtext("status") != "0":
        raise OutputError(f"pw.x gives the exit status {root.findtext('status')}")
    atoms = root.findall("output/atomic_structure/atomic_positions/atom")
    stress = numbers("stress").reshape(3, 3) * Hartree / Bohr**3
    smearing = root.findtext("output/total_energy/demet")
    moment = root.findtext("output/magnetization/total")
    return Reading(
        energy=number("total_energy/etot") * Hartree,
        forces=numbers("forces").reshape(-1, 3) * Hartree / Bohr,
        stress=-stress.flat[[0, 4, 8, 5, 2, 1]],  # its sign is that of the pressure
        smearing_energy=None if smearing is None else float(smearing) * Hartree,
        positions=np.array([(atom.text or "").split() for atom in atoms], dtype=float) * Bohr,
        cell=np.array([numbers(f"atomic_structure/cell/a{i}") for i in (1, 2, 3)]) * Bohr,
        symbols=[label_to_symbol(atom.attrib["name"]) for atom in atoms],
        magnetic_moment=None if root.findtext("output/magnetization/lsda") != "true" else float(moment or "nan"),
        facts={
            "program": f"pw.x {root.find('general_info/creator').attrib['VERSION']}",
            "scf_steps": int(number("convergence_info/scf_conv/n_scf_steps")),
            "n_kpoints": int(number("band_structure/nks")),
            "n_electrons": number("band_structure/nelec"),
        },
    )


def read_log(log: Path, text: str) -> Reading:
    """The numbers of the log, most of them by ASE.

    Args:
        log: the file.
        text: its content.
    """

    def last(pattern: str) -> float | None:
        found = re.findall(pattern + r"\s*(-?\d\S*)", text)
        return float(found[-1]) if found else None

    frames: Any = read(log, index=":", format="espresso-out")
    if len(frames) != 1:
        raise OutputError(f"the log of pw.x holds {len(frames)} frames")
    results = frames[0].calc.results
    mark = "!!" if "EXX self-consistency reached" in text else "!"
    (energy,) = re.findall(rf"^{mark} +total energy += +(-?\d\S*) Ry", text, re.MULTILINE)
    smearing = last(r"smearing contrib\. \(-TS\) *=")
    facts = {
        "scf_steps": last("convergence has been achieved in"),
        "n_kpoints": last("number of k points="),
        "n_electrons": last("number of electrons *="),
    }
    return Reading(
        energy=float(energy) * Rydberg,
        forces=results["forces"] * _FORCE_RATIO,
        stress=results["stress"] * _STRESS_RATIO,
        smearing_energy=None if smearing is None else smearing * Rydberg,
        positions=frames[0].positions,
        cell=frames[0].cell.array,
        symbols=frames[0].get_chemical_symbols(),
        magnetic_moment=last("total magnetization *="),
        facts=facts,
    )
