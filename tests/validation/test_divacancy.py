from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from ase.calculators.calculator import BaseCalculator
from ase.calculators.emt import EMT
from ase.calculators.lj import LennardJones

import alpot
from alpot.errors import PotentialError
from alpot.validation.divacancy import divacancy_binding_energy
from alpot.validation.lattice import Equilibrium, equilibrium
from alpot.validation.point_defects import relax_vacancies
from alpot.validation.properties import attached
from alpot.validation.vacancy import vacancy_formation_energy

SIGMA, EPSILON = 3.4, 0.0104


def test_in_a_pair_potential_two_vacancies_share_the_bond_between_them() -> None:
    """Without relaxation E_b = −φ(r) exactly: the bond between the two atoms is broken once, not twice."""
    pair = LennardJones(sigma=SIGMA, epsilon=EPSILON, rc=2.5 * SIGMA, smooth=True)
    crystal = equilibrium(pair, "Ar", "fcc")
    first, second = divacancy_binding_energy(pair, crystal).values
    # Two that touch relax more than two apart: a tenth of the bond.
    for value, distance in ((first, 1 / np.sqrt(2)), (second, 1.0)):
        x = (SIGMA / (distance * crystal.lattice_constant)) ** 6
        bond = -4 * EPSILON * (x**2 - x)
        assert value.value == pytest.approx(bond, abs=0.1 * EPSILON), value.name


def test_it_agrees_with_the_vacancy(fcc_aluminum: Equilibrium) -> None:
    """Vacancies as far apart as the cell allows do not bind, and EMT's neighbors attract each other."""
    of_one = vacancy_formation_energy(EMT(), fcc_aluminum).values[0].value
    perfect = attached(EMT(), fcc_aluminum.supercell(100))
    per_atom = perfect.get_potential_energy() / len(perfect)
    distances = perfect.get_distances(0, range(len(perfect)), mic=True)
    far = attached(EMT(), perfect)
    del far[[0, int(distances.argmax())]]
    of_far_two = relax_vacancies(far, "two vacancies") - len(far) * per_atom
    first, second = (value.value for value in divacancy_binding_energy(EMT(), fcc_aluminum).values)
    assert abs(2 * of_one - of_far_two) < second < first


def test_a_crystal_that_gives_way_is_named(ani_al: Path) -> None:
    """Bcc aluminum is unstable against shear; once a vacancy breaks the symmetry, its atoms go elsewhere."""
    calculator = alpot.load(ani_al, mean_forces_only=True)
    crystal = equilibrium(calculator, "Al", "bcc")
    with pytest.raises(PotentialError, match=r"in bcc Al.*(not stable|did not relax)"):
        divacancy_binding_energy(calculator, crystal, minimum_atoms=50)


def test_the_default_cell_is_large_enough(tungsten: BaseCalculator, bcc_tungsten: Equilibrium) -> None:
    default = divacancy_binding_energy(tungsten, bcc_tungsten).values
    larger = divacancy_binding_energy(tungsten, bcc_tungsten, minimum_atoms=250).values
    for ours, theirs in zip(default, larger, strict=True):
        assert ours.value == pytest.approx(theirs.value, abs=0.02)  # of 0.4 eV; the field's error bars are 0.05


@pytest.mark.slow
def test_the_default_cell_is_large_enough_for_aluminum(ani_al: Path) -> None:
    calculator = alpot.load(ani_al, mean_forces_only=True)
    crystal = equilibrium(calculator, "Al", "fcc")
    default = divacancy_binding_energy(calculator, crystal).values
    larger = divacancy_binding_energy(calculator, crystal, minimum_atoms=250).values
    for ours, theirs in zip(default, larger, strict=True):
        assert ours.value == pytest.approx(theirs.value, abs=0.02)  # the field's error bars are 0.05 eV
