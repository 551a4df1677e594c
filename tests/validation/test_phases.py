from __future__ import annotations

import pytest
from ase.calculators.emt import EMT
from ase.calculators.lj import LennardJones
from scipy.optimize import minimize_scalar

from alpot.errors import FailureClass, PotentialError, ReferenceError
from alpot.validation.crystals import build_crystal
from alpot.validation.lattice import Equilibrium, equilibrium
from alpot.validation.phases import compared_structures, phase_differences
from alpot.validation.prototypes import Structure

EPSILON = 0.0104
#: Depth of the crystal in ε, A6²/(2 A12): sums of fcc, bcc and sc in Kittel, Introduction to Solid State Physics,
#: chapter 3, and in Jones and Ingham, Proc. R. Soc. Lond. A 107, 636 (1925).
FCC, BCC, SC = 14.45392**2 / (2 * 12.13188), 12.25330**2 / (2 * 9.11418), 8.40192**2 / (2 * 6.20215)


def test_lennard_jones_crystals_lie_above_fcc_by_their_lattice_sums() -> None:
    pair = LennardJones(sigma=3.4, epsilon=EPSILON, rc=6 * 3.4)
    crystals = {structure: equilibrium(pair, "Ar", structure, volume=38.0) for structure in ("fcc", "bcc", "sc")}

    # The other structures are not looked at: fcc stands in for them.
    measured = phase_differences(pair, "Ar", lambda structure: crystals.get(structure, crystals["fcc"]))
    found = {value.name: value.value for value in measured.values}
    # The cutoff's share, 0.08 ε, cancels but for the difference of densities.
    assert found["E(bcc) − E(fcc)"] == pytest.approx(1000 * EPSILON * (FCC - BCC), rel=1e-2)
    assert found["E(sc) − E(fcc)"] == pytest.approx(1000 * EPSILON * (FCC - SC), rel=1e-2)


@pytest.fixture(scope="module")
def emt_crystals() -> dict[Structure, Equilibrium]:
    return {structure: equilibrium(EMT(), "Al", structure) for structure in compared_structures("Al")}


def test_all_structures_and_their_order(emt_crystals: dict[Structure, Equilibrium]) -> None:
    measured = phase_differences(EMT(), "Al", emt_crystals.__getitem__)
    assert [value.name for value in measured.values] == [
        f"E({label}) − E(fcc)" for label in ("bcc", "hcp", "dhcp", "sc", "diamond", "A15", "β-Sn", "sh")
    ]
    assert {value.unit for value in measured.values} == {"meV/atom"}
    energies = {value.name[2 : value.name.index(")")]: value.value for value in measured.values} | {"fcc": 0.0}
    assert measured.remarks == (f"The order of stability is {' < '.join(sorted(energies, key=energies.get))}.",)
    # Dense structures with 12 to 14 neighbors lie low, the open ones high, in the order of their coordination.
    assert energies["A15"] < energies["sh"] < energies["sc"] < energies["diamond"]


def test_a_structure_that_fails_does_not_take_the_others_along(emt_crystals: dict[Structure, Equilibrium]) -> None:
    def crystal_of(structure: Structure) -> Equilibrium:
        if structure == "A15":
            raise PotentialError("it fell apart")
        return emt_crystals[structure]

    measured = phase_differences(EMT(), "Al", crystal_of)
    assert len(measured.values) == 7
    assert "A15 Al has no energy: it fell apart." in measured.remarks


@pytest.mark.parametrize(("structure", "label", "c_over_a"), [("beta_Sn", "β-Sn", 0.55), ("sh", "sh", 1.0)])
def test_open_structures_keep_the_shape_of_their_prototype(
    emt_crystals: dict[Structure, Equilibrium], structure: Structure, label: str, c_over_a: float
) -> None:
    def crystal_of(asked: Structure) -> Equilibrium:
        assert asked != structure, "its shape must not be asked of the calculator"
        return emt_crystals[asked]

    found = {value.name: value.value for value in phase_differences(EMT(), "Al", crystal_of).values}

    def energy(volume: float) -> float:
        atoms = build_crystal("Al", structure, volume, c_over_a)
        atoms.calc = EMT()
        return atoms.get_potential_energy() / len(atoms)

    # The independent route: a minimizer without equation of state.
    relaxed = emt_crystals[structure].volume
    lowest = minimize_scalar(energy, bounds=(0.9 * relaxed, 1.1 * relaxed), method="bounded").fun
    # The equation of state is exact to a hundredth of a meV.
    assert found[f"E({label}) − E(fcc)"] == pytest.approx(1000 * (lowest - emt_crystals["fcc"].energy), abs=0.02)


def test_a_program_that_is_missing_is_no_property_of_a_structure(emt_crystals: dict[Structure, Equilibrium]) -> None:
    def crystal_of(structure: Structure) -> Equilibrium:
        if structure == "A15":
            raise ReferenceError("pw.x is not installed", failure=FailureClass.MISSING_PROGRAM)
        return emt_crystals[structure]

    with pytest.raises(ReferenceError, match=r"pw\.x is not installed"):
        phase_differences(EMT(), "Al", crystal_of)


def test_the_own_structure_has_to_be_there() -> None:
    def crystal_of(structure: Structure) -> Equilibrium:
        raise PotentialError("nothing binds")

    with pytest.raises(PotentialError, match="nothing binds"):
        phase_differences(EMT(), "Al", crystal_of)


def test_an_element_is_compared_with_its_own_structure() -> None:
    assert compared_structures("Al")[:3] == ("fcc", "bcc", "hcp")
    assert compared_structures("W")[0] == "bcc"
    assert compared_structures("Si")[0] == "diamond"
    assert len(set(compared_structures("Mg"))) == 9


def test_every_second_layer_of_dhcp_is_one_of_hcp() -> None:
    # Where only layers that are next but one feel how they are stacked, as in EMT's copper, dhcp lies halfway.
    fcc, hcp, dhcp = (equilibrium(EMT(), "Cu", structure).energy for structure in ("fcc", "hcp", "dhcp"))
    # A hundredth of a meV is what c/a leaves open.
    assert dhcp - fcc == pytest.approx((hcp - fcc) / 2, abs=2e-5)
