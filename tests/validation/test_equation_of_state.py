from __future__ import annotations

import numpy as np
import pytest
from ase.eos import EquationOfState, birchmurnaghan

from alpot.errors import PotentialError
from alpot.validation.equation_of_state import birch_murnaghan

VOLUMES = np.linspace(15.0, 17.5, 7)


def test_a_crystal_that_obeys_it_is_found_again() -> None:
    energies = birchmurnaghan(VOLUMES, -3.4, 0.48, 4.7, 16.2)
    found = birch_murnaghan(VOLUMES, energies)
    assert found == pytest.approx((16.2, -3.4, 0.48, 4.7, 0.0), rel=1e-6, abs=1e-9)


def test_the_fit_is_of_least_squares() -> None:
    rng = np.random.default_rng(1)
    energies = 0.02 * (VOLUMES - 16.2) ** 2 - 0.003 * (VOLUMES - 16.2) ** 3 + 1e-4 * rng.standard_normal(7)
    expected = EquationOfState(VOLUMES, energies, eos="birchmurnaghan").fit()
    found = birch_murnaghan(VOLUMES, energies)
    # ASE's least squares are iterative and stop at about 1e-6.
    np.testing.assert_allclose([found.volume, found.energy, found.bulk_modulus], expected, rtol=1e-4)
    assert 5e-5 < found.misfit < 5e-4  # the size of the noise


@pytest.mark.parametrize("energies", [-0.02 * (VOLUMES - 16.2) ** 2, 1 / VOLUMES])
def test_energies_without_minimum_are_an_error(energies: np.ndarray) -> None:
    with pytest.raises(PotentialError, match=r"energies at 15\.00 to 17\.50 Å³ per atom have no minimum"):
        birch_murnaghan(VOLUMES, energies)
