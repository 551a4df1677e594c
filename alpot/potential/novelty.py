"""How new an atomic environment is: the variance of a Bayesian linear model of the descriptor, of unit noise.

After labels whose atoms have the environment vectors Φ, the variance of such a model at φ is u = φᵀ(ΦᵀΦ + λ)⁻¹φ: small
where labels are many, large where there are none. It is the leverage of linear regression, and the extrapolation grade
by which moment tensor potentials choose their training sets (Podryabinkin and Shapeev, Comput. Mater. Sci. 140, 171
(2017)). The matrix ΦᵀΦ is all that has to be kept of any number of labels. Environment vectors are those that the
networks see, and a constant; each element has a matrix of its own, as it has networks of its own.

The networks' last hidden layers in place of the descriptor were tried, too, and choose no better.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from ase import Atoms
from numpy.typing import NDArray
from scipy.linalg import solve_triangular

from alpot.errors import StorageError
from alpot.potential.batch import Batch, in_portions
from alpot.potential.ensemble import Ensemble
from alpot.potential.neighbors import NeighborSearch
from alpot.store.container import pack, unpack
from alpot.store.files import publish

INFORMATION = "information.h5"
_KIND = "information"
#: λ relative to the mean eigenvalue of ΦᵀΦ: directions in which all labels together vary less than this are unknown.
_REGULARIZATION = 1e-6


@dataclass(frozen=True, kw_only=True)
class Environments:
    """Environments of the atoms of some frames.

    Attributes:
        species: (n_atoms,) element indices.
        vectors: (n_atoms, d) what the networks see of each, and a constant.
    """

    species: NDArray[np.int64]
    vectors: NDArray[np.float64]


def environments_of(ensemble: Ensemble, frames: Sequence[Atoms]) -> Environments:
    """Environments of all atoms of frames, one after the other.

    Raises:
        PotentialError: an element is unknown, or two atoms coincide.
    """
    parts = [np.empty((0, _width(ensemble)))]
    for some in in_portions(frames):
        batch = Batch.from_atoms(some)
        features = ensemble.features(batch, NeighborSearch(ensemble.cutoff).pairs(batch))
        parts.append(np.hstack([features, np.ones((len(features), 1))]))
    numbers = np.concatenate([np.empty(0, np.int64), *(atoms.numbers for atoms in frames)]).astype(np.int64)
    return Environments(species=ensemble.species(numbers), vectors=np.concatenate(parts))


def _width(ensemble: Ensemble) -> int:
    return ensemble.aev.n_features(len(ensemble.elements)) + 1


@dataclass(frozen=True)
class Information:
    """ΦᵀΦ of all labels, (n_elements, d, d)."""

    matrices: NDArray[np.float64]

    @classmethod
    def none(cls, ensemble: Ensemble) -> Information:
        """Of no label."""
        width = _width(ensemble)
        return cls(np.zeros((len(ensemble.elements), width, width)))

    @classmethod
    def of(cls, ensemble: Ensemble, frames: Sequence[Atoms]) -> Information:
        """Of the atoms of labelled frames."""
        matrices = cls.none(ensemble).matrices
        for some in in_portions(frames):
            found = environments_of(ensemble, some)
            for element in range(len(matrices)):
                vectors = found.vectors[found.species == element]
                matrices[element] += vectors.T @ vectors
        return cls(matrices)

    def whitened(self, environments: Environments) -> NDArray[np.float64]:
        """(n_atoms, d) rows ψ with |ψ|² = u of each atom, and ψ·ψ′ the covariance of two atoms of one element."""
        rows = np.zeros_like(environments.vectors)
        for element, matrix in enumerate(self.matrices):
            mine = environments.species == element
            if mine.any():
                scale = np.trace(matrix) / len(matrix) or float(np.square(environments.vectors[mine]).mean())
                lower = np.linalg.cholesky(matrix + _REGULARIZATION * max(scale, 1e-30) * np.eye(len(matrix)))
                rows[mine] = solve_triangular(lower, environments.vectors[mine].T, lower=True).T
        return rows

    def write(self, folder: Path) -> None:
        """Put it beside the weights of the ensemble."""
        publish(folder / INFORMATION, pack(_KIND, {"information": (self.matrices, "")}, {}))

    @classmethod
    def read(cls, folder: Path, ensemble: Ensemble) -> Information:
        """What lies beside the weights; that of no label where there is none, or where it is damaged.

        It only helps to rank what waits: nothing that was paid for is lost with it.
        """
        none = cls.none(ensemble)
        try:
            matrices = unpack(folder / INFORMATION, _KIND).arrays["information"]
        except (StorageError, KeyError):
            return none
        is_whole = matrices.shape == none.matrices.shape and matrices.dtype == np.float64
        return cls(matrices) if is_whole and np.isfinite(matrices).all() else none
