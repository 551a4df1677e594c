"""From how far the members disagree to how large the error is: a bound in physical units that holds with a confidence.

Members that learned the same labels err alike, so that their deviation says little of the error's size: published
ensembles under-estimate it two to five times. How much is learned from labels that nothing was trained on, by split
conformal prediction (Angelopoulos and Bates, arXiv:2107.07511, section 2.3) with the score error / (deviation + floor).
Atoms of one frame resemble each other; what is exchangeable are frames, whose distributions are pooled (Dunn, Wasserman
and Ramdas, J. Am. Stat. Assoc. 118, 2491 (2023), section 3.1).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

_Value = TypeVar("_Value", float, NDArray[np.float64], Tensor)

#: What is assumed while no labels are there to learn it: published ensembles under-estimate errors 2 to 5 times.
UNKNOWN_SLOPE = 3.5
#: Labels from which something can be learned, though nothing be promised yet.
_LEAST_FRAMES = 3
#: Quantiles of the deviations that are tried as floor; none at all is tried, too.
_FLOORS = np.linspace(0.05, 0.95, 19)


@dataclass(frozen=True, kw_only=True)
class ErrorBound:
    """With ``confidence``, an error is at most slope × (deviation + floor).

    Attributes:
        slope: without unit.
        floor: in the unit of the deviation: members that agree are not always right.
        confidence: share of errors that are meant to be covered.
        n_frames: labels that it was learned from; 0 where it is assumed.
        is_audited: whether these were audit labels, that nobody chose.
    """

    slope: float = UNKNOWN_SLOPE
    floor: float = 0.0
    confidence: float = 0.9
    n_frames: int = 0
    is_audited: bool = False

    def of(self, deviation: _Value) -> _Value:
        """The bound for deviations of any shape, in their unit."""
        return (deviation + self.floor) * self.slope

    def deviation_at(self, bound: float) -> float:
        """The deviation whose bound this is; negative where even members that agree are not so sure."""
        return bound / self.slope - self.floor if self.slope > 0.0 else float("inf")

    def coverage(self, deviations: NDArray[np.float64], errors: NDArray[np.float64]) -> float:
        """Share of errors that the bound covers."""
        return float((errors <= self.of(deviations)).mean())


def fewest_frames(confidence: float) -> int:
    """How many labels are needed before a bound of this confidence can be promised."""
    return int(np.ceil(confidence / (1.0 - confidence) - 1e-9))


def fit_bound(
    deviations: NDArray[np.float64], errors: NDArray[np.float64], frames: NDArray[np.int64], confidence: float
) -> ErrorBound:
    """Learn a bound from labels that nothing was trained on.

    The error of a random atom, of a frame of the kind that these are drawn from, is covered with the confidence, for
    many frames whatever the distribution. The floor makes the bound tight (it has the least pinball loss), not valid.

    Args:
        deviations: (n,) of the members, one per atom (or per frame, for energies).
        errors: (n,) absolute true errors, in the same unit.
        frames: (n,) to which label each belongs.
        confidence: between 0 and 1.

    Returns:
        The bound. With fewer labels than ``fewest_frames`` it is a cautious estimate without that promise (half way
        from the confidence to certainty), with fewer than three the assumed one; an infinite one where a value is not
        finite.
    """
    names, members, sizes = np.unique(frames, return_inverse=True, return_counts=True)
    n_frames = len(names)
    if n_frames < _LEAST_FRAMES:
        return ErrorBound(confidence=confidence)
    if not (np.isfinite(deviations).all() and np.isfinite(errors).all()):
        return ErrorBound(slope=float("inf"), confidence=confidence, n_frames=n_frames)
    weights = 1.0 / sizes[members]  # each frame counts the same
    is_promised = n_frames >= fewest_frames(confidence)
    level = min(1.0, confidence * (n_frames + 1) / n_frames) if is_promised else 0.5 * (1.0 + confidence)
    floors = np.unique(np.append(np.quantile(deviations, _FLOORS), 0.0))
    if (deviations == 0.0).any():
        floors = floors[floors > 0.0]
    if not len(floors):  # the members agree everywhere: they say nothing
        floors = np.array([max(float(np.median(errors)), np.finfo(float).tiny)])
    bounds = []
    for floor in floors:
        slope = _weighted_quantile(errors / (deviations + floor), weights, level)
        bounds.append(ErrorBound(slope=slope, floor=float(floor), confidence=confidence, n_frames=n_frames))
    losses = [_pinball_loss(errors - bound.of(deviations), weights, confidence) for bound in bounds]
    return bounds[int(np.argmin(losses))]


def _weighted_quantile(values: NDArray[np.float64], weights: NDArray[np.float64], level: float) -> float:
    """The smallest value at or below which a share ``level`` of the weight lies."""
    order = np.argsort(values)
    cumulative = np.cumsum(weights[order])
    index = int(np.searchsorted(cumulative, level * cumulative[-1] * (1.0 - 1e-12)))
    return float(values[order[min(index, len(order) - 1)]])


def _pinball_loss(misses: NDArray[np.float64], weights: NDArray[np.float64], confidence: float) -> float:
    """Koenker and Bassett, Econometrica 46, 33 (1978): least for the quantile."""
    return float(np.average(np.maximum(confidence * misses, (confidence - 1.0) * misses), weights=weights))
