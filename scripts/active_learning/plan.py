"""What all policies have in common: material, potential, training, molecular dynamics, and when they are measured."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from active_learning.frames import BenchSize
from alpot.config import CrystalStarts, Exploration, Material, PackingStarts, Potential, SurfaceStarts, Training

#: Labels of the generations between the first and the last one: each has half as many again as the one before.
_GROWTH = 1.5
FIRST_LABELS = 40

# What most of the time of simulations is spent with is common here too: crystals near equilibrium. What is rare there,
# and where potentials fail, is rare among the starts.
CRYSTALS = CrystalStarts(
    weight=7.0,
    prototypes=("fcc", "bcc", "hcp"),
    atoms=(24, 40),
    density=(2.45, 3.0),
    strain=0.04,
    rattle=(0.0, 0.1),
    vacancy_chance=0.15,
    interstitial_chance=0.05,
    slip_chance=0.1,
)
SURFACES = SurfaceStarts(weight=1.0, atoms=(24, 40), rattle=(0.0, 0.1))
PACKINGS = PackingStarts(weight=1.0, atoms=(24, 40), density=(1.9, 3.4), min_distance_factor=0.8)

MATERIAL = Material(elements=("Al",), starts=(CRYSTALS, SURFACES, PACKINGS))
#: Crystals that are compressed along one direction on their way, as in a shock, and such that are drawn to where the
#: members disagree.
COMPRESSED = CrystalStarts.model_validate(CRYSTALS.model_dump() | {"weight": 1.0, "compression": (0.05, 0.25)})
BIASED = CrystalStarts.model_validate(CRYSTALS.model_dump() | {"weight": 1.0, "bias": 0.5})
ALPOT_MATERIAL = Material(elements=("Al",), starts=(*MATERIAL.starts, COMPRESSED, BIASED))
POTENTIAL = Potential(members=4, hidden=(48, 32))
TRAINING = Training(max_epochs=240, learning_rate=4e-3, stress_weight=0.3, validation_blocks=1, test_blocks=0)
EXPLORATION = Exploration(
    walkers=8,
    timestep=3.0,
    max_time=0.75,
    temperature_start=(100.0, 1000.0),
    temperature_end=(100.0, 2000.0),
    temperature_amplitude=(0.0, 1500.0),
    temperature_period=(0.5, 2.0),
    density_amplitude=(-0.4, 0.8),
    density_period=(0.5, 2.0),
    # At a confidence of 90 % what workflows/aluminum accepted at 68 %.
    max_force_error=0.2,
    mean_force_error=0.08,
    audit_share=0.06,
)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """One engine for all policies.

    Attributes:
        schedule: labels paid for at which a generation is trained and measured.
        material: where walkers and the first labels come from.
        alpot_material: where those of alpot's policy come from: these tables, and walkers that others do not have.
        potential, training: of every generation.
        exploration: how walkers move. ``max_force_error`` and ``mean_force_error`` are what the user accepts, which
            alpot's policy goes by; the others have limits of their own.
        surplus: frames that alpot's policy finds beyond those that are labelled in a generation, as a share of them.
        rounds: batches of walkers in a generation at most.
        bench: size of the hidden bench.
        stability_time: ps, of each run of the test of stability.
        stability_runs: from each group of the bench.
    """

    schedule: tuple[int, ...]
    material: Material = MATERIAL
    alpot_material: Material = ALPOT_MATERIAL
    potential: Potential = POTENTIAL
    training: Training = TRAINING
    exploration: Exploration = EXPLORATION
    surplus: float = 4.0
    rounds: int = 16
    bench: BenchSize = field(default_factory=BenchSize)
    stability_time: float = 1.0
    stability_runs: int = 2

    def to_json(self) -> dict[str, Any]:
        """All settings, JSON-able."""
        tables = ("material", "alpot_material", "potential", "training", "exploration")
        return {
            "schedule": list(self.schedule),
            **{name: getattr(self, name).model_dump(mode="json") for name in tables},
            "surplus": self.surplus,
            "rounds": self.rounds,
            "bench": {"runs": self.bench.runs, "frames": self.bench.frames},
            "stability_time": self.stability_time,
            "stability_runs": self.stability_runs,
        }


def schedule_up_to(n_labels: int, first: int = FIRST_LABELS) -> tuple[int, ...]:
    """Numbers of labels at which generations are trained, the last one ``n_labels``."""
    if n_labels <= first:
        return (n_labels,)
    steps = [first]
    while steps[-1] * _GROWTH < n_labels / _GROWTH**0.5:
        steps.append(round(steps[-1] * _GROWTH))
    return (*steps, n_labels)


def full(n_labels: int) -> Plan:
    """The benchmark."""
    return Plan(schedule=schedule_up_to(n_labels))


def quick(n_labels: int) -> Plan:
    """A smoke test of every part, from which no conclusion follows."""
    plan = full(n_labels)
    return replace(
        plan,
        schedule=schedule_up_to(n_labels, first=max(4, n_labels // 2)),
        potential=Potential(members=2, hidden=(12,)),
        training=plan.training.model_copy(update={"max_epochs": 4, "blocks": 4}),
        exploration=plan.exploration.model_copy(update={"max_time": 0.1, "walkers": 4, "audit_share": 0.25}),
        rounds=3,
        bench=BenchSize(runs=1, frames=1),
        stability_time=0.05,
        stability_runs=1,
    )
