"""ABINIT. Its output tells every result twice: where it was computed, and in the closing echo of all variables."""

from __future__ import annotations

import io
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from ase.data import chemical_symbols
from ase.io.abinit import read_abinit_out, write_abinit_in
from ase.units import Bohr, Hartree

from alpot.config import Dft
from alpot.reference.dft_code import Calculation, DftCode, OutputError, Reading, in_lower_case
from alpot.reference.pseudopotentials import folders_of, pseudopotential_file
from alpot.reference.witnesses import agree, agreed, as_declared

_FUNCTIONALS = {
    "LDA": 7, "PBE": 11, "PBEsol": -116133, "RPBE": 15, "revPBE": 14, "SCAN": -263267, "r2SCAN": -497498,
}  # fmt: skip
#: They need the kinetic energy density.
_META = ("SCAN", "r2SCAN")
# 5 is the cold smearing whose tail is monotonic, as in other codes.
_SMEARINGS = {"cold": 5, "methfessel-paxton": 6, "gaussian": 7, "fermi-dirac": 3}
_ECHO = "outvars: echo values of variables after computation"

_OCCUPIED = "The minimal occupation factor is"


class Abinit(DftCode):
    """ABINIT; ``arguments`` are its input variables, e.g. ``{nstep = 100, diemix = 0.5}``."""

    name = "abinit"
    program = "abinit"
    install = "apt-get install abinit abinit-data, or: conda install -c conda-forge abinit"
    output = "abinit.log"
    witness = ("abinit.abo",)
    logs = ("abinit.abo",)
    # The wavefunctions, from which abinit makes the density too: a density alone saves no step.
    restart = ("abinito_WFK",)
    owned: ClassVar[dict[str, str]] = {
        **dict.fromkeys(("ecut", "usefock"), "reference.dft.cutoff"),
        **dict.fromkeys(("pawecutdg", "boxcutmin"), "reference.dft.density_cutoff"),
        **dict.fromkeys(("ixc", "usekden", "xc"), "reference.dft.functional"),
        **dict.fromkeys(("occopt", "tsmear", "smearing"), "reference.dft.smearing"),
        **dict.fromkeys(("nsppol", "nspden", "nspinor", "spinat"), "reference.dft.spin"),
        **dict.fromkeys(("ngkpt", "kptrlatt", "shiftk", "nshiftk", "kpts", "kpt"), "reference.dft.kpoint_density"),
        **dict.fromkeys(("toldfe", "tolvrs", "tolwfr", "toldff", "tolrff"), "reference.dft.scf_tolerance"),
        **dict.fromkeys(("pseudos", "pp_dirpath", "pps"), "reference.dft.pseudopotentials"),
        **dict.fromkeys(("natom", "ntypat", "typat", "znucl", "xred", "xcart", "xangst", "acell", "rprim"), "alpot"),
        **dict.fromkeys(("raw", "ndtset", "optforces", "optstress", "ionmov", "irdwfk", "iscf"), "alpot"),
        "charge": "reference.dft.charge",
        "nband": "reference.arguments.fband (spare bands per atom)",
    }
    free = frozenset({
        "nstep", "diemac", "diemix", "diemixmag", "iprcel", "npulayit", "nline", "nnsclo", "fband",
        "kptopt", "nsym", "tolsym", "chksymbreak", "chksymtnons", "wfoptalg", "paral_kgb", "autoparal", "fftalg",
    })  # fmt: skip

    def find_pseudopotential(self, element: str, dft: Dft, base_directory: Path) -> tuple[str, str]:
        """See ``DftCode``."""
        return pseudopotential_file(
            element,
            dft,
            base_directory,
            folders=folders_of("ABINIT_PP_PATH", "/usr/share/abinit/psp"),
            hint=f'"{element}.psp8"',
            install="pseudopotentials are at pseudo-dojo.org, a few in the package abinit-data",
        )

    def write(self, calculation: Calculation) -> None:
        """See ``DftCode``."""
        if calculation.start_from is not None:
            _link(calculation.directory / "abiniti_WFK", calculation.start_from / "abinito_WFK")
        atoms = calculation.atoms.copy()
        # Without moments both spins stay alike, and nothing is gained by computing them twice.
        atoms.set_initial_magnetic_moments(calculation.moments if calculation.has_spin else None)
        names = {symbol: f"{symbol}{Path(file).suffix}" for symbol, file in calculation.pseudopotentials.items()}
        for symbol, file in calculation.pseudopotentials.items():
            _link(calculation.directory / names[symbol], Path(file))
        species = sorted(set(atoms.numbers))
        variables = {**self._variables(calculation), **in_lower_case(calculation.arguments)}
        variables["fband"] *= 1 + 4 * (calculation.bands - 1)
        with (calculation.directory / "abinit.abi").open("w") as output:
            pseudopotentials = [names[chemical_symbols[number]] for number in species]
            write_abinit_in(output, atoms, variables, species=species, pseudos=pseudopotentials)

    def _variables(self, calculation: Calculation) -> dict[str, Any]:
        dft = calculation.dft
        name = dft.functional
        is_number = re.fullmatch(r"-?\d+", name) is not None
        density_cutoff = dft.density_cutoff or 4 * calculation.cutoff
        variables: dict[str, Any] = {
            "ecut": calculation.cutoff,
            # Smooth derivatives with respect to strain: the stress is that of the energy at a constant cutoff.
            "ecutsm": 0.5,
            "ixc": int(name) if is_number else calculation.chosen("functional", name, _FUNCTIONALS),
            "charge": dft.charge,
            "ngkpt": list(calculation.kpoints), "nshiftk": 1, "shiftk": [0.0, 0.0, 0.0],
            "chksymbreak": 0, "chksymtnons": 0,
            "toldfe": calculation.scf_tolerance, "nstep": 60,
            "optforces": 1, "optstress": 1, "prteig": 0, "prtebands": 0,
        }  # fmt: skip
        if name in _META:
            variables["usekden"] = 1
        if any(_is_paw(file) for file in calculation.pseudopotentials.values()):
            # The cutoff of wavefunctions whose density fits onto the fine grid.
            variables["pawecutdg"] = max(calculation.cutoff, density_cutoff / 4)
        else:
            variables["boxcutmin"] = math.sqrt(density_cutoff / calculation.cutoff)
        if calculation.start_from is not None:
            variables["irdwfk"] = 1
        if not calculation.atoms.pbc.any():
            variables["diemac"] = 2.0  # the screening of a molecule in vacuum; the default is a metal's
        return {**variables, **self._occupations(calculation)}

    @staticmethod
    def _occupations(calculation: Calculation) -> dict[str, Any]:
        """Occupations, and with them spare bands: half a one per atom, four at least."""
        kind, width = calculation.smearing()
        spare = max(0.5, 4 / len(calculation.atoms))
        if kind == "none":
            target = {"spinmagntarget": float(calculation.moments.sum())} if calculation.has_spin else {}
            is_fixed = calculation.arguments.get("occopt", 1) == 1  # and not a preparation with hot electrons
            return {"occopt": 1, "fband": 0.125 if is_fixed else spare, **target}
        occopt = calculation.chosen("smearing", kind, _SMEARINGS)
        return {"occopt": occopt, "tsmear": width, "fband": spare}

    def command(self, calculation: Calculation, program: str) -> Sequence[str]:
        """See ``DftCode``."""
        return [program, "abinit.abi"]

    def read(self, calculation: Calculation) -> Reading:
        """See ``DftCode``."""
        file = calculation.directory / "abinit.abo"
        text = file.read_text(errors="replace") if file.is_file() else ""
        if text.count(" Calculation completed.") != 1 or text.count(_ECHO) != 1:
            raise OutputError("the output of abinit is not that of one calculation that was completed")
        if "not enough scf cycles" in text or len(re.findall(r"At SCF step +\d+, etot is converged", text)) != 1:
            raise OutputError("the self-consistent field of abinit did not converge")
        log = calculation.directory / self.output
        if log.is_file() and _OCCUPIED in log.read_text(errors="replace"):
            raise OutputError("the highest band of abinit is not empty")
        self._check_level(text, calculation)
        reading = _of_echo(calculation, text)
        witness = _of_results(calculation, text)
        if calculation.smearing()[0] != "none" and reading.smearing_energy is None:
            raise OutputError("the output of abinit does not tell the entropy of the smearing")
        agree("magnetic moment", reading.magnetic_moment, witness.magnetic_moment, 2e-6)
        # The echo has 11 digits; and abinit converts its results with other constants than ASE.
        tolerance = 1e-6 + 2e-7 * abs(reading.energy)
        largest = float(np.abs(reading.forces).max(initial=0.0))
        return agreed(calculation, reading, witness, energy=tolerance, forces=1e-6 + 4e-7 * largest, stress=1e-7)

    def _check_level(self, text: str, calculation: Calculation) -> None:
        """The output repeats the settings."""
        asked = {**self._variables(calculation), **in_lower_case(calculation.arguments)}
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


def _of_echo(calculation: Calculation, text: str) -> Reading:
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
        facts={
            "program": "abinit " + told(r"^\.Version +(\S+) +of ABINIT"),
            "scf_steps": int(told(r"At SCF step +(\d+), etot is converged")),
            "n_kpoints": int(told(r"dimensions: {.*nkpt: +(\d+),")),
            "n_electrons": float(told(r"electrons: {nelect: +(\S+),")),
        },
    )


def _of_results(calculation: Calculation, text: str) -> Reading:
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


def _is_paw(file: str) -> bool:
    with Path(file).open(errors="replace") as content:
        return "paw" in content.read(2000).lower()


def _link(link: Path, target: Path) -> None:
    link.unlink(missing_ok=True)
    link.symlink_to(target)
