"""ABINIT. Its output tells every result twice: where it was computed, and in the closing echo of all variables."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from ase.data import chemical_symbols
from ase.io.abinit import write_abinit_in

from alpot.config import Dft
from alpot.reference.abinit_output import check_convergence, check_level, read_echo, read_results
from alpot.reference.dft_code import Calculation, DftCode, OutputError, Reading, in_lower_case
from alpot.reference.pseudopotentials import folders_of, pseudopotential_file
from alpot.reference.witnesses import agree, agreed

_FUNCTIONALS = {
    "LDA": 7, "PBE": 11, "PBEsol": -116133, "RPBE": 15, "revPBE": 14, "SCAN": -263267, "r2SCAN": -497498,
}  # fmt: skip
#: They need the kinetic energy density.
_META = ("SCAN", "r2SCAN")
# 5 is the cold smearing whose tail is monotonic, as in other codes.
_SMEARINGS = {"cold": 5, "methfessel-paxton": 6, "gaussian": 7, "fermi-dirac": 3}


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
        variables = self._asked(calculation)
        variables["fband"] *= 1 + 4 * (calculation.bands - 1)
        with (calculation.directory / "abinit.abi").open("w") as output:
            pseudopotentials = [names[chemical_symbols[number]] for number in species]
            write_abinit_in(output, atoms, variables, species=species, pseudos=pseudopotentials)

    def _asked(self, calculation: Calculation) -> dict[str, Any]:
        """The input variables, apart from more bands."""
        return {**self._variables(calculation), **in_lower_case(calculation.arguments)}

    def _variables(self, calculation: Calculation) -> dict[str, Any]:
        dft = calculation.dft
        name = dft.functional
        is_number = re.fullmatch(r"-?\d+", name) is not None
        density_cutoff = dft.density_cutoff or 4 * calculation.cutoff
        variables: dict[str, Any] = {
            "ecut": calculation.cutoff,
            # Smooth derivatives with respect to strain: the stress is that of the energy at a constant cutoff.
            "ecutsm": 0.5,
            "ixc": int(name) if is_number else calculation.chosen("functional", name, _FUNCTIONALS, "a number (ixc)"),
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
        texts = [calculation.directory / name for name in ("abinit.abo", self.output)]
        text, log = (file.read_text(errors="replace") if file.is_file() else "" for file in texts)
        check_convergence(text, log)
        check_level(text, calculation, self._asked(calculation))
        reading, witness = read_echo(calculation, text), read_results(calculation, text)
        if calculation.smearing()[0] != "none" and reading.smearing_energy is None:
            raise OutputError("the output of abinit does not tell the entropy of the smearing")
        agree("magnetic moment", reading.magnetic_moment, witness.magnetic_moment, 2e-6)
        # The echo has 11 digits; and abinit converts its results with other constants than ASE.
        tolerance = 1e-6 + 2e-7 * abs(reading.energy)
        largest = float(np.abs(reading.forces).max(initial=0.0))
        return agreed(calculation, reading, witness, energy=tolerance, forces=1e-6 + 4e-7 * largest, stress=1e-7)


def _is_paw(file: str) -> bool:
    with Path(file).open(errors="replace") as content:
        return "paw" in content.read(2000).lower()


def _link(link: Path, target: Path) -> None:
    link.unlink(missing_ok=True)
    link.symlink_to(target)
