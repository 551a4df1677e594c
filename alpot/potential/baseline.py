"""What a potential adds to when it learns only a correction (Δ-learning): E = E_baseline + E_learned.

The baseline is any ASE calculator, evaluated frame by frame; the ensemble owns it and adds its answer to that of every
member, so that whoever uses an ensemble gets the whole. It sees numbers, positions, cell and periodicity, nothing else.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from ase import Atoms
from ase.calculators.calculator import BaseCalculator, all_changes
from ase.calculators.emt import EMT
from ase.calculators.lj import LennardJones
from ase.stress import voigt_6_to_full_3x3_stress
from numpy.typing import NDArray
from torch import Tensor

from alpot.errors import PotentialError
from alpot.potential.kernels import Geometry
from alpot.potential.pair_repulsion import PairRepulsion

#: What calculators raise where a frame is beyond them. Missing programs, files and elements are other errors: they are
#: no property of the frame, and are passed on.
_BEYOND = (ArithmeticError, AssertionError, LookupError, RuntimeError, ValueError)
#: eV per atom and unit of energy; energies of atoms that add up to something else are those of another energy.
_SAME_ENERGY = 1e-6
#: Å; no longer cutoff is taken from a file: neighbors would fill the memory.
_LONGEST_CUTOFF = 100.0


@dataclass(frozen=True, kw_only=True)
class BaselineAnswer:
    """What the baseline says of one frame; all finite.

    Attributes:
        energy: eV; the one whose derivatives the forces are.
        forces: (n_atoms, 3) eV/Å.
        stress: (6,) eV/Å³ in ASE's order and sign, or None where there is none.
        energies: (n_atoms,) eV, which add up to ``energy``, or None where there are none.
    """

    energy: float
    forces: NDArray[np.float64]
    stress: NDArray[np.float64] | None
    energies: NDArray[np.float64] | None


class Baseline:
    """A cheap level of theory to which a potential is the correction.

    Args:
        level: what tells it from all others, JSON-able: ``code``, its settings, and ``hash``, the identity.
        make: makes its ASE calculator, which is kept for all frames; called again after a failure, because some
            calculators answer nonsense after one.
    """

    def __init__(self, level: Mapping[str, Any], make: Callable[[], BaseCalculator]) -> None:
        self.level = dict(level)
        self._make = make
        self._calculator: BaseCalculator | None = None

    def __str__(self) -> str:
        return describe(self.level)

    @property
    def identity(self) -> str:
        """Hash of the level of theory."""
        return str(self.level["hash"])

    def answer(self, atoms: Atoms) -> BaselineAnswer | None:
        """Compute one frame; None where the baseline has no finite answer.

        Raises:
            PotentialError: the calculator cannot compute energies and forces of such frames at all.
        """
        frame = Atoms(atoms.numbers, positions=atoms.positions, cell=atoms.cell, pbc=atoms.pbc)
        if not (np.isfinite(frame.positions).all() and np.isfinite(frame.cell.array).all()):
            return None
        try:
            with np.errstate(all="ignore"):
                results = self._results(frame)
        except NotImplementedError as error:
            raise PotentialError(f"the baseline {self} cannot compute {frame.symbols}: {error}") from error
        except _BEYOND:
            self._calculator = None
            return None
        return _as_answer(results, len(frame))

    def _results(self, frame: Atoms) -> dict[str, Any]:
        if self._calculator is None:
            self._calculator = self._make()
        calculator = self._calculator
        wanted = ["energy", "forces"]
        if frame.cell.rank == 3 and "stress" in calculator.implemented_properties:
            wanted.append("stress")
        # All is new to the calculator: what it says must not depend on what it was asked before.
        try:
            calculator.calculate(frame, wanted, all_changes)
        except NotImplementedError:
            if wanted.pop() != "stress":  # some have it for some of their modes only
                raise
            calculator.calculate(frame, wanted, all_changes)
        names = [*wanted, "free_energy", "energies"]
        return {name: calculator.results[name] for name in names if calculator.results.get(name) is not None}

    @torch.no_grad()
    def add_to(
        self,
        geometry: Geometry,
        numbers: NDArray[np.int64],
        atom_energies: Tensor,
        energies: Tensor,
        forces: Tensor,
        virials: Tensor,
    ) -> None:
        """Add the baseline of several frames to the answers of all members, in place.

        Where it has no finite answer, the sums are NaN; where it has no stress or no energies of atoms, those are.

        Args:
            geometry: the frames.
            numbers: (n_atoms,) atomic numbers.
            atom_energies, energies: (M, n_atoms) and (M, n_frames) eV.
            forces: (n_atoms, K, 3) eV/Å.
            virials: (n_frames, K, 3, 3) eV.
        """
        positions, cells, pbc = (t.cpu().numpy() for t in (geometry.positions, geometry.cells, geometry.pbc))
        offsets = np.cumsum([0, *np.bincount(geometry.frame.cpu().numpy(), minlength=geometry.n_frames)])
        ours = [np.full(shape, np.nan) for shape in ((len(numbers),), (len(cells),), positions.shape, cells.shape)]
        of_atoms, of_frames, on_atoms, of_cells = ours
        for index in range(geometry.n_frames):
            own = slice(offsets[index], offsets[index + 1])
            frame = Atoms(numbers[own], positions=positions[own], cell=cells[index], pbc=pbc[index])
            answer = self.answer(frame)
            if answer is None:
                continue
            of_frames[index], on_atoms[own] = answer.energy, answer.forces
            if answer.energies is not None:
                of_atoms[own] = answer.energies
            if answer.stress is not None:
                of_cells[index] = voigt_6_to_full_3x3_stress(answer.stress) * frame.cell.volume
        device = forces.device
        atom_energies += torch.from_numpy(of_atoms).to(device)
        energies += torch.from_numpy(of_frames).to(device)
        forces += torch.from_numpy(on_atoms).to(device)[:, None]
        virials += torch.from_numpy(of_cells).to(device)[:, None]


def describe(level: Mapping[str, Any]) -> str:
    """A level of theory in words: code and arguments, or all its settings where it has no arguments."""
    arguments = level.get("arguments")
    if not isinstance(arguments, Mapping):
        arguments = {name: value for name, value in level.items() if name not in ("code", "hash")}
    words = ", ".join(f"{name} = {value!r}" for name, value in arguments.items())
    return f"{level.get('code')!r}" + (f" ({words})" if words else "")


def built_in(level: Mapping[str, Any]) -> Baseline | None:
    """The baseline that a card describes, if it is one that takes no code or file but our own; otherwise None."""
    make = _BUILT_IN.get(f"{level.get('code')} {level.get('version')}")
    made = make(level.get("arguments")) if make is not None else None
    return Baseline(level, made) if made is not None else None


def _emt(arguments: Any) -> Callable[[], BaseCalculator] | None:
    match arguments:
        case {"asap_cutoff": bool(asap_cutoff), **others} if not others:
            return lambda: EMT(asap_cutoff=asap_cutoff)
    return None


def _lj(arguments: Any) -> Callable[[], BaseCalculator] | None:
    match arguments:
        case {"sigma": float(), "epsilon": float(), "rc": float(rc), "ro": float(), "smooth": True, **others} if (
            not others
        ):
            is_sane = all(math.isfinite(value) and value > 0 for value in arguments.values())
            return (lambda: LennardJones(**arguments)) if is_sane and rc <= _LONGEST_CUTOFF else None
    return None


def _zbl(arguments: Any) -> Callable[[], BaseCalculator] | None:
    return PairRepulsion if arguments == {} else None


#: By code and version of the settings, see ``alpot.reference``.
_BUILT_IN: Mapping[str, Callable[[Any], Callable[[], BaseCalculator] | None]] = {
    "emt 1": _emt,
    "lj 1": _lj,
    "zbl 1": _zbl,
}


def _as_answer(results: Mapping[str, Any], n_atoms: int) -> BaselineAnswer | None:
    """Copies of what a calculator has said, whose arrays it may use again."""
    energy = float(results.get("free_energy", results.get("energy", np.nan)))
    forces = np.array(results.get("forces", np.nan), dtype=np.float64)
    if forces.shape != (n_atoms, 3) or not (np.isfinite(forces).all() and np.isfinite(energy)):
        return None
    stress, energies = results.get("stress"), results.get("energies")
    if stress is not None:
        stress = np.array(stress, dtype=np.float64)
        if stress.shape != (6,) or not np.isfinite(stress).all():
            return None
    if energies is not None:
        energies = np.array(energies, dtype=np.float64)
        tolerance = _SAME_ENERGY * (n_atoms + abs(energy))
        if energies.shape != (n_atoms,) or not abs(energies.sum() - energy) <= tolerance:
            energies = None
    return BaselineAnswer(energy=energy, forces=forces, stress=stress, energies=energies)
