from __future__ import annotations

import numpy as np
import pytest
from ase import units
from ase.build import bulk

from alpot.errors import PotentialError
from alpot.validation.dynamics import failure_of, set_velocities, time_step_fs
from alpot.validation.melting import melting_temperature


def test_velocities_are_those_of_the_temperature() -> None:
    atoms = bulk("Cu", "fcc", cubic=True).repeat(5)
    atoms.symbols[::4] = "Au"
    set_velocities(atoms, 800.0, np.random.default_rng(2))
    np.testing.assert_allclose(atoms.get_momenta().sum(axis=0), 0, atol=1e-9)
    kinetic = 0.5 * atoms.get_masses()[:, None] * atoms.get_velocities() ** 2  # (500, 3)
    assert 2 * kinetic.sum() / (3 * 499 * units.kB) == pytest.approx(800.0, rel=1e-9)
    # Equipartition between light and heavy atoms, within 3 standard errors of 375 gold components.
    gold = kinetic[atoms.symbols == "Au"].mean() * 2 / units.kB
    assert gold == pytest.approx(800.0, rel=3 * np.sqrt(2 / 375))


def test_time_steps_follow_the_lightest_atom() -> None:
    assert time_step_fs(bulk("Al")) == pytest.approx(2.0, rel=1e-3)
    assert time_step_fs(bulk("W")) == 4.0
    hydride = bulk("NaCl", "rocksalt", a=4.9)
    hydride.symbols[:] = ["Na", "H"]
    assert time_step_fs(hydride) < 0.5


def test_what_is_not_physical_is_named() -> None:
    atoms = bulk("Al", "fcc", a=4.05, cubic=True)
    set_velocities(atoms, 300.0, np.random.default_rng(0))
    assert failure_of(atoms, 1500.0) is None
    assert "temperature reached" in str(failure_of(atoms, 100.0))
    close = atoms.copy()
    close.positions[1] = close.positions[0] - [1.0, 0, 0]  # on the other side of the boundary
    assert failure_of(close, 1500.0) == "two atoms came within 1.00 Å"
    lost = atoms.copy()
    lost.positions[0, 0] = np.nan
    assert "not finite" in str(failure_of(lost, 1500.0))


def test_a_cell_can_be_too_small_for_its_own_images() -> None:
    atoms = bulk("Al", "sc", a=1.2)
    assert failure_of(atoms, 1500.0) == "two atoms came within 1.20 Å"


def test_melting_temperatures() -> None:
    assert melting_temperature(["Al"]) == 933
    assert melting_temperature(["Al", "Cu"]) == pytest.approx((933 + 1358) / 2)
    with pytest.raises(PotentialError, match="no melting temperature is known for Og"):
        melting_temperature(["Al", "Og"])
