from __future__ import annotations

import numpy as np
import pytest
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.calculators.lj import LennardJones
from scipy.optimize import minimize

from alpot.errors import PotentialError
from alpot.validation.lattice import Equilibrium, equilibrium
from alpot.validation.vacancy import vacancy_formation_energy


def test_emt_agrees_with_another_minimizer(fcc_aluminum: Equilibrium) -> None:
    perfect = bulk("Al", "fcc", a=fcc_aluminum.lattice_constant, cubic=True).repeat(2)
    perfect.calc = EMT()
    defective = perfect.copy()
    del defective[7]
    defective.calc = EMT()

    def energy(x: np.ndarray) -> tuple[float, np.ndarray]:
        defective.positions = x.reshape(-1, 3)
        return defective.get_potential_energy(), -defective.get_forces().ravel()

    best = minimize(energy, defective.positions.ravel(), jac=True, method="L-BFGS-B", options={"gtol": 1e-4})
    expected = best.fun - 31 / 32 * perfect.get_potential_energy()
    found = vacancy_formation_energy(EMT(), fcc_aluminum, minimum_atoms=32).values[0]
    # Forces of 0.02 eV/Å are left: about 1 meV.
    assert found.value == pytest.approx(expected, abs=2e-3)


def test_the_default_cell_is_large_enough(fcc_aluminum: Equilibrium) -> None:
    default = vacancy_formation_energy(EMT(), fcc_aluminum).values[0]
    larger = vacancy_formation_energy(EMT(), fcc_aluminum, minimum_atoms=250).values[0]
    # A tenth of the tolerance that we promise.
    assert default.value == pytest.approx(larger.value, rel=0.01)


def test_a_vacancy_in_a_pair_potential_costs_the_cohesive_energy() -> None:
    # An atom taken out breaks bonds worth 2 E_coh; put back on a surface step it regains E_coh. Relaxation gains little
    # in a close-packed pair crystal: below 3 % for Lennard-Jones.
    pair = LennardJones(sigma=3.4, epsilon=0.0104, rc=3 * 3.4)
    crystal = equilibrium(pair, "Ar", "fcc")
    found = vacancy_formation_energy(pair, crystal).values[0]
    assert 0.97 < found.value / -crystal.energy < 1.0


def test_a_calculator_that_never_relaxes_is_named(fcc_aluminum: Equilibrium) -> None:
    class Noisy(EMT):
        rng = np.random.default_rng(0)

        def calculate(self, *args: object, **kwargs: object) -> None:
            super().calculate(*args, **kwargs)
            forces = self.results["forces"]
            self.results["forces"] = forces + 0.1 * self.rng.standard_normal(forces.shape)

    with pytest.raises(PotentialError, match=r"^a vacancy in fcc Al \(31 atoms\) did not relax"):
        vacancy_formation_energy(Noisy(), fcc_aluminum, minimum_atoms=32)
