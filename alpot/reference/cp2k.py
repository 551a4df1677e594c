"""CP2K (GPW). It runs no step of dynamics: so it writes files with all digits, and its log is the other witness."""

from __future__ import annotations

import itertools
import math
import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from ase.io import write
from ase.units import kB

from alpot.config import Dft
from alpot.errors import ConfigError
from alpot.reference.cp2k_data import kind_entries, names, valence
from alpot.reference.cp2k_output import cell_signs, check_convergence, check_level, read_files, read_log
from alpot.reference.dft_code import Calculation, DftCode, Reading
from alpot.reference.functionals import LIBXC, libxc_parts
from alpot.reference.ladder import merged
from alpot.reference.witnesses import agreed

#: Sections of XC_FUNCTIONAL: CP2K's own and those of libxc, with what stands in them.
_FUNCTIONALS: dict[str, dict[str, dict[str, str]]] = {
    "LDA": {"PADE": {}},
    "PBE": {"PBE": {}},
    "PBEsol": {"PBE": {"PARAMETRIZATION": "PBESOL"}},
    "revPBE": {"PBE": {"PARAMETRIZATION": "REVPBE"}},
    "RPBE": {"GGA_X_RPBE": {}, "GGA_C_PBE": {}},
    "SCAN": {"MGGA_X_SCAN": {}, "MGGA_C_SCAN": {}},
    "r2SCAN": {"MGGA_X_R2SCAN": {}, "MGGA_C_R2SCAN": {}},
}
_RESTARTS = ("alpot-RESTART.wfn", "alpot-RESTART.kp")
_XC, _DFT, _SCF = "FORCE_EVAL.DFT.XC.XC_FUNCTIONAL", "FORCE_EVAL.DFT", "FORCE_EVAL.DFT.SCF"


class Cp2k(DftCode):
    """CP2K; ``arguments`` are its sections, e.g. ``{FORCE_EVAL = {DFT = {SCF = {MAX_SCF = 100}}}}``."""

    name = "cp2k"
    program = "cp2k.psmp"
    install = "apt-get install cp2k cp2k-data, or: conda install -c conda-forge cp2k"
    smearing_default = "fermi-dirac"
    output = "alpot.out"
    witness = ("alpot-pos-1.xyz", "alpot-frc-1.xyz", "alpot-1.cell", "alpot-1.stress")
    restart = _RESTARTS
    owned: ClassVar[dict[str, str]] = {
        **dict.fromkeys(("GLOBAL.RUN_TYPE", "GLOBAL.PROJECT", "GLOBAL.PRINT_LEVEL", "MOTION", "EXT_RESTART"), "alpot"),
        **dict.fromkeys(("FORCE_EVAL.METHOD", "FORCE_EVAL.STRESS_TENSOR", "FORCE_EVAL.PRINT"), "alpot"),
        **{f"{_DFT}.{key}": "alpot" for key in ("BASIS_SET_FILE_NAME", "POTENTIAL_FILE_NAME", "WFN_RESTART_FILE_NAME")},
        f"{_DFT}.MGRID.CUTOFF": "reference.dft.cutoff",
        f"{_DFT}.KPOINTS": "reference.dft.kpoint_density",
        _XC: "reference.dft.functional",
        f"{_SCF}.SMEAR": "reference.dft.smearing",
        f"{_SCF}.EPS_SCF": "reference.dft.scf_tolerance",
        **{f"{_DFT}.{key}": "reference.dft.spin" for key in ("UKS", "LSD", "SPIN_POLARIZED", "MULTIPLICITY", "MULTIP")},
        f"{_DFT}.CHARGE": "reference.dft.charge",
        **{f"FORCE_EVAL.SUBSYS.{key}": "the frame" for key in ("CELL", "COORD", "TOPOLOGY")},
    }
    free = frozenset(
        f"{_SCF}.{key}"
        for key in ("MAX_SCF", "MIXING", "ADDED_MOS", "CHOLESKY", "DIAGONALIZATION", "MAX_DIIS", "SCF_GUESS")
    )

    def find_pseudopotential(self, element: str, dft: Dft, base_directory: Path) -> tuple[str, str]:
        """See ``DftCode``; the text of the entries of pseudopotential and basis set in the data files."""
        return kind_entries(element, dft, base_directory)

    def write(self, calculation: Calculation) -> None:
        """See ``DftCode``."""
        if calculation.start_from is not None:
            for name in _RESTARTS:
                if (calculation.start_from / name).is_file():
                    shutil.copy(calculation.start_from / name, calculation.directory / name)
        write(calculation.directory / "start.xyz", calculation.atoms, format="xyz", fmt="%22.15f")
        (calculation.directory / "GTH").write_text("\n".join(calculation.pseudopotentials.values()))
        (calculation.directory / "alpot.inp").write_text("\n".join(_lines(_asked(calculation))) + "\n")

    def command(self, calculation: Calculation, program: str) -> Sequence[str]:
        """See ``DftCode``."""
        return [program, "-i", "alpot.inp"]

    def read(self, calculation: Calculation) -> Reading:
        """See ``DftCode``."""
        log = calculation.directory / self.output
        text = log.read_text(errors="replace") if log.is_file() else ""
        check_convergence(text)
        check_level(text, calculation, _asked(calculation)["FORCE_EVAL"]["DFT"], _electrons(calculation))
        reading, witness = read_log(text, calculation), read_files(calculation)
        # The files have 10 decimals of atomic units (stress: of bar), the log has 12 digits.
        return agreed(calculation, reading, witness, energy=1e-8, forces=1e-8, stress=1e-10)


def _asked(calculation: Calculation) -> dict[str, Any]:
    return merged(_sections(calculation), calculation.arguments)


def _electrons(calculation: Calculation) -> int:
    valences = (valence(calculation.pseudopotentials[symbol]) for symbol in calculation.atoms.symbols)
    return sum(valences) - round(calculation.dft.charge)


def _sections(calculation: Calculation) -> dict[str, Any]:
    """The whole input as nested tables."""
    dft, atoms = calculation.dft, calculation.atoms
    if dft.density_cutoff is not None:
        raise ConfigError("cp2k has one cutoff, that of the density: set reference.dft.cutoff, not density_cutoff")
    if dft.charge != round(dft.charge):
        raise ConfigError(f"reference.dft.charge = {dft.charge:g}: cp2k wants a whole number")
    electrons = _electrons(calculation)
    kind, width = calculation.smearing("fermi-dirac")
    # CP2K judges by the largest change of the density matrix; the energy is then converged to about this.
    scf: dict[str, Any] = {"EPS_SCF": 0.1 * dft.scf_tolerance, "MAX_SCF": 100, "SCF_GUESS": "ATOMIC"}
    # Without Cholesky's method CP2K would leave out what has eigenvalues of the overlap below 1e-5: another basis set.
    scf["EPS_EIGVAL"] = 1e-10
    scf["MIXING"] = {"METHOD": "BROYDEN_MIXING", "ALPHA": 0.4, "NBROYDEN": 8}
    if kind != "none":
        method = calculation.chosen("smearing", kind, {"fermi-dirac": "FERMI_DIRAC"})
        scf["SMEAR"] = {"METHOD": method, "ELECTRONIC_TEMPERATURE": f"[K] {width / kB!r}"}
    if kind != "none" or calculation.bands > 1:  # a preparation with hot electrons, of a label that has none
        added = math.ceil(max(0.1 * electrons, 4.0) * (1 + 4 * (calculation.bands - 1)))
        scf["ADDED_MOS"] = [added] * (2 if calculation.has_spin else 1)
    functional = _functional(calculation)
    level: dict[str, Any] = {
        "BASIS_SET_FILE_NAME": "GTH", "POTENTIAL_FILE_NAME": "GTH", "CHARGE": round(dft.charge),
        "MGRID": {"CUTOFF": f"[eV] {calculation.cutoff!r}", "REL_CUTOFF": "[Ry] 60"}, "QS": {"EPS_DEFAULT": 1e-12},
        "SCF": scf, "XC": {"XC_FUNCTIONAL": functional},
    }  # fmt: skip
    if calculation.kpoints != (1, 1, 1):
        level["KPOINTS"] = {"SCHEME": "GENERAL", "UNITS": "B_VECTOR", "KPOINT": _kpoints(*calculation.kpoints)}
    if calculation.has_spin:
        unpaired = round(abs(calculation.moments.sum()))
        level |= {"UKS": True, "MULTIPLICITY": 1 + unpaired + (electrons - unpaired) % 2}
    if calculation.start_from is not None:
        name = _RESTARTS[0 if calculation.kpoints == (1, 1, 1) else 1]
        level["WFN_RESTART_FILE_NAME"] = name
        scf["SCF_GUESS"] = "RESTART"
    return {
        "GLOBAL": {"PROJECT": "alpot", "RUN_TYPE": "MD", "PRINT_LEVEL": "MEDIUM"},
        "MOTION": {
            "MD": {"ENSEMBLE": "NVE", "STEPS": 0, "TEMPERATURE": 0},
            "PRINT": {"TRAJECTORY": {}, "FORCES": {}, "STRESS": {}, "CELL": {}, "RESTART OFF": {}},
        },
        "FORCE_EVAL": {
            "METHOD": "QUICKSTEP",
            "STRESS_TENSOR": "ANALYTICAL",
            "PRINT": {"FORCES": {"NDIGITS": 12}, "STRESS_TENSOR": {}},
            "DFT": level,
            "SUBSYS": {
                "CELL": dict(zip("ABC", (cell_signs(atoms) * atoms.cell.array).tolist(), strict=True)),
                "TOPOLOGY": {"COORD_FILE_NAME": "start.xyz", "COORD_FILE_FORMAT": "XYZ"},
                **{f"KIND {symbol}": _kind(calculation, symbol) for symbol in calculation.pseudopotentials},
            },
        },
    }


def _kind(calculation: Calculation, element: str) -> dict[str, Any]:
    potential, basis = names(calculation.pseudopotentials[element])
    kind: dict[str, Any] = {"BASIS_SET": basis, "POTENTIAL": potential}
    if calculation.has_spin:
        kind["MAGNETIZATION"] = float(calculation.moments[list(calculation.atoms.symbols).index(element)])
    return kind


def _functional(calculation: Calculation) -> dict[str, dict[str, str]]:
    parts = libxc_parts(calculation.dft.functional)
    if parts:
        return {part: {} for part in parts}
    name = calculation.dft.functional
    found: dict[str, dict[str, str]] = calculation.chosen("functional", name, _FUNCTIONALS, LIBXC)
    return found


def _kpoints(n1: int, n2: int, n3: int) -> list[list[float]]:
    """A grid with Gamma, which CP2K's own is not for even numbers; of k and −k one, with twice the weight."""
    weights: dict[tuple[int, ...], int] = {}
    for point in itertools.product(range(n1), range(n2), range(n3)):
        opposite = tuple((-i) % n for i, n in zip(point, (n1, n2, n3), strict=True))
        one = min(point, opposite)
        weights[one] = weights.get(one, 0) + 1
    return [[i / n1, j / n2, k / n3, float(weight)] for (i, j, k), weight in weights.items()]


def _lines(table: Mapping[str, Any]) -> list[str]:
    """The text of nested tables: sections, keywords; lists of lists or tables are what stands several times."""
    lines: list[str] = []
    for key, value in table.items():
        if not re.fullmatch(r"[A-Z_][A-Z0-9_-]*( [\w.-]+)?", key):
            raise ConfigError(f"reference.arguments: {key!r} is no name of CP2K; write its names in capitals")
        several = isinstance(value, list) and bool(value) and all(isinstance(item, (list, Mapping)) for item in value)
        for item in value if several else [value]:
            if isinstance(item, Mapping):
                lines += [f"&{key}", *(f"  {line}" for line in _lines(item)), f"&END {key.split()[0]}"]
            else:
                lines.append(f"{key} {_text(key, item)}")
    return lines


def _text(key: str, value: Any) -> str:
    if isinstance(value, bool):
        return "T" if value else "F"
    if isinstance(value, list):
        return " ".join(_text(key, item) for item in value)
    text = repr(value) if isinstance(value, float) else str(value)
    if "\n" in text or text.startswith(("@", "&")) or "$" in text:
        raise ConfigError(f"reference.arguments: the value {text!r} of {key} is more than a value")
    return text
