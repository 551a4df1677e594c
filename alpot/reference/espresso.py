"""Quantum ESPRESSO (pw.x). Its XML file has all digits; its log, which ASE reads, is the other witness."""

from __future__ import annotations

import math
import re
import shutil
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from ase.io import read, write
from ase.io.espresso import label_to_symbol
from ase.io.espresso_namelist.keys import ALL_KEYS
from ase.units import Bohr, Hartree, Rydberg, create_units
from defusedxml import ElementTree

from alpot.config import Dft
from alpot.errors import ConfigError
from alpot.reference.dft_code import Calculation, DftCode, OutputError, Reading, in_lower_case
from alpot.reference.ladder import dotted_keys, merged
from alpot.reference.pseudopotentials import folders_of, pseudopotential_file
from alpot.reference.witnesses import agree, agreed, as_declared

_FUNCTIONALS = {
    "LDA": "pz", "PBE": "pbe", "PBEsol": "pbesol", "RPBE": "rpbe", "revPBE": "revpbe", "SCAN": "scan",
    "r2SCAN": "r2scan", "PBE0": "pbe0", "HSE06": "hse",
}  # fmt: skip
_SMEARINGS = {"cold": "cold", "methfessel-paxton": "mp", "gaussian": "gauss", "fermi-dirac": "fd"}
_SMEARINGS_TOLD = {"mv": "cold", "mp": "mp", "gaussian": "gauss", "fd": "fd"}
#: ASE converts the log with the constants of 2006.
_OLD = create_units("2006")
_FORCE_RATIO = (Rydberg / Bohr) / (_OLD["Ry"] / _OLD["Bohr"])
_STRESS_RATIO = (Rydberg / Bohr**3) / (_OLD["Ry"] / _OLD["Bohr"] ** 3)
_XML = Path("out/alpot.xml")
_NAMELISTS = tuple(ALL_KEYS["pw"])


class Espresso(DftCode):
    """Quantum ESPRESSO; ``arguments`` are its namelists, e.g. ``{electrons = {mixing_beta = 0.4}}``."""

    name = "espresso"
    program = "pw.x"
    install = "apt-get install quantum-espresso, or: conda install -c conda-forge qe"
    output = "espresso.pwo"
    witness = (str(_XML),)
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
        path, content = pseudopotential_file(
            element,
            dft,
            base_directory,
            folders=folders_of("ESPRESSO_PSEUDO", "/usr/share/espresso/pseudo"),
            hint=f'"{element}.UPF"',
            install="pseudopotentials are at pseudo-dojo.org and materialscloud.org (SSSP)",
        )
        _valence(path)  # which it must tell
        told = _element(path)
        if told not in (None, element):
            raise ConfigError(
                f"reference.dft.pseudopotentials.{element}: {path} is a pseudopotential of {told}; pw.x would use it"
            )
        return path, content

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
            input_data=merged({"system": {"nbnd": self._bands(calculation)}}, self._asked(calculation)),
            pseudopotentials={symbol: _link(symbol, file) for symbol, file in calculation.pseudopotentials.items()},
            kpts=None if calculation.kpoints == (1, 1, 1) else calculation.kpoints,
        )
        for symbol, file in calculation.pseudopotentials.items():
            link = calculation.directory / _link(symbol, file)
            link.unlink(missing_ok=True)
            link.symlink_to(file)

    def _asked(self, calculation: Calculation) -> dict[str, Any]:
        """The namelists, apart from the number of bands."""
        dft = calculation.dft
        kind, width = calculation.smearing()
        system: dict[str, Any] = {
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
            if kind == "none":  # pw.x cannot find by itself how many electrons of each spin there are
                system["tot_magnetization"] = float(calculation.moments.sum())
        electrons: dict[str, Any] = {
            "conv_thr": calculation.scf_tolerance / Rydberg, "mixing_beta": 0.7, "electron_maxstep": 100,
        }  # fmt: skip
        if calculation.start_from is not None:
            electrons |= {"startingpot": "file", "startingwfc": "file"}
        control: dict[str, Any] = {
            "calculation": "scf", "prefix": "alpot", "outdir": "out", "pseudo_dir": ".", "disk_io": "low",
            "tprnfor": True, "tstress": True,
        }  # fmt: skip
        return merged({"control": control, "system": system, "electrons": electrons}, self._passed_on(calculation))

    def _passed_on(self, calculation: Calculation) -> Mapping[str, Any]:
        """The arguments; pw.x takes keys in any case, and ASE without a namelist: they could be set twice."""
        in_lower_case(dict.fromkeys(dotted_keys(calculation.arguments)))
        for namelist, keys in calculation.arguments.items():
            if namelist not in _NAMELISTS or not isinstance(keys, Mapping):
                raise ConfigError(
                    f"reference.arguments.{namelist} is no namelist of pw.x; it has {', '.join(_NAMELISTS)}, and keys"
                    " in them, e.g. electrons = {mixing_beta = 0.4}"
                )
            for key in keys:
                setter = self.owned.get(f"{namelist}.{key.partition('(')[0]}")
                if setter is not None and "(" in key:
                    raise ConfigError(f"reference.arguments sets {namelist}.{key}, which {setter} decides; set that")
        return calculation.arguments

    def _bands(self, calculation: Calculation) -> int:
        """pw.x's own rule for metals, which insulators that melt need too; more where the ladder says so.

        Fixed occupations have no spare bands, but their preparation with hot electrons has.
        """
        occupied = 0.5 * _electrons(calculation)
        if self._asked(calculation)["system"]["occupations"] == "fixed":
            unpaired = abs(float(calculation.moments.sum())) if calculation.has_spin else 0.0
            return math.ceil(occupied + 0.5 * unpaired)
        spare = max(0.2 * occupied, 4.0)
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
        # Hybrid functionals converge the exchange around the density, many times, and mark the last energy with !!.
        is_hybrid = "EXX self-consistency reached" in text
        n_converged = text.count("convergence has been achieved")
        if "convergence NOT achieved" in text or n_converged < 1 or (n_converged > 1 and not is_hybrid):
            raise OutputError("the self-consistent field of pw.x did not converge")
        content = (calculation.directory / _XML).read_bytes()
        root = ElementTree.fromstring(content, forbid_dtd=True)  # entities can grow without bounds; pw.x has none
        self._check_level(root, calculation)
        reading, witness = _of_xml(root), _of_log(log, text)
        agree("smearing energy", reading.smearing_energy, witness.smearing_energy, 1e-7)
        agree("magnetic moment", reading.magnetic_moment, witness.magnetic_moment, 0.0051)
        for fact, value in witness.facts.items():
            agree(fact, reading.facts[fact], value, 0.0051)
        # The last printed digits.
        return agreed(calculation, reading, witness, energy=1e-7, forces=2e-7, stress=5e-7)

    def _check_level(self, root: Any, calculation: Calculation) -> None:
        """The XML file repeats the settings."""

        def told(path: str) -> str:
            return root.findtext(path, "nothing").lower()

        system = self._asked(calculation)["system"]
        as_declared("ecutwfc", float(told("output/basis_set/ecutwfc")), system["ecutwfc"] / 2)  # Hartree there
        as_declared("ecutrho", float(told("output/basis_set/ecutrho")), system["ecutrho"] / 2)
        as_declared("tot_charge", float(told("input/bands/tot_charge")), float(system["tot_charge"]))
        as_declared("occupations", told("input/bands/occupations"), system["occupations"])
        as_declared("number of electrons", float(told("output/band_structure/nelec")), _electrons(calculation))
        as_declared("spin", told("output/magnetization/lsda"), "true" if system.get("nspin") == 2 else "false")
        if told("output/dft/functional") in _FUNCTIONALS.values():  # it has other names for others
            as_declared("functional", told("output/dft/functional"), system["input_dft"].lower())
        width = root.find("output/band_structure/smearing")
        if system["occupations"] == "smearing" and width is not None:
            as_declared("smearing", _SMEARINGS_TOLD.get(told("output/band_structure/smearing")), system["smearing"])
            as_declared("degauss", float(width.get("degauss", "nan")), system["degauss"] / 2)
        grid = root.find("output/band_structure/starting_k_points/monkhorst_pack")
        mesh = {} if grid is None else grid.attrib
        told_mesh = tuple(int(mesh.get(f"nk{i}", "1")) for i in (1, 2, 3))
        as_declared("k-point grid", str(told_mesh), str(tuple(calculation.kpoints)))


def _of_xml(root: Any) -> Reading:
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


def _of_log(log: Path, text: str) -> Reading:
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


def _link(symbol: str, file: str) -> str:
    """What a pseudopotential is called where pw.x runs; those of two elements may have the same name."""
    return f"{symbol}.{Path(file).name}"


def _element(file: str) -> str | None:
    """The element of a pseudopotential; None where its format does not tell as UPF does."""
    text = Path(file).read_text(errors="replace")
    found = re.search(r'\belement\s*=\s*"\s*([A-Z][a-z]?)\s*"|^\s*([A-Z][a-z]?)\s+Element\s*$', text, re.MULTILINE)
    return None if found is None else found[1] or found[2]


def _electrons(calculation: Calculation) -> float:
    valence = {symbol: _valence(file) for symbol, file in calculation.pseudopotentials.items()}
    return sum(valence[symbol] for symbol in calculation.atoms.symbols) - calculation.dft.charge


@cache
def _valence(file: str) -> float:
    """Valence electrons of a pseudopotential, in the words of UPF 2, UPF 1, or the second line of the GTH format."""
    text = Path(file).read_text(errors="replace")
    for pattern in (r'z_valence\s*=\s*["\']\s*([\d.Ee+]+)', r"([\d.]+)\s+Z valence", r"\A.*\n\s*[\d.]+\s+([\d.]+)\s"):
        if found := re.search(pattern, text):
            return float(found[1])
    raise ConfigError(f"reference.dft.pseudopotentials: {file} does not say how many valence electrons it is for")
