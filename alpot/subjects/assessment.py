"""Is a generation good enough to explore with? Measured on audit labels, which nothing was ever trained on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from alpot.exploration.uncertainty import calibration_factor, force_deviation
from alpot.potential.batch import Batch, in_portions
from alpot.potential.calibration import ErrorBound, fit_bound
from alpot.potential.ensemble import Ensemble
from alpot.potential.neighbors import NeighborSearch
from alpot.report.intervals import rms_upper_limit
from alpot.store.labels import Label


@dataclass(frozen=True, kw_only=True)
class AuditErrors:
    """Errors of the ensemble's mean on audit labels.

    Attributes:
        force_squares: (n_frames,) mean square error of the force components, (eV/Å)².
        energy_errors: (n_frames,) eV/atom.
        energy_deviations: (n_frames,) standard deviation of the members' energies, eV/atom.
        counts: (n_frames,) atoms of each frame.
        forces: (n_atoms, 3) of the ensemble's mean, eV/Å.
        predicted: (n_atoms,) σ_F,i, eV/Å.
        actual: (n_atoms,) norm of the force error, eV/Å.
    """

    force_squares: NDArray[np.float64]
    energy_errors: NDArray[np.float64]
    energy_deviations: NDArray[np.float64]
    counts: NDArray[np.int64]
    forces: NDArray[np.float64]
    predicted: NDArray[np.float64]
    actual: NDArray[np.float64]

    @property
    def is_finite(self) -> bool:
        """Whether the ensemble gave a finite answer for each frame; one that does not is of no use."""
        answers = (self.force_squares, self.energy_errors, self.energy_deviations, self.predicted)
        return all(bool(np.isfinite(answer).all()) for answer in answers)

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

    def force_bound(self, confidence: float) -> ErrorBound:
        """From the members' deviation to the largest force error of an atom that is to be expected."""
        frames = np.repeat(np.arange(len(self.counts)), self.counts)
        return fit_bound(self.predicted, self.actual, frames, confidence)

    def energy_bound(self, confidence: float) -> ErrorBound:
        """The same for the energy of a frame, in eV/atom."""
        frames = np.arange(len(self.energy_errors))
        return fit_bound(self.energy_deviations, np.abs(self.energy_errors), frames, confidence)

    def of(self, chosen: NDArray[np.bool_]) -> AuditErrors:
        """Those of some of the frames: ``chosen`` is (n_frames,)."""
        atoms = np.repeat(chosen, self.counts)
        return AuditErrors(
            force_squares=self.force_squares[chosen],
            energy_errors=self.energy_errors[chosen],
            energy_deviations=self.energy_deviations[chosen],
            counts=self.counts[chosen],
            forces=self.forces[atoms],
            predicted=self.predicted[atoms],
            actual=self.actual[atoms],
        )


@dataclass(frozen=True, kw_only=True)
class Coverage:
    """How often a bound held.

    Attributes:
        share: of the atoms whose force error it covered.
        n_atoms: of labels that came after it was learned.
        n_frames: these labels.
    """

    share: float
    n_atoms: int
    n_frames: int


def audit_errors(ensemble: Ensemble, labels: Sequence[Label]) -> AuditErrors:
    """Compare the ensemble's mean with labels."""
    squares, energies, deviations, forces, predicted, actual = [], [], [], [], [], []
    for chunk in in_portions(labels):
        batch = Batch.from_atoms([label.atoms for label in chunk])
        result = ensemble.evaluate(batch, NeighborSearch(ensemble.cutoff).pairs(batch))
        forces.append(result.forces.mean(axis=0))
        misfit = forces[-1] - np.concatenate([label.forces for label in chunk])
        squares += [float(np.square(part).mean()) for part in np.split(misfit, batch.offsets[1:-1])]
        truth = np.array([label.energy for label in chunk])
        energies += list((result.energies.mean(axis=0) - truth) / batch.counts)
        deviations += list(result.energies.std(axis=0, ddof=1) / batch.counts)
        predicted.append(force_deviation(result.forces))
        actual.append(np.linalg.norm(misfit, axis=1))
    empty = [np.zeros(0)]
    return AuditErrors(
        force_squares=np.array(squares),
        energy_errors=np.array(energies),
        energy_deviations=np.array(deviations),
        counts=np.array([len(label.atoms) for label in labels], dtype=np.int64),
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


def prospective_coverage(errors: AuditErrors, is_new: NDArray[np.bool_], bound: ErrorBound) -> Coverage | None:
    """How often the bound of a generation held on labels that came after it was learned: the only fair test of it.

    An attempt at an assessment of the generation that explores may have been lost after it had learned the bound anew,
    from the new labels, too. Then the bound is learned once more from those that were known.

    Args:
        errors: of that generation.
        is_new: (n_frames,) which labels came after its bound was learned.
        bound: that it has.

    Returns:
        The coverage; None without new labels.
    """
    known, new = errors.of(~is_new), errors.of(is_new)
    if not len(new.actual):
        return None
    if bound.is_audited and bound.n_frames > len(known.counts):
        bound = known.force_bound(bound.confidence)
    share = bound.coverage(new.predicted, new.actual)
    return Coverage(share=share, n_atoms=len(new.actual), n_frames=len(new.counts))
