"""Is a generation good enough to explore with? Measured on audit labels, which nothing was ever trained on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from alpot.exploration.uncertainty import calibration_factor, force_deviation
from alpot.potential.batch import Batch
from alpot.potential.ensemble import Ensemble
from alpot.potential.neighbors import NeighborSearch
from alpot.report.intervals import rms_upper_limit
from alpot.store.labels import Label

_FRAMES_PER_BATCH = 16


@dataclass(frozen=True, kw_only=True)
class AuditErrors:
    """Errors of the ensemble's mean on audit labels.

    Attributes:
        force_squares: (n_frames,) mean square error of the force components, (eV/Å)².
        energy_errors: (n_frames,) eV/atom.
        forces: (n_atoms, 3) of the ensemble's mean, eV/Å.
        predicted: (n_atoms,) σ_F,i, eV/Å.
        actual: (n_atoms,) norm of the force error, eV/Å.
    """

    force_squares: NDArray[np.float64]
    energy_errors: NDArray[np.float64]
    forces: NDArray[np.float64]
    predicted: NDArray[np.float64]
    actual: NDArray[np.float64]

    @property
    def is_finite(self) -> bool:
        """Whether the ensemble gave a finite answer for each frame; one that does not is of no use."""
        return bool(np.isfinite(self.force_squares).all() and np.isfinite(self.energy_errors).all())

    @property
    def force(self) -> float | None:
        """Root-mean-square force error over frames in eV/Å; None without labels."""
        return float(np.sqrt(self.force_squares.mean())) if len(self.force_squares) else None

    def force_high(self, confidence: float) -> float | None:
        """What the force error is at most with a one-sided confidence, eV/Å; None with less than two labels."""
        return rms_upper_limit(np.sqrt(self.force_squares), confidence)

    @property
    def energy(self) -> float | None:
        """Root-mean-square energy error in eV/atom; None without labels."""
        return float(np.sqrt(np.square(self.energy_errors).mean())) if len(self.energy_errors) else None

    @property
    def calibration(self) -> float:
        """Factor from the members' deviation to the true error."""
        return calibration_factor(self.predicted, self.actual)


def audit_errors(ensemble: Ensemble, labels: Sequence[Label]) -> AuditErrors:
    """Compare the ensemble's mean with labels."""
    squares, energies, forces, predicted, actual = [], [], [], [], []
    for begin in range(0, len(labels), _FRAMES_PER_BATCH):
        chunk = labels[begin : begin + _FRAMES_PER_BATCH]
        batch = Batch.from_atoms([label.atoms for label in chunk])
        result = ensemble.evaluate(batch, NeighborSearch(ensemble.cutoff).pairs(batch))
        forces.append(result.forces.mean(axis=0))
        misfit = forces[-1] - np.concatenate([label.forces for label in chunk])
        squares += [float(np.square(part).mean()) for part in np.split(misfit, batch.offsets[1:-1])]
        truth = np.array([label.energy for label in chunk])
        energies += list((result.energies.mean(axis=0) - truth) / batch.counts)
        predicted.append(force_deviation(result.forces))
        actual.append(np.linalg.norm(misfit, axis=1))
    empty = [np.zeros(0)]
    return AuditErrors(
        force_squares=np.array(squares),
        energy_errors=np.array(energies),
        forces=np.concatenate(forces or [np.zeros((0, 3))]),
        predicted=np.concatenate(predicted or empty),
        actual=np.concatenate(actual or empty),
    )


def is_worse(new: AuditErrors, incumbent: AuditErrors) -> bool:
    """Whether the new generation is worse by more than chance on the same audit labels.

    The mean difference of the frames' square force errors must exceed its own standard error: on a few dozen labels
    a smaller difference says nothing, and a generation that has learned from more labels gets the benefit of the
    doubt. Without labels nothing can be said against it; an error that is not finite is always worse.
    """
    if not np.isfinite(new.force_squares).all():
        return True
    if len(new.force_squares) == 0 or not np.isfinite(incumbent.force_squares).all():
        return False
    difference = new.force_squares - incumbent.force_squares
    noise = difference.std(ddof=1) / np.sqrt(len(difference)) if len(difference) > 1 else 0.0
    return bool(difference.mean() > noise)
