"""Which of the frames that wait should be labelled first, and which of them need no label any more.

A label is worth what it teaches for what it costs. What it teaches is not only how wrong its own frame is expected to
be, but what is then known of all that waits: the environments of atoms (``alpot.potential.novelty``) tell how much of
the variance u of each atom a label would remove, and an atom's expected error shrinks with the root of its variance.
So the frame is taken that removes most of the expected squared error of all atoms that wait; then the next one, given
the first; and so on. A frame like many others is worth more than a lone oddity, and one like another that is taken
already is worth little. Labels that the ensemble has not learned from yet, and those that are being computed, count as
taken.

This is integrated variance reduction (Cohn, Ghahramani and Jordan, J. Artif. Intell. Res. 4, 129 (1996)) with a linear
model, greedily in batches (Ash et al., "Gone Fishing", NeurIPS 2021), and with errors in physical units, calibrated on
labels, in place of the model's own variance.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from ase import Atoms
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve

from alpot.config import Exploration
from alpot.exploration.uncertainty import force_deviation, urgency
from alpot.potential.batch import Batch, in_portions
from alpot.potential.calibration import ErrorBound
from alpot.potential.ensemble import Ensemble
from alpot.potential.neighbors import NeighborSearch
from alpot.potential.novelty import Information, environments_of

#: Frames that are chosen one after the other; those behind them keep the order that they had. Few are labelled from
#: there before they are ranked again, which every exploration brings about.
_MOST_CHOSEN = 200
#: Errors that are expected to be larger than this, relative to what the user accepts, count as this: how wrong a model
#: is where it knows nothing, it does not know either; and a few wild frames would outweigh all others.
_LARGEST_ERROR = 2.0


@dataclass(frozen=True, kw_only=True)
class Ranking:
    """What a model thinks of frames that wait.

    Attributes:
        scores: (n_frames,) squared force error, in (eV/Å)², that each removes from all that waits, for its cost and
            given those that come before it: the largest first.
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
    most = _LARGEST_ERROR * limits.max_force_error
    known = _Known(
        np.minimum(np.nan_to_num(np.concatenate(errors), nan=most), most), *_split(ensemble, information, frames)
    )
    for species, rows in zip(*_split(ensemble, information, taken), strict=True):
        known.take(species, rows)
    return Ranking(scores=_in_turn(known, costs), urgencies=urgencies)


def _split(
    ensemble: Ensemble, information: Information, frames: Sequence[Atoms]
) -> tuple[list[NDArray[np.int64]], list[NDArray[np.float64]]]:
    """Species (n_atoms,) and whitened environments (n_atoms, d) of each frame."""
    found = environments_of(ensemble, frames)
    cuts = np.cumsum([len(atoms) for atoms in frames])[:-1]
    return np.split(found.species, cuts), np.split(information.whitened(found), cuts)


def _in_turn(known: _Known, costs: NDArray[np.float64]) -> NDArray[np.float64]:
    """(n_frames,) what each removes for its cost when its turn comes, the best always first.

    What a frame removes hardly ever grows while others are taken. So the best one is found by looking again at those
    only whose last known worth is the largest.
    """
    queue = [(-known.removed_by(frame) / cost, 0, frame) for frame, cost in enumerate(costs)]
    heapq.heapify(queue)
    scores = np.array([-worth for worth, _, _ in sorted(queue, key=lambda entry: entry[2])])
    least = np.inf
    for turn in range(min(len(costs), _MOST_CHOSEN)):
        while queue[0][1] < turn:
            _, _, frame = heapq.heappop(queue)
            heapq.heappush(queue, (-known.removed_by(frame) / costs[frame], turn, frame))
        worth, _, best = heapq.heappop(queue)
        least = scores[best] = min(-worth, least)
        known.take(known.species[best], known.rows[best])
    for worth, _, frame in queue:
        scores[frame] = min(-worth, least)
    return scores


def deviations(ensemble: Ensemble, frames: Sequence[Atoms]) -> list[NDArray[np.float64]]:
    """σ_F,i of the atoms of each frame, (n_atoms,) eV/Å."""
    found: list[NDArray[np.float64]] = []
    for some in in_portions(frames):
        batch = Batch.from_atoms(some)
        result = ensemble.evaluate(batch, NeighborSearch(ensemble.cutoff).pairs(batch))
        found += np.split(force_deviation(result.forces), batch.offsets[1:-1])
    return found


class _Known:
    """What is known of the atoms that wait, as more and more frames are labelled: one linear model per element.

    With unit noise, the covariance P of a model's weights begins as the identity, for the environments are whitened.

    Args:
        errors: (n_atoms,) expected force errors of all atoms that wait, eV/Å.
        species: (n_atoms,) element indices of the atoms of each frame that waits.
        rows: (n_atoms, d) whitened environments of the atoms of each.
    """

    def __init__(
        self, errors: NDArray[np.float64], species: list[NDArray[np.int64]], rows: list[NDArray[np.float64]]
    ) -> None:
        self.species, self.rows = species, rows
        all_species, all_rows = np.concatenate(species), np.concatenate(rows)
        variances = np.square(all_rows).sum(axis=1)
        weights = np.square(errors) / np.maximum(variances, np.finfo(float).tiny)
        width = all_rows.shape[1]
        #: By element: Σ e²/u ψψᵀ over the atoms that wait, so that their squared errors are its trace with P.
        self._wanted: dict[int, NDArray[np.float64]] = {}
        self._covariances: dict[int, NDArray[np.float64]] = {}
        self._products: dict[int, NDArray[np.float64]] = {}
        for element in np.unique(all_species).tolist():
            mine = all_rows[all_species == element]
            self._wanted[element] = (mine * weights[all_species == element, None]).T @ mine
            self._set_covariance(element, np.eye(width))

    def _set_covariance(self, element: int, covariance: NDArray[np.float64]) -> None:
        self._covariances[element] = covariance
        self._products[element] = covariance @ self._wanted[element] @ covariance

    def removed_by(self, frame: int) -> float:
        """How much of the squared errors, (eV/Å)², of all that waits a label of this frame removes."""
        removed = 0.0
        for element in np.unique(self.species[frame]).tolist():
            rows = self.rows[frame][self.species[frame] == element]
            within = np.eye(len(rows)) + rows @ self._covariances[element] @ rows.T
            removed += float(np.trace(cho_solve(cho_factor(within), rows @ self._products[element] @ rows.T)))
        return removed

    def take(self, species: NDArray[np.int64], rows: NDArray[np.float64]) -> None:
        """A frame with these atoms, (n_atoms,) and (n_atoms, d), is labelled."""
        for element in np.unique(species).tolist():
            if element in self._wanted:
                mine, covariance = rows[species == element], self._covariances[element]
                spread = covariance @ mine.T
                factor = cho_factor(np.eye(len(mine)) + mine @ spread)
                self._set_covariance(element, covariance - spread @ cho_solve(factor, spread.T))
