from __future__ import annotations

import numpy as np
import pytest
from ase.build import bulk
from ase.calculators.calculator import Calculator
from ase.calculators.emt import EMT
from ase.eos import EquationOfState
from ase.units import GPa
from scipy.optimize import minimize, minimize_scalar

from alpot.errors import NonFiniteError, PotentialError
from alpot.validation.lattice import Equilibrium, birch_murnaghan, equilibrium

#: Lattice sums Σ (d/r)^n, d the nearest distance: Kittel, Introduction to Solid State Physics, chapter 3.
FCC_12, FCC_6 = 12.13188, 14.45392
SIGMA, EPSILON, CUTOFF = 3.4, 0.0104, 12.0


def _missing_energy(density: float) -> float:
    """Energy per atom in ε that a cutoff leaves out, tail and shift, each 8π/3 ρ (σ/r_c)³, for a uniform density/σ³."""
    return 2 * 8 * np.pi / 3 * density / CUTOFF**3


def test_lennard_jones_fcc_is_the_textbook_crystal(fcc_argon: Equilibrium) -> None:
    # E(d) = 2 ε [A12 (σ/d)^12 − A6 (σ/d)^6] has its minimum at d = (2 A12 / A6)^(1/6) σ, of depth A6²/(2 A12) ε.
    distance = (2 * FCC_12 / FCC_6) ** (1 / 6)
    density = np.sqrt(2) / distance**3
    # The cutoff is seen in the energy at 1e-4 after correction, and shifts the lattice constant by a few 1e-5.
    assert fcc_argon.lattice_constant.value / SIGMA == pytest.approx(np.sqrt(2) * distance, rel=3e-4)
    energy = fcc_argon.energy.value / EPSILON - _missing_energy(density)
    assert energy == pytest.approx(-8.6102, rel=2e-4)
    # B = d² E''/(9 V); the third-order equation over ±4.5 % in volume is good to 0.5 %.
    curvature = 2 * (156 * FCC_12 * distance**-14 - 42 * FCC_6 * distance**-8)
    modulus = distance**2 * curvature * density / 9 * EPSILON / SIGMA**3 / GPa
    assert fcc_argon.bulk_modulus.value == pytest.approx(modulus, rel=5e-3)


@pytest.mark.parametrize("element", ["Al", "Cu"])
def test_emt_metals_agree_with_direct_minimization(element: str) -> None:
    def energy(a: float) -> float:
        atoms = bulk(element, "fcc", a=a)
        atoms.calc = EMT()
        return atoms.get_potential_energy()

    a = minimize_scalar(energy, bounds=(3.4, 4.2), method="bounded", options={"xatol": 1e-9}).x
    h = 0.01  # of the second difference: B = 4/(9 a) E'' of the energy per atom
    modulus = (energy(a + h) - 2 * energy(a) + energy(a - h)) / h**2 * 4 / (9 * a) / GPa
    found = equilibrium(EMT(), element, "fcc")
    # A fit is not a minimization: 5e-5 in the lattice constant, a sixtieth of what we ask of a potential.
    assert found.lattice_constant.value == pytest.approx(a, rel=5e-5)
    assert found.energy.value == pytest.approx(energy(a), abs=1e-5)
    assert found.bulk_modulus.value == pytest.approx(modulus, rel=1e-2)


def test_hcp_relaxes_both_lengths() -> None:
    # EMT's hcp Al is 2 % flatter than close-packed spheres.
    def energy(lengths: np.ndarray) -> float:
        atoms = bulk("Al", "hcp", a=lengths[0], c=lengths[1])
        atoms.calc = EMT()
        return atoms.get_potential_energy() / 2

    best = minimize(energy, [2.82, 4.6], method="Nelder-Mead", options={"xatol": 1e-5, "fatol": 1e-9})
    found = equilibrium(EMT(), "Al", "hcp")
    # The energy is flat: lengths to 0.3 %, energy to 0.1 meV, a fiftieth of what we ask of a potential.
    assert found.lattice_constant.value == pytest.approx(best.x[0], rel=3e-3)
    assert found.c_over_a == pytest.approx(best.x[1] / best.x[0], rel=3e-3)
    assert found.energy.value == pytest.approx(best.fun, abs=1e-4)


@pytest.mark.parametrize("factor", [0.6, 1.7])
def test_a_poor_start_finds_the_same_minimum(fcc_aluminum: Equilibrium, factor: float) -> None:
    found = equilibrium(EMT(), "Al", "fcc", volume=factor * fcc_aluminum.volume)
    # Another grid, hence another fit: the same within its accuracy.
    assert found.lattice_constant.value == pytest.approx(fcc_aluminum.lattice_constant.value, rel=5e-5)


def test_the_fit_is_birch_murnaghan() -> None:
    volumes = np.linspace(15.0, 17.5, 7)
    rng = np.random.default_rng(1)
    energies = 0.02 * (volumes - 16.2) ** 2 - 0.003 * (volumes - 16.2) ** 3 + 1e-4 * rng.standard_normal(7)
    v0, e0, b = EquationOfState(volumes, energies, eos="birchmurnaghan").fit()
    found = birch_murnaghan(volumes, np.stack([energies, 2 * energies, -energies], axis=1))
    # ASE's least squares are iterative and stop at about 1e-6.
    np.testing.assert_allclose([x[0] for x in found], [v0, e0, b], rtol=1e-4)
    np.testing.assert_allclose([x[1] for x in found], [v0, 2 * e0, 2 * b], rtol=1e-4)
    assert all(np.isnan(x[2]) for x in found)  # a maximum is no equilibrium


def test_members_give_the_spread(ensemble_emt: EMT, fcc_aluminum: Equilibrium) -> None:
    found = equilibrium(ensemble_emt, "Al", "fcc")
    relative = np.std([0.97, 1.01, 1.02], ddof=1)
    assert found.lattice_constant.std == pytest.approx(0, abs=1e-9)  # a scale moves no minimum
    assert found.bulk_modulus.std == pytest.approx(relative * found.bulk_modulus.value, rel=1e-9)
    assert found.energy.std == pytest.approx(relative * abs(found.energy.value), rel=1e-9)
    assert fcc_aluminum.energy.std is None


class _Repulsive(Calculator):
    implemented_properties: list[str] = ["energy"]  # noqa: RUF012

    def __init__(self, value: float = 1.0) -> None:
        super().__init__()
        self.value = value

    def calculate(self, *args: object, **kwargs: object) -> None:
        super().calculate(*args, **kwargs)
        self.results = {"energy": self.value / self.atoms.get_volume()}


def test_a_crystal_that_does_not_bind_is_named() -> None:
    with pytest.raises(PotentialError, match=r"fcc Al has no minimum .* Å³ per atom"):
        equilibrium(_Repulsive(), "Al", "fcc")


def test_not_a_number_is_not_an_energy() -> None:
    with pytest.raises(NonFiniteError, match="not a finite number"):
        equilibrium(_Repulsive(float("nan")), "Al", "fcc")
