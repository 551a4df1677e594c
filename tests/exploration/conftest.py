from collections.abc import Callable

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk

from alpot.config import Exploration
from alpot.potential.descriptor import AevSettings
from alpot.potential.ensemble import Ensemble


@pytest.fixture(scope="session")
def make_ensemble() -> Callable[..., Ensemble]:
    """Random networks of a given strength (eV), whose members differ by a given share of it."""

    def make(*, strength: float = 0.01, spread: float = 0.1, elements=("Al",), dtype=torch.float64) -> Ensemble:
        aev = AevSettings(
            radial_cutoff=4.5,
            radial_eta=4.0,
            radial_shifts=(1.5, 2.5, 3.5),
            angular_cutoff=3.5,
            angular_eta=4.0,
            angular_zeta=8.0,
            angular_shifts=(1.5, 2.5),
            angle_sections=(0.5, 1.5, 2.5),
        )
        ensemble = Ensemble(elements, aev, 3, (6,), "silu")
        generator = torch.Generator().manual_seed(0)
        for networks in ensemble.networks:
            for member in range(3):
                networks.initialize(member, generator)
            with torch.no_grad():
                for parameter in networks.parameters():
                    parameter[:] = parameter[:1] + spread * (parameter - parameter[:1])
        ensemble.energy_scale.fill_(strength)
        return ensemble.to(dtype)

    return make


@pytest.fixture(scope="session")
def crystal() -> Callable[..., Atoms]:
    def make(seed: int = 0, size: tuple[int, int, int] = (1, 1, 1), symbol: str = "Al", a: float = 4.05) -> Atoms:
        atoms = bulk(symbol, "fcc", a=a, cubic=True) * size
        atoms.rattle(0.05, seed=seed)
        atoms.info["start"] = f"crystal {seed}"
        return atoms

    return make


@pytest.fixture(scope="session")
def settings_of() -> Callable[..., Exploration]:
    """Short and cold runs that nothing stops, unless a test says otherwise."""

    def make(**changes) -> Exploration:
        quiet = {
            "walkers": 3,
            "max_time": 0.05,
            "temperature_start": (100.0, 300.0),
            "temperature_end": (100.0, 300.0),
            "temperature_amplitude": (0.0, 100.0),
            "temperature_period": (0.02, 0.1),
            "max_force_error": 1e3,
            "mean_force_error": 1e3,
            "check_interval": 5,
            "audit_share": 0.0,
        }
        return Exploration(**(quiet | changes))

    return make


@pytest.fixture(scope="session")
def random_numbers() -> Callable[[int], np.random.Generator]:
    return np.random.default_rng
