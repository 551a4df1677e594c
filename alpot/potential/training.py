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
from torch import Tensor

from alpot.config import Potential, Training
from alpot.errors import PotentialError
from alpot.potential.cross_validation import Role, member_roles
from alpot.potential.descriptor import AevSettings
from alpot.potential.ensemble import Ensemble
from alpot.potential.frame_cache import CachedFrame, LabelledFrame, cache_frames
from alpot.potential.optimizer import MemberwiseAdam
from alpot.potential.schedule import LearningRates
from alpot.potential.self_energies import fit_self_energies

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
        ensemble: with each member's best weights.
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
    ensemble = _untrained(frames, elements, potential, parent).to(device)
    cached = cache_frames(ensemble, frames)
    generator = torch.Generator().manual_seed(seed)
    if parent is None:
        _scale_to_data(ensemble, cached)
        for networks in ensemble.networks:
            for member in range(ensemble.n_members):
                networks.initialize(member, generator)
    roles = member_roles([frame.key for frame in frames], ensemble.n_members, settings)
    fit = _Fit(ensemble, cached, roles, settings, generator)
    history = fit.run(on_epoch)
    retrained: list[int] = []
    for _ in range(_RETRAININGS):
        failed = fit.failed_members()
        if not failed:
            break
        retrained += failed
        for member in failed:
            for networks in ensemble.networks:
                networks.initialize(member, generator)
        again = _Fit(ensemble, cached, roles, settings, generator, only=failed)
        history += again.run(on_epoch)
        fit.best_loss[failed] = again.best_loss[failed]
        fit.training_loss[failed] = again.training_loss[failed]
    if diverged := np.flatnonzero(~np.isfinite(fit.best_loss)).tolist():
        raise PotentialError(
            f"members {diverged} of the ensemble do not learn, even when trained {_RETRAININGS + 1} times (validation"
            f" losses {fit.best_loss.tolist()}); look for wrong labels, or lower training.learning_rate"
        )
    return TrainingResult(ensemble=ensemble, history=history, errors=fit.errors(), retrained=sorted(set(retrained)))


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


def _scale_to_data(ensemble: Ensemble, frames: Sequence[CachedFrame]) -> None:
    """Features to mean 0 and deviation 1, and outputs to the spread of the energies per atom.

    A feature that hardly varies is not blown up: its deviation counts as a hundredth of the largest at least.
    """
    features = torch.cat([frame.features for frame in frames])
    species = torch.cat([frame.species for frame in frames])
    residuals = torch.tensor([frame.energy / frame.n_atoms for frame in frames])
    for index in range(len(ensemble.elements)):
        own = features[species == index].double()
        if len(own) < 2:
            continue
        std = own.std(dim=0)
        ensemble.feature_mean[index] = own.mean(dim=0)
        ensemble.feature_scale[index] = std.clamp(min=max(1e-2 * float(std.max()), 1e-6))
    ensemble.energy_scale.fill_(max(float(residuals.std()), 0.01))


class _Fit:
    """One optimisation of some members of an ensemble on cached frames."""

    def __init__(
        self,
        ensemble: Ensemble,
        frames: list[CachedFrame],
        roles: NDArray[np.int64],
        settings: Training,
        generator: torch.Generator,
        only: Sequence[int] | None = None,
    ) -> None:
        self.ensemble = ensemble
        self.frames = frames
        self.roles = torch.from_numpy(roles).to(ensemble.device)
        self.settings = settings
        self.generator = generator
        self.learning = torch.ones(ensemble.n_members, dtype=ensemble.dtype, device=ensemble.device)
        if only is not None:
            self.learning.zero_()
            self.learning[list(only)] = 1.0
        self.parameters = [p for networks in ensemble.networks for p in networks.parameters()]
        self.best_loss = np.full(ensemble.n_members, np.inf)
        self.training_loss = np.full(ensemble.n_members, np.inf)

    def run(self, on_epoch: Callable[[Epoch], None] | None) -> list[Epoch]:
        """Train; afterwards the ensemble holds each learning member's best weights."""
        settings, n_members = self.settings, self.ensemble.n_members
        adam = MemberwiseAdam(self.parameters, n_members, weight_decay=settings.weight_decay)
        schedule = LearningRates(settings, n_members)
        best = [p.detach().clone() for p in self.parameters]
        history = []
        for epoch in range(settings.max_epochs):
            training, validation = self._epoch(epoch, adam, schedule)
            rates = schedule.rates(epoch / settings.max_epochs)
            improved = torch.from_numpy(schedule.record(validation)).to(self.learning.device)
            self.training_loss = np.where(improved.cpu().numpy(), training, self.training_loss)
            for kept, parameter in zip(best, self.parameters, strict=True):
                kept[improved] = parameter.detach()[improved]
            line = Epoch(epoch, training.tolist(), validation.tolist(), rates.tolist())
            history.append(line)
            if on_epoch is not None:
                on_epoch(line)
            if schedule.finished.all():
                break
        with torch.no_grad():
            for kept, parameter in zip(best, self.parameters, strict=True):
                parameter.copy_(kept)
        self.best_loss = schedule.best
        return history

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
        self, epoch: int, adam: MemberwiseAdam, schedule: LearningRates
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """One pass; returns the mean training and validation losses (n_members,)."""
        order = torch.randperm(len(self.frames), generator=self.generator).tolist()
        size = self.settings.batch_frames
        losses = torch.zeros((self.ensemble.n_members, len(self.frames)), dtype=torch.float64)
        for begin in range(0, len(order), size):
            chosen = order[begin : begin + size]
            frame_losses = self._losses([self.frames[f] for f in chosen])
            mask = (self.roles[:, chosen] == Role.TRAIN).to(frame_losses)
            # Divided by the batch's full size: a member that learns from fewer of its frames takes a smaller step.
            total = (frame_losses * mask).sum() / len(chosen)
            # A batch may lack an element; the gradient of its networks is zero then.
            gradients = torch.autograd.grad(total, self.parameters, materialize_grads=True)
            progress = (epoch + begin / len(order)) / self.settings.max_epochs
            rates = torch.from_numpy(schedule.rates(progress)).to(self.learning)
            adam.step(gradients, rates * self.learning)
            losses[:, chosen] = frame_losses.detach().double().cpu()
        roles = self.roles.cpu()
        return tuple(  # type: ignore[return-value]
            ((losses * (roles == role)).sum(1) / (roles == role).sum(1)).numpy() for role in (Role.TRAIN, Role.VALIDATE)
        )

    def _losses(self, frames: Sequence[CachedFrame]) -> Tensor:
        """(n_members, n_frames) losses."""
        s = self.settings
        columns = []
        for frame, energy, forces, virial in self._predictions(frames):
            loss = s.energy_weight * ((energy - frame.energy) / (frame.n_atoms * ENERGY_UNIT)).square()
            unit = FORCE_UNIT**2 + RELATIVE_FORCE_ERROR**2 * frame.forces.square().sum(1, keepdim=True)
            misfit = (forces - frame.forces[..., None]).square() / unit[..., None]
            loss = loss + s.force_weight * misfit.mean((0, 1))
            if virial is not None and frame.virial is not None:
                off = (virial - frame.virial) / (frame.n_atoms * VIRIAL_UNIT)
                loss = loss + s.stress_weight * off.square().mean(1)
            columns.append(loss)
        return torch.stack(columns, dim=1)

    def _predictions(self, frames: Sequence[CachedFrame]) -> list[tuple[CachedFrame, Tensor, Tensor, Tensor | None]]:
        """Of each frame: energies (M,), forces (n_atoms, 3, M), virials (M, 6) where the frame has one."""
        species = torch.cat([frame.species for frame in frames])
        energies, gradients = self.ensemble.atom_outputs(species, torch.cat([frame.features for frame in frames]))
        sizes = [frame.n_atoms for frame in frames]
        return [
            (
                frame,
                energy.sum(1),
                frame.predicted_forces(gradient),
                frame.predicted_virial(gradient) if frame.virial is not None else None,
            )
            for frame, energy, gradient in zip(
                frames, energies.split(sizes, dim=1), gradients.split(sizes, dim=1), strict=True
            )
        ]

    @torch.no_grad()
    def errors(self) -> dict[str, float]:
        """Root-mean-square errors of the members on their own folds; forces over components."""
        size = self.settings.batch_frames
        energy_squares, force_squares = [], []
        for begin in range(0, len(self.frames), size):
            for frame, energy, forces, _ in self._predictions(self.frames[begin : begin + size]):
                energy_squares.append(((energy - frame.energy) / frame.n_atoms).double().square().cpu())
                force_squares.append((forces - frame.forces[..., None]).double().square().mean((0, 1)).cpu())
        errors = {}
        for name, role in (("train", Role.TRAIN), ("validate", Role.VALIDATE), ("test", Role.TEST)):
            mask = (self.roles.cpu() == role).T
            if mask.any():
                errors[f"{name}_energy"] = float(torch.stack(energy_squares)[mask].mean().sqrt())
                errors[f"{name}_force"] = float(torch.stack(force_squares)[mask].mean().sqrt())
        return errors
