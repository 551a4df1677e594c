"""ABINIT. Its output tells every result twice: where it was computed, and in the closing echo of all variables."""

from __future__ import annotations

import io
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from ase.io.abinit import read_abinit_out, write_abinit_in
from ase.units import Bohr, Hartree

from alpot.config import Dft
from alpot.reference.dft_code import Calculation, DftCode, OutputError, Reading
from alpot.reference.pseudopotentials import folders_of, pseudopotential_file
from alpot.reference.witnesses import agree, agreed

_FUNCTIONALS = {
    "LDA": 7, "PBE": 11, "PBEsol": -116133, "RPBE": 15, "revPBE": 14, "SCAN": -263267, "r2SCAN": -497498,
}  # fmt: skip
#: They need the kinetic energy density.
_META = ("SCAN", "r2SCAN")
# 5 is the cold smearing whose tail is monotonic, as in other codes.
_SMEARINGS = {"cold": 5, "methfessel-paxton": 6, "gaussian": 7, "fermi-dirac": 3}
_ECHO = "outvars: echo values of variables after computation"


class Abinit(DftCode):
    """ABINIT; ``arguments`` are its input variables, e.g. ``{nstep = 100, diemix = 0.5}``."""

    name = "abinit"
    program = "abinit"
    install = "apt-get install abinit abinit-data, or: conda install -c conda-forge abinit"
    output = "abinit.log"
    logs = ("abinit.abo",)
    restart = ("abinito_DEN",)
    owned: ClassVar[dict[str, str]] = {
        **{key: "reference.dft.cutoff" for key in ("ecut", "usefock")},
        **{key: "reference.dft.density_cutoff" for key in ("pawecutdg", "boxcutmin")},
        **{key: "reference.dft.functional" for key in ("ixc", "usekden", "xc")},
        **{key: "reference.dft.smearing" for key in ("occopt", "tsmear", "smearing")},
        **{key: "reference.dft.spin" for key in ("nsppol", "nspden", "nspinor", "spinat")},
        **{key: "reference.dft.kpoint_density" for key in ("ngkpt", "kptrlatt", "shiftk", "nshiftk", "kpts", "kpt")},
        **{key: "reference.dft.scf_tolerance" for key in ("toldfe", "tolvrs", "tolwfr", "toldff", "tolrff")},
        **{key: "reference.dft.pseudopotentials" for key in ("pseudos", "pp_dirpath", "pps")},
        **{key: "alpot" for key in ("natom", "ntypat", "typat", "znucl", "xred", "xcart", "xangst", "acell", "rprim")},
        **{key: "alpot" for key in ("raw", "ndtset", "optforces", "optstress", "ionmov", "irdden", "iscf")},
        "charge": "reference.dft.charge",
    }
    free = frozenset({
        "nstep", "diemac", "diemix", "diemixmag", "iprcel", "npulayit", "nline", "nnsclo", "fband", "nband",
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
            _link(calculation.directory / "abiniti_DEN", calculation.start_from / "abinito_DEN")
        atoms = calculation.atoms.copy()
        # Without moments both spins stay alike, and nothing is gained by computing them twice.
        atoms.set_initial_magnetic_moments(calculation.moments if calculation.has_spin else None)
        names = {symbol: f"{symbol}{Path(file).suffix}" for symbol, file in calculation.pseudopotentials.items()}
        for symbol, file in calculation.pseudopotentials.items():
            _link(calculation.directory / names[symbol], Path(file))
        species = sorted(set(atoms.numbers))
        order = [atoms.symbols[list(atoms.numbers).index(number)] for number in species]
        with (calculation.directory / "abinit.abi").open("w") as file:
            write_abinit_in(
                file,
                atoms,
                {**self._variables(calculation), **calculation.arguments},
                species=species,
                pseudos=[names[symbol] for symbol in order],
            )

    def _variables(self, calculation: Calculation) -> dict[str, Any]:
        dft = calculation.dft
        name = dft.functional
        is_number = re.fullmatch(r"-?\d+", name) is not None
        density_cutoff = dft.density_cutoff or 4 * dft.cutoff
        variables: dict[str, Any] = {
            "ecut": dft.cutoff,
            # Smooth derivatives with respect to strain: the stress is that of the energy at a constant cutoff.
            "ecutsm": 0.5,
            "ixc": int(name) if is_number else calculation.chosen("functional", name, _FUNCTIONALS),
            "charge": dft.charge,
            "ngkpt": list(calculation.kpoints), "nshiftk": 1, "shiftk": [0.0, 0.0, 0.0],
            "chksymbreak": 0, "chksymtnons": 0,
            "toldfe": calculation.scf_tolerance, "nstep": 60,
            "optforces": 1, "optstress": 1, "prtwf": 0, "prteig": 0, "prtebands": 0,
        }  # fmt: skip
        if name in _META:
            variables["usekden"] = 1
        if any(_is_paw(file) for file in calculation.pseudopotentials.values()):
            # The cutoff of wavefunctions whose density fits onto the fine grid.
            variables["pawecutdg"] = max(dft.cutoff, density_cutoff / 4)
        else:
            variables["boxcutmin"] = math.sqrt(density_cutoff / dft.cutoff)
        if calculation.start_from is not None:
            variables["irdden"] = 1
        return {**variables, **self._occupations(calculation)}

    @staticmethod
    def _occupations(calculation: Calculation) -> dict[str, Any]:
        """Spare bands are half a one per atom, four at least, and more where the ladder says so."""
        kind, width = calculation.smearing()
        if kind == "none":
            target = {"spinmagntarget": float(calculation.moments.sum())} if calculation.has_spin else {}
            return {"occopt": 1, "fband": 0.0, **target}
        spare = max(0.5, 4 / len(calculation.atoms)) * (1 + 4 * (calculation.bands - 1))
        return {"occopt": calculation.chosen("smearing", kind, _SMEARINGS), "tsmear": width, "fband": spare}

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
        try:
            reading = _of_echo(text)
            witness = _of_results(text)
        except (ArithmeticError, AssertionError, LookupError, RuntimeError, TypeError, ValueError) as error:
            raise OutputError(f"the output of abinit cannot be read: {type(error).__name__}: {error}") from error
        agree("magnetic moment", reading.magnetic_moment, witness.magnetic_moment, 2e-6)
        # The echo has 11 digits; and abinit converts its results with other constants than ASE.
        tolerance = 1e-6 + 2e-7 * abs(reading.energy)
        return agreed(calculation, reading, witness, energy=tolerance, forces=1e-5, stress=1e-7)


def _of_echo(text: str) -> Reading:
    """The closing echo of all variables, in Hartree atomic units; the entropy is nowhere but in the terms before."""
    before, echo = text.split(_ECHO)

    def numbers(name: str, count: int) -> np.ndarray:
        _, values = echo.split(f" {name} ")
        return np.array(values.split()[:count], dtype=float)

    def told(pattern: str) -> str:
        (value,) = re.findall(pattern, before, re.MULTILINE)
        return str(value)

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


def _of_results(text: str) -> Reading:
    """The results where they were computed: in eV and Å, but for the entropy, which is the rest to the total energy."""
    results: dict[str, Any] = read_abinit_out(io.StringIO(text))
    moments = re.findall(r"Total magnetization \(exact up - dn\): *(\S+)", text)
    terms = dict(re.findall(r"(?m)^(internal|total_energy) +: +(\S+)$", text))
    rest = float(terms["total_energy"]) - float(terms["internal"]) if "internal" in terms else None
    return Reading(
        energy=results["energy"],
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
