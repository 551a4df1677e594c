"""GPAW (plane waves), in a process of its own. Its job writes all digits; its own log is the other witness."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar

from alpot.config import Dft
from alpot.errors import ConfigError, UsageError
from alpot.reference import gpaw_job
from alpot.reference.dft_code import Calculation, DftCode, Reading
from alpot.reference.functionals import LIBXC, libxc_parts
from alpot.reference.gpaw_output import check_convergence, check_level, read_log, read_results
from alpot.reference.inputs import content_hash
from alpot.reference.ladder import merged
from alpot.reference.launcher import with_launcher
from alpot.reference.pseudopotentials import folders_of, named_pseudopotential
from alpot.reference.witnesses import agreed

_FUNCTIONALS = {
    "LDA": "LDA", "PBE": "PBE", "PBEsol": "PBEsol", "RPBE": "RPBE", "revPBE": "revPBE",
    "SCAN": "MGGA_X_SCAN+MGGA_C_SCAN", "r2SCAN": "MGGA_X_R2SCAN+MGGA_C_R2SCAN",
}  # fmt: skip
_SMEARINGS: dict[str, dict[str, Any]] = {
    "cold": {"name": "marzari-vanderbilt"},
    "methfessel-paxton": {"name": "methfessel-paxton", "order": 1},
    "gaussian": {"name": "methfessel-paxton", "order": 0},
    "fermi-dirac": {"name": "fermi-dirac"},
}
_RESULTS = "results.json"


class Gpaw(DftCode):
    """GPAW; ``arguments`` are keywords of its calculator, e.g. ``{mixer = {name = "pulay", beta = 0.05}}``."""

    name = "gpaw"
    program = sys.executable
    install = "apt-get install libxc-dev libopenblas-dev gcc libopenmpi-dev; pip install gpaw"
    output = "standard_output.txt"
    witness = ("results.json", "gpaw.txt")
    logs = ("gpaw.txt",)
    owned: ClassVar[dict[str, str]] = {
        "mode": "reference.dft.cutoff",
        "xc": "reference.dft.functional",
        "kpts": "reference.dft.kpoint_density",
        "occupations": "reference.dft.smearing",
        **dict.fromkeys(("spinpol", "magmoms", "hund"), "reference.dft.spin"),
        "charge": "reference.dft.charge",
        "setups": "reference.dft.pseudopotentials",
        "convergence.energy": "reference.dft.scf_tolerance",
        **dict.fromkeys(("txt", "h", "gpts"), "alpot"),
    }
    free = frozenset({"mixer", "maxiter", "nbands", "eigensolver", "symmetry", "parallel", "random"})

    def find_pseudopotential(self, element: str, dft: Dft, base_directory: Path) -> tuple[str, str]:
        """See ``DftCode``; the file of a PAW data set."""
        name = named_pseudopotential(element, dft, '"paw", its standard data set')
        # Meta-GGAs use the data sets of PBE.
        functional = _FUNCTIONALS.get(dft.functional, dft.functional)
        words = (element, "" if name == "paw" else name, "PBE" if functional.startswith("MGGA") else functional)
        file = ".".join(word for word in words if word)
        folders = _setup_folders(dft, base_directory)
        for path in (folder / f"{file}{end}" for folder in folders for end in ("", ".gz")):
            if path.is_file():
                return str(path), content_hash(path)
        offered = sorted({path.name for folder in folders for path in folder.glob(f"{element}.*")})
        raise ConfigError(
            f"reference.dft.pseudopotentials.{element} = {name!r}: there is no PAW data set {file} in"
            f" {', '.join(map(str, folders)) or 'any folder'}; for {element} there are {', '.join(offered) or 'none'}."
            " They come with `pip install gpaw-data`; others are found in reference.dft.pseudopotential_folder"
        )

    def check(self, dft: Dft) -> None:
        """See ``DftCode``."""
        program = dft.program or self.program
        command = [program, "-P", "-c", "import gpaw.cgpaw"]
        run = subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
        if run.returncode != 0:
            said = (run.stderr.strip().splitlines() or ["it said nothing"])[-1]
            raise UsageError(
                f"reference 'gpaw' needs GPAW in {program} ({said}); install it there with `{self.install}`, or name"
                " another Python (3.11 or later) in reference.dft.program"
            )

    def write(self, calculation: Calculation) -> None:
        """See ``DftCode``; it starts from atomic densities always, its files of densities are no beginning."""
        atoms = calculation.atoms
        settings = {
            "parameters": _asked(calculation),
            "symbols": list(atoms.symbols),
            "positions": atoms.positions.tolist(),
            "cell": atoms.cell.array.tolist(),
            "pbc": atoms.pbc.tolist(),
            "moments": calculation.moments.tolist() if calculation.has_spin else [0.0] * len(atoms),
            "stress": bool(atoms.pbc.all()),
            "setup_paths": sorted({str(Path(file).parent) for file in calculation.pseudopotentials.values()}),
            "mpi": bool(with_launcher([])),
        }
        (calculation.directory / "input.json").write_text(json.dumps(settings, indent=1), "utf-8")

    def command(self, calculation: Calculation, program: str) -> Sequence[str]:
        """See ``DftCode``."""
        # -P: the folder of the job's file holds a module named gpaw, this one.
        return [program, "-P", str(gpaw_job.__file__), "input.json"]

    def read(self, calculation: Calculation) -> Reading:
        """See ``DftCode``."""
        log = calculation.directory / self.logs[0]
        text = log.read_text(errors="replace") if log.is_file() else ""
        check_convergence(text)
        check_level(text, calculation, _asked(calculation))
        witness = read_log(text, calculation)
        reading = read_results(json.loads((calculation.directory / _RESULTS).read_text("utf-8")), witness)
        # Rounding of the last printed digits: energy 6, forces 5, stress 6.
        return agreed(calculation, reading, witness, energy=0.51e-6, forces=0.51e-5, stress=0.51e-6)


def _setup_folders(dft: Dft, base_directory: Path) -> list[Path]:
    folders = folders_of("GPAW_SETUP_PATH")
    if dft.pseudopotential_folder is not None:
        folders.insert(0, base_directory / Path(dft.pseudopotential_folder).expanduser())
    if dft.program is not None:
        environment = Path(shutil.which(dft.program) or dft.program).parent.parent
        folders += environment.glob("lib/python3*/site-packages/gpaw_data/setups")
    else:
        data = find_spec("gpaw_data")
        folders += [Path(place) / "setups" for place in (data.submodule_search_locations or [] if data else [])]
    return folders


def _asked(calculation: Calculation) -> dict[str, Any]:
    return merged(_parameters(calculation), calculation.arguments)


def _parameters(calculation: Calculation) -> dict[str, Any]:
    """Keywords of GPAW's calculator."""
    dft = calculation.dft
    if dft.density_cutoff is not None:
        raise ConfigError("gpaw chooses the grid of its density by itself: leave out reference.dft.density_cutoff")
    functional = dft.functional
    if not libxc_parts(functional):
        functional = calculation.chosen("functional", functional, _FUNCTIONALS, LIBXC)
    kind, width = calculation.smearing()
    parameters: dict[str, Any] = {
        "mode": {"name": "pw", "ecut": calculation.cutoff},
        "xc": functional,
        "charge": dft.charge,
        "setups": {element: dft.pseudopotentials[element] for element in calculation.pseudopotentials},
        "spinpol": calculation.has_spin,
        "maxiter": 150,
        # Those of density and eigenstates, on which the forces depend linearly, are a tenth of GPAW's own, for each
        # valence electron.
        "convergence": {
            "energy": {"name": "energy", "tol": calculation.scf_tolerance, "relative": False},
            "density": 1e-5,
            "eigenstates": 4e-9,
        },
    }
    if calculation.kpoints != (1, 1, 1):
        parameters["kpts"] = {"size": calculation.kpoints, "gamma": True}
    if kind == "none":
        parameters["occupations"] = {"name": "fixed-uniform"}
    else:
        parameters["occupations"] = {**calculation.chosen("smearing", kind, _SMEARINGS), "width": width}
    if calculation.bands > 1.0:
        parameters["nbands"] = f"{round(150 * calculation.bands)}%"
    return parameters
