"""Learning rates of the members from epoch to epoch, and when each has learned enough."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from alpot.config import Training

#: one-cycle: share of the epochs in which the rate rises, and where it begins and ends relative to its peak.
_RISE, _BEGIN, _END = 0.2, 0.1, 0.001


class LearningRates:
    """Rates of all members; with the plateau rule each member has its own.

    plateau: halved after ``patience`` epochs without gain (the paper's rule); a member has finished when its rate
    falls below ``min_learning_rate``. one-cycle (Smith & Topin, arXiv:1708.07120): a rise, then a cosine fall to
    almost nothing at ``max_epochs``; the same for all members. There the last weights count, not the best on the
    validation fold, which may be an early stroke of luck at a high rate.

    Attributes:
        best: (n_members,) validation losses of the weights that count.
        plateau: (n_members,) rates of the plateau rule.
        waited: (n_members,) epochs without gain since the last gain or halving.
    """

    def __init__(self, settings: Training, n_members: int) -> None:
        self.settings = settings
        self.best = np.full(n_members, np.inf)
        self.plateau = np.full(n_members, settings.learning_rate)
        self.waited = np.zeros(n_members, dtype=int)

    @property
    def finished(self) -> NDArray[np.bool_]:
        """(n_members,) whether a member has learned enough."""
        if self.settings.schedule == "one-cycle":
            return np.zeros(len(self.best), dtype=bool)
        return self.plateau < self.settings.min_learning_rate

    def rates(self, progress: float) -> NDArray[np.float64]:
        """(n_members,) rates when ``progress`` (0 to 1) of the epochs have gone; 0 for members that have finished."""
        if self.settings.schedule == "plateau":
            return np.where(self.finished, 0.0, self.plateau)
        if progress < _RISE:
            factor = _BEGIN + (1.0 - _BEGIN) * progress / _RISE
        else:
            factor = _END + (1.0 - _END) * 0.5 * (1.0 + math.cos(math.pi * (progress - _RISE) / (1.0 - _RISE)))
        return np.full(len(self.best), self.settings.learning_rate * factor)

    def energy_factor(self, progress: float) -> float:
        """Factor on the weight of energies when ``progress`` (0 to 1) of the epochs have gone."""
        if self.settings.schedule == "plateau":
            return 1.0
        fallen = max(0.0, (progress - _RISE) / (1.0 - _RISE))
        return 1.0 + (self.settings.energy_weight_growth - 1.0) * fallen**2

    def record(self, losses: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Take in the validation losses (n_members,) of an epoch; returns which members' weights are to be kept."""
        if self.settings.schedule == "one-cycle":
            self.best = losses.copy()
            return np.isfinite(losses)
        improved = losses < self.best  # NaN never improves
        self.best = np.where(improved, losses, self.best)
        self.waited = np.where(improved, 0, self.waited + 1)
        stuck = self.waited >= self.settings.patience
        self.plateau = np.where(stuck, 0.5 * self.plateau, self.plateau)
        self.waited = np.where(stuck, 0, self.waited)
        return improved
