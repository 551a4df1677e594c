"""A fit in which each frame counts as often, and each atom as much, as one likes."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from alpot.config import Potential, Training
from alpot.potential.ensemble import Ensemble
from alpot.potential.ensemble_gradient import CpuGradient
from alpot.potential.fit import loss_targets
from alpot.potential.frame_cache import FrameCache
from alpot.potential.schedule import LearningRates
from alpot.potential.training import train
from alpot.store.labels import Label

Array = NDArray[np.float64]


def fitted(
    labels: Sequence[Label],
    hidden: Sequence[int],
    counts: Array,
    settings: Training,
    seed: int,
    weights_of: Callable[[FrameCache], Array] | None = None,
) -> Ensemble:
    """As ``training.train`` fits with the one-cycle schedule.

    Args:
        labels: of aluminum.
        hidden: widths of the hidden layers.
        counts: (n_members, n_frames) how often each frame counts for each member.
        settings: of the training.
        seed: of weights and order.
        weights_of: (n_atoms,) of standardised frames; factors on the atoms' force errors, and by their mean on the
            errors of a frame's energy and virial.
    """
    potential = Potential(hidden=tuple(hidden)).model_copy(update={"members": len(counts)})
    brief = settings.model_copy(update={"max_epochs": 1})
    ensemble = train(labels, ["Al"], potential, brief, seed=seed).ensemble  # for its scales and self energies
    generator = torch.Generator().manual_seed(seed)
    for member in range(len(counts)):
        ensemble.networks[0].initialize(member, generator)
    cache = FrameCache.of(ensemble, labels)
    cache.scale(ensemble.feature_mean.numpy(), ensemble.feature_scale.numpy(), ensemble.energy_scale.numpy())
    targets = loss_targets(cache, settings)
    if weights_of is not None:
        weights = weights_of(cache)
        of_frames = np.add.reduceat(weights, cache.offsets[:-1]) / np.diff(cache.offsets)
        targets = targets._replace(
            energy_weights=targets.energy_weights * of_frames,
            force_weights=targets.force_weights * weights.astype(targets.force_weights.dtype),
            virial_weights=targets.virial_weights * of_frames,
        )
    engine = CpuGradient(ensemble, cache, targets, range(len(counts)))
    schedule, size, n = LearningRates(settings, len(counts)), settings.batch_frames, len(labels)
    begins = np.arange(0, n, size)
    for epoch in range(settings.max_epochs):
        order = torch.randperm(n, generator=generator).numpy()
        growth = schedule.energy_factor(epoch / settings.max_epochs)
        rates = np.array([schedule.rates((epoch + begin / n) / settings.max_epochs) for begin in begins])
        shares = counts[:, order] / np.repeat(np.minimum(size, n - begins), size)[:n]
        engine.descend(order, size, shares, rates, targets._replace(energy_weights=growth * targets.energy_weights))
    engine.give(engine.parameters)
    return ensemble
