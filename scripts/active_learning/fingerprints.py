"""What a frame looks like, whatever its energy: for policies that choose by it, and to find near duplicates."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from ase import Atoms
from numpy.typing import NDArray

from alpot.potential.batch import Batch
from alpot.potential.ensemble import Ensemble
from alpot.potential.kernels import Geometry
from alpot.potential.neighbors import NeighborSearch

_FRAMES_PER_BATCH = 16


def fingerprints(ensemble: Ensemble, frames: Sequence[Atoms]) -> NDArray[np.float64]:
    """(n_frames, 2 n_features) mean and standard deviation over atoms of the atomic environment vectors.

    The usual fingerprint of farthest-point sampling (averaged descriptors), with the spread added so that a defect in a
    crystal is not averaged away. The vectors are standardised with the mean and deviation of the training data.
    """
    rows = [np.empty((0, 2 * ensemble.aev.n_features(len(ensemble.elements))))]
    for begin in range(0, len(frames), _FRAMES_PER_BATCH):
        batch = Batch.from_atoms(frames[begin : begin + _FRAMES_PER_BATCH])
        species = torch.from_numpy(ensemble.species(batch.numbers))
        geometry = Geometry.of(batch, species, NeighborSearch(ensemble.cutoff).pairs(batch), ensemble.device)
        features = ensemble.kernels.environments(geometry, 0, batch.n_atoms).features
        scaled = (features - ensemble.feature_mean[species]) / ensemble.feature_scale[species]
        for part in np.split(scaled.numpy().astype(np.float64), batch.offsets[1:-1]):
            rows.append(np.concatenate([part.mean(axis=0), part.std(axis=0)])[None])
    return np.concatenate(rows)


def distances(rows: NDArray[np.float64], others: NDArray[np.float64]) -> NDArray[np.float64]:
    """(n_rows, n_others) root-mean-square differences of fingerprints, in deviations of the training data."""
    squares = np.square(rows).sum(axis=1)[:, None] + np.square(others).sum(axis=1) - 2.0 * rows @ others.T
    return np.asarray(np.sqrt(np.maximum(squares, 0.0) / rows.shape[1]))


def farthest_points(pool: NDArray[np.float64], known: NDArray[np.float64], count: int) -> list[int]:
    """Indices of the pool: each the farthest from all that is known and chosen before it.

    Args:
        pool: (n_pool, d) fingerprints.
        known: (n_known, d) of what is labelled, one at least.
        count: how many, if the pool has them.
    """
    nearest = distances(pool, known).min(axis=1)
    chosen: list[int] = []
    for _ in range(min(count, len(pool))):
        best = int(nearest.argmax())
        chosen.append(best)
        nearest = np.minimum(nearest, distances(pool, pool[best : best + 1])[:, 0])
        nearest[chosen] = -1.0
    return chosen
