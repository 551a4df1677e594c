"""Turns g/cm³ into cell volumes, and draws how dense and of what composition a start is."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from ase import units
from ase.data import atomic_masses, atomic_numbers, chemical_symbols, reference_states

from alpot.config import Material
from alpot.errors import StructureError

#: Default densities, relative to that at normal conditions; for Al they are the paper's 1.80 to 4.05 g/cm³.
DEFAULT_RANGE = (0.67, 1.5)

#: g/cm³ in amu/Å³.
_GRAM_PER_CM3 = units.kg * 1e-3 / (units.m * 1e-2) ** 3

#: Atoms in the crystal cells whose number ASE's table does not tell (Wyckoff, Crystal Structures, 1963).
_ATOMS_PER_CELL = {"B": 50, "S": 128, "Cl": 8, "Mn": 58, "Ga": 8, "Se": 3, "Br": 8, "Te": 3, "I": 8, "Sn": 4}
_ATOMS_PER_CELL |= {"Pa": 2, "U": 4, "Np": 8}
_ATOMS_PER_LATTICE_CELL = {"sc": 1, "bcc": 2, "bct": 2, "hcp": 2, "fcc": 4, "diamond": 8}


def volume_of(numbers: np.ndarray, density: float) -> float:
    """The volume in Å³ that atoms fill at a density.

    Args:
        numbers: (n_atoms,) atomic numbers.
        density: g/cm³.
    """
    return float(atomic_masses[numbers].sum() / (density * _GRAM_PER_CM3))


def density_of(numbers: np.ndarray, volume: float) -> float:
    """The density in g/cm³ of atoms that fill a volume in Å³."""
    return float(atomic_masses[numbers].sum() / (volume * _GRAM_PER_CM3))


def normal_density(numbers: np.ndarray) -> float:
    """The density in g/cm³ at normal conditions, as if the volumes of the pure elements' crystals added up.

    Args:
        numbers: (n_atoms,) atomic numbers.

    Raises:
        StructureError: no crystal of one of the elements is known.
    """
    return density_of(numbers, sum(_atomic_volume(int(number)) for number in numbers))


def draw_density(
    numbers: np.ndarray,
    bounds: tuple[float, float] | None,
    rng: np.random.Generator,
    *,
    relative: tuple[float, float] = DEFAULT_RANGE,
) -> float:
    """A density in g/cm³, uniform in ``bounds`` (g/cm³), or by default within multiples of the normal density."""
    if bounds is None:
        normal = normal_density(numbers)
        bounds = (relative[0] * normal, relative[1] * normal)
    return float(rng.uniform(*bounds))


def draw_numbers(material: Material, n_atoms: int, rng: np.random.Generator) -> np.ndarray:
    """Atomic numbers of a random composition in random order.

    Returns:
        (n_atoms,) atomic numbers; fractions are within the material's ranges up to the rounding to whole atoms.
    """
    elements = material.elements
    bounds = [(0.0, 1.0) if material.composition is None else material.composition[symbol] for symbol in elements]
    counts = _whole_atoms(_draw_fractions(bounds, rng), n_atoms)
    numbers = np.repeat([atomic_numbers[symbol] for symbol in elements], counts)
    return rng.permutation(numbers)


def _draw_fractions(bounds: Sequence[tuple[float, float]], rng: np.random.Generator) -> np.ndarray:
    """Fractions that add up to 1, each within its bounds, drawn one after the other in random order.

    What is possible for one depends on what is left for the others, so it never fails. Two elements are uniform; for
    more the order decides a little, and it is random.
    """
    low, high = np.array(bounds, dtype=float).T
    fractions = np.zeros(len(bounds))
    left = 1.0
    order = rng.permutation(len(bounds))
    for step, index in enumerate(order):
        later = order[step + 1 :]
        least = max(low[index], left - high[later].sum())
        most = min(high[index], left - low[later].sum())
        fractions[index] = rng.uniform(least, max(least, most))
        left -= fractions[index]
    return fractions


def _whole_atoms(fractions: np.ndarray, n_atoms: int) -> np.ndarray:
    """Rounds fractions to counts (n_elements,) that add up to ``n_atoms``: the largest remainders are rounded up."""
    exact = fractions / fractions.sum() * n_atoms
    counts = np.floor(exact).astype(int)
    rounded_up = np.argsort(counts - exact, kind="stable")[: n_atoms - counts.sum()]
    counts[rounded_up] += 1
    return counts


def _atomic_volume(number: int) -> float:
    """Volume in Å³ per atom of an element's crystal at normal conditions, from ASE's table of lattice constants."""
    symbol = chemical_symbols[number]
    state: dict[str, Any] = reference_states[number] or {}
    symmetry = state.get("symmetry", "")
    if symmetry == "rhombohedral":
        n_atoms = len(state["basis_x"])
    else:
        n_atoms = _ATOMS_PER_CELL.get(symbol) or _ATOMS_PER_LATTICE_CELL.get(symmetry, 0)
    if n_atoms == 0 or "a" not in state:
        raise StructureError(
            f"the density of {symbol} at normal conditions is not known (it is no simple crystal); set density, in"
            " g/cm³, in every table of material.starts of kind packing, crystal or surface"
        )
    shape = state.get("b/a", 1.0) * state.get("c/a", 1.0)
    if symmetry == "hcp":
        shape *= math.sqrt(3.0) / 2.0
    if symmetry == "rhombohedral":
        cosine = math.cos(math.radians(state["alpha"]))
        shape = math.sqrt(1.0 - 3.0 * cosine**2 + 2.0 * cosine**3)
    return float(state["a"] ** 3 * shape / n_atoms)
