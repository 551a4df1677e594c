#!/usr/bin/env python3
"""Which committee knows best where it errs, and what it costs: calibration of force uncertainties on aluminum.

Committees of the same networks: by cross-validation (the product's and the paper's), by bootstrap, by other random
weights on the same data; and one network whose last layer has a posterior (LLPR: Bigi, Chong, Ceriotti and Grasselli,
Mach. Learn.: Sci. Technol. 5, 045018 (2024), arXiv:2403.02251), small or as dear to train as a committee.
Usage: ``scripts/bench_committee.py [--weights ../shared/ani-al] [--seeds 2] [--output FILE.json]``.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ase.build
import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from scipy.stats import spearmanr
from training_benchmarks.aluminum import RARE, Aluminum, kinds_of, rmse
from training_benchmarks.descent import fitted

from alpot.config import Training
from alpot.potential.batch import Batch
from alpot.potential.calculator import AlpotCalculator
from alpot.potential.calibration import ErrorBound, fit_bound
from alpot.potential.cross_validation import Role, member_roles
from alpot.potential.ensemble import Ensemble
from alpot.potential.fit import loss_targets
from alpot.potential.frame_cache import FrameCache
from alpot.potential.neighbors import NeighborSearch
from alpot.potential.schedule import LearningRates
from alpot.store.labels import Label

Array = NDArray[np.float64]
HIDDEN, MEMBERS = (48, 32), 8
#: One network that takes about as long to train as the committee.
WIDE = (128, 96, 32)
CONFIDENCE = 0.9
#: Prior precision of the last layer, relative to the mean curvature of its weights; that with the least pinball loss
#: on the calibration frames is taken.
PRIORS = (1e-8, 1e-6, 1e-4, 1e-2)


@dataclass(frozen=True, kw_only=True)
class Judged:
    """What a potential says of atoms: sigma (n_atoms,), error vectors (n_atoms, 3) eV/Å, and their frames."""

    sigma: Array
    errors: Array
    frames: NDArray[np.int64]

    @property
    def sizes(self) -> Array:
        """(n_atoms,) eV/Å."""
        return np.linalg.norm(self.errors, axis=1)

    def of(self, chosen: NDArray[np.bool_]) -> Judged:
        """Some frames, (n_frames,)."""
        atoms = chosen[self.frames]
        return Judged(sigma=self.sigma[atoms], errors=self.errors[atoms], frames=self.frames[atoms])


def counts_of(committee: str, labels: Sequence[Label], settings: Training, rng: np.random.Generator) -> Array:
    """(MEMBERS, n_frames) how often each frame counts; bootstrap by Poisson numbers (Oza and Russell, 2001)."""
    if committee == "cross-validation":
        return np.array(member_roles([label.key for label in labels], MEMBERS, settings) == Role.TRAIN, dtype=float)
    if committee == "bootstrap":
        return rng.poisson(1.0, (MEMBERS, len(labels))).astype(float)
    return np.ones((MEMBERS, len(labels)))


def evaluated(ensemble: Ensemble, labels: Sequence[Label]) -> tuple[Array, Array, Array, NDArray[np.int64]]:
    """Atom energies (M, n_atoms), energies (M, n_frames), forces (M, n_atoms, 3) and the atoms' frames."""
    batch = Batch.from_atoms([label.atoms for label in labels])
    result = ensemble.evaluate(batch, NeighborSearch(ensemble.cutoff).pairs(batch))
    return result.atom_energies, result.energies, result.forces, np.repeat(np.arange(len(labels)), batch.counts)


def judged_by_members(ensemble: Ensemble, labels: Sequence[Label]) -> Judged:
    """Sigma is the norm of the standard deviations of the members' force components."""
    _, _, forces, frames = evaluated(ensemble, labels)
    truth = np.concatenate([label.forces for label in labels])
    return Judged(
        sigma=np.linalg.norm(forces.std(axis=0, ddof=1), axis=1), errors=forces.mean(axis=0) - truth, frames=frames
    )


def with_last_layers(ensemble: Ensemble, layers: Array) -> Ensemble:
    """An ensemble whose members share all layers of the one member but the last: layers (K, width + 1), bias last."""
    heads = Ensemble(ensemble.elements, ensemble.aev, len(layers), ensemble.hidden, ensemble.activation)
    networks = {name for name, _ in ensemble.named_parameters()}
    state = ensemble.state_dict()
    heads.load_state_dict(
        {name: t.expand(len(layers), *t.shape[1:]) if name in networks else t for name, t in state.items()}
    )
    with torch.no_grad():
        heads.networks[0].weights[-1][:] = torch.from_numpy(layers[:, :-1, None])
        heads.networks[0].biases[-1][:] = torch.from_numpy(layers[:, -1:, None])
    heads.self_energies = ensemble.self_energies.copy()
    return heads


@dataclass(frozen=True, kw_only=True)
class Observed:
    """Frames through one network whose last layer has a posterior.

    Attributes:
        features: (width, n_atoms) φ, what the last layer sees; 1 for its bias.
        slopes: (width, n_atoms, 3) forces of Σ φ over the atoms of the frame.
        errors, frames: see ``Judged``.
    """

    features: Array
    slopes: Array
    errors: Array
    frames: NDArray[np.int64]

    def judged(self, covariance: Array) -> Judged:
        """Exact: sigma is the norm of the deviations of the force components."""
        variance = np.einsum("knx,kl,lnx->n", self.slopes, covariance, self.slopes, optimize=True)
        return Judged(sigma=np.sqrt(variance), errors=self.errors, frames=self.frames)

    def energy_score(self, covariance: Array) -> Array:
        """(n_atoms,) sqrt(φᵀ A⁻¹ φ), the deviation of an atom's energy: it needs no slopes, and is not a force."""
        return np.sqrt(np.einsum("kn,kl,ln->n", self.features, covariance, self.features, optimize=True))


class LastLayer:
    """The posterior of the last layer of one network, from the curvature of its training loss.

    Args:
        ensemble: with one member.
        labels: that it was trained on.
        settings: of the training; give the weights of energies and forces.
    """

    def __init__(self, ensemble: Ensemble, labels: Sequence[Label], settings: Training) -> None:
        self.ensemble = ensemble
        self.width = ensemble.hidden[-1] + 1
        features = with_last_layers(ensemble, np.eye(self.width))
        features.self_energies = np.zeros(1)
        self.features = features
        _, energies, forces, _ = evaluated(features, labels)
        targets = loss_targets(FrameCache.of(ensemble, labels, memory_share=0.0), settings)
        growth = LearningRates(settings, 1).energy_factor(1.0)
        by_energy = energies * np.sqrt(growth * targets.energy_weights)
        by_force = (forces * np.sqrt(targets.force_weights)[None, :, None]).reshape(self.width, -1)
        self.curvature: Array = by_energy @ by_energy.T + by_force @ by_force.T

    def covariance(self, prior: float) -> Array:
        """(width, width) up to a factor, which calibration finds."""
        mean = np.trace(self.curvature) / self.width
        return np.linalg.inv(self.curvature + prior * mean * np.eye(self.width))

    def members(self, prior: float, rng: np.random.Generator) -> Ensemble:
        """As many members as a committee has, drawn from the posterior."""
        networks = self.ensemble.networks[0]
        last = np.append(networks.weights[-1].detach().numpy().ravel(), networks.biases[-1].detach().numpy().ravel())
        drawn = rng.multivariate_normal(np.zeros(self.width), self.covariance(prior), MEMBERS, method="cholesky")
        return with_last_layers(self.ensemble, last + drawn - drawn.mean(axis=0))

    def observed(self, labels: Sequence[Label]) -> Observed:
        """What frames look like to the last layer."""
        energies, _, slopes, frames = evaluated(self.features, labels)
        _, _, forces, _ = evaluated(self.ensemble, labels)
        errors = forces[0] - np.concatenate([label.forces for label in labels])
        return Observed(features=energies, slopes=slopes, errors=errors, frames=frames)


def bound_of(judged: Judged) -> ErrorBound:
    """From calibration frames."""
    return fit_bound(judged.sigma, judged.sizes, judged.frames, CONFIDENCE)


def pinball(bound: ErrorBound, judged: Judged) -> float:
    """Loss of the bound as a quantile of the error, eV/Å, averaged over atoms."""
    misses = judged.sizes - bound.of(judged.sigma)
    return float(np.maximum(CONFIDENCE * misses, (CONFIDENCE - 1.0) * misses).mean())


def row_of(calibration: Judged, test: Judged, kinds: NDArray[np.str_]) -> dict[str, Any]:
    """How well sigma, calibrated on some frames, tells the errors of others; those of rare kinds apart."""
    bound, is_usual = bound_of(calibration), kinds == "usual"
    usual = test.of(is_usual)
    deviation = calibration.sigma + bound.floor
    scale = np.sqrt(np.mean(np.square(calibration.sizes / deviation)) / 3.0)
    variance = np.square(scale * (usual.sigma + bound.floor))
    likelihood = 0.5 * np.log(2.0 * np.pi * variance) + np.square(usual.sizes) / (6.0 * variance)
    worst = [(usual.sigma[usual.frames == f].max(), usual.sizes[usual.frames == f].max()) for f in set(usual.frames)]
    rare = {kind: test.of(kinds == kind) for kind in RARE}
    return {
        "force_rmse": rmse(usual.errors),
        "spearman_atoms": float(spearmanr(usual.sigma, usual.sizes).statistic),
        "spearman_worst_atoms": float(spearmanr(*np.array(worst).T).statistic),
        "slope": bound.slope,
        "floor": bound.floor,
        "coverage": bound.coverage(usual.sigma, usual.sizes),
        "mean_bound": float(bound.of(usual.sigma).mean()),
        "pinball": pinball(bound, usual),
        "negative_log_likelihood": float(likelihood.mean()),
        "spearman_all": float(spearmanr(test.sigma, test.sizes).statistic),
        "rare_force_rmse": {kind: rmse(own.errors) for kind, own in rare.items()},
        "rare_coverage": {kind: bound.coverage(own.sigma, own.sizes) for kind, own in rare.items()},
    }


def step_ms(ensemble: Ensemble, *, mean_only: bool) -> float:
    """Processor time of a force call on 108 moving atoms, ms."""
    atoms = ase.build.bulk("Al", a=4.05, cubic=True).repeat(3)
    atoms.rattle(0.1, seed=1)
    calculator, times = AlpotCalculator(ensemble, mean_forces_only=mean_only), []
    for call in range(25):
        atoms.positions += 1e-3 * (-1.0) ** call
        begin = time.process_time()
        calculator.get_property("forces", atoms)
        times.append(time.process_time() - begin)
    return 1e3 * float(np.median(times))


def measure(
    labels: Sequence[Label], calibration: Sequence[Label], test: Sequence[Label], kinds: NDArray[np.str_],
    settings: Training, seed: int,
) -> list[dict[str, Any]]:  # fmt: skip
    """All committees of one seed."""
    rng, rows = np.random.default_rng(seed), []

    def add(name: str, train_s: float, judged: tuple[Judged, Judged], md_ms: float, **more: float) -> None:
        rows.append(
            {"seed": seed, "committee": name, "train_cpu_s": train_s, "step_ms": md_ms}
            | row_of(*judged, kinds) | more
        )  # fmt: skip
        print(json.dumps(rows[-1]), flush=True)

    for name in ("cross-validation", "bootstrap", "other random weights"):
        begin = time.process_time()
        ensemble = fitted(labels, HIDDEN, counts_of(name, labels, settings, rng), settings, seed)
        seconds = time.process_time() - begin
        judged = judged_by_members(ensemble, calibration), judged_by_members(ensemble, test)
        add(name, seconds, judged, step_ms(ensemble, mean_only=False))
    for name, hidden in (("one network", HIDDEN), ("one wide network", WIDE)):
        begin = time.process_time()
        ensemble = fitted(labels, hidden, np.ones((1, len(labels))), settings, seed)
        last = LastLayer(ensemble, labels, settings)
        seconds = time.process_time() - begin
        near, fresh = last.observed(calibration), last.observed(test)
        trials = [near.judged(last.covariance(prior)) for prior in PRIORS]
        prior = PRIORS[int(np.argmin([pinball(bound_of(trial), trial) for trial in trials]))]
        covariance = last.covariance(prior)
        known, unknown, score = near.judged(covariance), fresh.judged(covariance), fresh.energy_score(covariance)
        is_usual = kinds[unknown.frames] == "usual"
        cheap = {
            "prior": prior,
            "spearman_of_energy_score": float(spearmanr(score[is_usual], unknown.sizes[is_usual]).statistic),
            "spearman_of_energy_score_all": float(spearmanr(score, unknown.sizes).statistic),
            "step_without_forces_std_ms": step_ms(ensemble, mean_only=True),
        }
        add(f"{name}, last layer exact", seconds, (known, unknown), step_ms(last.features, mean_only=False), **cheap)
        heads = last.members(prior, rng)
        judged = judged_by_members(heads, calibration), judged_by_members(heads, test)
        add(f"{name}, {MEMBERS} last layers", seconds, judged, step_ms(heads, mean_only=False))
    return rows


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", type=Path, default=Path("../shared/ani-al"), help="folder of ANI-Al")
    parser.add_argument("--labels", type=int, default=150, help="to train on")
    parser.add_argument("--epochs", type=int, default=60, help="passes through the data")
    parser.add_argument("--calibration", type=int, default=60, help="frames to calibrate with")
    parser.add_argument("--test", type=int, default=80, help="fresh frames of all kinds; 8 of each rare kind besides")
    parser.add_argument("--seeds", type=int, default=2, help="sets of labels and weights; the fresh frames stay")
    parser.add_argument("--output", type=Path, help="write all figures to this file as JSON")
    options = parser.parse_args()
    aluminum, rng, rows = Aluminum(options.weights), np.random.default_rng(10_000), []
    settings = Training(max_epochs=options.epochs, learning_rate=4e-3)
    calibration, test = aluminum.labels(options.calibration, rng), aluminum.labels(options.test, rng)
    far = [aluminum.label_of(kind, rng) for kind in RARE for _ in range(8)]
    kinds = np.concatenate([np.full(len(test), "usual", dtype="<U20"), kinds_of(far)])
    for seed in range(options.seeds):
        labels = aluminum.labels(options.labels, np.random.default_rng(seed))
        rows += measure(labels, calibration, [*test, *far], kinds, settings, seed)
    table = Table(title=f"{options.labels} labels, {options.epochs} epochs; medians over {options.seeds} seeds")
    columns = {
        "force_rmse": "RMSE eV/Å", "spearman_atoms": "rank, atoms", "spearman_worst_atoms": "rank, worst",
        "slope": "slope",
        "coverage": "coverage", "mean_bound": "bound eV/Å", "pinball": "pinball eV/Å", "negative_log_likelihood": "NLL",
        "train_cpu_s": "fit and posterior s", "step_ms": "step ms",
    }  # fmt: skip
    for heading in ("committee", *columns.values()):
        table.add_column(heading, justify="right")
    for name in dict.fromkeys(row["committee"] for row in rows):
        own = [row for row in rows if row["committee"] == name]
        table.add_row(name, *(f"{np.median([row[key] for row in own]):.3g}" for key in columns))
    Console(width=170).print(table)
    if options.output:
        facts = {key: value for key, value in vars(options).items() if key not in ("weights", "output")}
        facts |= {"hidden": HIDDEN, "wide": WIDE, "members": MEMBERS, "training": settings.model_dump(mode="json")}
        options.output.write_text(json.dumps({"settings": facts, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
