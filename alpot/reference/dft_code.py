"""What alpot needs to know of a density-functional code: how to write its input, and how to believe its output.

One small subclass of ``DftCode`` per code. Running, retrying, checking and recording are the same for all of them, see
``dft.py``. Inputs are written and outputs read by ASE wherever it does that soundly.
"""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from ase import Atoms
from ase.data import ground_state_magnetic_moments

from alpot.config import Dft
from alpot.errors import ConfigError
from alpot.reference.failures import BROKEN_STORAGE

#: Width in eV of the Fermi-Dirac smearing with which an open-shell atom is computed where the material has none.
ATOM_WIDTH = 0.02
#: Standard widths in eV.
_COLD_WIDTH, _FERMI_WIDTH = 0.27, 0.1
#: Bytes; a reader needs some twenty times as much memory as its file has.
_LARGEST_OUTPUT = 2**26


def smearing_of(dft: Dft, default: str) -> tuple[str, float]:
    """Kind and width in eV (0 where there is none) of the smearing; ``default``: what the code has for metals."""
    kind = dft.smearing or (default if dft.material == "metal" else "none")
    usual = {"none": 0.0, "fermi-dirac": _FERMI_WIDTH}.get(kind, _COLD_WIDTH)
    return kind, dft.smearing_width or usual


def at_zero_smearing(free_energy: float, smearing_energy: float, kind: str) -> float:
    """The energy extrapolated to zero smearing, eV.

    E₀ = ((n + 1) F + E) / (n + 2) with E = F − (−TS), where n is the order of the smearing: 0 for Gaussian and
    Fermi-Dirac smearing, 1 for Methfessel-Paxton's first order and cold smearing (Kresse and Furthmüller,
    Computational Materials Science 6, 15 (1996), section 3).

    Args:
        free_energy: F in eV.
        smearing_energy: −TS in eV.
        kind: the smearing.
    """
    order = 1 if kind in ("methfessel-paxton", "cold") else 0
    return free_energy - smearing_energy / (order + 2)


class OutputError(Exception):
    """An output is not that of a finished, converged calculation of the frame that was asked for.

    Attributes:
        symptom: name of the ladder's symptom where the reader knows it better than single lines tell.
    """

    def __init__(self, message: str, *, symptom: str | None = None) -> None:
        super().__init__(message)
        self.symptom = symptom


def in_lower_case(arguments: Mapping[str, Any]) -> Mapping[str, Any]:
    """The arguments of a code that takes its keys in any case, in which they could be set twice."""
    for key in arguments:
        if key != key.lower():
            raise ConfigError(f"reference.arguments.{key}: write the key in lower case, {key.lower()}")
    return arguments


@dataclass(frozen=True, kw_only=True)
class Calculation:
    """One run of a code.

    Attributes:
        atoms: the frame; non-periodic directions have a box with vacuum.
        directory: where the code runs and writes.
        dft: the level of theory in physical terms.
        pseudopotentials: of each element of the frame, as the code wants it: a file, or a name.
        arguments: what the user passes on in the code's own words, and what a rung of the ladder changes.
        kpoints: number of k points along the reciprocal lattice vectors, Gamma-centred.
        bands: more than 1 asks for this many times the usual number of bands.
        ranks: MPI ranks, for codes that start them by themselves.
        start_from: directory of a calculation of nearly the same frame, whose density is a good beginning.
    """

    atoms: Atoms
    directory: Path
    dft: Dft
    pseudopotentials: Mapping[str, str]
    arguments: Mapping[str, Any] = field(default_factory=dict)
    kpoints: tuple[int, int, int] = (1, 1, 1)
    bands: float = 1.0
    ranks: int = 1
    start_from: Path | None = None

    @property
    def cutoff(self) -> float:
        """eV; every periodic code has one, see ``DftCode.is_periodic``."""
        assert self.dft.cutoff is not None
        return self.dft.cutoff

    @property
    def is_atom(self) -> bool:
        """An isolated atom: computed with spin, and with the moment of its ground state."""
        return len(self.atoms) == 1 and not self.atoms.pbc.any()

    @property
    def has_spin(self) -> bool:
        """Whether spin-polarised."""
        return self.dft.spin == "collinear" or self.is_atom

    @property
    def moments(self) -> np.ndarray:
        """(n_atoms,) initial magnetic moments in Bohr magnetons."""
        if self.is_atom:
            return np.array([float(ground_state_magnetic_moments[self.atoms.numbers[0]])])
        return np.array([self.dft.magnetic_moments.get(symbol, 0.0) for symbol in self.atoms.symbols])

    def smearing(self, default: str = "cold") -> tuple[str, float]:
        """Kind and width in eV; ``default``: what the code has for metals."""
        kind, width = smearing_of(self.dft, default)
        return ("fermi-dirac", ATOM_WIDTH) if kind == "none" and self.is_atom else (kind, width)

    @property
    def scf_tolerance(self) -> float:
        """eV, of the whole frame."""
        return self.dft.scf_tolerance * len(self.atoms)

    def chosen(self, what: str, name: str, known: Mapping[str, Any], also: str = "") -> Any:
        """What a code calls something; ``ConfigError`` if it has no such thing; ``also``: what else it takes."""
        if name not in known:
            others = f", or {also}" if also else ""
            raise ConfigError(
                f"reference.dft.{what} = {name!r} is not known for this code; it has {', '.join(known)}{others}:"
                " choose one of them"
            )
        return known[name]


@dataclass(frozen=True, kw_only=True)
class Reading:
    """What an output says.

    Attributes:
        energy: eV; the free energy F = E − TS, whose derivatives the forces are.
        forces: (n_atoms, 3) eV/Å.
        stress: (6,) eV/Å³, ASE's order and sign, or None.
        smearing_energy: −TS in eV, None where there is no smearing.
        positions, cell: (n_atoms, 3) and (3, 3) Å of what was computed, where the output tells.
        symbols: chemical symbols of what was computed, where the output tells.
        magnetic_moment: of the cell in Bohr magnetons.
        magnetic_moments: (n_atoms,) in Bohr magnetons. ABINIT's are those in spheres and told once: they are
            information as ``charges`` are.
        charges: (n_atoms,) e, positive where electrons are missing; of codes that print them unasked (CP2K, ORCA), None
            where the table is not whole. Nothing else in an output confirms them: they are information, and no part of
            what is believed. Of the others, GPAW prints none, pw.x leaves them to a program of its own (projwfc.x), and
            those of ABINIT and VASP are of spheres, which do not add up to the cell's.
        charges_method: how electrons are shared among the atoms, e.g. "mulliken".
        facts: scf_steps, n_kpoints, n_electrons, program and so on, as far as they are told.
    """

    energy: float
    forces: np.ndarray
    stress: np.ndarray | None = None
    smearing_energy: float | None = None
    positions: np.ndarray | None = None
    cell: np.ndarray | None = None
    symbols: Sequence[str] | None = None
    magnetic_moment: float | None = None
    magnetic_moments: np.ndarray | None = None
    charges: np.ndarray | None = None
    charges_method: str | None = None
    facts: dict[str, Any] = field(default_factory=dict)


class DftCode(ABC):
    """A code. Instances have no state.

    Attributes:
        name: how the campaign file calls it, and the name of its file in ``ladders/``.
        program: what it is usually called on the PATH.
        install: the command that installs it.
        level_version: raised by hand when the adapter begins to give other numbers for the same settings.
        smearing_default: what it has for metals.
        is_periodic: it computes periodic frames, with a cutoff; otherwise molecules only, without one.
        starts_ranks: it starts its MPI ranks by itself, ``Calculation.ranks`` of them.
        output: file in the directory that gets standard output.
        witness: further files in the directory that ``read`` takes numbers from.
        logs: further files in the directory in which it says what went wrong.
        restart: files and folders in the directory from which another calculation can start.
        owned: keys of ``arguments`` (dotted) that ``[reference.dft]`` sets, and what sets them.
        free: keys of ``arguments`` (dotted) that do not change the converged result: a rung of the ladder may change
            them. A key stands for all below it.
    """

    name: ClassVar[str]
    program: ClassVar[str]
    install: ClassVar[str]
    level_version: ClassVar[int] = 1
    smearing_default: ClassVar[str] = "cold"
    is_periodic: ClassVar[bool] = True
    starts_ranks: ClassVar[bool] = False
    output: ClassVar[str] = "standard_output.txt"
    witness: ClassVar[tuple[str, ...]] = ()
    logs: ClassVar[tuple[str, ...]] = ()
    restart: ClassVar[tuple[str, ...]] = ()
    owned: ClassVar[Mapping[str, str]] = {}
    free: ClassVar[frozenset[str]] = frozenset()

    @abstractmethod
    def find_pseudopotential(self, element: str, dft: Dft, base_directory: Path) -> tuple[str, str]:
        """The pseudopotential of an element as the code wants it, and the hash of its content.

        Raises:
            ConfigError: it is not named, not there, or made for another family of functionals; the message says what
                to do.
        """

    @abstractmethod
    def write(self, calculation: Calculation) -> None:
        """Writes all input files into ``calculation.directory``, and brings what it starts from.

        Raises:
            ConfigError: the code cannot do what is asked.
        """

    @abstractmethod
    def command(self, calculation: Calculation, program: str) -> Sequence[str]:
        """The command that runs it there, on one process; MPI is put before it."""

    @abstractmethod
    def read(self, calculation: Calculation) -> Reading:
        """What the finished calculation says, in its two places that must agree; asked for by ``believe`` only.

        Raises:
            OutputError: it is not complete, not converged, or contradicts itself. In damaged files it may stumble over
                anything else: ``believe`` names that.
        """

    def believe(self, calculation: Calculation) -> Reading:
        """``read``, with whatever a reader stumbles over in damaged files as the named error that it is.

        Raises:
            OutputError: there is no result to believe.
        """
        for name in (self.output, *self.witness):
            file = calculation.directory / name
            if file.is_file() and file.stat().st_size > _LARGEST_OUTPUT:
                raise OutputError(f"{name} has {file.stat().st_size / 1e6:.0f} MB; no sound run writes so much")
        try:
            with np.errstate(all="ignore"), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                return self.read(calculation)
        except (OutputError, MemoryError):
            raise
        except OSError as error:
            if error.errno in BROKEN_STORAGE:
                raise
            raise OutputError(f"the output of {self.name} cannot be read: {error}") from error
        except Exception as error:
            raise OutputError(
                f"the output of {self.name} cannot be read: {type(error).__name__}: {str(error)[:200]}"
            ) from error

    def check(self, dft: Dft) -> None:  # noqa: B027 - most codes have nothing to add
        """Further conditions for it to work here; ``UsageError`` if one is not met."""
