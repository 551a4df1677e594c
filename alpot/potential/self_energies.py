"""Energies of the elements, by linear regression: what is left for the networks is small and of mean zero."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from ase.data import atomic_numbers
from numpy.typing import NDArray


def fit_self_energies(
    elements: Sequence[str], numbers: Sequence[NDArray[np.int64]], energies: Sequence[float]
) -> NDArray[np.float64]:
    """Least-squares energies per atom of each element.

    Args:
        elements: chemical symbols.
        numbers: atomic numbers of each frame.
        energies: eV, of each frame.

    Returns:
        (n_elements,) eV. Where the compositions do not determine them (all frames alike), the solution of least norm.
    """
    counts = np.array([[(frame == atomic_numbers[symbol]).sum() for symbol in elements] for frame in numbers], float)
    sizes = counts.sum(axis=1)
    # Energies per atom, so that large frames do not count more than small ones.
    solution, *_ = np.linalg.lstsq(counts / sizes[:, None], np.array(energies) / sizes, rcond=None)
    return np.asarray(solution)
