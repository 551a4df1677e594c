"""One epoch of training on energies and forces: alpot's ``train`` against torchani, member by member."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
import torch
from ase import Atoms, units
from ase.calculators.emt import EMT
from numpy.typing import NDArray

from alpot.config import Potential, Training
from alpot.potential.training import Epoch, train
from engine_benchmarks.frames import rattled
from engine_benchmarks.inference import per_atom
from engine_benchmarks.isolation import answer
from engine_benchmarks.measuring import Ratio, Row, Timings
from engine_benchmarks.potentials import N_MEMBERS, TorchaniSide, difference, load_ensemble

_BATCH = 8


@dataclass(frozen=True)
class _Label:
    key: str
    atoms: Atoms
    energy: float
    forces: NDArray[np.float64]
    stress: None = None


class _Stopwatch:
    """Called by ``train`` after each epoch: times the epoch, then a batch of torchani's, then lets alpot go on."""

    def __init__(self, torchani: TorchaniSide, labels: list[_Label]) -> None:
        self._models = torchani.separate_models
        self._optimizers = [torch.optim.AdamW(model.parameters(), lr=1e-4) for model in self._models]
        self._labels = labels
        self.first_epoch_s = 0.0
        self.alpot, self.torchani = Timings(), Timings()
        self._train_batch(0)  # warm-up
        self._begin()

    def _begin(self) -> None:
        self._cpu, self._wall = time.process_time(), time.perf_counter()

    def __call__(self, epoch: Epoch) -> None:
        cpu, wall = time.process_time() - self._cpu, time.perf_counter() - self._wall
        if self.first_epoch_s:
            self.alpot.add(cpu=cpu, wall=wall)
            with self.torchani.running():
                self._train_batch(epoch.epoch % N_MEMBERS)
        else:
            self.first_epoch_s = wall
        self._begin()

    def _train_batch(self, member: int) -> None:
        """One step of one member on the first frames: forces by autograd, and their gradient by a second pass."""
        model, optimizer = self._models[member], self._optimizers[member]
        optimizer.zero_grad()
        for label in self._labels[:_BATCH]:
            positions = torch.tensor(label.atoms.positions, dtype=torch.float32)[None].requires_grad_()
            cell = torch.tensor(label.atoms.cell.array, dtype=torch.float32)
            species, pbc = torch.from_numpy(label.atoms.numbers)[None], torch.from_numpy(label.atoms.pbc)
            energy = model((species, positions), cell, pbc).energies.sum() * units.Hartree
            (gradient,) = torch.autograd.grad(energy, positions, create_graph=True)
            target = torch.tensor(label.forces, dtype=torch.float32)
            loss = ((energy - label.energy) / len(label.atoms) / 0.05).square()
            loss = loss + ((-gradient[0] - target) / 0.1).square().mean()
            (loss / _BATCH).backward()
        optimizer.step()


def measure(weights: str | None, n_frames: int, epochs: int) -> list[Row]:
    """The ratio, and what alpot does once before the first epoch.

    Every frame is a block of its own and one of them validates, so that both sides train on practically all frames.
    torchani's side is one batch of one member in turn, multiplied by the numbers of batches and members.
    """
    what = f"training epoch, 8 members, energy + forces, {n_frames} × 108 atoms"
    labels = []
    for seed in range(n_frames):
        atoms = rattled(3, seed)
        atoms.calc = EMT()
        labels.append(_Label(str(seed), atoms, atoms.get_potential_energy(), atoms.get_forces()))
        atoms.calc = None
    ensemble = load_ensemble(weights)
    if problem := difference(ensemble, TorchaniSide(weights, ensemble, torch.float64), labels[0].atoms):
        return [Row(what=what, malloc="tuned", reason=problem)]
    settings = Training(
        batch_frames=_BATCH, max_epochs=epochs + 1, blocks=n_frames, validation_blocks=1, test_blocks=0, stress_weight=0
    )
    stopwatch = _Stopwatch(TorchaniSide(weights, ensemble), labels)
    train(labels, ("Al",), Potential(members=N_MEMBERS), settings, seed=0, on_epoch=stopwatch)
    n_atoms, n_batches = n_frames * 108, n_frames / _BATCH
    per_epoch = np.median(stopwatch.alpot.wall)
    return [
        Row(
            what=f"{what} / torchani member by member (a batch of {_BATCH} frames, scaled)",
            malloc="tuned",
            unit="µs/atom/epoch",
            ours=per_atom(stopwatch.alpot, n_atoms),
            other=per_atom(stopwatch.torchani, _BATCH * 108) * N_MEMBERS,
            ratio=Ratio.of(stopwatch.alpot, stopwatch.torchani, scale=N_MEMBERS * n_batches),
            must=40.0,
            aim=80.0,
        ),
        Row(
            what="training: once, before the first epoch (descriptor and derivatives)",
            malloc="tuned",
            unit="µs/atom",
            ours=float(stopwatch.first_epoch_s - per_epoch) / n_atoms * 1e6,
        ),
    ]


if __name__ == "__main__":
    answer(measure)
