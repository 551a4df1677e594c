"""Crystals to start from: supercells of prototypes with random strain, displacements and point defects."""

from __future__ import annotations

import numpy as np
from ase import Atoms

from alpot.config import CrystalStarts, Material
from alpot.structures.contacts import closest_approach, contact_distance
from alpot.structures.density import draw_density, draw_numbers, volume_of
from alpot.structures.packing import push_apart
from alpot.structures.planes import SLIP_PLANES, slip, stack
from alpot.structures.prototypes import primitive_cell, prototype, supercell

#: Vacancies at most in one start, and the share of the atoms that stays in any case.
_MAX_VACANCIES = 3
_LEAST_KEPT = 0.5
#: Random places looked at for an interstitial atom; the one with most room is taken.
_INTERSTITIAL_TRIALS = 100
#: Interstitial atoms and large displacements in dense crystals would bring atoms into contact, and their walkers would
#: end at once: such atoms are pushed apart to this fraction of the sum of their covalent radii ...
_CLOSEST = 0.7
#: ... or to this one of the closest approach in the perfect crystal, if that is less.
_CLOSEST_RELATIVE = 0.95


def crystal_cell(name: str, target: int, bounds: tuple[int, int]) -> Atoms:
    """A perfect crystal of about ``target`` atoms: a supercell, or the primitive cell where that comes nearer.

    Args:
        name: prototype lattice.
        target: wanted number of atoms.
        bounds: numbers of atoms allowed, as far as there are such cells.
    """
    cells = [supercell(prototype(name), target, bounds), primitive_cell(name)]

    def badness(cell: Atoms) -> tuple[bool, int]:
        return not bounds[0] <= len(cell) <= bounds[1], abs(len(cell) - target)

    return min(cells, key=badness)


def slipped_crystal(name: str, target: int, bounds: tuple[int, int], rng: np.random.Generator) -> Atoms:
    """A crystal of which one close-packed plane has slipped over the next; see ``crystal_cell``."""
    atoms = stack(name, SLIP_PLANES[name], target, bounds, rng)
    slip(atoms, name, rng)
    return atoms


def build_crystal(material: Material, starts: CrystalStarts, rng: np.random.Generator) -> tuple[Atoms, str]:
    """Builds one crystal as a table of starts asks for it.

    Returns:
        The frame, and the name of its prototype with a word on what became of it.
    """
    name = str(rng.choice(starts.prototypes))
    target = int(rng.integers(starts.atoms[0], starts.atoms[1] + 1))
    atoms, text = crystal_cell(name, target, starts.atoms), name
    if starts.slip_chance and name in SLIP_PLANES and rng.random() < starts.slip_chance:
        atoms, text = slipped_crystal(name, target, starts.atoms, rng), f"{name} slipped"
    atoms.numbers = draw_numbers(material, len(atoms), rng)
    density = draw_density(atoms.numbers, starts.density, rng)
    _strain(atoms, starts.strain, rng)
    # The strain changes the shape only: the density is drawn by itself.
    scale = (volume_of(atoms.numbers, density) / atoms.get_volume()) ** (1.0 / 3.0)
    atoms.set_cell(atoms.cell.array * scale, scale_atoms=True)
    limit = contact_limit(closest_approach(atoms))
    if rng.random() < starts.vacancy_chance:
        atoms = with_vacancies(atoms, rng)
    if rng.random() < starts.interstitial_chance:
        atoms = _with_interstitial(atoms, int(rng.choice(atoms.numbers)), rng)
    rattle(atoms, starts.rattle, rng)
    push_apart(atoms, limit)
    return atoms, text


def contact_limit(closest: float) -> float:
    """How far displaced atoms are pushed apart, given the closest approach of the perfect crystal; both as fractions.

    The fractions are of the sums of the covalent radii.
    """
    return min(_CLOSEST, _CLOSEST_RELATIVE * closest)


def rattle(atoms: Atoms, bounds: tuple[float, float], rng: np.random.Generator) -> None:
    """Displaces all atoms at random, in place; the standard deviation (Å) is drawn from ``bounds``."""
    atoms.positions += rng.normal(0.0, 1.0, atoms.positions.shape) * rng.uniform(*bounds)


def _strain(atoms: Atoms, largest: float, rng: np.random.Generator) -> None:
    """Applies a symmetric strain, in place, with components uniform in ± ``largest``."""
    components = rng.uniform(-largest, largest, 6)
    strain = np.zeros((3, 3))
    strain[np.triu_indices(3)] = components
    strain = strain + strain.T - np.diag(np.diag(strain))
    atoms.set_cell(atoms.cell.array @ (np.eye(3) + strain), scale_atoms=True)


def with_vacancies(atoms: Atoms, rng: np.random.Generator) -> Atoms:
    """Removes some atoms, drawn at random."""
    most = min(_MAX_VACANCIES, int(len(atoms) * (1.0 - _LEAST_KEPT)))
    if most == 0:
        return atoms
    gone = rng.choice(len(atoms), size=int(rng.integers(1, most + 1)), replace=False)
    kept = np.ones(len(atoms), dtype=bool)
    kept[gone] = False
    return atoms[kept]


def _with_interstitial(atoms: Atoms, number: int, rng: np.random.Generator) -> Atoms:
    """Adds an atom of the given number where, of some random places, there is most room."""
    trials = rng.random((_INTERSTITIAL_TRIALS, 3))
    apart = trials[:, None, :] - atoms.get_scaled_positions()[None, :, :]  # (trials, atoms, 3), fractional
    # Near enough to the minimum image: the cells are nearly orthogonal, and the place need not be the very best.
    apart -= np.round(apart)
    distance = np.linalg.norm(apart @ atoms.cell.array, axis=2)
    room = (distance / contact_distance(number, atoms.numbers, 1.0)).min(axis=1)
    place = trials[room.argmax()] @ atoms.cell.array
    return atoms + Atoms(numbers=[number], positions=[place])
