"""Fits all members of an ensemble at once to energies, forces and stresses.

Each batch of frames is seen by all members, and a mask tells which of them learn from it (see
``cross_validation``); those that validate on it get their error from the same pass, at no cost.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray

from alpot.config import Potential, Training
from alpot.errors import PotentialError
from alpot.potential.batch_gradient import Targets
from alpot.potential.cross_validation import Role, member_roles
from alpot.potential.descriptor import AevSettings
from alpot.potential.ensemble import Ensemble
from alpot.potential.ensemble_gradient import CpuGradient
from alpot.potential.frame_cache import FrameCache, LabelledFrame
from alpot.potential.optimizer import AdamSettings
from alpot.potential.schedule import LearningRates
from alpot.potential.self_energies import fit_self_energies
from alpot.potential.torch_gradient import TorchGradient

#: Errors that count 1 in the loss before the user's weights: eV/atom, eV/Å, eV/atom.
ENERGY_UNIT, FORCE_UNIT, VIRIAL_UNIT = 0.05, 0.1, 0.1
#: A force error counts relative to this share of the frame's force, so that a few wild frames do not rule the fit.
RELATIVE_FORCE_ERROR = 0.05
#: A member is retrained when its training loss is not below this many times the median of all members. Training
#: folds overlap, so that these losses can be compared; validation folds do not, and one wild frame may rule one.
_FAILED_FACTOR = 10.0
_RETRAININGS = 2


@dataclass(frozen=True)
class Epoch:
    """One line of the learning curve: mean losses of each member, (n_members,) lists."""

    epoch: int
    training_loss: list[float]
    validation_loss: list[float]
    learning_rate: list[float]


@dataclass(frozen=True, kw_only=True)
class TrainingResult:
    """A trained ensemble and how it went.

    Attributes:
        ensemble: with each member's weights that count: the last, or with plateau the best on its validation fold.
        history: the learning curve.
        errors: root-mean-square errors by role: ``train_force`` (eV/Å), ``train_energy`` (eV/atom), likewise
            ``validate_*`` and ``test_*``, averaged over the members, each on its own fold.
        retrained: members that had to be trained again.
    """

    ensemble: Ensemble
    history: list[Epoch]
    errors: dict[str, float]
    retrained: list[int] = field(default_factory=list)


def train(
    frames: Sequence[LabelledFrame],
    elements: Sequence[str],
    potential: Potential,
    settings: Training,
    *,
    seed: int,
    parent: Ensemble | None = None,
    device: str = "cpu",
    on_epoch: Callable[[Epoch], None] | None = None,
) -> TrainingResult:
    """Train an ensemble.

    Args:
        frames: labelled frames; folds are chosen from their keys.
        elements: chemical symbols.
        potential: architecture.
        settings: of the training.
        seed: of the weights and the order of the frames.
        parent: ensemble to begin from (``warm_start``); otherwise weights are drawn.
        device: where to train.
        on_epoch: called after each epoch.

    Raises:
        PotentialError: there are fewer than two frames, the parent is of another make, or a member fails however often
            it is trained.
    """
    if len(frames) < 2:
        raise PotentialError(f"training needs at least 2 labelled frames, got {len(frames)}")
    ensemble = _untrained(frames, elements, potential, parent)
    cache = FrameCache.of(ensemble, frames)
    generator = torch.Generator().manual_seed(seed)
    if parent is None:
        _scale_to_data(ensemble, cache)
        for networks in ensemble.networks:
            for member in range(ensemble.n_members):
                networks.initialize(member, generator)
    cache.scale(ensemble.feature_mean.numpy(), ensemble.feature_scale.numpy(), ensemble.energy_scale.numpy())
    roles = member_roles([frame.key for frame in frames], ensemble.n_members, settings)
    fit = _Fit(ensemble, cache, roles, settings, generator, device)
    history = fit.run(range(ensemble.n_members), on_epoch)
    retrained: list[int] = []
    for _ in range(_RETRAININGS):
        failed = fit.failed_members()
        if not failed:
            break
        retrained += failed
        for member in failed:
            for networks in ensemble.networks:
                networks.initialize(member, generator)
        history += fit.run(failed, on_epoch)
    if diverged := np.flatnonzero(~np.isfinite(fit.best_loss)).tolist():
        raise PotentialError(
            f"members {diverged} of the ensemble do not learn, even when trained {_RETRAININGS + 1} times (validation"
            f" losses {fit.best_loss.tolist()}); look for wrong labels, or lower training.learning_rate"
        )
    errors = fit.errors()
    return TrainingResult(
        ensemble=ensemble.to(device), history=history, errors=errors, retrained=sorted(set(retrained))
    )


def _untrained(
    frames: Sequence[LabelledFrame], elements: Sequence[str], potential: Potential, parent: Ensemble | None
) -> Ensemble:
    aev = AevSettings.from_config(potential.descriptor)
    ensemble = Ensemble(elements, aev, potential.members, potential.hidden, potential.activation)
    if parent is not None:
        for name in ("elements", "aev", "n_members", "hidden", "activation"):
            if getattr(parent, name) != getattr(ensemble, name):
                raise PotentialError(
                    f"the parent cannot be continued: its {name} is {getattr(parent, name)}, what is asked for is"
                    f" {getattr(ensemble, name)}; train from the beginning (warm_start = false)"
                )
        ensemble.load_state_dict(parent.state_dict())
        ensemble.self_energies = parent.self_energies.copy()
    else:
        ensemble.self_energies = fit_self_energies(
            elements, [frame.atoms.numbers for frame in frames], [frame.energy for frame in frames]
        )
    return ensemble


def _scale_to_data(ensemble: Ensemble, cache: FrameCache) -> None:
    """Features to mean 0 and deviation 1, and outputs to the spread of the energies per atom.

    A feature that hardly varies is not blown up: its deviation counts as a hundredth of the largest at least.
    """
    for index in range(len(ensemble.elements)):
        own = cache.features[cache.geometry.species == index][:, cache.columns].astype(np.float64)
        if len(own) < 2:
            continue
        std = own.std(axis=0, ddof=1)
        ensemble.feature_mean[index] = torch.from_numpy(own.mean(axis=0))
        ensemble.feature_scale[index] = torch.from_numpy(std.clip(min=max(1e-2 * float(std.max()), 1e-6)))
    residuals = cache.energies / np.diff(cache.offsets)
    ensemble.energy_scale.fill_(max(float(residuals.std(ddof=1)), 0.01))


def _targets(cache: FrameCache, settings: Training) -> Targets:
    """The loss of a frame: squared errors of energy, forces and virial in their units."""
    sizes = np.diff(cache.offsets)
    unit = FORCE_UNIT**2 + RELATIVE_FORCE_ERROR**2 * np.square(cache.forces).sum(axis=1)
    return Targets.of(
        cache,
        energy_weights=settings.energy_weight / (sizes * ENERGY_UNIT) ** 2,
        force_weights=settings.force_weight / (3.0 * np.repeat(sizes, sizes) * unit),
        virial_weights=settings.stress_weight / (6.0 * (sizes * VIRIAL_UNIT) ** 2),
    )


class _Fit:
    """Optimisations of members of an ensemble on the same frames."""

    def __init__(
        self,
        ensemble: Ensemble,
        cache: FrameCache,
        roles: NDArray[np.int64],
        settings: Training,
        generator: torch.Generator,
        device: str,
    ) -> None:
        self.ensemble = ensemble
        self.device = device
        self.cache = cache
        self.roles = roles
        self.settings = settings
        self.generator = generator
        self.targets = _targets(cache, settings)
        self.best_loss = np.full(ensemble.n_members, np.inf)
        self.training_loss = np.full(ensemble.n_members, np.inf)

    def _gradient(self, targets: Targets, members: Sequence[int]) -> CpuGradient | TorchGradient:
        adam = AdamSettings(weight_decay=self.settings.weight_decay)
        if self.device == "cpu":
            return CpuGradient(self.ensemble, self.cache, targets, members, adam)
        return TorchGradient(self.ensemble, self.cache, targets, members, adam, device=self.device)

    def run(self, members: Sequence[int], on_epoch: Callable[[Epoch], None] | None) -> list[Epoch]:
        """Train some members; afterwards the ensemble holds the weights that count, see ``LearningRates``."""
        settings, chosen = self.settings, list(members)
        engine = self._gradient(self.targets, chosen)
        schedule = LearningRates(settings, len(chosen))
        kept = engine.parameters.clone()
        self.best_loss[chosen] = self.training_loss[chosen] = np.inf
        history = []
        for epoch in range(settings.max_epochs):
            training, validation = self._epoch(epoch, engine, self.roles[chosen], schedule)
            counts = schedule.record(validation)
            kept[counts] = engine.parameters[counts]
            self.training_loss[chosen] = np.where(counts, training, self.training_loss[chosen])
            self.best_loss[chosen] = schedule.best
            line = self._line(epoch, chosen, training, validation, schedule.rates(epoch / settings.max_epochs))
            history.append(line)
            if on_epoch is not None:
                on_epoch(line)
            if schedule.finished.all():
                break
        engine.give(kept)
        return history

    def _line(self, epoch: int, members: list[int], *learning: NDArray[np.float64]) -> Epoch:
        """Of the learning curve; members that rest keep their losses, their rate is 0."""
        columns = [self.training_loss.copy(), self.best_loss.copy(), np.zeros(self.ensemble.n_members)]
        for column, values in zip(columns, learning, strict=True):
            column[members] = values
        return Epoch(epoch, *(column.tolist() for column in columns))

    def failed_members(self) -> list[int]:
        """Members that diverged, or that fit their training frames far worse than the others do."""
        known = self.training_loss[np.isfinite(self.training_loss)]
        limit = _FAILED_FACTOR * float(np.median(known)) if len(known) else -np.inf
        return [
            member
            for member, (training, validation) in enumerate(zip(self.training_loss, self.best_loss, strict=True))
            if not (training <= limit and np.isfinite(validation))
        ]

    def _epoch(
        self, epoch: int, engine: CpuGradient | TorchGradient, roles: NDArray[np.int64], schedule: LearningRates
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """One pass; returns the mean training and validation losses of the members that learn."""
        order = torch.randperm(self.cache.n_frames, generator=self.generator).numpy()
        n_frames, size = len(order), self.settings.batch_frames
        growth = schedule.energy_factor(epoch / self.settings.max_epochs)
        targets = self.targets._replace(energy_weights=growth * self.targets.energy_weights)
        begins = np.arange(0, n_frames, size)
        rates = np.array([schedule.rates((epoch + begin / n_frames) / self.settings.max_epochs) for begin in begins])
        # Divided by the batch's full size: a member that learns from fewer of its frames takes a smaller step.
        sizes = np.repeat(np.minimum(size, n_frames - begins), size)[:n_frames]
        shares = (roles[:, order] == Role.TRAIN) / sizes
        energy, force, virial = engine.descend(order, size, shares, rates, targets)
        losses = np.empty(roles.shape)
        # Told with the weights of the end, so that epochs can be compared.
        losses[:, order] = energy * (schedule.energy_factor(1.0) / growth) + force + virial
        return (
            (losses * (roles == Role.TRAIN)).sum(axis=1) / (roles == Role.TRAIN).sum(axis=1),
            (losses * (roles == Role.VALIDATE)).sum(axis=1) / (roles == Role.VALIDATE).sum(axis=1),
        )

    def errors(self) -> dict[str, float]:
        """Root-mean-square errors of the members on their own folds; forces over components."""
        sizes = np.diff(self.cache.offsets)
        squares = Targets.of(
            self.cache,
            energy_weights=1.0 / sizes**2,
            force_weights=1.0 / (3.0 * np.repeat(sizes, sizes)),
            virial_weights=np.zeros(len(sizes)),
        )
        members, frames = range(self.ensemble.n_members), np.arange(self.cache.n_frames)
        engine = self._gradient(squares, members)
        energy, force, _ = engine.losses(frames, np.zeros((len(members), len(frames))))
        errors = {}
        for name, role in (("train", Role.TRAIN), ("validate", Role.VALIDATE), ("test", Role.TEST)):
            mask = self.roles == role
            if mask.any():
                errors[f"{name}_energy"] = float(np.sqrt(energy[mask].mean()))
                errors[f"{name}_force"] = float(np.sqrt(force[mask].mean()))
        return errors
