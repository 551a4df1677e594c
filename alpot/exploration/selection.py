"""Which of the frames that wait should be labelled first, and which of them need no label any more.

A label is worth what it teaches for what it costs. What a frame may teach is how wrong its forces are expected to be;
less of that is left once something like it is labelled. So frames are taken one after the other, the best first, and
with each one taken the others are worth less where they resemble it: the variance u of each atom in the networks' last
layer (``alpot.potential.novelty``) shrinks, and the atom's expected error with its square root. Labels that the
ensemble has not learned from yet, and those that are being computed, are taken before all others. This is the greedy
choice of the largest determinant of batch active learning (Holzmüller et al., J. Mach. Learn. Res. 24, 164 (2023),
section 4.2; Zaverkin et al., npj Comput. Mater. 10, 83 (2024)), with errors in physical units in place of the model's
own variance.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from ase import Atoms
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve

from alpot.config import Exploration
from alpot.exploration.uncertainty import force_deviation, urgency
from alpot.potential.batch import Batch
from alpot.potential.calibration import ErrorBound
from alpot.potential.ensemble import Ensemble
from alpot.potential.neighbors import NeighborSearch
from alpot.potential.novelty import Information, last_layers

_FRAMES_PER_BATCH = 16
#: Frames that are chosen one after the other; those behind them keep the order that they then have. More than are
#: labelled before the next model judges them again.
_MOST_CHOSEN = 200


@dataclass(frozen=True, kw_only=True)
class Ranking:
    """What a model thinks of frames that wait.

    Attributes:
        scores: (n_frames,) what each teaches for its cost, given those that come before it: the largest first.
        urgencies: (n_frames,) expected force error relative to what the user accepts; at most 1: it is known already.
    """

    scores: NDArray[np.float64]
    urgencies: NDArray[np.float64]


def rank(
    frames: Sequence[Atoms],
    ensemble: Ensemble,
    bound: ErrorBound,
    limits: Exploration,
    *,
    information: Information,
    taken: Sequence[Atoms] = (),
    cost_exponent: float = 1.0,
) -> Ranking:
    """Judge frames, and find the order in which they should be labelled.

    Args:
        frames: those that wait.
        ensemble: the model; a baseline, which is common to all members, may be left out of it.
        bound: from the members' deviation to the error of forces.
        limits: what the user accepts.
        information: of the labels that the model was trained on.
        taken: frames whose labels it has not learned from, or that are being computed.
        cost_exponent: a label costs as much as a power of its number of atoms.

    Raises:
        PotentialError: an element is unknown, or two atoms coincide.
    """
    if not frames:
        return Ranking(scores=np.zeros(0), urgencies=np.zeros(0))
    errors = [bound.of(deviation) for deviation in deviations(ensemble, frames)]
    urgencies = np.array([urgency(limits, float(error.mean()), float(error.max())) for error in errors])
    sizes = np.array([len(atoms) for atoms in frames], dtype=float)
    costs = (sizes / sizes.mean()) ** cost_exponent
    layers = last_layers(ensemble, [*taken, *frames])
    species, whitened = layers.species, information.whitened(layers)
    n_taken = sum(len(atoms) for atoms in taken)
    choice = _Choice(species[n_taken:], whitened[n_taken:])
    if n_taken:
        choice.take(species[:n_taken], whitened[:n_taken])
    values = np.concatenate(errors) / limits.max_force_error
    offsets = np.cumsum([0, *(len(atoms) for atoms in frames)])
    scores = np.empty(len(frames))
    waiting = np.ones(len(frames), dtype=bool)
    for turn in range(len(frames)):
        worth = np.add.reduceat(np.square(values) * choice.left, offsets[:-1])
        # The root mean square error of an atom, for all the atoms of the label and their cost.
        gains = np.where(waiting, np.sqrt(worth / sizes) * (sizes / sizes.mean()) / costs, -1.0)
        gains = np.nan_to_num(gains, nan=0.0, posinf=np.finfo(float).max)
        if turn >= _MOST_CHOSEN:
            scores[waiting] = gains[waiting]
            break
        best = int(gains.argmax())
        scores[best], waiting[best] = gains[best], False
        atoms = slice(offsets[best], offsets[best + 1])
        choice.take(species[n_taken:][atoms], whitened[n_taken:][atoms])
    return Ranking(scores=scores, urgencies=urgencies)


def deviations(ensemble: Ensemble, frames: Sequence[Atoms]) -> list[NDArray[np.float64]]:
    """σ_F,i of the atoms of each frame, (n_atoms,) eV/Å."""
    found: list[NDArray[np.float64]] = []
    for begin in range(0, len(frames), _FRAMES_PER_BATCH):
        batch = Batch.from_atoms(frames[begin : begin + _FRAMES_PER_BATCH])
        result = ensemble.evaluate(batch, NeighborSearch(ensemble.cutoff).pairs(batch))
        found += np.split(force_deviation(result.forces), batch.offsets[1:-1])
    return found


class _Choice:
    """Atoms that wait, and how much of their variance is left when others have been labelled.

    Args:
        species: (n_atoms,) element indices.
        whitened: (n_atoms, d) see ``Information.whitened``: a Gaussian process with unit noise and a linear kernel.

    Attributes:
        left: (n_atoms,) share of the variance that is left, between 0 and 1.
    """

    def __init__(self, species: NDArray[np.int64], whitened: NDArray[np.float64]) -> None:
        self._species, self._whitened = species, whitened
        self._first = np.square(whitened).sum(axis=1)
        self._variance = self._first.copy()
        self._covariances = {int(element): np.eye(whitened.shape[1]) for element in np.unique(species)}
        self.left = np.ones(len(species))

    def take(self, species: NDArray[np.int64], whitened: NDArray[np.float64]) -> None:
        """Condition on the atoms of a frame, (n,) and (n, d)."""
        for element in np.unique(species):
            mine = self._species == element
            if not mine.any():
                continue
            rows = whitened[species == element]
            covariance = self._covariances[int(element)]
            spread = covariance @ rows.T  # (d, n)
            factor = cho_factor(np.eye(len(rows)) + rows @ spread)
            shared = self._whitened[mine] @ spread  # (n_mine, n)
            self._variance[mine] -= np.einsum("ij,ji->i", shared, cho_solve(factor, shared.T))
            self._covariances[int(element)] = covariance - spread @ cho_solve(factor, spread.T)
        self.left = np.clip(self._variance / np.maximum(self._first, np.finfo(float).tiny), 0.0, 1.0)
