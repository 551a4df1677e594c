"""How new an atomic environment is to an ensemble: the variance of a Bayesian last layer, without an error of its own.

What a network says is linear in its last hidden layer φ. After labels with the layers Φ, the variance of that linear
model at φ is u = φᵀ(ΦᵀΦ + λ)⁻¹φ: small where labels are many, large where there are none (as last-layer prediction
rigidity: Bigi, Chong, Ceriotti and Grasselli, Mach. Learn.: Sci. Technol. 5, 045018 (2024); in batch selection:
Holzmüller et al., J. Mach. Learn. Res. 24, 164 (2023)). The matrix ΦᵀΦ is all that has to be kept of any number of
labels. Here φ are the last layers of all members, side by side; each element has a matrix of its own, as it has
networks of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import safetensors.numpy
from ase import Atoms
from numpy.typing import NDArray
from safetensors import SafetensorError
from scipy.linalg import solve_triangular

from alpot.errors import PotentialError
from alpot.potential.batch import Batch
from alpot.potential.ensemble import Ensemble
from alpot.potential.neighbors import NeighborSearch
from alpot.potential.plain_files import read_plain
from alpot.store.files import publish

INFORMATION = "information.safetensors"
#: λ relative to the mean eigenvalue of ΦᵀΦ: directions in which all labels together vary less than this are unknown.
_REGULARIZATION = 1e-6
_FRAMES_PER_BATCH = 16


@dataclass(frozen=True, kw_only=True)
class Layers:
    """Last hidden layers of the atoms of some frames.

    Attributes:
        species: (n_atoms,) element indices.
        values: (n_atoms, d) what the layers of all members say.
    """

    species: NDArray[np.int64]
    values: NDArray[np.float64]


def last_layers(ensemble: Ensemble, frames: Sequence[Atoms]) -> Layers:
    """The last hidden layers of all atoms of frames, one after the other.

    Raises:
        PotentialError: an element is unknown, or two atoms coincide.
    """
    parts = []
    for begin in range(0, len(frames), _FRAMES_PER_BATCH):
        batch = Batch.from_atoms(frames[begin : begin + _FRAMES_PER_BATCH])
        parts.append(ensemble.last_layers(batch, NeighborSearch(ensemble.cutoff).pairs(batch)))
    numbers = np.concatenate([np.empty(0, np.int64), *(atoms.numbers for atoms in frames)]).astype(np.int64)
    return Layers(
        species=ensemble.species(numbers),
        values=np.concatenate([np.empty((0, ensemble.n_members * ensemble.hidden[-1])), *parts]),
    )


@dataclass(frozen=True)
class Information:
    """ΦᵀΦ of all labels, (n_elements, d, d)."""

    matrices: NDArray[np.float64]

    @classmethod
    def none(cls, ensemble: Ensemble) -> Information:
        """Of no label."""
        width = ensemble.n_members * ensemble.hidden[-1]
        return cls(np.zeros((len(ensemble.elements), width, width)))

    @classmethod
    def of(cls, ensemble: Ensemble, frames: Sequence[Atoms]) -> Information:
        """Of the atoms of labelled frames."""
        matrices = cls.none(ensemble).matrices
        for begin in range(0, len(frames), _FRAMES_PER_BATCH):
            layers = last_layers(ensemble, frames[begin : begin + _FRAMES_PER_BATCH])
            for element in range(len(matrices)):
                values = layers.values[layers.species == element]
                matrices[element] += values.T @ values
        return cls(matrices)

    def whitened(self, layers: Layers) -> NDArray[np.float64]:
        """(n_atoms, d) rows ψ with |ψ|² = u of each atom, and ψ·ψ′ the covariance of two atoms of one element."""
        rows = np.zeros_like(layers.values)
        for element, matrix in enumerate(self.matrices):
            mine = layers.species == element
            if mine.any():
                scale = np.trace(matrix) / len(matrix) or float(np.square(layers.values[mine]).mean())
                lower = np.linalg.cholesky(matrix + _REGULARIZATION * max(scale, 1e-30) * np.eye(len(matrix)))
                rows[mine] = solve_triangular(lower, layers.values[mine].T, lower=True).T
        return rows

    def write(self, folder: Path) -> None:
        """Put it beside the weights of the ensemble."""
        publish(folder / INFORMATION, safetensors.numpy.save({"information": self.matrices}))

    @classmethod
    def read(cls, folder: Path, ensemble: Ensemble) -> Information:
        """What lies beside the weights; that of no label where there is none, or where it is damaged.

        It only helps to rank what waits: nothing that was paid for is lost with it.
        """
        none = cls.none(ensemble)
        path = folder / INFORMATION
        if not path.exists():
            return none
        try:
            matrices = safetensors.numpy.load(read_plain(path, 2 * none.matrices.nbytes + 2**12))["information"]
        except (PotentialError, SafetensorError, KeyError, ValueError):
            return none
        is_whole = matrices.shape == none.matrices.shape and matrices.dtype == np.float64
        return cls(matrices) if is_whole and np.isfinite(matrices).all() else none
