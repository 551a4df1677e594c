"""Who says what a label should be: the ensemble, those members that did not see it, or the other labels themselves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from alpot.errors import PotentialError
from alpot.exploration.uncertainty import calibration_factor, force_deviation
from alpot.potential.batch import Batch
from alpot.potential.cross_validation import Role, block_of
from alpot.potential.ensemble import Ensemble
from alpot.potential.frame_cache import LabelledFrame
from alpot.potential.neighbors import NeighborSearch
from alpot.subjects.consistency import LinearModel
from alpot.subjects.label_faults import Expectation

#: Frames that an ensemble judges together.
FRAMES_PER_BATCH = 16
#: Smallest error of a force that is believed, eV/Å; likewise of an energy (eV/atom) and a stress (eV/Å³).
FORCE_ERROR = 0.03
_ENERGY_ERROR, _STRESS_ERROR = 0.002, 0.002
#: Of the simple model: share of the forces, and eV/atom.
_ROUGH_FORCE_SHARE, _ROUGH_ENERGY_ERROR = 0.05, 0.02
#: Labels that tell how well others are known.
_SAMPLE = 64
#: Parts of the labels; each is judged by a model fitted to the others.
_FOLDS = 3
#: Share of labels by whose misfit the simple model is judged: more than these are good.
_GOOD_SHARE = 0.85
#: Perfect crystals, whose forces all members know to be zero, can make the factor of calibration absurd.
_MOST_CALIBRATION = 5.0

#: Key of a label, and a frame, which need not be the label's own.
Keyed = tuple[str, Atoms]


class Judge(Protocol):
    """Who expects something of frames."""

    def expect(self, frames: Sequence[Keyed]) -> list[Expectation | None]:
        """What is expected of each frame; None where nothing is."""
        ...


def sample(labels: Sequence[LabelledFrame]) -> Sequence[LabelledFrame]:
    """Some labels, spread evenly over all."""
    return labels[:: max(1, len(labels) // _SAMPLE)][:_SAMPLE]


class Consensus:
    """Expects what a simple model says that was fitted to the other labels, with a few bad ones among them."""

    def __init__(self, labels: Sequence[LabelledFrame]) -> None:
        elements = sorted({symbol for label in labels for symbol in label.atoms.symbols})
        # A label that is unlike all others is fitted exactly, right or wrong; so it must not judge itself.
        self.models = [LinearModel(elements) for _ in range(_FOLDS)]
        for fold, model in enumerate(self.models):
            model.fit([label for label in labels if block_of(label.key, _FOLDS) != fold])
        relative, energies, stresses = [], [], [0.0]
        for label in sample(labels):
            energy, forces, stress = self._model_for(label.key).predict(label.atoms)
            relative.append(_size(forces - label.forces) / (FORCE_ERROR + _size(forces)))
            energies.append(abs(energy - label.energy) / len(label.atoms))
            if stress is not None and label.stress is not None:
                stresses.append(float(np.linalg.norm(stress - label.stress)))
        self.force_share = max(float(np.quantile(relative, _GOOD_SHARE)), _ROUGH_FORCE_SHARE)
        self.energy_error = max(float(np.quantile(energies, _GOOD_SHARE)), _ROUGH_ENERGY_ERROR)
        self.stress_error = max(float(np.quantile(stresses, _GOOD_SHARE)), _STRESS_ERROR)

    def _model_for(self, key: str) -> LinearModel:
        return self.models[block_of(key, _FOLDS)]

    def expect(self, frames: Sequence[Keyed]) -> list[Expectation | None]:
        """What is expected of each frame; None where nothing is."""
        return [self._expect(*keyed) for keyed in frames]

    def _expect(self, key: str, atoms: Atoms) -> Expectation:
        energy, forces, stress = self._model_for(key).predict(atoms)
        error = FORCE_ERROR + self.force_share * _size(forces)
        return Expectation(
            energy=energy,
            forces=forces,
            stress=stress,
            energy_error=self.energy_error,
            force_error=np.full(len(atoms), error),
            stress_error=self.stress_error,
            by="a simple model of the other labels",
            is_rough=True,
        )


def _size(forces: NDArray[np.float64]) -> float:
    """Root-mean-square norm of the forces on atoms."""
    return float(np.sqrt(np.square(forces).sum(axis=1).mean()))


@dataclass(frozen=True)
class _Raw:
    """What an ensemble says of a frame, without an opinion on its error."""

    energy: float
    forces: NDArray[np.float64]
    stress: NDArray[np.float64] | None
    energy_deviation: float
    force_deviation: NDArray[np.float64]
    stress_deviation: float

    def with_errors(self, calibration: float, floors: tuple[float, float, float], by: str) -> Expectation:
        force, energy, stress = floors
        return Expectation(
            energy=self.energy,
            forces=self.forces,
            stress=self.stress,
            energy_error=float(np.hypot(energy, calibration * self.energy_deviation)),
            force_error=np.hypot(force, calibration * self.force_deviation),
            stress_error=float(np.hypot(stress, calibration * self.stress_deviation)),
            by=by,
        )


def _say(ensemble: Ensemble, frames: Sequence[Atoms], members: NDArray[np.bool_] | None = None) -> list[_Raw | None]:
    """What an ensemble says of frames; ``members`` (n_members, n_frames): whose mean counts, by default all."""
    batch = Batch.from_atoms(frames)
    try:
        result = ensemble.evaluate(batch, NeighborSearch(ensemble.cutoff).pairs(batch))
    except PotentialError:
        # Atoms that coincide, or an element that it does not know: alone if need be, so that the others are judged.
        if len(frames) == 1:
            return [None]
        columns = [None] * len(frames) if members is None else [members[:, [i]] for i in range(len(frames))]
        return [_say(ensemble, [atoms], column)[0] for atoms, column in zip(frames, columns, strict=True)]
    said: list[_Raw | None] = []
    deviation = force_deviation(result.forces)
    for index, atoms in enumerate(frames):
        own = slice(batch.offsets[index], batch.offsets[index + 1])
        chosen = slice(None) if members is None or not members[:, index].any() else members[:, index]
        stress, stress_deviation = None, 0.0
        if atoms.pbc.all():
            each = _voigt(result.virials[:, index]) / batch.volumes[index]
            if np.isfinite(each).all():  # a baseline may have no stress
                stress, stress_deviation = each[chosen].mean(axis=0), float(np.linalg.norm(each.std(axis=0, ddof=1)))
        energies = result.energies[:, index]
        raw = _Raw(
            float(energies[chosen].mean()),
            result.forces[chosen, own].mean(axis=0),
            stress,
            float(energies.std(ddof=1)) / len(atoms),
            deviation[own],
            stress_deviation,
        )
        is_finite = np.isfinite(result.energies[:, index]).all() and np.isfinite(result.forces[:, own]).all()
        said.append(raw if is_finite else None)
    return said


def _voigt(tensors: NDArray[np.float64]) -> NDArray[np.float64]:
    return tensors[:, [0, 1, 2, 1, 0, 0], [0, 1, 2, 2, 2, 1]]


def _floors(labels: Sequence[LabelledFrame], said: Sequence[_Raw | None]) -> tuple[float, float, float]:
    """Median errors of force (norm), energy per atom and stress (norm), never below what is believed."""
    force, energy, stress = [np.full(1, 0.0)], [0.0], [0.0]
    for label, raw in zip(labels, said, strict=True):
        if raw is not None:
            force.append(np.linalg.norm(raw.forces - label.forces, axis=1))
            energy.append(abs(raw.energy - label.energy) / len(label.atoms))
            if label.stress is not None and raw.stress is not None:
                stress.append(float(np.linalg.norm(raw.stress - label.stress)))
    return (
        max(FORCE_ERROR, float(np.median(np.concatenate(force)))),
        max(_ENERGY_ERROR, float(np.median(energy))),
        max(_STRESS_ERROR, float(np.median(stress))),
    )


class EnsembleJudge:
    """Expects what the ensemble says, with its calibrated error but no less than on the labels that it knows."""

    def __init__(self, ensemble: Ensemble, calibration: float, known: Sequence[LabelledFrame]) -> None:
        self.ensemble = ensemble
        self.calibration = min(calibration, _MOST_CALIBRATION)
        chosen = sample(known)
        said: list[_Raw | None] = []
        for begin in range(0, len(chosen), FRAMES_PER_BATCH):
            said += _say(ensemble, [label.atoms for label in chosen[begin : begin + FRAMES_PER_BATCH]])
        self.floors = _floors(chosen, said)

    def expect(self, frames: Sequence[Keyed]) -> list[Expectation | None]:
        """What is expected of each frame; None where nothing is."""
        return [
            None if raw is None else raw.with_errors(self.calibration, self.floors, "the ensemble")
            for raw in _say(self.ensemble, [atoms for _, atoms in frames])
        ]


class HeldOut:
    """Expects what those members say that did not train on a label; all of them where every one did.

    Attributes:
        expectations: one for each label; None where nothing is expected.
    """

    def __init__(self, ensemble: Ensemble, labels: Sequence[LabelledFrame], roles: NDArray[np.int64]) -> None:
        said: list[_Raw | None] = []
        for begin in range(0, len(labels), FRAMES_PER_BATCH):
            chunk = slice(begin, begin + FRAMES_PER_BATCH)
            said += _say(ensemble, [label.atoms for label in labels[chunk]], (roles != Role.TRAIN)[:, chunk])
        both = [(label, raw) for label, raw in zip(labels, said, strict=True) if raw is not None]
        calibration = calibration_factor(
            np.concatenate([raw.force_deviation for _, raw in both] or [np.zeros(0)]),
            np.concatenate([np.linalg.norm(raw.forces - label.forces, axis=1) for label, raw in both] or [np.zeros(0)]),
        )
        calibration, floors = min(calibration, _MOST_CALIBRATION), _floors(labels, said)
        self.expectations = [
            None if raw is None else raw.with_errors(calibration, floors, "members that did not train on it")
            for raw in said
        ]
