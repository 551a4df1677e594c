"""Which crystal an element is examined in, how it is built at a given volume, and its supercells."""

from __future__ import annotations

from typing import Any

import numpy as np
from ase import Atoms
from ase.data import atomic_numbers, covalent_radii, reference_states

from alpot.validation.prototypes import IDEAL_C_OVER_A, PROTOTYPES, Structure, unit_cell

__all__ = [
    "IDEAL_C_OVER_A",
    "Structure",
    "build_crystal",
    "build_supercell",
    "lattice_constant",
    "preferred_structure",
    "start_volume",
]

#: Those of the structures that are the ground state of an element and simple enough to examine all properties in.
_PREFERRED: tuple[Structure, ...] = ("fcc", "bcc", "hcp", "sc", "diamond")


def preferred_structure(element: str) -> Structure:
    """The crystal that an element is examined in: its own at normal conditions, where that is a simple one.

    Elements with another crystal (In, Ga, Mn, gases, ...) are examined as fcc: a definite structure in which a
    potential and its reference can be compared, though not their ground state.
    """
    symmetry = _reference_state(element).get("symmetry")
    return symmetry if symmetry in _PREFERRED else "fcc"


def _reference_state(element: str) -> Any:
    return reference_states[atomic_numbers[element]] or {}


def start_volume(element: str) -> float:
    """Volume per atom in Å³ from which the search for equilibrium begins: experimental, or from the covalent radius."""
    structure = preferred_structure(element)
    state = _reference_state(element)
    if state.get("symmetry") == structure:
        c_over_a = state.get("c/a", PROTOTYPES[structure].c_over_a)
        return float(state["a"] ** 3 * _volume_per_cube(structure, c_over_a))
    # fcc spheres that touch at the covalent distance: V = d³/√2.
    return float((2 * covalent_radii[atomic_numbers[element]]) ** 3 / np.sqrt(2))


def lattice_constant(structure: Structure, volume: float, c_over_a: float | None = None) -> float:
    """Edge a in Å of the conventional cell with this volume per atom in Å³; c/a as in :func:`build_crystal`."""
    return float(np.cbrt(volume / _volume_per_cube(structure, c_over_a)))


def _volume_per_cube(structure: Structure, c_over_a: float | None) -> float:
    """Volume per atom over a³."""
    cell = unit_cell(structure, "primitive")
    return cell.get_volume() / len(cell) * _shape(structure, c_over_a)


def _shape(structure: Structure, c_over_a: float | None) -> float:
    prototype = PROTOTYPES[structure]
    return prototype.c_over_a if c_over_a is None or prototype.family == "cubic" else c_over_a


def build_crystal(element: str, structure: Structure, volume: float, c_over_a: float | None = None) -> Atoms:
    """Primitive cell of a crystal.

    Args:
        element: chemical symbol.
        structure: prototype.
        volume: per atom, Å³.
        c_over_a: the prototype's by default; not used for cubic ones.
    """
    return _scaled(unit_cell(structure, "primitive"), element, structure, volume, c_over_a)


def build_supercell(
    element: str, structure: Structure, volume: float, minimum_atoms: int, c_over_a: float | None = None
) -> Atoms:
    """The most compact block of right-angled cells with at least so many atoms, e.g. 108 for fcc and 100.

    Args:
        element, structure, volume, c_over_a: as in :func:`build_crystal`.
        minimum_atoms: lower bound of the number of atoms.
    """
    cell = _scaled(unit_cell(structure, "right_angled"), element, structure, volume, c_over_a)
    repeats = np.ones(3, dtype=int)
    while len(cell) * repeats.prod() < minimum_atoms:
        # Lengthen the shortest edge; for cubic cells, all that are equally short.
        lengths = cell.cell.lengths() * repeats
        repeats[lengths < lengths.min() * (1 + 1e-6)] += 1
    return cell.repeat(repeats)


def _scaled(cell: Atoms, element: str, structure: Structure, volume: float, c_over_a: float | None) -> Atoms:
    """A copy of a unit cell with its c/a and volume per atom, of the element."""
    atoms = cell.copy()
    atoms.set_chemical_symbols([element] * len(atoms))
    a = lattice_constant(structure, volume, c_over_a)
    atoms.set_cell(atoms.cell.array * [a, a, a * _shape(structure, c_over_a)], scale_atoms=True)
    return atoms
