"""What can be known of a campaign before anything is spent: each stage of the loop is tried once, in small.

A stage needs the ones before it: asked for alone, it runs those silently.
"""

from __future__ import annotations

import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

import numpy as np
from ase import Atoms

from alpot.campaign.subject import Kind
from alpot.config import Campaign, Pool
from alpot.errors import AlpotError
from alpot.exploration.explorer import Explorer
from alpot.platforms.label_environment import label_environment
from alpot.platforms.registry import open_platform
from alpot.potential.calibration import ErrorBound
from alpot.potential.residuals import Residuals
from alpot.potential.training import train
from alpot.reference import (
    CheapLevel,
    ReferenceCalculator,
    ReferenceResult,
    level_of_theory,
    open_cheap,
    open_reference,
    screened_label,
)
from alpot.report.costs import CostModel, SizeSums
from alpot.report.wording import core_time
from alpot.store.formats import read_labelled
from alpot.store.labels import Label, label_key
from alpot.structures import draw_start
from alpot.subjects.interatomic import device_of

#: Labels of the smoke test: the fewest that a fit with validation takes, and enough to see how costs vary.
_SMOKE_LABELS = 4
_SMOKE_STEPS = 20
#: Atoms of the largest smoke label of a dear code, relative to the smallest: enough to see how costs grow.
_LARGEST_TRIAL = 2.0
#: Displacements in Å that make another frame of a start, where there are too few small ones.
_RATTLE = 0.05


class Stage(StrEnum):
    """The stages in their order."""

    REFERENCE = "reference"
    START = "start"
    LABEL = "label"
    TRAIN = "train"
    WALKER = "walker"
    PLATFORM = "platform"


@dataclass(frozen=True)
class CheckResult:
    """One stage: whether it works, and what was seen or what is wrong."""

    stage: Stage
    ok: bool
    detail: str


@dataclass
class Checks:
    """Runs the stages of one campaign; later stages use what earlier ones made.

    Attributes:
        config: the campaign file.
        base_directory: its folder.
        seconds: what was measured: per label, per frame and epoch of training, per step and atom of a walker.
    """

    config: Campaign
    base_directory: Path
    seconds: dict[Stage, float] = field(default_factory=dict)
    _starts: list[Atoms] = field(default_factory=list)
    _labels: list[Label] = field(default_factory=list)
    _scratch: Path = field(default_factory=Path)
    _costs: dict[int, SizeSums] = field(default_factory=dict)

    def run(self, only: Stage | None = None) -> Iterator[CheckResult]:
        """Try the stages; stops after the first that fails, since later ones build on it."""
        with tempfile.TemporaryDirectory(prefix="alpot-check-") as scratch:
            self._scratch = Path(scratch)
            yield from self._run(only)

    def _run(self, only: Stage | None) -> Iterator[CheckResult]:
        steps: dict[Stage, Callable[[], str]] = {
            Stage.REFERENCE: self._check_reference,
            Stage.START: self._check_starts,
            Stage.LABEL: self._check_label,
            Stage.TRAIN: self._check_training,
            Stage.WALKER: self._check_walker,
            Stage.PLATFORM: self._check_platform,
        }
        for stage, step in steps.items():
            try:
                with label_environment(self.config.resources):
                    detail = step()
            except AlpotError as error:
                yield CheckResult(stage, False, str(error))
                return
            if only in (None, stage):
                yield CheckResult(stage, True, detail)
            if stage == only:
                return

    def estimate(self) -> list[str]:
        """Sentences on labels and time, from what was measured; meant as an order of magnitude."""
        config = self.config
        n_labels = config.stopping.max_labels
        epochs = config.training.max_epochs
        train_hours = self.seconds[Stage.TRAIN] * epochs * n_labels / 3600
        atoms = float(np.mean([len(atoms) for atoms in self._starts]))
        steps_per_ps = 1000.0 / config.exploration.timestep
        ps_per_hour = 3600.0 / (self.seconds[Stage.WALKER] * atoms * steps_per_ps)
        return [
            self._label_cost(n_labels),
            f"training: about {train_hours:.3g} h for {n_labels} labels and {epochs} epochs (the last generation;"
            " earlier ones take less)",
            f"exploration: about {ps_per_hour:.3g} ps of walkers per worker-hour with {atoms:.0f} atoms",
        ]

    def _label_cost(self, n_labels: int) -> str:
        """The cost of all labels, of cells as large as the starts: the smoke labels may be smaller."""
        platform = open_platform(self.config.resources)
        workers = platform.slots[platform.pool_of[Kind.LABEL]]
        pool = getattr(self.config.resources, platform.pool_of[Kind.LABEL], None)
        cores = pool.cores if isinstance(pool, Pool) else self.config.resources.ranks  # a laptop has no tables of pools
        sizes = Counter(len(atoms) for atoms in self._starts)
        model = CostModel.fit(self._costs)
        total = model.total(sizes, n_labels) * (1 / 3600)
        wall = total.expected / (workers * cores)
        where = f"{workers} workers" + (f" of {cores} cores, if the code scales" if cores > 1 else "")
        return (
            f"labels: at most {n_labels} of {_span(sizes)} atoms: about {core_time(total.expected)} (68 % range"
            f" {core_time(total.low)} to {core_time(total.high)}), {wall:.3g} h on {where}; from {len(self._labels)}"
            f" labels of {_span(self._costs)} atoms, with a cost that grows like atoms^{model.exponent:.1f}"
        )

    # ------------------------------------------------------------------------------------------------ stages

    def _check_reference(self) -> str:
        reference = self._reference()
        reference.check(self.config.material.elements)
        cheap = self._cheap()
        if cheap is not None:
            cheap.check(self.config.material.elements)
        known = [
            len(read_labelled(self.base_directory / name, level_of_theory(reference)))
            for name in self.config.material.initial_labels
        ]
        brought = f"; {sum(known)} labels are there already" if known else ""
        beside = "" if cheap is None else f"; {cheap.reference.name} beside it ({', '.join(cheap.settings.use)})"
        return f"{reference.name} knows {', '.join(self.config.material.elements)}{brought}{beside}"

    def _check_starts(self) -> str:
        rng = np.random.default_rng(self.config.seed)
        kinds: dict[str, int] = {}
        # Tables are drawn by weight: twenty starts for each make it very likely that each is seen.
        for _ in range(20 * len(self.config.material.starts)):
            atoms = draw_start(self.config.material, rng, base_directory=self.base_directory)
            kind = str(atoms.info["start"]).split(":")[0]
            kinds[kind] = kinds.get(kind, 0) + 1
            self._starts.append(atoms)
        sizes = [len(atoms) for atoms in self._starts]
        return f"{', '.join(sorted(kinds))}; {min(sizes)} to {max(sizes)} atoms"

    def _check_label(self) -> str:
        reference = self._reference()
        level = level_of_theory(reference)
        cheap = self._cheap()
        is_cheap = reference.is_cheap and (cheap is None or not cheap.is_screen or cheap.reference.is_cheap)
        frames = self._smoke_frames(is_cheap)
        if is_cheap:  # the first call loads libraries, which takes longer than all labels
            self._trial(reference, frames[0])
        begin = time.perf_counter()
        for atoms in frames:
            result = self._trial(reference, atoms)
            self._costs.setdefault(len(atoms), SizeSums()).add(
                result.details["core_seconds"] + result.details.get("screen_core_seconds", 0.0)
            )
            self._labels.append(
                Label(
                    key=label_key(atoms, level),
                    atoms=atoms,
                    energy=result.energy,
                    forces=result.forces,
                    stress=result.stress,
                    level_of_theory=level,
                )
            )
        self.seconds[Stage.LABEL] = (time.perf_counter() - begin) / len(self._labels)
        largest = max(float(np.linalg.norm(item.forces, axis=1).max()) for item in self._labels)
        stress = "with stress" if self._labels[0].stress is not None else "without stress"
        seconds = self.seconds[Stage.LABEL]
        return (
            f"{len(self._labels)} labels of {_span(self._costs)} atoms {stress}, {seconds:.3g} s each, forces up to"
            f" {largest:.3g} eV/Å"
        )

    def _smoke_frames(self, is_cheap: bool) -> list[Atoms]:
        """Starts of different sizes, the smallest first; a dear code gets none that costs many times the smallest."""
        ordered = sorted(self._starts, key=len)
        limit = np.inf if is_cheap else _LARGEST_TRIAL * len(ordered[0])
        affordable = [atoms for atoms in ordered if len(atoms) <= limit]
        n_drawn = len(affordable)
        affordable += [_rattled(affordable[number % n_drawn], number) for number in range(_SMOKE_LABELS - n_drawn)]
        affordable.sort(key=len)
        places = np.linspace(0, len(affordable) - 1, _SMOKE_LABELS).round().astype(int)
        return [affordable[place] for place in places]

    def _trial(self, reference: ReferenceCalculator, atoms: Atoms) -> ReferenceResult:
        with tempfile.TemporaryDirectory(prefix="alpot-check-") as scratch:
            return screened_label(self._cheap(), reference, self.config.reference, atoms, Path(scratch))

    def _check_training(self) -> str:
        # The first epoch pays for the descriptors too; the second one is like all others.
        settings = self.config.training.model_copy(update={"max_epochs": 2})
        ends: list[float] = []
        cheap = self._cheap()
        baseline = None if cheap is None else cheap.baseline(self._scratch)
        self._ensemble = train(
            self._labels,
            self.config.material.elements,
            self.config.potential,
            settings,
            seed=self.config.seed,
            residuals=Residuals.below(baseline),
            device=device_of(self.config),
            on_epoch=lambda _: ends.append(time.perf_counter()),
        ).ensemble
        self.seconds[Stage.TRAIN] = (ends[1] - ends[0]) / len(self._labels)
        weights = sum(parameter.numel() for parameter in self._ensemble.parameters())
        return f"two epochs on {device_of(self.config)}, {self.config.potential.members} members, {weights} weights"

    def _check_walker(self) -> str:
        exploration = self.config.exploration
        settings = exploration.model_copy(
            update={
                "max_time": _SMOKE_STEPS * exploration.timestep * 1e-3,
                "walkers": 1,
                # A potential of two epochs is uncertain of everything: here it is to run, not to judge.
                "max_force_error": 1e6,
                "mean_force_error": 1e6,
            }
        )
        atoms = min(self._starts, key=len)
        begin = time.perf_counter()
        (report,) = Explorer(self._ensemble, settings, ErrorBound()).run(
            [(atoms, np.random.default_rng(self.config.seed))]
        )
        steps = max(1, round(report.time * 1e3 / exploration.timestep))
        self.seconds[Stage.WALKER] = (time.perf_counter() - begin) / steps / len(atoms)
        cost = f"{self.seconds[Stage.WALKER] * 1e6:.0f} µs per atom and step"
        return f"{steps} steps of {len(atoms)} atoms, ended as {report.ending}, {cost}"

    def _check_platform(self) -> str:
        platform = open_platform(self.config.resources)
        return f"{self.config.resources.platform}: {', '.join(f'{n} {pool}' for pool, n in platform.slots.items())}"

    def _cheap(self) -> CheapLevel | None:
        return open_cheap(self.config.reference, base_directory=self.base_directory)

    def _reference(self) -> ReferenceCalculator:
        return open_reference(self.config.reference, base_directory=self.base_directory)


def _rattled(atoms: Atoms, seed: int) -> Atoms:
    copy = atoms.copy()
    copy.rattle(_RATTLE, seed=seed)
    return copy


def _span(sizes: Iterable[int]) -> str:
    """The smallest and the largest number of atoms."""
    low, high = min(sizes), max(sizes)
    return str(low) if low == high else f"{low} to {high}"
