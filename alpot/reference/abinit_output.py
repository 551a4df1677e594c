"""Reads what abinit says: where it computed the results, and in the closing echo of all variables."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping
from typing import Any

import numpy as np
from ase.io.abinit import read_abinit_out
from ase.units import Bohr, Hartree

from alpot.reference.dft_code import Calculation, OutputError, Reading
from alpot.reference.populations import per_atom
from alpot.reference.witnesses import agree, as_declared

_ECHO = "outvars: echo values of variables after computation"
_OCCUPIED = "The minimal occupation factor is"


def check_convergence(text: str, log: str) -> None:
    """Raises ``OutputError`` unless output and log are those of a finished, converged run with enough bands."""
    if text.count(" Calculation completed.") != 1 or text.count(_ECHO) != 1:
        raise OutputError("the output of abinit is not that of one calculation that was completed")
    if "not enough scf cycles" in text or len(re.findall(r"At SCF step +\d+, etot is converged", text)) != 1:
        raise OutputError("the self-consistent field of abinit did not converge")
    if _OCCUPIED in log:
        raise OutputError("the highest band of abinit is not empty")


def check_level(text: str, calculation: Calculation, asked: Mapping[str, Any]) -> None:
    """Raises ``OutputError`` unless the output repeats the settings.

    Args:
        text: of the output.
        calculation: what was asked for.
        asked: the input variables, with energies in eV.
    """
    told = _variables_told(text)
    as_declared("charge", told["charge"], float(asked["charge"]))
    as_declared("occopt", told["occopt"], float(asked["occopt"]))
    if "tsmear" in asked:
        as_declared("tsmear in eV", told["tsmear"] * Hartree, float(asked["tsmear"]))
    has_moments = calculation.has_spin and bool(calculation.moments.any())
    as_declared("number of spin densities", told["nspden"], 2.0 if has_moments else 1.0)
    # The echo after the calculation leaves out what is as usual.
    last = dict(re.findall(r"^ +(nspden|occopt) +(\d+)$", text.split(_ECHO)[1], re.MULTILINE))
    as_declared("number of spin densities", float(last.get("nspden", "1")), told["nspden"])
    as_declared("occopt", float(last.get("occopt", "1")), told["occopt"])
    functional = re.findall(r"^ +ixc +(-?\d+)$", text, re.MULTILINE)
    as_declared("ixc", functional[-1] if functional else str(asked["ixc"]), str(asked["ixc"]))
    mesh = re.findall(r"^ +kptrlatt +(.*)$", text, re.MULTILINE)
    expected = " ".join(str(number) for number in np.diag(calculation.kpoints).flat)
    as_declared("k-point grid", " ".join(mesh[-1].split()) if mesh else "1 0 0 0 1 0 0 0 1", expected)


def _variables_told(text: str) -> dict[str, float]:
    """Those of the tables ``dimensions`` and ``electrons`` before the calculation."""
    tables = re.findall(r"^(?:dimensions|electrons): \{(.*)\}$", text, re.MULTILINE)
    return {name: float(value) for name, value in re.findall(r"(\w+): +(\S+),", " ".join(tables))}


def read_echo(calculation: Calculation, text: str) -> Reading:
    """The closing echo of all variables, in Hartree atomic units; the entropy is nowhere but in the terms before."""
    before, echo = text.split(_ECHO)

    def numbers(name: str, count: int) -> np.ndarray:
        _, values = echo.split(f" {name} ")
        return np.array(values.split()[:count], dtype=float)

    def told(pattern: str) -> str:
        (value,) = set(re.findall(pattern, before, re.MULTILINE))
        return str(value)

    agree("cutoff", numbers("ecut", 1)[0] * Hartree, calculation.cutoff, 1e-3)
    n_atoms = int(numbers("natom", 1)[0])
    moments = re.findall(r"^ Magnetization \(Bohr magneton\)= *(\S+)", before, re.MULTILINE)
    return Reading(
        energy=float(numbers("etotal", 1)[0]) * Hartree,
        forces=numbers("fcart", 3 * n_atoms).reshape(-1, 3) * Hartree / Bohr,
        stress=numbers("strten", 6) * Hartree / Bohr**3,
        smearing_energy=float(told(r"^'-kT\*entropy' +: +(\S+)")) * Hartree if "'-kT*entropy'" in before else None,
        cell=numbers("rprim", 9).reshape(3, 3),
        magnetic_moment=float(moments[-1]) if moments else None,
        magnetic_moments=_moments_in_spheres(before, n_atoms),
        facts={
            "program": "abinit " + told(r"^\.Version +(\S+) +of ABINIT"),
            "scf_steps": int(told(r"At SCF step +(\d+), etot is converged")),
            "n_kpoints": int(told(r"dimensions: {.*nkpt: +(\d+),")),
            "n_electrons": float(told(r"electrons: {nelect: +(\S+),")),
        },
    )


def _moments_in_spheres(text: str, n_atoms: int) -> np.ndarray | None:
    """Moments around the atoms, in Bohr magnetons; printed where there are two spin densities."""
    return per_atom(
        text,
        n_atoms,
        title=r"^ *Atom +Radius +up_density +dn_density +Total\(up\+dn\) +Diff\(up-dn\) *\n",
        row=r" *(\d+)(?: +\S+){4} +(-?\d+\.\d+) *",
        total=r" *-+\n *Sum:(?: +\S+){3} +(-?\d+\.\d+)",
    )


def read_results(calculation: Calculation, text: str) -> Reading:
    """The results where they were computed: in eV and Å, but for the entropy, which is the rest to the total energy."""
    results: dict[str, Any] = read_abinit_out(io.StringIO(text))
    if list(results["atoms"].symbols) != list(calculation.atoms.symbols):
        raise OutputError("the output of abinit is of another frame: it has other elements")
    moments = re.findall(r"Total magnetization \(exact up - dn\): *(\S+)", text)
    # With PAW the energy by double counting is the one that counts; it comes last.
    terms = dict(re.findall(r"(?m)^(internal|total_energy)(?:_dc)? +: +(\S+)$", text))
    in_eV = re.findall(r"(?m)^total_energy(?:_dc)?_eV +: +(\S+)$", text)
    rest = float(terms["total_energy"]) - float(terms["internal"]) if "internal" in terms else None
    return Reading(
        energy=float(in_eV[-1]),
        forces=results["forces"],
        stress=results["stress"],
        smearing_energy=None if rest is None else rest * Hartree,
        positions=results["atoms"].positions,
        cell=results["atoms"].cell.array,
        magnetic_moment=float(moments[-1]) if moments else None,
    )
