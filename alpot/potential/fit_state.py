"""A fit between two epochs as arrays and facts, for ``store.checkpoint``; features are computed again, not saved."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from alpot import __version__
from alpot.config import Potential, Training
from alpot.potential.baseline import Baseline
from alpot.potential.ensemble import Ensemble
from alpot.potential.fit import Descent, Epoch, Fit
from alpot.potential.frame_cache import LabelledFrame
from alpot.store.checkpoint import Saved

#: Raised by hand when the same fit would take another course, or its state is saved in another way.
_VERSION = 1
#: Names of the ensemble's own tensors begin so.
_ENSEMBLE = "ensemble."
_LEARNING = ("training_loss", "validation_loss", "learning_rate")


def hash_of_fit(
    frames: Sequence[LabelledFrame],
    elements: Sequence[str],
    potential: Potential,
    settings: Training,
    *,
    seed: int,
    parent: Ensemble | None,
    baseline: Baseline | None = None,
    device: str,
) -> str:
    """SHA-256 of all that a fit depends on; arguments as of ``training.train``, and its baseline."""
    digest = hashlib.sha256()

    def add(*values: ArrayLike) -> None:
        for value in values:
            array = np.ascontiguousarray(value)
            digest.update(f"{array.dtype.str}{array.shape}".encode() + array.tobytes())

    facts = {
        "versions": [__version__, _VERSION],
        "elements": list(elements),
        "potential": potential.model_dump(mode="json"),
        "training": settings.model_dump(mode="json"),
        "seed": seed,
        "device": device.partition(":")[0],
    }
    if baseline is not None:
        facts["baseline"] = baseline.identity
    digest.update(json.dumps(facts, sort_keys=True).encode())
    for frame in frames:
        atoms, stress = frame.atoms, () if frame.stress is None else frame.stress
        add(frame.key, atoms.numbers, atoms.positions, atoms.cell.array, atoms.pbc, frame.energy, frame.forces, stress)
    if parent is not None:
        add(parent.self_energies, *_arrays(parent.state_dict()).values())
    return digest.hexdigest()


def save_descent(fit: Fit, descent: Descent) -> Saved:
    """The state of a fit after any epoch of its present descent."""
    engine, schedule = descent.engine, descent.schedule
    history = [[getattr(line, name) for name in _LEARNING] for line in fit.history]
    arrays: dict[str, NDArray[np.generic]] = {
        **_arrays({_ENSEMBLE + name: tensor for name, tensor in fit.ensemble.state_dict().items()}),
        **_arrays(_tensors(descent)),
        "self_energies": fit.ensemble.self_energies,
        "rates": schedule.plateau,
        "waited": schedule.waited,
        "best": schedule.best,
        "training_loss": fit.training_loss,
        "best_loss": fit.best_loss,
        "generator": fit.generator.get_state().numpy(),
        "epochs": np.array([line.epoch for line in fit.history]),
        "history": np.array(history),
    }
    facts = {
        "members": descent.members,
        "epoch": descent.epoch,
        "steps": engine.adam.steps,
        "n_descents": fit.n_descents,
        "retrained": fit.retrained,
    }
    return Saved(arrays, facts)


def restore_ensemble(saved: Saved, ensemble: Ensemble) -> None:
    """Give an ensemble the saved weights, scales and self energies."""
    names = [name for name in saved.arrays if name.startswith(_ENSEMBLE)]
    ensemble.load_state_dict({name.removeprefix(_ENSEMBLE): torch.from_numpy(saved.arrays[name]) for name in names})
    ensemble.self_energies = saved.arrays["self_energies"]


def restore_descent(saved: Saved, fit: Fit) -> Descent:
    """Continue where ``save_descent`` was; the fit is new, and its ensemble was restored."""
    arrays, facts = saved.arrays, saved.facts
    descent = fit.descent_of(facts["members"])
    for name, tensor in _tensors(descent).items():
        tensor.copy_(torch.from_numpy(arrays[name]))
    descent.engine.adam.steps, descent.epoch = facts["steps"], facts["epoch"]
    schedule = descent.schedule
    schedule.plateau, schedule.waited, schedule.best = arrays["rates"], arrays["waited"], arrays["best"]
    fit.training_loss, fit.best_loss = arrays["training_loss"], arrays["best_loss"]
    fit.n_descents, fit.retrained = facts["n_descents"], list(facts["retrained"])
    # A copy, because torch crashes on a state that is not aligned in memory.
    fit.generator.set_state(torch.from_numpy(arrays["generator"]).clone())
    fit.history = [
        Epoch(epoch, **dict(zip(_LEARNING, losses, strict=True)))
        for epoch, losses in zip(arrays["epochs"].tolist(), arrays["history"].tolist(), strict=True)
    ]
    return descent


def _tensors(descent: Descent) -> dict[str, Tensor]:
    """What changes in place, wherever it lives."""
    engine = descent.engine
    return {
        "parameters": engine.parameters,
        "first_moments": engine.adam.first,
        "second_moments": engine.adam.second,
        "kept": descent.kept,
    }


def _arrays(tensors: Mapping[str, Tensor]) -> dict[str, NDArray[np.generic]]:
    return {name: tensor.detach().cpu().numpy() for name, tensor in tensors.items()}
