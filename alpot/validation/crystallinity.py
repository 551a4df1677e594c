"""How much of a box is crystal: the lateral order of its layers."""

from __future__ import annotations

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

#: Layers with at least this order count as crystal: hot crystals have 0.7 to 0.9, liquids 0.1 to 0.3.
_ORDER = 0.5
#: So many atoms that the order of a liquid, 1/√n, is low; so few that a layer is thin.
_ATOMS_PER_LAYER = 32
#: Å; the shortest period of a crystal that is looked for.
_SHORTEST_PERIOD = 1.0


def lateral_wave_vectors(crystal: Atoms) -> NDArray[np.int64]:
    """The shortest reciprocal vectors of a perfect crystal that lie in the plane of its first two edges.

    Args:
        crystal: a supercell with right angles.

    Returns:
        (n, 3) in multiples of the reciprocal vectors of the box, one of each pair ±k.
    """
    scaled = crystal.get_scaled_positions()
    edges = crystal.cell.lengths()
    most = (edges / _SHORTEST_PERIOD).astype(int)
    indices = [(h, k, 0) for h in range(most[0] + 1) for k in range(-most[1] if h else 1, most[1] + 1)]
    inside = [vector for vector in indices if abs(np.exp(2j * np.pi * scaled @ vector).mean()) > 0.99]
    lengths = np.linalg.norm(np.array(inside) / edges, axis=1)
    return np.array(inside)[lengths < 1.01 * lengths.min()]


def crystalline_share(atoms: Atoms, wave_vectors: NDArray[np.int64]) -> float:
    """Share of the layers along the third edge whose atoms stand in the lateral order of the crystal.

    The order of a layer is |Σ exp(i k·r)|/n, averaged over the wave vectors: 1 for a perfect crystal, exp(−k²⟨u²⟩/2)
    for one that vibrates, about 1/√n for a liquid.

    Args:
        atoms: at any moment of a run that began with the crystal of the wave vectors.
        wave_vectors: from :func:`lateral_wave_vectors`.
    """
    scaled = atoms.get_scaled_positions()
    phases = np.exp(2j * np.pi * scaled @ wave_vectors.T)  # (n_atoms, n)
    layers = np.array_split(scaled[:, 2].argsort(), max(1, round(len(atoms) / _ATOMS_PER_LAYER)))
    orders = [np.abs(phases[layer].mean(axis=0)).mean() for layer in layers]
    return float((np.array(orders) > _ORDER).mean())
