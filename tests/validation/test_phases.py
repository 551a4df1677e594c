from __future__ import annotations

import pytest
from ase.calculators.emt import EMT
from ase.calculators.lj import LennardJones

from alpot.validation.lattice import Equilibrium, equilibrium
from alpot.validation.phases import compared_structures, phase_differences

EPSILON = 0.0104


def test_lennard_jones_bcc_lies_above_fcc_by_the_lattice_sums(argon: LennardJones, fcc_argon: Equilibrium) -> None:
    bcc = equilibrium(argon, "Ar", "bcc", volume=fcc_argon.volume)
    (difference,) = phase_differences([fcc_argon, bcc])
    # Depths A6²/(2 A12): 8.61020 for fcc and, with 12.25330 and 9.11418, 8.23674 for bcc; the cutoff's share cancels
    # but for the difference of densities.
    assert difference.value == pytest.approx(1000 * EPSILON * (8.61020 - 8.23674), rel=5e-3)
    assert difference.name == "E(bcc) − E(fcc)"


def test_the_spread_is_that_of_the_difference(ensemble_emt: EMT) -> None:
    crystals = [equilibrium(ensemble_emt, "Al", structure) for structure in compared_structures("Al")]
    hcp, bcc = phase_differences(crystals)
    # Members are EMT times 0.97, 1.01 and 1.02: so are their differences.
    assert hcp.std == pytest.approx(0.0264575 * abs(hcp.value), rel=1e-4)
    assert bcc.std == pytest.approx(0.0264575 * abs(bcc.value), rel=1e-4)


def test_an_element_is_compared_with_its_own_structure() -> None:
    assert compared_structures("Al") == ("fcc", "hcp", "bcc")
    assert compared_structures("W") == ("bcc", "fcc", "hcp")
    assert compared_structures("Si") == ("diamond", "fcc", "hcp", "bcc")
