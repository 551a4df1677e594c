"""Quantum ESPRESSO (pw.x). Its XML file has all digits; its log, which ASE reads, is the other witness."""

from __future__ import annotations

import math
import re
import shutil
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any, ClassVar
from xml.etree import ElementTree

import numpy as np
from ase.io import read, write
from ase.units import Bohr, Hartree, Rydberg

from alpot.config import Dft
from alpot.errors import ConfigError
from alpot.reference.dft_code import Calculation, DftCode, OutputError, Reading
from alpot.reference.ladder import merged
from alpot.reference.pseudopotentials import folders_of, pseudopotential_file
from alpot.reference.witnesses import agreed

_FUNCTIONALS = {
    "LDA": "pz", "PBE": "pbe", "PBEsol": "pbesol", "RPBE": "rpbe", "revPBE": "revpbe", "SCAN": "scan",
    "r2SCAN": "r2scan", "PBE0": "pbe0", "HSE06": "hse",
}  # fmt: skip
_SMEARINGS = {"cold": "cold", "methfessel-paxton": "mp", "gaussian": "gauss", "fermi-dirac": "fd"}
_XML = Path("out/alpot.xml")


class Espresso(DftCode):
    """Quantum ESPRESSO; ``arguments`` are its namelists, e.g. ``{electrons = {mixing_beta = 0.4}}``."""

    name = "espresso"
    program = "pw.x"
    install = "apt-get install quantum-espresso, or: conda install -c conda-forge qe"
    output = "espresso.pwo"
    logs = ("CRASH",)
    restart = ("out",)
    owned: ClassVar[dict[str, str]] = {
        **{f"control.{key}": "alpot" for key in ("calculation", "prefix", "outdir", "tprnfor", "tstress")},
        "control.pseudo_dir": "reference.dft.pseudopotential_folder",
        "system.ecutwfc": "reference.dft.cutoff",
        "system.ecutrho": "reference.dft.density_cutoff",
        "system.input_dft": "reference.dft.functional",
        **{f"system.{key}": "reference.dft.smearing" for key in ("occupations", "smearing", "degauss")},
        **{f"system.{key}": "reference.dft.spin" for key in ("nspin", "starting_magnetization")},
        "system.tot_charge": "reference.dft.charge",
        "electrons.conv_thr": "reference.dft.scf_tolerance",
    }
    free = frozenset({
        "electrons.mixing_beta", "electrons.mixing_mode", "electrons.mixing_ndim", "electrons.electron_maxstep",
        "electrons.diagonalization", "electrons.diago_david_ndim", "electrons.diago_thr_init", "system.nbnd",
        "system.nosym", "system.noinv", "control.disk_io", "electrons.diago_full_acc",
    })  # fmt: skip

    def find_pseudopotential(self, element: str, dft: Dft, base_directory: Path) -> tuple[str, str]:
        """See ``DftCode``."""
        return pseudopotential_file(
            element,
            dft,
            base_directory,
            folders=folders_of("ESPRESSO_PSEUDO", "/usr/share/espresso/pseudo"),
            hint=f'"{element}.UPF"',
            install="pseudopotentials are at pseudo-dojo.org and materialscloud.org (SSSP)",
        )

    def write(self, calculation: Calculation) -> None:
        """See ``DftCode``."""
        if calculation.start_from is not None:
            shutil.copytree(calculation.start_from / "out", calculation.directory / "out", dirs_exist_ok=True)
        atoms = calculation.atoms.copy()
        electrons = {symbol: _valence(file) for symbol, file in calculation.pseudopotentials.items()}
        # pw.x wants moments as fractions of the valence electrons.
        moments = calculation.moments / [electrons[symbol] for symbol in atoms.symbols]
        atoms.set_initial_magnetic_moments(moments if calculation.has_spin else np.zeros(len(atoms)))
        write(
            calculation.directory / "espresso.pwi",
            atoms,
            format="espresso-in",
            input_data=merged(self._namelists(calculation), calculation.arguments),
            pseudopotentials={symbol: Path(file).name for symbol, file in calculation.pseudopotentials.items()},
            kpts=None if calculation.kpoints == (1, 1, 1) else calculation.kpoints,
        )
        for file in calculation.pseudopotentials.values():
            link = calculation.directory / Path(file).name
            link.unlink(missing_ok=True)
            link.symlink_to(file)

    def _namelists(self, calculation: Calculation) -> dict[str, dict[str, Any]]:
        dft = calculation.dft
        kind, width = calculation.smearing()
        system: dict[str, Any] = {
            "nbnd": self._bands(calculation),
            "ecutwfc": calculation.cutoff / Rydberg,
            "ecutrho": (dft.density_cutoff or 4 * calculation.cutoff) / Rydberg,
            "input_dft": _FUNCTIONALS.get(dft.functional, dft.functional),
            "tot_charge": dft.charge,
        }
        if kind == "none":
            system["occupations"] = "fixed"
        else:
            smearing = calculation.chosen("smearing", kind, _SMEARINGS)
            system |= {"occupations": "smearing", "smearing": smearing, "degauss": width / Rydberg}
        if calculation.has_spin:
            system["nspin"] = 2
        electrons: dict[str, Any] = {
            "conv_thr": calculation.scf_tolerance / Rydberg, "mixing_beta": 0.7, "electron_maxstep": 100,
        }  # fmt: skip
        if calculation.start_from is not None:
            electrons |= {"startingpot": "file", "startingwfc": "file"}
        control = {"calculation": "scf", "prefix": "alpot", "outdir": "out", "pseudo_dir": ".", "disk_io": "low"}
        return {"control": {**control, "tprnfor": True, "tstress": True}, "system": system, "electrons": electrons}

    @staticmethod
    def _bands(calculation: Calculation) -> int:
        """pw.x's own rule for metals, which insulators that melt need too; more where the ladder says so."""
        files = calculation.pseudopotentials
        occupied = 0.5 * (sum(_valence(files[symbol]) for symbol in calculation.atoms.symbols) - calculation.dft.charge)
        spare = 0.0 if calculation.smearing()[0] == "none" else max(0.2 * occupied, 4.0)
        return math.ceil(occupied + spare * (1 + 4 * (calculation.bands - 1)))

    def command(self, calculation: Calculation, program: str) -> Sequence[str]:
        """See ``DftCode``."""
        return [program, "-in", "espresso.pwi"]

    def read(self, calculation: Calculation) -> Reading:
        """See ``DftCode``."""
        log = calculation.directory / self.output
        text = log.read_text(errors="replace") if log.is_file() else ""
        if "JOB DONE." not in text:
            raise OutputError("the log of pw.x does not end with JOB DONE")
        if "convergence NOT achieved" in text or text.count("convergence has been achieved") != 1:
            raise OutputError("the self-consistent field of pw.x did not converge")
        try:
            reading = _of_xml(ElementTree.parse(calculation.directory / _XML).getroot())
            witness = _of_log(log)
        except (ArithmeticError, AssertionError, LookupError, OSError, SyntaxError, TypeError, ValueError) as error:
            raise OutputError(f"the output of pw.x cannot be read: {type(error).__name__}: {error}") from error
        # The last printed digits; and ASE converts the log with the constants of 2006, which are 1e-7 away.
        energy, forces = abs(reading.energy), float(np.abs(reading.forces).max())
        return agreed(
            calculation, reading, witness, energy=1e-6 + 2e-7 * energy, forces=1e-6 + 2e-7 * forces, stress=2e-6
        )


def _of_xml(root: ElementTree.Element) -> Reading:
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
        magnetic_moment=None if root.findtext("output/magnetization/lsda") != "true" else float(moment or "nan"),
        facts={
            "program": f"pw.x {root.find('general_info/creator').attrib['VERSION']}",  # type: ignore[union-attr]
            "scf_steps": int(number("convergence_info/scf_conv/n_scf_steps")),
            "n_kpoints": int(number("band_structure/nks")),
            "n_electrons": number("band_structure/nelec"),
        },
    )


def _of_log(log: Path) -> Reading:
    frames: Any = read(log, index=":", format="espresso-out")
    if len(frames) != 1:
        raise OutputError(f"the log of pw.x holds {len(frames)} frames")
    results = frames[0].calc.results
    return Reading(
        energy=results["free_energy"],
        forces=results["forces"],
        stress=results["stress"],
        cell=frames[0].cell.array,
        magnetic_moments=results.get("magmoms"),
    )


@cache
def _valence(file: str) -> float:
    """Valence electrons of a pseudopotential, in the words of UPF 2, UPF 1, or the second line of the GTH format."""
    text = Path(file).read_text(errors="replace")
    for pattern in (r'z_valence\s*=\s*["\']\s*([\d.Ee+]+)', r"([\d.]+)\s+Z valence", r"\A.*\n\s*[\d.]+\s+([\d.]+)\s"):
        if found := re.search(pattern, text):
            return float(found[1])
    raise ConfigError(f"reference.dft.pseudopotentials: {file} does not say how many valence electrons it is for")
