"""The hidden bench: frames of aluminum from the reference's own dynamics, which no policy ever sees.

Eight groups of short Langevin runs at constant cell: liquids, hot and strained crystals, surfaces, vacancies,
interstitials, slipped crystals, and crystals under the uniaxial compression of a small shock. Frames of a run are taken
so far apart that they are independent: several times the 50 fs in which the friction forgets velocities.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import ase.io
import numpy as np
from ase import Atoms, units
from ase.build import add_adsorbate, bcc110, bulk, fcc100, fcc110, fcc111, hcp0001
from ase.calculators.calculator import BaseCalculator
from ase.md.langevin import Langevin
from numpy.typing import NDArray

from alpot.reference import ReferenceCalculator, level_of_theory
from alpot.store.files import publish_new
from alpot.structures.packing import build_packing
from alpot.validation.dynamics import set_velocities

#: Raised by hand when the frames change.
VERSION = 1
_TIMESTEP = 3.0  # fs; the fastest vibration of aluminum takes 100 fs
_FRICTION = 0.02  # 1/fs
#: ps before the first frame, and between two.
_SETTLING, _APART = 0.24, 0.18
_VACUUM = 6.0  # Å on either side of a slab
_LATTICE_CONSTANT = {"fcc": 4.05, "bcc": 3.24, "hcp": 2.86}  # Å, near the minimum of density-functional theory
_AMU_PER_CUBIC_ANGSTROM = 1e-3 * units.kg / units.m**3 * 1e6  # of g/cm³


@dataclass(frozen=True, kw_only=True)
class BenchSize:
    """How much of the bench is made.

    Attributes:
        runs: of each group.
        frames: of each run.
    """

    runs: int = 6
    frames: int = 3


@dataclass(frozen=True, kw_only=True)
class _Run:
    """One run: where it starts, and its temperature in K."""

    group: str
    atoms: Atoms
    temperature: float


def bench_frames(reference: ReferenceCalculator, cache: Path, size: BenchSize, rng: np.random.Generator) -> list[Atoms]:
    """The bench of a reference, from the cache if it was made before.

    Args:
        reference: what moves the atoms, and what labels them.
        cache: folder for the file with the frames.
        size: how many.
        rng: the only source of randomness.

    Returns:
        Frames with ``info`` "group", "temperature" (K), "REF_energy" (eV) and ``arrays["REF_forces"]`` (eV/Å).
    """
    cache.mkdir(parents=True, exist_ok=True)
    path = cache / f"bench-{level_of_theory(reference)[:12]}-{VERSION}-{size.runs}x{size.frames}.extxyz"
    if not path.exists():
        calculator = reference.calculator(cache)
        frames = [frame for run in _runs(size.runs, rng) for frame in _walk(run, calculator, size.frames, rng)]
        made = path.with_suffix(".part.extxyz")
        ase.io.write(made, frames)
        publish_new(path, made.read_bytes())
        made.unlink()
    return list(ase.io.iread(path))


def _walk(run: _Run, calculator: BaseCalculator, n_frames: int, rng: np.random.Generator) -> Iterator[Atoms]:
    """Frames of one run."""
    atoms = run.atoms
    atoms.calc = calculator
    set_velocities(atoms, run.temperature, rng)
    dynamics = Langevin(
        atoms,
        timestep=_TIMESTEP * units.fs,
        temperature_K=run.temperature,
        friction=_FRICTION / units.fs,
        fixcm=False,
        rng=rng,
    )
    for index in range(n_frames):
        dynamics.run(round(1e3 * (_APART if index else _SETTLING) / _TIMESTEP))
        frame = Atoms(atoms.numbers, positions=atoms.positions, cell=atoms.cell, pbc=atoms.pbc)
        frame.info = {
            "group": run.group,
            "temperature": run.temperature,
            "REF_energy": float(atoms.get_potential_energy()),
        }
        frame.arrays["REF_forces"] = atoms.get_forces()
        yield frame


def _runs(n_runs: int, rng: np.random.Generator) -> Iterator[_Run]:
    """All runs; what varies within a group goes through its choices in turn, the rest is drawn."""
    for index in range(n_runs):
        crystal = ("fcc", "bcc", "hcp")[index % 3]
        yield _Run(group="liquid", atoms=_liquid(index, rng), temperature=(1000.0, 1800.0, 3500.0)[index % 3])
        yield _Run(group="hot crystal", atoms=_crystal(crystal, rng, 0.03), temperature=rng.uniform(300, 1100))
        yield _Run(group="strained crystal", atoms=_crystal(crystal, rng, 0.10), temperature=rng.uniform(100, 400))
        yield _Run(group="surface", atoms=_slab(index), temperature=rng.uniform(200, 1000))
        yield _Run(group="vacancy", atoms=_with_vacancies(crystal, index, rng), temperature=rng.uniform(300, 800))
        yield _Run(group="interstitial", atoms=_with_interstitial(crystal, rng), temperature=rng.uniform(200, 600))
        yield _Run(group="stacking fault", atoms=slipped(rng.uniform(0.2, 1.0)), temperature=rng.uniform(100, 500))
        yield _Run(group="shock", atoms=_compressed(index, rng), temperature=rng.uniform(400, 2000))


def _liquid(index: int, rng: np.random.Generator) -> Atoms:
    density = (2.37, 2.1, 1.9, 2.7, 3.2, 2.4)[index % 6]
    atoms, _ = build_packing(np.full(int(rng.integers(36, 49)), 13), density, 0.85, rng)
    return atoms


def _perfect(name: str) -> Atoms:
    """Cells of 32 (fcc), 54 (bcc) and 36 (hcp) atoms."""
    a = _LATTICE_CONSTANT[name]
    if name == "fcc":
        return bulk("Al", "fcc", a=a, cubic=True).repeat(2)
    if name == "bcc":
        return bulk("Al", "bcc", a=a, cubic=True).repeat(3)
    return bulk("Al", "hcp", a=a, orthorhombic=True).repeat((3, 2, 2))[:]


def _crystal(name: str, rng: np.random.Generator, strain: float) -> Atoms:
    """A crystal under a random symmetric strain with components up to ± ``strain``."""
    atoms = _perfect(name)
    matrix = rng.uniform(-strain, strain, (3, 3))
    atoms.set_cell(atoms.cell.array @ (np.eye(3) + 0.5 * (matrix + matrix.T)), scale_atoms=True)
    return atoms


def _slab(index: int) -> Atoms:
    a = _LATTICE_CONSTANT["fcc"]
    match index % 6:
        case 0:
            slab = fcc111("Al", (3, 3, 5), a=a, vacuum=_VACUUM)
        case 1:
            slab = fcc100("Al", (3, 3, 5), a=a, vacuum=_VACUUM)
        case 2:
            slab = fcc110("Al", (2, 3, 7), a=a, vacuum=_VACUUM)
        case 3:
            slab = fcc111("Al", (3, 3, 4), a=a, vacuum=_VACUUM)
            add_adsorbate(slab, "Al", 2.2, "fcc")
        case 4:
            slab = bcc110("Al", (3, 3, 5), a=_LATTICE_CONSTANT["bcc"], vacuum=_VACUUM)
        case _:
            slab = hcp0001("Al", (3, 3, 5), a=_LATTICE_CONSTANT["hcp"], vacuum=_VACUUM)
    return Atoms(slab.numbers, positions=slab.positions, cell=slab.cell, pbc=True)


def _with_vacancies(name: str, index: int, rng: np.random.Generator) -> Atoms:
    atoms = _perfect(name)
    del atoms[rng.choice(len(atoms), size=1 + index % 2, replace=False).tolist()]
    return atoms


def _with_interstitial(name: str, rng: np.random.Generator) -> Atoms:
    """One atom in excess: two share a site, 2 Å apart in a random direction."""
    atoms = _perfect(name)
    direction = rng.standard_normal(3)
    direction /= np.linalg.norm(direction)
    site = int(rng.integers(len(atoms)))
    middle = atoms.positions[site].copy()
    atoms.positions[site] = middle + direction
    return atoms + Atoms("Al", positions=[middle - direction])


def slipped(share: float) -> Atoms:
    """54 atoms of fcc, six {111} planes, with one slip per cell along <112> towards the intrinsic stacking fault.

    Args:
        share: of the way: 0 is the perfect crystal, 1 the fault.
    """
    slab = fcc111("Al", (3, 3, 6), a=_LATTICE_CONSTANT["fcc"], vacuum=_VACUUM)
    heights = np.unique(slab.positions[:, 2].round(6))
    cell = slab.cell.array.copy()
    # Each plane is shifted against the one below by the same vector; six times that is a lattice vector.
    cell[2] = 0.0, 0.0, len(heights) * _LATTICE_CONSTANT["fcc"] / np.sqrt(3.0)
    atoms = Atoms(slab.numbers, positions=slab.positions, cell=cell, pbc=True)
    cell[2, :2] = share * _shift_of_planes(slab.positions, heights, cell[:2, :2])
    atoms.set_cell(cell)
    return atoms


def _shift_of_planes(
    positions: NDArray[np.float64], heights: NDArray[np.float64], cell: NDArray[np.float64]
) -> NDArray[np.float64]:
    """(2,) Å: the shortest in-plane vector from an atom of the first plane to one of the second.

    Args:
        positions: (n_atoms, 3) Å.
        heights: (n_planes,) Å.
        cell: (2, 2) in-plane cell vectors, Å.
    """
    first, second = (positions[np.isclose(positions[:, 2], height, atol=1e-3), :2] for height in heights[:2])
    apart = (second - first[0]) @ np.linalg.inv(cell)
    apart = (apart - np.round(apart)) @ cell
    return np.asarray(apart[np.linalg.norm(apart, axis=1).argmin()])


def _compressed(index: int, rng: np.random.Generator) -> Atoms:
    """fcc compressed along <100>, <110> or <111> by up to three tenths of its length."""
    if index % 3 == 2:
        atoms = slipped(0.0)
        axis = 2
    elif index % 3 == 1:
        atoms = bulk("Al", "fcc", a=_LATTICE_CONSTANT["fcc"], orthorhombic=True).repeat((3, 3, 2))
        axis = 0
    else:
        atoms = _perfect("fcc")
        axis = 0
    cell = atoms.cell.array.copy()
    cell[axis] *= 1.0 - rng.uniform(0.05, 0.30)
    atoms.set_cell(cell, scale_atoms=True)
    return atoms


def in_groups(frames: Sequence[Atoms]) -> dict[str, NDArray[np.int64]]:
    """Indices of the frames of each group."""
    names = np.array([frame.info["group"] for frame in frames])
    return {str(name): np.flatnonzero(names == name) for name in dict.fromkeys(names.tolist())}
