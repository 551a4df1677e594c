"""Fits all members of an ensemble at once to energies, forces and stresses.

The descent itself is in ``fit``; here it is begun, continued after an interruption, and members that failed are
trained again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import torch

from alpot.config import Potential, Training
from alpot.errors import PotentialError
from alpot.potential.baseline import Baseline
from alpot.potential.cross_validation import member_roles
from alpot.potential.descriptor import AevSettings
from alpot.potential.ensemble import Ensemble
from alpot.potential.fit import Epoch, Fit
from alpot.potential.fit_state import hash_of_fit, restore_descent, restore_ensemble, save_descent
from alpot.potential.frame_cache import FrameCache, LabelledFrame
from alpot.potential.residuals import Residuals
from alpot.potential.self_energies import fit_self_energies
from alpot.store.checkpoint import Checkpoint

_RETRAININGS = 2
#: Of the learning rate where a parent is continued. With the full rate errors on fresh frames are 3 % larger, and the
#: members' deviation is a fifth smaller relative to them (``reference_data/benchmarks/warm_start.json``).
_RATE_OF_CONTINUATION = 1.0 / 3.0


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
    residuals: Residuals | None = None,
    device: str = "cpu",
    on_epoch: Callable[[Epoch], None] | None = None,
    checkpoint: Checkpoint | None = None,
) -> TrainingResult:
    """Train an ensemble.

    With a checkpoint, the state is offered to it after each epoch, and what it holds of this same fit is continued.
    The result is that of an uninterrupted fit; on the CPU bitwise.

    Args:
        frames: labelled frames; folds are chosen from their keys.
        elements: chemical symbols.
        potential: architecture.
        settings: of the training.
        seed: of the weights and the order of the frames.
        parent: ensemble to begin from (``warm_start``), at a third of the learning rate; otherwise weights are drawn.
        residuals: of the baseline to which the potential is to be the correction: it is taken off the labels here, and
            given to the ensemble. None to learn the whole.
        device: where to train.
        on_epoch: called after each epoch that this call does.
        checkpoint: where the state is saved.

    Raises:
        PotentialError: there are fewer than two frames, a label is not finite, the baseline has no answer for one, the
            parent is of another make, or a member fails however often it is trained.
        Interrupted: the job is about to end; another call goes on from the checkpoint.
        StorageError: the checkpoint cannot be written.
    """
    _check(frames)
    if parent is not None:
        settings = settings.model_copy(update={"learning_rate": _RATE_OF_CONTINUATION * settings.learning_rate})
    baseline = None if residuals is None else residuals.baseline
    fit_hash, saved = "", None
    if checkpoint is not None:
        fit_hash = hash_of_fit(
            frames, elements, potential, settings, seed=seed, parent=parent, baseline=baseline, device=device
        )
        saved = checkpoint.load(fit_hash)
    frames = frames if residuals is None else residuals.of(frames)
    ensemble = _untrained(frames, elements, potential, parent, baseline)
    if saved is not None:
        restore_ensemble(saved, ensemble)
    cache = FrameCache.of(ensemble, frames)
    generator = torch.Generator().manual_seed(seed)
    if parent is None and saved is None:
        _scale_to_data(ensemble, cache)
        for networks in ensemble.networks:
            for member in range(ensemble.n_members):
                networks.initialize(member, generator)
    cache.scale(ensemble.feature_mean.numpy(), ensemble.feature_scale.numpy(), ensemble.energy_scale.numpy())
    roles = member_roles([frame.key for frame in frames], ensemble.n_members, settings)
    fit = Fit(ensemble, cache, roles, settings, generator, device)
    descent = fit.begin(range(ensemble.n_members)) if saved is None else restore_descent(saved, fit)
    while True:
        while not descent.is_over:
            line = fit.advance(descent)
            if on_epoch is not None:
                on_epoch(line)
            if checkpoint is not None:
                checkpoint.offer(fit_hash, len(fit.history), partial(save_descent, fit, descent))
        fit.arrive(descent)
        failed = fit.failed_members()
        if not failed or fit.n_descents > _RETRAININGS:
            break
        descent = fit.begin_again(failed)
    errors = fit.errors()
    if (diverged := fit.diverged_members()) or not np.isfinite(list(errors.values())).all():
        raise PotentialError(
            f"members {diverged} of the ensemble do not learn, even when trained {fit.n_descents} times (validation"
            f" losses {fit.best_loss.tolist()}); look for wrong labels, or lower training.learning_rate"
        )
    return TrainingResult(
        ensemble=ensemble.to(device), history=fit.history, errors=errors, retrained=sorted(set(fit.retrained))
    )


def _check(frames: Sequence[LabelledFrame]) -> None:
    if len(frames) < 2:
        raise PotentialError(f"training needs at least 2 labelled frames, got {len(frames)}")
    for frame in frames:
        stress = np.zeros(6) if frame.stress is None else frame.stress
        if not (np.isfinite(frame.energy) and np.isfinite(frame.forces).all() and np.isfinite(stress).all()):
            raise PotentialError(
                f"labelled frame {frame.key}: its energy, forces or stress are NaN or infinite; remove this label"
            )


def _untrained(
    frames: Sequence[LabelledFrame],
    elements: Sequence[str],
    potential: Potential,
    parent: Ensemble | None,
    baseline: Baseline | None,
) -> Ensemble:
    aev = AevSettings.from_config(potential.descriptor)
    ensemble = Ensemble(elements, aev, potential.members, potential.hidden, potential.activation)
    ensemble.baseline = baseline
    if parent is not None:
        _refuse_other_baseline(parent.baseline, baseline)
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


def _refuse_other_baseline(of_parent: Baseline | None, baseline: Baseline | None) -> None:
    known, asked = (None if one is None else one.identity for one in (of_parent, baseline))
    if known != asked:
        raise PotentialError(
            f"the parent cannot be continued: its baseline is {of_parent or 'none'} (level of theory {known}), what is"
            f" asked for is {baseline or 'none'} ({asked}); train from the beginning (warm_start = false)"
        )


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
