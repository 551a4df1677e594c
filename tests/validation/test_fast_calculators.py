"""The fast calculators of these tests are those of ASE."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.calculator import Calculator
from ase.calculators.emt import EMT
from ase.calculators.lj import LennardJones
from ase.calculators.test import gradient_test

from tests.validation.fast_emt import FastEMT
from tests.validation.fast_lennard_jones import FastLennardJones, broughton_gilmer, truncated


def rattled(seed: int) -> Atoms:
    rng = np.random.default_rng(seed)
    atoms = bulk("Al", "fcc", a=4.1, cubic=True).repeat((2, 2, 3))
    atoms.set_cell(atoms.cell.array @ (np.eye(3) + 0.02 * rng.standard_normal((3, 3))), scale_atoms=True)
    atoms.rattle(0.2, rng=rng)
    return atoms


@pytest.mark.parametrize(
    ("fast", "slow"),
    [
        (FastEMT("Al"), EMT()),
        (FastLennardJones(2.6, 0.2, truncated), LennardJones(sigma=2.6, epsilon=0.2, rc=3 * 2.6, ro=3 * 2.6)),
    ],
)
def test_energy_forces_and_stress_are_those_of_ase_while_atoms_move(fast: Calculator, slow: Calculator) -> None:
    atoms = rattled(0)
    rng = np.random.default_rng(1)
    for _ in range(6):  # steps of 0.1 Å and 0.5 % strain: the pairs are kept over some of them
        found, expected = atoms.copy(), atoms.copy()
        found.calc, expected.calc = fast, slow
        assert found.get_potential_energy() == pytest.approx(expected.get_potential_energy(), rel=1e-10)
        np.testing.assert_allclose(found.get_forces(), expected.get_forces(), atol=1e-9)
        np.testing.assert_allclose(found.get_stress(), expected.get_stress(), atol=1e-10)
        atoms.positions += 0.1 * rng.uniform(-1, 1, (len(atoms), 3))
        atoms.set_cell(atoms.cell.array * (1 + 0.005 * rng.uniform(-1, 1)), scale_atoms=True)


def test_the_form_of_broughton_and_gilmer_is_continuous_and_differentiable() -> None:
    for joint in (2.3, 2.5):
        below, above = broughton_gilmer((joint - 1e-9) ** 2), broughton_gilmer((joint + 1e-9) ** 2)
        # The published constants have five digits.
        assert np.subtract(below, above) == pytest.approx([0, 0], abs=2e-4)
    atoms = rattled(2)
    atoms.calc = FastLennardJones(2.6, 0.2)
    analytic, numeric = gradient_test(atoms, indices=[0, 7])
    np.testing.assert_allclose(analytic, numeric, atol=1e-4)
