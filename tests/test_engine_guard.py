"""Guards the engine against becoming slow again, by ratios of processor times inside one process.

Seconds would test the machine. Here both sides do the same work in turn, and each counts with the best of its repeats:
other processes can only add to a measurement. A limit is less than half of the smallest ratio that was measured when
it was set (on a quiet and a busy machine, with default and tuned malloc, which matters to plain torch), so it speaks up
when a kernel loses its vectorisation or nothing is cached any more, not for some per cent.
"""

import time
from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk

from alpot.config import Descriptor, Potential, Training
from alpot.potential.aev_cpu import CpuKernels
from alpot.potential.aev_reference import ReferenceKernels
from alpot.potential.batch import Batch
from alpot.potential.descriptor import AevSettings
from alpot.potential.ensemble import Ensemble
from alpot.potential.kernels import Geometry, Kernels
from alpot.potential.neighbors import NeighborSearch
from alpot.potential.training import train

AEV = AevSettings.from_config(Descriptor(radial_eta=43.9, angular_eta=6.5, angular_zeta=69.4))
MEMBERS = 8
REPEATS = 5


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Processor time counts all threads, those that wait for work too."""
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(n_threads)


def crystal(repetitions: int, seed: int = 0) -> Atoms:
    atoms = bulk("Al", cubic=True).repeat(repetitions)
    atoms.rattle(0.1, seed=seed)
    return atoms


def geometry_of(atoms: Atoms) -> Geometry:
    batch = Batch.from_atoms([atoms])
    pairs = NeighborSearch(AEV.radial_cutoff).pairs(batch)
    return Geometry.of(batch, torch.zeros(len(atoms), dtype=torch.int32), pairs, "cpu")


def processor_time(call: Callable[[], object]) -> float:
    begin = time.process_time()
    call()
    return time.process_time() - begin


@pytest.mark.parametrize(
    ("n_energies", "limit"),
    [
        pytest.param(1, 4.0, id="mean"),  # measured: 9.2 to 13
        pytest.param(MEMBERS, 6.0, id="members"),  # measured: 14 to 27
    ],
)
def test_cpu_kernels_against_plain_torch(n_energies, limit):
    """Descriptor, and forces of one or of all members from it, of 108 atoms in float32."""
    geometry = geometry_of(crystal(3))
    n_atoms = geometry.n_atoms
    generator = torch.Generator().manual_seed(0)
    weights = torch.randn((n_atoms, n_energies, AEV.n_features(1)), generator=generator)
    forces = torch.zeros((n_atoms, n_energies, 3), dtype=torch.float64)
    virials = torch.zeros((1, n_energies, 3, 3), dtype=torch.float64)

    def evaluate(kernels: Kernels) -> None:
        kernels.environments(geometry, 0, n_atoms).add_forces(weights, forces, virials)

    sides = [kind(AEV, 1, torch.float32) for kind in (CpuKernels, ReferenceKernels)]
    for kernels in sides:
        evaluate(kernels)  # compiles
    times = np.array([[processor_time(lambda k=kernels: evaluate(k)) for kernels in sides] for _ in range(REPEATS)])
    cpu, reference = times.min(axis=0)
    assert reference / cpu >= limit


class Label:
    """A labelled crystal of 32 atoms; how wrong the label is does not change the work."""

    stress = None

    def __init__(self, number: int) -> None:
        self.key, self.atoms = str(number), crystal(2, seed=number)
        rng = np.random.default_rng(number)
        self.energy, self.forces = rng.normal(), rng.normal(size=(32, 3))


def test_training_step_against_autograd():
    """An epoch of all members, against a double backward pass through descriptor and networks, of all at once too."""
    potential = Potential(members=MEMBERS)
    labels = [Label(number) for number in range(16)]
    ensemble = Ensemble(("Al",), AEV, MEMBERS, potential.hidden, potential.activation)
    for networks in ensemble.networks:
        for member in range(MEMBERS):
            networks.initialize(member, torch.Generator().manual_seed(member))
    parameters = [p for networks in ensemble.networks for p in networks.parameters()]
    geometry = geometry_of(labels[0].atoms)

    def double_backward() -> None:
        positions = geometry.positions.clone().requires_grad_()
        moved = Geometry(**{**vars(geometry), "positions": positions})
        environments = ReferenceKernels(AEV, 1, torch.float32).environments(moved, 0, geometry.n_atoms)
        energies, _ = ensemble.networks[0](environments.features)
        loss = energies.sum(1).square().sum()
        for energy in energies.sum(1):
            (gradient,) = torch.autograd.grad(energy, positions, create_graph=True)
            loss = loss + gradient.square().sum()
        torch.autograd.grad(loss, parameters)

    epochs, steps = [], []
    begin = time.process_time()

    def after_epoch(_) -> None:
        nonlocal begin
        epochs.append(time.process_time() - begin)
        steps.append(processor_time(double_backward))
        begin = time.process_time()

    # Each frame is a block of its own: practically all are trained on.
    settings = Training(max_epochs=REPEATS, blocks=len(labels), validation_blocks=1, test_blocks=0)
    train(labels, ("Al",), potential, settings, seed=0, on_epoch=after_epoch)
    assert len(labels) * min(steps) / min(epochs) >= 30.0  # measured: 83 to 85
