"""Which crystal an element is examined in, how it is built at a given volume, and its supercells."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from ase import Atoms
from ase.build import bulk
from ase.data import atomic_numbers, covalent_radii, reference_states
from numpy.typing import NDArray

Structure = Literal["fcc", "bcc", "hcp", "sc", "diamond"]

#: Atoms in the cubic cell whose edge is the lattice constant (for hcp: in the hexagonal cell).
_ATOMS_PER_CELL: dict[Structure, int] = {"fcc": 4, "bcc": 2, "hcp": 2, "sc": 1, "diamond": 8}

#: c/a of close-packed spheres.
IDEAL_C_OVER_A = float(np.sqrt(8 / 3))


def preferred_structure(element: str) -> Structure:
    """The crystal that an element is examined in: its own at normal conditions, where that is a simple one.

    Elements with another crystal (In, Ga, Mn, gases, ...) are examined as fcc: a definite structure in which a
    potential and its reference can be compared, though not their ground state.
    """
    symmetry = _reference_state(element).get("symmetry")
    return symmetry if symmetry in _ATOMS_PER_CELL else "fcc"


def _reference_state(element: str) -> Any:
    return reference_states[atomic_numbers[element]] or {}


def start_volume(element: str) -> float:
    """Volume per atom in Å³ from which the search for equilibrium begins: experimental, or from the covalent radius."""
    structure = preferred_structure(element)
    state = _reference_state(element)
    if state.get("symmetry") == structure:
        a, c_over_a = state["a"], state.get("c/a", IDEAL_C_OVER_A)
        cell_volume = a**3 * (np.sqrt(3) / 2 * c_over_a if structure == "hcp" else 1.0)
        return float(cell_volume / _ATOMS_PER_CELL[structure])
    # fcc spheres that touch at the covalent distance: V = d³/√2.
    return float((2 * covalent_radii[atomic_numbers[element]]) ** 3 / np.sqrt(2))


def lattice_constant(
    structure: Structure, volume: NDArray[np.float64] | float, c_over_a: float = IDEAL_C_OVER_A
) -> NDArray[np.float64]:
    """Edge a in Å of the cubic (or hexagonal) cell with this volume per atom in Å³; elementwise."""
    cell_volume = _ATOMS_PER_CELL[structure] * np.asarray(volume)
    return np.cbrt(cell_volume / (np.sqrt(3) / 2 * c_over_a)) if structure == "hcp" else np.cbrt(cell_volume)


def build_crystal(element: str, structure: Structure, volume: float, c_over_a: float = IDEAL_C_OVER_A) -> Atoms:
    """Primitive cell of a crystal.

    Args:
        element: chemical symbol.
        structure: prototype.
        volume: per atom, Å³.
        c_over_a: of hcp; not used for the others.
    """
    a = float(lattice_constant(structure, volume, c_over_a))
    if structure == "hcp":
        return bulk(element, "hcp", a=a, c=a * c_over_a)
    return bulk(element, structure, a=a)


def build_supercell(
    element: str, structure: Structure, volume: float, minimum_atoms: int, c_over_a: float = IDEAL_C_OVER_A
) -> Atoms:
    """The most compact block of right-angled cells with at least so many atoms, e.g. 108 for fcc and 100.

    Args:
        element, structure, volume, c_over_a: as in :func:`build_crystal`.
        minimum_atoms: lower bound of the number of atoms.
    """
    a = float(lattice_constant(structure, volume, c_over_a))
    if structure == "hcp":
        cell = bulk(element, "hcp", a=a, c=a * c_over_a, orthorhombic=True)
    elif structure == "sc":
        cell = bulk(element, "sc", a=a)
    else:
        cell = bulk(element, structure, a=a, cubic=True)
    repeats = np.ones(3, dtype=int)
    while len(cell) * repeats.prod() < minimum_atoms:
        # Lengthen the shortest edge; for cubic cells, all that are equally short.
        lengths = cell.cell.lengths() * repeats
        repeats[lengths < lengths.min() * (1 + 1e-6)] += 1
    return cell.repeat(repeats)
