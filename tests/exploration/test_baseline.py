"""Walkers of a potential with a baseline feel the sum; what the baseline cannot compute ends one walker alone."""

import numpy as np
import pytest
from ase import Atoms
from ase.calculators.lj import LennardJones

from alpot.exploration.dynamics import Dynamics
from alpot.exploration.explorer import Explorer
from alpot.exploration.walker import Ending, Walker
from alpot.potential.baseline import Baseline
from alpot.potential.calculator import AlpotCalculator
from alpot.potential.calibration import ErrorBound

LJ = {"sigma": 2.5, "epsilon": 0.1, "rc": 5.0, "smooth": True}
SIZES = [(1, 1, 1), (2, 1, 1), (1, 1, 1)]


def starts_of(frames):
    return ((atoms, np.random.default_rng([3, i])) for i, atoms in enumerate(frames))


class Fragile(LennardJones):
    """Fails where the first atom is far from where walkers begin, and for small cells only."""

    def calculate(self, atoms=None, properties=None, system_changes=()):
        if len(atoms) == 4 and abs(atoms.positions[0]).max() > 0.2:
            raise RuntimeError("it did not converge")
        super().calculate(atoms, properties, system_changes)


@pytest.fixture
def ensemble(make_ensemble):
    made = make_ensemble(strength=0.1)
    made.baseline = Baseline({"code": "lj", "hash": "0"}, lambda: LennardJones(**LJ))
    return made


@pytest.fixture
def frames(crystal):
    """Of several sizes; the second is a slab."""
    made = [crystal(i, size) for i, size in enumerate(SIZES)]
    made[1].pbc = (True, True, False)
    return made


@pytest.mark.parametrize("stretch", [1, 5])
def test_walkers_feel_what_the_calculator_says(ensemble, settings_of, frames, stretch):
    settings = settings_of(density_amplitude=(-0.2, 0.2), density_period=(0.02, 0.1))
    dynamics = Dynamics(ensemble, settings, stretch=stretch)
    dynamics.add([Walker.begin(atoms, settings, np.random.default_rng(i)) for i, atoms in enumerate(frames)])
    for _ in range(3):
        dynamics.advance(5)
    for slot, walker in enumerate(dynamics.walkers):
        positions, cell = dynamics.space.frame(slot)
        atoms = Atoms(walker.start.numbers, positions=positions, cell=cell, pbc=walker.start.pbc)
        begin, end = dynamics.space.span(slot)
        forces = AlpotCalculator(ensemble).get_property("forces", atoms)
        np.testing.assert_allclose(dynamics.space.atoms.forces[begin:end].numpy(), forces, atol=1e-10)


def test_deviations_are_those_of_the_networks(ensemble, settings_of, frames):
    settings, measured = settings_of(), []
    for baseline in (ensemble.baseline, None):
        ensemble.baseline = baseline
        dynamics = Dynamics(ensemble, settings)
        walkers = [Walker.begin(atoms, settings, np.random.default_rng(i)) for i, atoms in enumerate(frames)]
        measured.append([row.max_deviation for row in dynamics.add(walkers)])
    np.testing.assert_allclose(measured[0], measured[1], rtol=1e-10)


def test_a_walker_beyond_the_baseline_ends_alone(ensemble, settings_of, frames):
    hot = settings_of(temperature_start=(5e3, 5e3), temperature_end=(5e3, 5e3), max_time=0.05)
    expected = list(Explorer(ensemble, hot, ErrorBound(slope=1.0)).run(starts_of(frames)))
    assert [report.ending for report in expected] == [Ending.FINISHED] * 3
    ensemble.baseline = Baseline({"code": "fragile", "hash": "1"}, lambda: Fragile(**LJ))
    reports = list(Explorer(ensemble, hot, ErrorBound(slope=1.0)).run(starts_of(frames)))
    assert sorted(report.ending for report in reports) == [Ending.BLOW_UP, Ending.BLOW_UP, Ending.FINISHED]
    for report in reports:
        if report.ending is Ending.BLOW_UP:
            assert report.rewound is not None and np.isfinite(report.rewound.atoms.positions).all()
