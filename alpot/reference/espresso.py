"""Quantum ESPRESSO (pw.x). Its XML file has all digits; its log, which ASE reads, is the other witness."""

from __future__ import annotations

import math
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from ase.io import write
from ase.io.espresso_namelist.keys import ALL_KEYS
from ase.units import Rydberg
from defusedxml import ElementTree

from alpot.config import Dft
from alpot.errors import ConfigError
from alpot.reference.dft_code import Calculation, DftCode, Reading, in_lower_case
from alpot.reference.espresso_output import (
    FUNCTIONALS,
    OTHER_FUNCTIONALS,
    check_convergence,
    check_level,
    read_log,
    read_xml,
)
from alpot.reference.ladder import dotted_keys, merged
from alpot.reference.pseudopotentials import element_of, folders_of, pseudopotential_file, valence_of
from alpot.reference.witnesses import agree, agreed

_SMEARINGS = {"cold": "cold", "methfessel-paxton": "mp", "gaussian": "gauss", "fermi-dirac": "fd"}
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
        valence_of(path)  # which it must tell
        told = element_of(path)
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
        electrons = {symbol: valence_of(file) for symbol, file in calculation.pseudopotentials.items()}
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
            "input_dft": _functional(calculation),
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
        check_convergence(text)
        content = (calculation.directory / _XML).read_bytes()
        root = ElementTree.fromstring(content, forbid_dtd=True)  # entities can grow without bounds; pw.x has none
        check_level(root, calculation, self._asked(calculation), _electrons(calculation))
        reading, witness = read_xml(root), read_log(log, text)
        agree("smearing energy", reading.smearing_energy, witness.smearing_energy, 1e-7)
        agree("magnetic moment", reading.magnetic_moment, witness.magnetic_moment, 0.0051)
        for fact, value in witness.facts.items():
            agree(fact, reading.facts[fact], value, 0.0051)
        # The last printed digits.
        return agreed(calculation, reading, witness, energy=1e-7, forces=2e-7, stress=5e-7)


def _functional(calculation: Calculation) -> str:
    """What pw.x calls it; by its parts, or by the numbers of libxc, it may be any."""
    name = calculation.dft.functional
    if name.lower() in OTHER_FUNCTIONALS or "+" in name or name.upper().startswith("XC-"):
        return name
    also = f"pw.x's own names ({', '.join(sorted(OTHER_FUNCTIONALS))}), or their parts joined by +"
    return str(calculation.chosen("functional", name, FUNCTIONALS, also))


def _link(symbol: str, file: str) -> str:
    """What a pseudopotential is called where pw.x runs; those of two elements may have the same name."""
    return f"{symbol}.{Path(file).name}"


def _electrons(calculation: Calculation) -> float:
    valence = {symbol: valence_of(file) for symbol, file in calculation.pseudopotentials.items()}
    return sum(valence[symbol] for symbol in calculation.atoms.symbols) - calculation.dft.charge
