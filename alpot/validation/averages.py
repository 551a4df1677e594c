"""Standard errors of averages over a run, whose samples are correlated in time."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

#: With fewer blocks, the error of the error exceeds a third.
_FEWEST_BLOCKS = 5


def standard_error(series: ArrayLike) -> float:
    """Standard error of the mean of a correlated series, by blocking.

    Flyvbjerg and Petersen, J. Chem. Phys. 91, 461 (1989): neighboring samples are averaged in pairs, again and again;
    the error (their eq. 27) grows until blocks are longer than the correlation time. The largest of all levels is
    taken, so that an error is rather too large than too small. A series that is shorter than some five correlation
    times cannot tell its own error; check that it has settled.

    Args:
        series: (n,) samples at equal intervals; at least five.

    Raises:
        ValueError: there are fewer, of which no error can be told.
    """
    blocks = np.asarray(series, dtype=float)
    if len(blocks) < _FEWEST_BLOCKS:
        raise ValueError(f"{len(blocks)} samples have no standard error; at least {_FEWEST_BLOCKS} are needed")
    largest = 0.0
    while len(blocks) >= _FEWEST_BLOCKS:
        largest = max(largest, float(blocks.std(ddof=1) / np.sqrt(len(blocks))))
        even = len(blocks) - len(blocks) % 2
        blocks = blocks[:even].reshape(-1, 2).mean(axis=1)
    return largest
