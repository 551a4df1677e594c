"""Descent of the members of an ensemble on labelled frames, epoch by epoch; what ``training.train`` is made of.

Each batch of frames is seen by all members, and a mask tells which of them learn from it (see
``cross_validation``); those that validate on it get their error from the same pass, at no cost.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from alpot.config import Training
from alpot.potential.batch_gradient import Targets
from alpot.potential.cross_validation import Role
from alpot.potential.ensemble import Ensemble
from alpot.potential.ensemble_gradient import CpuGradient
from alpot.potential.frame_cache import FrameCache
from alpot.potential.networks import are_sound
from alpot.potential.optimizer import AdamSettings
from alpot.potential.schedule import LearningRates
from alpot.potential.torch_gradient import TorchGradient

#: Errors that count 1 in the loss before the user's weights: eV/atom, eV/Å, eV/atom.
ENERGY_UNIT, FORCE_UNIT, VIRIAL_UNIT = 0.05, 0.1, 0.1
#: A force error counts relative to this share of the frame's force, so that a few wild frames do not rule the fit.
RELATIVE_FORCE_ERROR = 0.05
#: A member is retrained when its training loss is not below this many times the median of all members. Training
#: folds overlap, so that these losses can be compared; validation folds do not, and one wild frame may rule one.
_FAILED_FACTOR = 10.0
#: A member has exploded when its loss is this many times that of a potential which says nothing: it is off by a
#: thousand times what there is to know. Weights drawn at random stay far below.
_EXPLODED_FACTOR = 1e6


@dataclass(frozen=True)
class Epoch:
    """One line of the learning curve: mean losses of each member, (n_members,) lists."""

    epoch: int
    training_loss: list[float]
    validation_loss: list[float]
    learning_rate: list[float]


@dataclass
class Descent:
    """Some members on their way down.

    Attributes:
        members: which of the ensemble.
        engine: has their weights, and the moments of their optimizer.
        schedule: of their learning rates.
        kept: (n_members, n_weights) weights that would count if this were the end, see ``LearningRates``.
        epoch: epochs that are done.
    """

    members: list[int]
    engine: CpuGradient | TorchGradient
    schedule: LearningRates
    kept: Tensor
    epoch: int = 0

    @property
    def is_over(self) -> bool:
        """Whether there is no epoch left to do, or nothing left to learn."""
        is_done = self.epoch >= self.schedule.settings.max_epochs
        return is_done or (self.epoch > 0 and bool(self.schedule.finished.all()))


class Fit:
    """Optimisations of members of an ensemble on the same frames.

    Args:
        ensemble: whose weights are fitted.
        cache: the frames.
        roles: (n_members, n_frames) what each is for each member.
        settings: of the training.
        generator: of the order of the frames and of weights that are drawn.
        device: where to compute.

    Attributes:
        history: learning curve, all descents one after the other.
        retrained: members of all descents but the first.
        n_descents: that were begun.
        training_loss, best_loss: (n_members,) losses of the weights that count, on training and validation folds.
    """

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
        self.targets = loss_targets(cache, settings)
        self.history: list[Epoch] = []
        self.retrained: list[int] = []
        self.n_descents = 0
        self.best_loss = np.full(ensemble.n_members, np.inf)
        self.training_loss = np.full(ensemble.n_members, np.inf)
        self._largest_loss = _EXPLODED_FACTOR * self._loss_of_nothing()

    def begin(self, members: Sequence[int]) -> Descent:
        """Set out with the ensemble's weights."""
        self.n_descents += 1
        self.best_loss[list(members)] = self.training_loss[list(members)] = np.inf
        return self.descent_of(members)

    def begin_again(self, members: Sequence[int]) -> Descent:
        """Set out with weights drawn anew."""
        self.retrained += members
        for member in members:
            for networks in self.ensemble.networks:
                networks.initialize(member, self.generator)
        return self.begin(members)

    def descent_of(self, members: Sequence[int]) -> Descent:
        """A descent that has not begun."""
        engine = self._gradient(self.targets, members)
        schedule = LearningRates(self.settings, len(members))
        return Descent(list(members), engine, schedule, engine.parameters.clone())

    def _gradient(self, targets: Targets, members: Sequence[int]) -> CpuGradient | TorchGradient:
        adam = AdamSettings(weight_decay=self.settings.weight_decay)
        if self.device == "cpu":
            return CpuGradient(self.ensemble, self.cache, targets, members, adam)
        return TorchGradient(self.ensemble, self.cache, targets, members, adam, device=self.device)

    def advance(self, descent: Descent) -> Epoch:
        """One epoch; returns its line of the learning curve."""
        chosen, schedule, engine = descent.members, descent.schedule, descent.engine
        training, validation = self._pass(descent)
        counts = schedule.record(validation)
        descent.kept[counts] = engine.parameters[counts]
        self.training_loss[chosen] = np.where(counts, training, self.training_loss[chosen])
        self.best_loss[chosen] = schedule.best
        rates = schedule.rates(descent.epoch / self.settings.max_epochs)
        line = self._line(descent.epoch, chosen, training, validation, rates)
        self.history.append(line)
        descent.epoch += 1
        return line

    def arrive(self, descent: Descent) -> None:
        """Give the ensemble the weights that count."""
        descent.engine.give(descent.kept)

    def _line(self, epoch: int, members: list[int], *learning: NDArray[np.float64]) -> Epoch:
        """Of the learning curve; members that rest keep their losses, their rate is 0."""
        columns = [self.training_loss.copy(), self.best_loss.copy(), np.zeros(self.ensemble.n_members)]
        for column, values in zip(columns, learning, strict=True):
            column[members] = values
        return Epoch(epoch, *(column.tolist() for column in columns))

    def diverged_members(self) -> list[int]:
        """Members whose losses are NaN, infinite or beyond all bounds."""
        is_sane = (self.training_loss <= self._largest_loss) & (self.best_loss <= self._largest_loss)
        return np.flatnonzero(~is_sane).tolist()

    def failed_members(self) -> list[int]:
        """Members that diverged, or that fit their training frames far worse than the others do."""
        known = self.training_loss[np.isfinite(self.training_loss)]
        limit = _FAILED_FACTOR * float(np.median(known)) if len(known) else -np.inf
        return sorted({*self.diverged_members(), *np.flatnonzero(~(self.training_loss <= limit)).tolist()})

    def _loss_of_nothing(self) -> float:
        """Mean loss of a potential that says nothing but self energies; at least 1, an error of one unit."""
        targets, sizes = self.targets, np.diff(self.cache.offsets)
        forces = targets.force_weights * np.square(self.cache.forces).sum(axis=1)
        growth = LearningRates(self.settings, 1).energy_factor(1.0)
        losses = growth * targets.energy_weights * targets.energies**2
        losses += np.add.reduceat(forces, self.cache.offsets[:-1])
        losses += targets.virial_weights * np.square(targets.virials.reshape(len(sizes), 6)).sum(axis=1)
        return max(float(losses.mean()), 1.0)

    def _pass(self, descent: Descent) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """All frames once; returns the mean training and validation losses of the members that learn.

        The validation loss of a member is NaN, so that its weights do not count, where any frame or weight of it is
        not finite.
        """
        epoch, schedule, roles = descent.epoch, descent.schedule, self.roles[descent.members]
        order = torch.randperm(self.cache.n_frames, generator=self.generator).numpy()
        n_frames, size = len(order), self.settings.batch_frames
        growth = schedule.energy_factor(epoch / self.settings.max_epochs)
        targets = self.targets._replace(energy_weights=growth * self.targets.energy_weights)
        begins = np.arange(0, n_frames, size)
        rates = np.array([schedule.rates((epoch + begin / n_frames) / self.settings.max_epochs) for begin in begins])
        # Divided by the batch's full size: a member that learns from fewer of its frames takes a smaller step.
        sizes = np.repeat(np.minimum(size, n_frames - begins), size)[:n_frames]
        shares = (roles[:, order] == Role.TRAIN) / sizes
        energy, force, virial = descent.engine.descend(order, size, shares, rates, targets)
        losses = np.empty(roles.shape)
        # Told with the weights of the end, so that epochs can be compared.
        losses[:, order] = energy * (schedule.energy_factor(1.0) / growth) + force + virial
        training, validation = (_mean(losses, roles == role) for role in (Role.TRAIN, Role.VALIDATE))
        is_sound = are_sound(descent.engine.parameters).cpu().numpy() & np.isfinite(losses).all(axis=1)
        return training, np.where(is_sound, validation, np.nan)

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


def loss_targets(cache: FrameCache, settings: Training) -> Targets:
    """The loss of a frame: squared errors of energy, forces and virial in their units."""
    sizes = np.diff(cache.offsets)
    unit = FORCE_UNIT**2 + RELATIVE_FORCE_ERROR**2 * np.square(cache.forces).sum(axis=1)
    return Targets.of(
        cache,
        energy_weights=settings.energy_weight / (sizes * ENERGY_UNIT) ** 2,
        force_weights=settings.force_weight / (3.0 * np.repeat(sizes, sizes) * unit),
        virial_weights=settings.stress_weight / (6.0 * (sizes * VIRIAL_UNIT) ** 2),
    )


def _mean(losses: NDArray[np.float64], mask: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Of each member over some frames; an infinite loss of another frame does not count (0 · ∞ is NaN)."""
    return np.where(mask, losses, 0.0).sum(axis=1) / mask.sum(axis=1)
