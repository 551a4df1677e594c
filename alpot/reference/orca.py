"""ORCA, for molecules and clusters. Its gradient file and its output must agree. Never run here: it was not at hand."""

from __future__ import annotations

import math
import shutil
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

from ase import Atoms
from ase.io.orca import write_orca
from ase.units import Hartree

from alpot.config import Dft
from alpot.errors import ConfigError, UsageError
from alpot.reference.dft_code import Calculation, DftCode, Reading, in_lower_case
from alpot.reference.orca_output import check_convergence, check_level, read_gradient, read_output
from alpot.reference.witnesses import agreed

# What ORCA calls the functionals; its LDA has the correlation of Vosko, Wilk and Nusair, this one that of others.
_FUNCTIONALS = {
    "LDA": "PWLDA", "PBE": "PBE", "RPBE": "RPBE", "revPBE": "REVPBE", "SCAN": "SCANfunc", "r2SCAN": "R2SCAN",
    "PBE0": "PBE0",
}  # fmt: skip
_SCREEN_READER = b"screen reader"


class Orca(DftCode):
    """ORCA; ``arguments`` are its own words.

    ``simple`` (keywords of the line with ``!``, e.g. ``"def2/J D4"``), ``blocks`` (any text below it), ``scf`` (a table
    of the block ``%scf``, e.g. ``{maxiter = 300}``) and ``strategy`` (keywords that only help self-consistency, e.g.
    ``"SlowConv"``). The functional and the basis sets are in ``[reference.dft]``.
    """

    name = "orca"
    program = "orca"
    install = "(free for academic use from orcaforum.kofo.mpg.de; then put its folder on the PATH)"
    smearing_default = "none"
    is_periodic = False
    starts_ranks = True
    output = "orca.out"
    witness = ("orca.engrad",)
    restart = ("orca.gbw",)
    owned: ClassVar[dict[str, str]] = {
        "scf.tole": "reference.dft.scf_tolerance",
        "scf.convforced": "alpot",
        "scf.guess": "alpot",
        "scf.moinp": "alpot",
        "scf.smeartemp": "reference.dft.smearing",
    }
    free = frozenset({
        "strategy", "scf.maxiter", "scf.directresetfreq", "scf.shift", "scf.diismaxeq", "scf.dampfac",
        "scf.damperr", "scf.soscfstart",
    })  # fmt: skip

    def find_pseudopotential(self, element: str, dft: Dft, base_directory: Path) -> tuple[str, str]:
        """The name of the element's basis set, which is what decides the core electrons too."""
        basis = dft.basis.get(element)
        if basis is None:
            raise ConfigError(f'reference.dft.basis has no entry for {element}; add {element} = "def2-TZVP"')
        return basis, basis

    def write(self, calculation: Calculation) -> None:
        """See ``DftCode``."""
        unknown = [key for key in calculation.arguments if key not in ("simple", "blocks", "scf", "strategy")]
        if unknown:
            raise ConfigError(
                f"reference.arguments has {', '.join(unknown)}; for orca there are simple, blocks, scf and strategy"
            )
        dft = calculation.dft
        calculation.chosen("smearing", dft.smearing or "none", {"none": None})
        if dft.charge != round(dft.charge):
            raise ConfigError(f"reference.dft.charge = {dft.charge:g}: a molecule has a whole number of charges")
        usual, blocks = self._basis(calculation)
        words = [_functional(calculation), usual, "EnGrad", "TightSCF"]
        arguments = calculation.arguments
        words += [str(arguments[key]) for key in ("simple", "strategy") if key in arguments]
        if calculation.start_from is not None:
            # By another name, because ORCA removes its own file before it reads this one.
            shutil.copyfile(calculation.start_from / "orca.gbw", calculation.directory / "start.gbw")
        blocks += [self._scf(calculation), *([str(arguments["blocks"])] if "blocks" in arguments else [])]
        if calculation.ranks > 1:
            blocks.append(f"%pal nprocs {calculation.ranks} end")
        parameters = {
            "orcasimpleinput": " ".join(words),
            "orcablocks": "\n".join(blocks),
            "charge": round(dft.charge),
            "mult": _unpaired(calculation) + 1,
        }
        # ASE takes a tag for a mark of ghost atoms.
        atoms = Atoms(calculation.atoms.symbols, calculation.atoms.positions)
        write_orca(calculation.directory / "orca.inp", atoms, parameters)

    @staticmethod
    def _basis(calculation: Calculation) -> tuple[str, list[str]]:
        """The basis set of most atoms, and a block for the elements that have another one."""
        names = calculation.pseudopotentials
        usual = Counter(names[symbol] for symbol in calculation.atoms.symbols).most_common(1)[0][0]
        others = [f'  NewGTO {symbol} "{name}" end' for symbol, name in names.items() if name != usual]
        return usual, ["\n".join(["%basis", *others, "end"])] if others else []

    @staticmethod
    def _scf(calculation: Calculation) -> str:
        settings: dict[str, Any] = {"tole": f"{calculation.scf_tolerance / Hartree:.3e}", "convforced": "true"}
        if calculation.start_from is not None:
            settings |= {"guess": "moread", "moinp": '"start.gbw"'}
        own = calculation.arguments.get("scf", {})
        in_lower_case({f"scf.{key}": value for key, value in own.items()})
        settings |= own
        return "\n".join(["%scf", *(f"  {key} {value}" for key, value in settings.items()), "end"])

    def command(self, calculation: Calculation, program: str) -> Sequence[str]:
        """See ``DftCode``; with its full path, by which ORCA finds the programs that it starts."""
        return [program, "orca.inp"]

    def read(self, calculation: Calculation) -> Reading:
        """See ``DftCode``."""
        file = calculation.directory / self.output
        text = file.read_text(errors="replace") if file.is_file() else ""
        check_convergence(text)
        check_level(
            text,
            functional=_functional(calculation),
            basis=self._basis(calculation)[0],
            charge=round(calculation.dft.charge),
            multiplicity=_unpaired(calculation) + 1,
        )
        reading, witness = read_gradient(calculation, text), read_output(file, text)
        # The output has 9 digits of the gradient in Hartree/Bohr.
        return agreed(calculation, reading, witness, energy=1e-6, forces=1e-6, stress=0.0)

    def check(self, dft: Dft) -> None:
        """The screen reader of a desktop has the same name."""
        program = shutil.which(dft.program or self.program)
        if program is not None and _SCREEN_READER in Path(program).read_bytes()[:10_000].lower():
            raise UsageError(
                f"{program} is a screen reader, not the quantum chemistry code of the same name; say where that is in"
                " reference.dft.program"
            )


def _functional(calculation: Calculation) -> str:
    return _FUNCTIONALS.get(calculation.dft.functional, calculation.dft.functional)


def _unpaired(calculation: Calculation) -> int:
    """Unpaired electrons: as many as the moments ask for, as nearly as the number of electrons allows."""
    electrons = int(calculation.atoms.numbers.sum()) - round(calculation.dft.charge)
    wanted = abs(float(calculation.moments.sum())) if calculation.has_spin else 0.0
    return 2 * max(0, math.ceil(0.5 * (wanted - electrons % 2) - 0.5)) + electrons % 2
