"""VASP. Its XML file has all digits, OUTCAR is the other witness. Never run here: no licence was at hand."""

from __future__ import annotations

import math
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from ase.calculators.vasp.create_input import GenerateVaspInput, format_kpoints, read_potcar_numbers_of_electrons
from ase.io.vasp import write_vasp
from ase.io.vasp_parsers.incar_writer import write_incar
from defusedxml import ElementTree

from alpot.config import Dft
from alpot.errors import ConfigError
from alpot.reference.dft_code import Calculation, DftCode, Reading, in_lower_case
from alpot.reference.pseudopotentials import folders_of, named_pseudopotential, pseudopotential_file
from alpot.reference.vasp_output import check_convergence, check_level, order_of, read_outcar, read_xml
from alpot.reference.witnesses import agree, agreed

# VASP has no cold smearing.
_SMEARINGS = {"methfessel-paxton": 1, "gaussian": 0, "fermi-dirac": -1, "none": 0}
#: Width in eV where there is to be none: too small to matter where there is a gap.
_NO_WIDTH = 0.01
#: What goes into INCAR for a functional, from ASE, which chooses pseudopotentials there, too.
_DEFAULTS: Any = GenerateVaspInput.xc_defaults
_FUNCTIONALS = {
    name: {tag: value for tag, value in _DEFAULTS[name.lower()].items() if tag != "pp"}
    for name in ("LDA", "PBE", "PBEsol", "RPBE", "revPBE", "SCAN", "r2SCAN", "PBE0", "HSE06")
}
#: Said too where VASP would take them from the POTCAR, which may be one of another functional.
_FUNCTIONALS["LDA"]["gga"], _FUNCTIONALS["PBE"]["gga"] = "CA", "PE"
_VERSIONS = (".64", ".54", ".52", "")


class Vasp(DftCode):
    """VASP; ``arguments`` are tags of INCAR in lower case, e.g. ``{algo = "Fast", ncore = 8}``."""

    name = "vasp"
    program = "vasp_std"
    install = "(a licence from vasp.at, and a build after vasp.at/wiki; then put vasp_std on the PATH)"
    smearing_default = "methfessel-paxton"
    output = "vasp.out"
    witness = ("OUTCAR", "vasprun.xml", "OSZICAR")
    logs = ("OUTCAR",)
    restart = ("CHGCAR",)
    owned: ClassVar[dict[str, str]] = {
        "encut": "reference.dft.cutoff",
        **dict.fromkeys(("gga", "metagga", "lhfcalc", "hfscreen", "aexx"), "reference.dft.functional"),
        **dict.fromkeys(("ismear", "sigma", "efermi"), "reference.dft.smearing"),
        **dict.fromkeys(("ispin", "lnoncollinear", "lsorbit"), "reference.dft.spin"),
        "magmom": "reference.dft.magnetic_moments",
        **dict.fromkeys(("kspacing", "kgamma"), "reference.dft.kpoint_density"),
        "nelect": "reference.dft.charge",
        "ediff": "reference.dft.scf_tolerance",
        **dict.fromkeys(("ibrion", "nsw", "isif", "icharg", "pstress", "lcharg", "nwrite", "ml_lmlff"), "alpot"),
    }
    free = frozenset({
        "algo", "ialgo", "nelm", "nelmin", "nelmdl", "amix", "bmix", "amix_mag", "bmix_mag", "amin", "maxmix", "imix",
        "time", "nbands", "isym", "symprec", "ncore", "npar", "kpar", "nsim", "lplane", "lwave", "istart", "ldiag",
        "lscalapack", "lscalu", "weimin",
    })  # fmt: skip

    def find_pseudopotential(self, element: str, dft: Dft, base_directory: Path) -> tuple[str, str]:
        """See ``DftCode``; the name is that of a folder with a POTCAR."""
        name = named_pseudopotential(element, dft, f'"{element}"')
        families = ("potpaw_LDA", "potpaw") if dft.functional == "LDA" else ("potpaw_PBE",)
        roots = folders_of("VASP_PP_PATH")
        return pseudopotential_file(
            element,
            dft.model_copy(update={"pseudopotentials": {element: f"{name}/POTCAR"}}),
            base_directory,
            folders=[root / f"{family}{version}" for root in roots for version in _VERSIONS for family in families],
            hint=f'"{element}"',
            install="they come with VASP's licence; set reference.dft.pseudopotential_folder to the folder that has"
            f" {name}/POTCAR, or VASP_PP_PATH to the one above it",
        )

    def write(self, calculation: Calculation) -> None:
        """See ``DftCode``."""
        directory = calculation.directory
        if calculation.start_from is not None:
            shutil.copyfile(calculation.start_from / "CHGCAR", directory / "CHGCAR")
        order = order_of(calculation)
        atoms = calculation.atoms[order]
        symbols = list(dict.fromkeys(atoms.symbols))
        files = [Path(calculation.pseudopotentials[symbol]) for symbol in symbols]
        (directory / "POTCAR").write_bytes(b"".join(file.read_bytes() for file in files))
        write_vasp(directory / "POSCAR", atoms)
        (directory / "KPOINTS").write_text(format_kpoints(calculation.kpoints, atoms, gamma=True))
        write_incar(directory, {tag: _told(value) for tag, value in self._incar(calculation, order).items()})

    def _incar(self, calculation: Calculation, order: np.ndarray) -> dict[str, Any]:
        dft = calculation.dft
        if dft.density_cutoff is not None:
            raise ConfigError(
                "reference.dft.density_cutoff: VASP chooses the grid of the density by reference.arguments.prec"
                ' ("Accurate" here); remove density_cutoff'
            )
        kind, width = calculation.smearing(self.smearing_default)
        electrons = _electrons(calculation)
        tags: dict[str, Any] = {
            "prec": "Accurate", "encut": calculation.cutoff, "lreal": False, "lasph": True,
            **calculation.chosen("functional", dft.functional, _FUNCTIONALS),
            "ismear": calculation.chosen("smearing", kind, _SMEARINGS),
            "sigma": _NO_WIDTH if kind == "none" else width,
            "ediff": calculation.scf_tolerance, "nelm": 100, "nelmin": 4,
            "ibrion": -1, "nsw": 0, "isif": 2, "lwave": False, "ispin": 2 if calculation.has_spin else 1,
        }  # fmt: skip
        if calculation.has_spin:
            tags["magmom"] = calculation.moments[order].tolist()
        if dft.charge:
            tags["nelect"] = electrons
        if calculation.start_from is not None:
            tags["icharg"] = 1
        tags |= in_lower_case(calculation.arguments)
        if calculation.bands > 1:
            # VASP's own rule, with one half more for two spins.
            usual = max(0.5 * electrons + 0.5 * len(order), 0.6 * electrons) * (1.2 if calculation.has_spin else 1.0)
            tags["nbands"] = math.ceil(calculation.bands * tags.get("nbands", usual))
        return tags

    def command(self, calculation: Calculation, program: str) -> Sequence[str]:
        """See ``DftCode``."""
        return [program]

    def read(self, calculation: Calculation) -> Reading:
        """See ``DftCode``."""
        outcar = calculation.directory / "OUTCAR"
        text = outcar.read_text(errors="replace") if outcar.is_file() else ""
        check_convergence(text)
        # ASE takes what there is of a torn file; this does not.
        root = ElementTree.parse(calculation.directory / "vasprun.xml", forbid_dtd=True).getroot()
        check_level(root, calculation, self._incar(calculation, order_of(calculation)), _electrons(calculation))
        reading, witness = read_xml(calculation, root), read_outcar(calculation, text)
        agree("magnetic moment", reading.magnetic_moment, witness.magnetic_moment, 1e-3)
        # OUTCAR has forces with 6 digits.
        return agreed(calculation, reading, witness, energy=2e-6, forces=2e-6, stress=1e-7)


def _electrons(calculation: Calculation) -> float:
    """Valence electrons of the frame; each POTCAR must be that of its element."""
    valence = {}
    for symbol, file in calculation.pseudopotentials.items():
        with Path(file).open(errors="replace") as content:
            told = read_potcar_numbers_of_electrons(content)
        if [element for element, _ in told] != [symbol]:
            raise ConfigError(f"reference.dft.pseudopotentials.{symbol}: {file} is not a POTCAR of {symbol} alone")
        valence[symbol] = told[0][1]
    return sum(valence[symbol] for symbol in calculation.atoms.symbols) - calculation.dft.charge


def _told(value: Any) -> Any:
    return value if not isinstance(value, bool) else (".TRUE." if value else ".FALSE.")
