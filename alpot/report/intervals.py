"""How sure an error is: intervals by the bootstrap over frames, because the atoms of one frame are not independent.

B. Efron, Ann. Statist. 7, 1 (1979): frames are drawn again with replacement, and the spread of what they give is that
of the estimate. Percentiles of it bound the interval.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

#: Enough for the ends of a 95 % interval to be certain within a few percent of its width.
_DRAWS = 2000
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
    squares = np.square(np.asarray(errors, dtype=float))
    n_frames = len(squares)
    if n_frames < 2:
        return None
    rng = np.random.default_rng(seed)
    portion = max(1, _PORTION // n_frames)
    means = np.concatenate(
        [
            squares[rng.integers(n_frames, size=(min(portion, _DRAWS - begin), n_frames))].mean(axis=1)
            for begin in range(0, _DRAWS, portion)
        ]
    )
    low, high = np.sqrt(np.percentile(means, (2.5, 97.5)))
    return Interval(value=float(np.sqrt(squares.mean())), low=float(low), high=float(high))
