"""Errors of forces on labelled frames, and whether the ensemble's disagreement tells where they are large."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from ase import Atoms
from ase.calculators.calculator import BaseCalculator
from numpy.typing import NDArray
from scipy.stats import spearmanr

from alpot.errors import NonFiniteError, UsageError
from alpot.validation.properties import attached


@dataclass(frozen=True, kw_only=True)
class ForceErrors:
    """Errors on a set of frames; an atom's error is the norm of the difference of its two force vectors.

    Attributes:
        squares: (n_frames,) (eV/Å)², mean over the components of the squared error.
        components: (n_frames,) number of force components.
        worst: (n_frames,) eV/Å, largest error of an atom.
        sigma_mean: (n_frames,) eV/Å, σ_F,i averaged over atoms, or None where the calculator gives no ``forces_std``.
        sigma_max: (n_frames,) eV/Å, the largest σ_F,i, or None.
    """

    squares: NDArray[np.float64]
    components: NDArray[np.int64]
    worst: NDArray[np.float64]
    sigma_mean: NDArray[np.float64] | None
    sigma_max: NDArray[np.float64] | None

    @property
    def rmse(self) -> float:
        """Root-mean-square error of the force components over all frames, eV/Å."""
        return float(np.sqrt(np.average(self.squares, weights=self.components)))

    @property
    def rank_correlation_mean(self) -> float | None:
        """Spearman over frames: mean σ_F against the frame's root-mean-square error."""
        return _spearman(self.sigma_mean, self.squares)

    @property
    def rank_correlation_max(self) -> float | None:
        """Spearman over frames: largest σ_F against the largest error of an atom."""
        return _spearman(self.sigma_max, self.worst)


def force_errors(calculator: BaseCalculator, frames: Sequence[Atoms]) -> ForceErrors:
    """Evaluate a potential on frames with ``arrays["REF_forces"]``, one call each.

    Args:
        calculator: any ASE calculator; ``results["forces_std"]``, (n_atoms, 3) eV/Å, is used where it is there.
        frames: labelled frames.

    Raises:
        UsageError: there are no frames, or one has no reference forces.
        NonFiniteError: a force is NaN or infinite.
    """
    if not frames:
        raise UsageError("force_errors needs at least one labelled frame")
    errors, sigmas = [], []
    for number, frame in enumerate(frames):
        if "REF_forces" not in frame.arrays:
            raise UsageError(f"frame {number} ({frame.symbols}) has no array REF_forces")
        atoms = attached(calculator, frame)
        forces = atoms.get_forces()
        if not np.isfinite(forces).all():
            raise NonFiniteError(f"forces on frame {number} ({frame.symbols}) are not all finite")
        errors.append(forces - frame.arrays["REF_forces"])
        if "forces_std" in calculator.results:
            sigmas.append(np.linalg.norm(calculator.results["forces_std"], axis=1))
    return ForceErrors(
        squares=np.array([np.mean(error**2) for error in errors]),
        components=np.array([error.size for error in errors]),
        worst=np.array([np.linalg.norm(error, axis=1).max() for error in errors]),
        sigma_mean=np.array([sigma.mean() for sigma in sigmas]) if sigmas else None,
        sigma_max=np.array([sigma.max() for sigma in sigmas]) if sigmas else None,
    )


def _spearman(sigma: NDArray[np.float64] | None, error: NDArray[np.float64]) -> float | None:
    """None without σ, or where all values of one side are equal and there is nothing to rank."""
    if sigma is None or np.ptp(sigma) == 0 or np.ptp(error) == 0:
        return None
    return float(spearmanr(sigma, error).statistic)
