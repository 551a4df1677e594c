"""The engine that all policies run on: it draws starts, pays for labels, trains, and keeps the accounts."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms

from active_learning.plan import Plan
from alpot.config import Material
from alpot.errors import ReferenceError
from alpot.potential.ensemble import Ensemble
from alpot.potential.training import train
from alpot.reference import ReferenceCalculator, level_of_theory
from alpot.store.labels import Label, label_key
from alpot.structures import draw_start

#: eV/Å: a label with a larger force is paid for, and then rejected as unphysical, as in a campaign.
_LARGEST_FORCE = 50.0


@dataclass(kw_only=True)
class Costs:
    """What a policy has spent.

    Attributes:
        reference_s: core-seconds of the reference.
        atoms: that the reference has computed.
        rejected: labels that were paid for and are of no use.
        training_s, exploring_s: core-seconds.
        simulated_ps: of all walkers together.
        walkers: that were started.
        filled: labels of frames that the policy's rules did not choose, because they chose too few.
    """

    reference_s: float = 0.0
    atoms: int = 0
    rejected: int = 0
    training_s: float = 0.0
    exploring_s: float = 0.0
    simulated_ps: float = 0.0
    walkers: int = 0
    filled: int = 0

    def to_json(self) -> dict[str, Any]:
        """JSON-able."""
        return {name: round(value, 3) for name, value in asdict(self).items()}


@dataclass(frozen=True, kw_only=True)
class Choice:
    """A frame that a policy wants a label of.

    Attributes:
        atoms: the frame.
        audit: whether its label is kept for measuring the error, and never trained on.
    """

    atoms: Atoms
    audit: bool = False


@dataclass
class Engine:
    """What one policy has at one seed.

    Attributes:
        plan: what is common to all.
        reference: gives labels.
        seed: of everything random.
        scratch: folder for the reference.
        labels: that are trained on.
        audit: that are not.
        keys: of all labels that were paid for, in order.
        costs: so far.
        generation: number of the last training.
    """

    plan: Plan
    reference: ReferenceCalculator
    seed: int
    scratch: Path
    labels: list[Label] = field(default_factory=list)
    audit: list[Label] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)
    costs: Costs = field(default_factory=Costs)
    generation: int = -1

    def __post_init__(self) -> None:
        self.level = level_of_theory(self.reference)

    def rng(self, *purpose: int) -> np.random.Generator:
        """Random numbers for one purpose; the same for all policies."""
        return np.random.default_rng([self.seed, *purpose])

    def starts(
        self,
        purpose: int,
        number: int,
        count: int,
        material: Material | None = None,
        shares: Sequence[float] | None = None,
    ) -> Iterator[tuple[Atoms, np.random.Generator]]:
        """Starts, each with random numbers of its own: as a campaign draws them, the same ones for all policies.

        Args:
            purpose, number: what for, and which of its batches.
            count: how many.
            material: from which tables; by default those that all policies draw from.
            shares: of the tables, where they are not as configured.
        """
        for rng in self.rng(purpose, self.generation + 1, number).spawn(count):
            yield draw_start(material or self.plan.material, rng, base_directory=self.scratch, shares=shares), rng

    def pay(self, choices: Sequence[Choice]) -> None:
        """Have the reference compute frames."""
        for choice in choices:
            self.keys.append(label_key(choice.atoms, self.level))
            label = self._compute(choice.atoms, self.keys[-1])
            if label is None:
                self.costs.rejected += 1
            elif choice.audit:
                self.audit.append(label)
            else:
                self.labels.append(label)

    def _compute(self, atoms: Atoms, key: str) -> Label | None:
        """The label, or None where there is none or it is unphysical."""
        began = time.process_time()
        self.costs.atoms += len(atoms)
        try:
            result = self.reference.compute(atoms, self.scratch)
        except ReferenceError:
            return None
        finally:
            self.costs.reference_s += time.process_time() - began
        if not np.linalg.norm(result.forces, axis=1).max() <= _LARGEST_FORCE:
            return None
        return Label(
            key=key,
            atoms=atoms,
            energy=result.energy,
            forces=result.forces,
            stress=result.stress,
            level_of_theory=self.level,
        )

    def train(self) -> Ensemble:
        """The next generation, from all labels but those of the audit."""
        began = time.process_time()
        self.generation += 1
        result = train(
            self.labels,
            self.plan.material.elements,
            self.plan.potential,
            self.plan.training,
            seed=int(self.rng(1, self.generation).integers(2**31)),
        )
        self.costs.training_s += time.process_time() - began
        return result.ensemble

    @contextmanager
    def exploring(self) -> Iterator[None]:
        """Within it, core-seconds count as exploration."""
        began = time.process_time()
        try:
            yield
        finally:
            self.costs.exploring_s += time.process_time() - began
