"""How far the members of an ensemble disagree, in physical units.

Smith et al., Nat. Commun. 12, 1257 (2021): σ_F,i is the norm of the standard deviation of the force on atom i. Standard
deviations divide by M − 1. Their σ_E (energy) is left out: it does not transfer between sizes of cells.
"""

from __future__ import annotations

from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from alpot.config import Exploration

_Array = TypeVar("_Array", NDArray[np.float64], Tensor)

#: Share of true errors that the calibrated deviation covers: one standard deviation of a normal distribution.
_COVERAGE = 0.68


def force_deviation(forces: _Array) -> _Array:
    """(n_atoms,) σ_F,i in eV/Å from the members' forces (n_members, n_atoms, 3), arrays or tensors alike."""
    residuals = forces - forces.mean(0)
    return ((residuals * residuals).sum((0, 2)) / (len(forces) - 1)) ** 0.5


def calibration_factor(predicted: NDArray[np.float64], actual: NDArray[np.float64]) -> float:
    """The factor that turns σ_F,i into an expected force error: two of three true errors lie below factor × σ_F,i.

    It is the 68 % quantile of the ratio of error to σ, as in split conformal prediction (Angelopoulos & Bates,
    arXiv:2107.07511, section 2.3), so that a few wild frames do not rule it.

    Args:
        predicted: (n,) σ_F,i of atoms in labels that were not trained on, eV/Å.
        actual: (n,) norms of their true force errors, eV/Å.

    Returns:
        The factor, never below 1 (an ensemble that seems to over-estimate its error on few labels is not trusted
        more than its own σ); 1 where there is nothing to compare, infinite where an error or σ is not finite.
    """
    known = predicted > 0
    if not (np.isfinite(predicted).all() and np.isfinite(actual).all()):
        return float("inf")
    if not known.any():
        return 1.0
    return max(1.0, float(np.quantile(actual[known] / predicted[known], _COVERAGE, method="higher")))


def urgency(limits: Exploration, mean_error: float, max_error: float) -> float:
    """Force errors that are to be expected in a frame relative to what the user accepts; above 1 it is uncertain.

    Args:
        limits: what the user accepts.
        mean_error: averaged over the frame's atoms, eV/Å.
        max_error: of its worst atom, eV/Å.
    """
    return max(mean_error / limits.mean_force_error, max_error / limits.max_force_error)
