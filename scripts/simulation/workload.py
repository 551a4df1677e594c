"""What a task costs and how it fails: the distributions, where each figure comes from, and what is only assumed.

Times are in seconds. Every structure has a number of its own; size, cost and fate of its label hang on that number
alone, so that all rules face the same structures. Sources: *measured* figures are this project's, see
``reference_data/benchmarks`` (``engine_0c818b9.json``); *assumed* ones are ours, and favour no rule over another.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from math import exp

import numpy as np

HOUR = 3600.0

#: Structures whose properties are drawn at once; numbers beyond begin again from the front.
_STRUCTURES = 2**19


class Fate(StrEnum):
    """What keeps the label of a structure from being finished at the first attempt."""

    NONE = "none"
    HARD = "hard"
    UNPHYSICAL = "unphysical"
    KILLER = "killer"


@dataclass(frozen=True, kw_only=True)
class Workload:
    """The distributions.

    Attributes:
        seed: of everything random.
        atoms: range of sizes, uniform. Those of the paper on ANI-Al, 55 to 250.
        label_median: time of one label of 108 atoms on one worker. Assumed: measured for 32 atoms on one core with
            coarse settings are 32 to 184 s between four codes (CP2K, Quantum ESPRESSO, GPAW, ABINIT).
        label_exponent: how the time grows with the number of atoms: the middle of the same four codes between 4 and
            32 atoms (0.9 to 1.7).
        label_spread: standard deviation of the logarithm, sizes apart: that between the same four codes at 32 atoms,
            0.76. Steps to convergence differ like this between structures of one code too (assumed).
        label_limit: time after which a calculation is given up.
        hard: share of structures whose first attempt does not converge, and whose others do with ``mended``. Assumed.
        unphysical: share that no code will take. Assumed.
        killer: share that brings down its worker each time. Assumed.
        hiccup: share of attempts that give bad output or run out of memory, for no lasting reason. Assumed.
        walkers: walkers in one exploration.
        walker_time: length of a walker, the paper's 250 ps, in ps.
        step: of the dynamics in ps.
        step_cost: CPU time per atom and step on one core, in s; measured.
        explore_spread: standard deviation of the logarithm of an exploration's time. Assumed.
        epochs: of a training.
        epoch_cost: CPU time per atom and epoch of all eight members on one core, in s; measured.
        descriptor_cost: CPU time per atom before the first epoch on one core, in s; measured.
        start_cost: time before a task on a GPU begins its work (imports, compilation, reading data). Assumed.
        cores_per_gpu: cores of the measurements that one GPU replaces. Assumed, and low.
        gpus_per_training: GPUs of a training node.
        gpu_efficiency: speed on n GPUs is n to the power of this. Assumed.
        training_failure: share of trainings that fail once. Assumed.
        uncertain: probability that a walker of the first generation finds something uncertain. Assumed.
        thinning_labels: with how many labels discoveries begin to thin out ...
        thinning_power: ... and as which power: (1 + labels / thinning_labels) ** -thinning_power. Assumed: errors of
            potentials fall with the square root of the number of labels.
        audit_share: of an exploration's candidates.
    """

    seed: int = 0
    atoms: tuple[int, int] = (55, 250)
    label_median: float = 600.0
    label_exponent: float = 1.43
    label_spread: float = 0.76
    label_limit: float = 4 * HOUR
    hard: float = 0.02
    mended: float = 0.7
    unphysical: float = 0.003
    killer: float = 0.0002
    hiccup: float = 0.003
    walkers: int = 64
    walker_time: float = 250.0
    step: float = 0.002
    step_cost: float = 27e-6
    explore_spread: float = 0.25
    epochs: int = 300
    epoch_cost: float = 16.8e-6
    descriptor_cost: float = 114e-6
    start_cost: float = 20.0
    cores_per_gpu: float = 16.0
    gpus_per_training: int = 4
    gpu_efficiency: float = 0.9
    training_failure: float = 0.02
    uncertain: float = 0.7
    thinning_labels: float = 5000.0
    thinning_power: float = 0.5
    audit_share: float = 0.03

    # ------------------------------------------------------------------------------------------ structures

    @cached_property
    def _sizes(self) -> np.ndarray:
        return self._generator(1).integers(self.atoms[0], self.atoms[1] + 1, _STRUCTURES)

    @cached_property
    def _label_times(self) -> np.ndarray:
        spread = np.exp(self.label_spread * self._generator(2).standard_normal(_STRUCTURES))
        return self.label_median * (self._sizes / 108) ** self.label_exponent * spread

    @cached_property
    def _fates(self) -> np.ndarray:
        return self._generator(3).random(_STRUCTURES)

    def label_time(self, structure: int) -> float:
        """How long the label of a structure takes if nothing happens to it."""
        return float(self._label_times[structure % _STRUCTURES])

    def fate(self, structure: int) -> Fate:
        """What keeps a structure from being labelled at once."""
        draw = self._fates[structure % _STRUCTURES]
        for fate, share in ((Fate.KILLER, self.killer), (Fate.UNPHYSICAL, self.unphysical), (Fate.HARD, self.hard)):
            if draw < share:
                return fate
            draw -= share
        return Fate.NONE

    @property
    def mean_label_time(self) -> float:
        """Mean of ``label_time``."""
        return float(self._label_times.mean())

    # ------------------------------------------------------------------------------------- tasks on a GPU

    @property
    def mean_atoms(self) -> float:
        """Mean size of a structure."""
        return sum(self.atoms) / 2

    def explore_time(self, draw: np.random.Generator) -> float:
        """How long a batch of walkers takes: that of those that go to the end."""
        work = self.walkers * self.mean_atoms * (self.walker_time / self.step) * self.step_cost
        spread = exp(self.explore_spread * draw.standard_normal())
        return self.start_cost + work / self.cores_per_gpu * spread

    def train_time(self, labels: int) -> float:
        """How long a training on so many labels takes."""
        cores = self.cores_per_gpu * self.gpus_per_training**self.gpu_efficiency
        per_atom = self.descriptor_cost + self.epochs * self.epoch_cost
        return self.start_cost + labels * self.mean_atoms * per_atom / cores

    def score_time(self, candidates: int) -> float:
        """How long it takes to judge so many structures with a model on one training node."""
        cores = self.cores_per_gpu * self.gpus_per_training**self.gpu_efficiency
        return self.start_cost + candidates * self.mean_atoms * self.step_cost / cores

    def novelty(self, labels: int) -> float:
        """Probability that a walker finds something uncertain, with a model trained on so many labels."""
        return float(self.uncertain * (1 + labels / self.thinning_labels) ** -self.thinning_power)

    def _generator(self, *stream: int) -> np.random.Generator:
        return np.random.default_rng((self.seed, *stream))
