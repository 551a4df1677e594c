"""How sure an error is: intervals by the bootstrap over frames, because the atoms of one frame are not independent.

B. Efron, Ann. Statist. 7, 1 (1979): frames are drawn again with replacement, and the spread of what they give is that
of the estimate. Errors of frames are skewed, a few bad frames make most of the mean square, and plain percentiles of
the draws are far too sure of themselves then: of twenty frames with log-normal squares (σ = 1) they miss a one-sided
90 % limit nearly every fourth time. So each draw is measured in its own standard error, on a logarithmic scale (the
bootstrap-t; B. Efron and R. J. Tibshirani, An Introduction to the Bootstrap, Chapman & Hall 1993, section 12.5): with
m the mean square of n frames, s their deviation, and τ = s / (m √n) the standard error of ln m,

    t* = (ln m* − ln m) / τ*,     ends of the interval of ln m: ln m − t*_q τ.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

#: Enough for the ends of a 95 % interval to be certain within a few percent of its width.
_DRAWS = 2000
#: Natural logarithm of the largest ratio of a limit to the mean square: three frames may tell next to nothing.
_FARTHEST = float(np.log(1e4))
#: Draws are made in portions of so many numbers, to bound the memory.
_PORTION = 2_000_000


@dataclass(frozen=True)
class Interval:
    """An estimate, and the 95 % interval that it is expected to lie in; same unit."""

    value: float
    low: float
    high: float


def rms_interval(errors: ArrayLike, seed: int = 0) -> Interval | None:
    """Root mean square over frames, with its interval; None with less than two frames.

    Args:
        errors: (n_frames,) error of each frame, or its own root mean square.
        seed: of the draws: the same frames give the same interval.
    """
    ends = _limits(np.square(np.asarray(errors, dtype=float)), (0.025, 0.975), seed)
    if ends is None:
        return None
    value = float(np.sqrt(np.mean(np.square(errors))))
    return Interval(value=value, low=min(ends[0], value), high=max(ends[1], value))


def rms_upper_limit(errors: ArrayLike, confidence: float, seed: int = 0) -> float | None:
    """What the root mean square over frames is at most, with a one-sided confidence; None with less than two frames.

    Args:
        errors: as for ``rms_interval``.
        confidence: between 0.5 and 1.
        seed: likewise.
    """
    squares = np.square(np.asarray(errors, dtype=float))
    ends = _limits(squares, (confidence,), seed)
    return None if ends is None else max(ends[0], float(np.sqrt(squares.mean())))


def _limits(squares: NDArray[np.float64], levels: tuple[float, ...], seed: int) -> list[float] | None:
    """(n_frames,) mean squares: what their root mean square is below with each of these confidences."""
    n_frames = len(squares)
    if n_frames < 2:
        return None
    mean, deviation = squares.mean(), squares.std()
    if deviation <= 1e-12 * mean:  # equal frames, but for rounding
        return [float(np.sqrt(mean))] * len(levels)
    rng = np.random.default_rng(seed)
    portion = max(1, _PORTION // n_frames)
    parts = []
    for begin in range(0, _DRAWS, portion):
        drawn = squares[rng.integers(n_frames, size=(min(portion, _DRAWS - begin), n_frames))]
        parts.append((drawn.mean(axis=1), drawn.std(axis=1)))
    means, deviations = (np.concatenate(part) for part in zip(*parts, strict=True))
    # One frame drawn n times has no standard error, but for rounding; among few frames that happens.
    told = (means > 0) & (deviations > 1e-6 * means)
    studentized = np.log(means[told] / mean) * means[told] / deviations[told]
    shifts = -np.quantile(studentized, [1 - level for level in levels]) * deviation / mean
    logarithms = np.log(mean) + np.clip(shifts, -_FARTHEST, _FARTHEST)
    return [float(limit) for limit in np.sqrt(np.exp(logarithms))]
