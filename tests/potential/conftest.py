import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.data import atomic_numbers
from numpy.typing import NDArray

from alpot.potential.descriptor import AevSettings
from alpot.potential.ensemble import Ensemble

os.environ.setdefault("TORCHANI_NO_WARN_EXTENSIONS", "1")

#: Few and broad symmetry functions: fast, and smooth enough for finite differences.
SMALL = AevSettings(
    radial_cutoff=5.0,
    radial_eta=8.0,
    radial_shifts=(1.0, 1.8, 2.6, 3.4, 4.2),
    angular_cutoff=3.8,
    angular_eta=4.0,
    angular_zeta=8.0,
    angular_shifts=(1.0, 1.9, 2.8),
    angle_sections=(0.4, 1.2, 2.0, 2.8),
)
ANI_AL = Path(__file__).parents[3] / "shared" / "ani-al"


@pytest.fixture(scope="session")
def small_aev() -> AevSettings:
    return SMALL


@pytest.fixture(scope="session")
def ani_al() -> Path:
    """Folder of the published potential; it has no licence, so it is not part of the project."""
    if not ANI_AL.is_dir():
        pytest.skip("the published ANI-Al weights are not beside the project (../shared/ani-al)")
    return ANI_AL


@pytest.fixture(scope="session")
def make_ensemble() -> Callable[..., Ensemble]:
    """Random ensembles with nothing left at its default: scaling, shifts, biases."""

    def make(
        elements: Sequence[str] = ("Al",),
        *,
        members: int = 3,
        hidden: Sequence[int] = (10, 7),
        activation: str = "silu",
        aev: AevSettings = SMALL,
        dtype: torch.dtype = torch.float64,
        seed: int = 0,
    ) -> Ensemble:
        ensemble = Ensemble(elements, aev, members, hidden, activation)
        generator = torch.Generator().manual_seed(seed)
        for networks in ensemble.networks:
            for member in range(members):
                networks.initialize(member, generator)
            with torch.no_grad():
                for bias in networks.biases:
                    bias.normal_(0.0, 0.2, generator=generator)
        ensemble.feature_mean.uniform_(0.0, 0.3, generator=generator)
        ensemble.feature_scale.uniform_(0.3, 1.0, generator=generator)
        ensemble.energy_scale.uniform_(0.3, 0.6, generator=generator)
        ensemble.self_energies = np.random.default_rng(seed).uniform(-5.0, 5.0, len(elements))
        return ensemble.to(dtype)

    return make


@pytest.fixture(scope="session")
def make_frame() -> Callable[..., Atoms]:
    """Random atoms, none closer than 1.5 Å in its own cell, in a triclinic cell."""

    def make(
        n_atoms: int,
        elements: Sequence[str] = ("Al",),
        *,
        seed: int = 0,
        pbc: bool | Sequence[bool] = True,
        volume_per_atom: float = 16.0,
        skew: float = 0.2,
    ) -> Atoms:
        rng = np.random.default_rng(seed)
        edge = (n_atoms * volume_per_atom) ** (1 / 3)
        cell = edge * (np.eye(3) + skew * rng.uniform(-1.0, 1.0, (3, 3)))
        atoms = Atoms(cell=cell, pbc=pbc)
        for _ in range(n_atoms):
            for _ in range(1000):
                trial = atoms + Atoms([rng.choice(elements)], [rng.random(3) @ cell])
                if len(trial) == 1 or trial.get_distances(-1, range(len(atoms)), mic=True).min() > 1.5:
                    break
            atoms = trial
        return atoms

    return make


@dataclass(frozen=True)
class Frame:
    """A labelled frame without a store."""

    key: str
    atoms: Atoms
    energy: float
    forces: NDArray[np.float64]
    stress: NDArray[np.float64] | None


@pytest.fixture(scope="session")
def make_label() -> Callable[..., Frame]:
    """Labels a frame with random numbers, or with a calculator."""

    def make(atoms: Atoms, *, calculator=None, seed: int = 0, stress: bool = True) -> Frame:
        atoms = atoms.copy()
        if calculator is None:
            rng = np.random.default_rng(seed)
            values = rng.normal(), rng.normal(size=(len(atoms), 3)), rng.normal(scale=0.01, size=6)
        else:
            atoms.calc = calculator
            values = atoms.get_potential_energy(), atoms.get_forces(), atoms.get_stress() if stress else None
        atoms.calc = None
        return Frame(f"{atoms.symbols}-{seed}", atoms, values[0], values[1], values[2] if stress else None)

    return make


def species_of(atoms: Atoms, elements: Sequence[str]) -> torch.Tensor:
    """(n_atoms,) element indices, found the slow way."""
    numbers = [atomic_numbers[symbol] for symbol in elements]
    return torch.tensor([numbers.index(n) for n in atoms.numbers])


@pytest.fixture(scope="session")
def find_species() -> Callable[..., torch.Tensor]:
    return species_of
