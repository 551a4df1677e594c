"""What is left of labels to be learned once the baseline is taken off; each label is computed once."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from alpot.errors import PotentialError
from alpot.potential.baseline import Baseline, BaselineAnswer
from alpot.potential.frame_cache import LabelledFrame


@dataclass(frozen=True, kw_only=True)
class Residual:
    """A label less the baseline; a ``LabelledFrame``. It is for training only: labels themselves stay the truth."""

    key: str
    atoms: Atoms
    energy: float
    forces: NDArray[np.float64]
    stress: NDArray[np.float64] | None


@dataclass
class Residuals:
    """Takes a baseline off labels, and remembers what it was for each frame.

    Attributes:
        baseline: the baseline.
    """

    baseline: Baseline
    _known: dict[bytes, BaselineAnswer | None] = field(default_factory=dict)

    @classmethod
    def below(cls, baseline: Baseline | None) -> Residuals | None:
        """None where there is no baseline."""
        return None if baseline is None else cls(baseline)

    def of(self, labels: Sequence[LabelledFrame]) -> list[Residual]:
        """What is to be learned.

        Raises:
            PotentialError: the baseline has no answer for a label.
        """
        return [self._of(label) for label in labels]

    def without_baseline(self, labels: Sequence[LabelledFrame]) -> dict[str, str]:
        """The labels of which the baseline has no finite answer: why they cannot be used, by key."""
        reason = f"the baseline {self.baseline} gives no finite energy and forces for its frame"
        return {label.key: reason for label in labels if self._answer(label.atoms) is None}

    def _answer(self, atoms: Atoms) -> BaselineAnswer | None:
        parts = (atoms.numbers, atoms.positions, atoms.cell.array, atoms.pbc)
        frame = hashlib.sha256(b"".join(np.ascontiguousarray(part).tobytes() for part in parts)).digest()
        if frame not in self._known:
            self._known[frame] = self.baseline.answer(atoms)
        return self._known[frame]

    def _of(self, label: LabelledFrame) -> Residual:
        answer = self._answer(label.atoms)
        if answer is None:
            raise PotentialError(
                f"labelled frame {label.key}: the baseline {self.baseline} gives no finite energy and forces for it;"
                " remove this label"
            )
        stress = None if label.stress is None or answer.stress is None else label.stress - answer.stress
        return Residual(
            key=label.key,
            atoms=label.atoms,
            energy=label.energy - answer.energy,
            forces=label.forces - answer.forces,
            stress=stress,
        )
