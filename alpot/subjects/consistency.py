"""What labels say of one another, before there is a potential: a simple model that they fit together, robustly.

Energies and forces are linear in the coefficients of pair functions and of square roots of densities (as in embedded
atom and second-moment potentials), so that a fit takes a second and has no start values. It is far from a good
potential, but a label that it misses by much more than it misses its neighbours is not of the same kind as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from ase import Atoms
from ase.data import atomic_numbers
from numpy.typing import NDArray
from scipy.sparse import csr_array

from alpot.potential.batch import Batch
from alpot.potential.frame_cache import LabelledFrame
from alpot.potential.neighbors import NeighborSearch

_CUTOFF = 6.0
#: Å; centers of the pair functions, all of this width; decay lengths of the densities.
_CENTERS = np.arange(0.6, _CUTOFF, 0.4)
_WIDTH = 0.4
_DECAYS = np.array([0.4, 0.8, 1.6])
#: Numbers in the matrix of the fit, 160 MB; more frames would not make so simple a model better.
_MOST_NUMBERS = 20_000_000
_ROUNDS = 8
#: Of the trace of the normal equations.
_RIDGE = 1e-9
#: A frame whose misfit is this many times the median's loses its weight.
_TOLERATED = 2.5
#: eV/Å and eV/atom; smaller differences are not worth fitting.
_FORCE_FLOOR, _ENERGY_FLOOR = 0.05, 0.02


_Function = Callable[[NDArray[np.float64]], NDArray[np.float64]]


class Terms(NamedTuple):
    """Of one frame: (n_terms,), (n_atoms, 3, n_terms), and (6, n_terms) in Voigt order."""

    energy: NDArray[np.float64]
    forces: NDArray[np.float64]
    virial: NDArray[np.float64]


class LinearModel:
    """Pair functions and embedded densities, for some elements.

    Args:
        elements: chemical symbols.
    """

    def __init__(self, elements: Sequence[str]) -> None:
        self.elements = tuple(elements)
        self._species = np.full(119, -1)
        self._species[[atomic_numbers[symbol] for symbol in elements]] = np.arange(len(elements))
        n = len(self.elements)
        self.n_terms = n + len(_CENTERS) * n * n + 2 * len(_DECAYS) * n
        self.coefficients: NDArray[np.float64] = np.zeros(self.n_terms)

    def terms(self, atoms: Atoms) -> Terms:
        """What the coefficients multiply to give energy, forces and virial."""
        batch = Batch.from_atoms([atoms])
        pairs = NeighborSearch(_CUTOFF).pairs(batch)
        vectors, center = pairs.vectors(batch), pairs.center
        distance = np.linalg.norm(vectors, axis=1).clip(min=1e-3)
        species, n = self._species[atoms.numbers], len(self.elements)
        to_center = csr_array(
            (np.ones(len(center)), np.arange(len(center)), pairs.first_pair), shape=(len(atoms), len(center))
        )
        energy = [np.bincount(species, minlength=n).astype(float)]
        slopes = []  # of each term along the pair, seen from the center: (n_pairs, n_functions)
        values, derivatives = _smooth(
            distance, lambda r: np.exp(-0.5 * ((r - _CENTERS) / _WIDTH) ** 2), lambda r: -(r - _CENTERS) / _WIDTH**2
        )
        mine, other = species[center], species[pairs.neighbor]
        for a in range(n):
            for b in range(n):
                chosen = ((mine == a) & (other == b))[:, None]
                mirrored = ((mine == b) & (other == a))[:, None]
                energy.append((values * chosen).sum(axis=0))
                slopes.append(derivatives * (chosen.astype(float) + mirrored))
        values, derivatives = _smooth(distance, lambda r: np.exp(-r / _DECAYS), lambda r: -1.0 / _DECAYS)
        density = to_center @ values + 1e-12
        for power in (0.5, 1.5):
            embedding, slope = density**power, power * density ** (power - 1.0)
            for a in range(n):
                own = (species == a)[:, None]
                energy.append((embedding * own).sum(axis=0))
                weight = slope * own
                slopes.append((weight[center] + weight[pairs.neighbor]) * derivatives)
        along = np.concatenate(slopes, axis=1)
        unit = vectors / distance[:, None]
        forces = np.zeros((len(atoms), 3, self.n_terms))
        for axis in range(3):
            forces[:, axis, n:] = to_center @ (along * unit[:, axis, None])
        virial = np.zeros((6, self.n_terms))
        # Each pair is there twice, with the slopes of both its ends.
        for row, (a, b) in enumerate(((0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1))):
            virial[row, n:] = 0.5 * (along * (unit[:, a] * vectors[:, b])[:, None]).sum(axis=0)
        return Terms(np.concatenate(energy), forces, virial)

    def fit(self, labels: Sequence[LabelledFrame]) -> None:
        """Least squares in which every label counts alike, however large its numbers, and those that do not fit less.

        Labels are taken evenly from all, so many as fit into ``_MOST_NUMBERS``.
        """
        atoms = sum(len(label.atoms) for label in labels)
        step = max(1, -(-3 * atoms * self.n_terms // _MOST_NUMBERS))
        chosen = labels[::step]
        per_atom = np.array([label.energy / len(label.atoms) for label in chosen])
        spread = np.abs(per_atom - np.median(per_atom))
        spread = spread.clip(min=max(float(np.median(spread)), _ENERGY_FLOOR))
        rows, wanted = [], []
        for label, unit in zip(chosen, spread, strict=True):
            energy, forces, _ = self.terms(label.atoms)
            n_atoms, size = len(label.atoms), _FORCE_FLOOR + _rms(label.forces)
            scale = 1.0 / (np.sqrt(3 * n_atoms) * size)
            rows.append(np.concatenate([forces.reshape(-1, self.n_terms) * scale, energy[None] / n_atoms / unit]))
            wanted.append(np.append(np.ravel(label.forces) * scale, label.energy / n_atoms / unit))
        norms, pull = _leverage(rows)
        weights = np.repeat(pull[:, None], 2, axis=1)
        for _ in range(_ROUNDS):
            self.coefficients = _solve(rows, wanted, weights, norms)
            off = [row @ self.coefficients - value for row, value in zip(rows, wanted, strict=True)]
            misfits = np.array([[np.linalg.norm(part[:-1]), abs(part[-1])] for part in off])
            limits = _TOLERATED * np.median(misfits, axis=0) + 1e-12
            weights = pull[:, None] * limits / np.maximum(misfits, limits)

    def predict(self, atoms: Atoms) -> tuple[float, NDArray[np.float64], NDArray[np.float64] | None]:
        """Energy in eV, forces (n_atoms, 3) in eV/Å, and of a bulk frame the stress (6,) in eV/Å³."""
        energy, forces, virial = (part @ self.coefficients for part in self.terms(atoms))
        return float(energy), forces, virial / atoms.cell.volume if atoms.pbc.all() else None


def _leverage(rows: list[NDArray[np.float64]]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Typical size of each term, and weights that keep a frame of an odd structure from ruling the fit."""
    sizes = np.array([np.sqrt(np.square(row).sum(axis=0)) for row in rows])
    typical = np.median(sizes, axis=0)
    typical = np.where(typical > 0.0, typical, sizes.max(axis=0)) + 1e-12
    pull = np.linalg.norm(sizes / typical, axis=1)
    limit = _TOLERATED * np.median(pull)
    return typical, np.square(limit / np.maximum(pull, limit))


def _solve(
    rows: list[NDArray[np.float64]],
    wanted: list[NDArray[np.float64]],
    weights: NDArray[np.float64],
    norms: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Regularised least squares; ``weights`` (n_frames, 2) are those of a frame's forces and of its energy."""
    matrix, right = np.zeros((len(norms), len(norms))), np.zeros(len(norms))
    for row, value, (force, energy) in zip(rows, wanted, weights, strict=True):
        weight = np.append(np.full(len(value) - 1, force), energy)
        scaled = row / norms
        matrix += (scaled * weight[:, None]).T @ scaled
        right += scaled.T @ (weight * value)
    ridge = _RIDGE * float(np.trace(matrix))
    return np.asarray(np.linalg.solve(matrix + ridge * np.eye(len(matrix)), right) / norms)


def _rms(values: NDArray[np.float64]) -> float:
    return float(np.sqrt(np.square(values).mean()))


def _smooth(
    distance: NDArray[np.float64], function: _Function, relative_slope: _Function
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Functions of the distance that end smoothly at the cutoff, and their derivatives: (n_pairs, n_functions)."""
    r = distance[:, None]
    window = 0.5 * (1.0 + np.cos(np.pi * r / _CUTOFF))
    plain = function(r)
    fall = -0.5 * np.pi / _CUTOFF * np.sin(np.pi * r / _CUTOFF)
    return plain * window, plain * (relative_slope(r) * window + fall)
