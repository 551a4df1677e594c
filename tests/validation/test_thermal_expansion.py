from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
from ase import units
from ase.calculators.emt import EMT
from ase.calculators.lj import LennardJones
from ase.data import atomic_masses, atomic_numbers
from scipy.optimize import minimize_scalar

import alpot
from alpot.errors import PotentialError
from alpot.validation.lattice import Equilibrium, equilibrium
from alpot.validation.properties import Measured
from alpot.validation.thermal_expansion import thermal_expansion

ANI_AL = Path(__file__).parents[3] / "shared" / "ani-al"


@pytest.fixture(scope="module")
def aluminum_expansion(fcc_aluminum: Equilibrium) -> Measured:
    return thermal_expansion(EMT(), fcc_aluminum)


def _values(measured: Measured) -> dict[str, float]:
    return {value.name: value.value for value in measured.values}


class _Neighbors:
    """Copper whose atoms see their twelve nearest neighbors by Lennard-Jones: its phonons can be written down."""

    sigma, epsilon = 2.28, 0.4
    distance = 2 ** (1 / 6) * sigma

    def __init__(self) -> None:
        # The second neighbors stay beyond the cutoff when the crystal is compressed, the first within when it expands.
        self.calculator = LennardJones(sigma=self.sigma, epsilon=self.epsilon, rc=1.2 * self.distance)
        pairs = itertools.product((-1, 0, 1), repeat=3)
        self.bonds = np.array([pair for pair in pairs if np.abs(pair).sum() == 2]) / np.sqrt(2)  # (12, 3)
        # Wave vectors 2π/a (b1 u + b2 v + b3 w), by the middle of each cell of a mesh.
        mesh = (np.array(list(itertools.product(range(14), repeat=3))) + 0.5) / 14
        reciprocal = np.array([[-1, 1, 1], [1, -1, 1], [1, 1, -1]])
        self.phases = 2 * np.pi * mesh @ reciprocal @ self.bonds.T / np.sqrt(2)  # (q, 12): q·R with a = √2 d

    def free_energy(self, distance: float, temperature: float) -> float:
        """eV/atom: six bonds and the harmonic oscillators of D(q) = Σ_R (1 − cos q·R) ∂²φ/∂R∂R / m."""
        x = self.sigma / distance
        energy = 4 * self.epsilon * (x**12 - x**6)
        slope_over_d = 4 * self.epsilon * (-12 * x**12 + 6 * x**6) / distance**2
        curvature = 4 * self.epsilon * (156 * x**12 - 42 * x**6) / distance**2
        along = np.einsum("ri,rj->rij", self.bonds, self.bonds)
        springs = (curvature - slope_over_d) * along + slope_over_d * np.eye(3)
        mass = atomic_masses[atomic_numbers["Cu"]]
        dynamical = np.einsum("qr,rij->qij", 1 - np.cos(self.phases), springs) / mass
        quanta = units._hbar * units.J * units.s * np.sqrt(np.linalg.eigvalsh(dynamical))  # eV
        thermal = units.kB * temperature
        modes = quanta / 2 + thermal * np.log1p(-np.exp(-quanta / thermal))
        return float(6 * (energy + self.epsilon) + modes.sum(axis=1).mean())

    def distance_at(self, temperature: float) -> float:
        bounds = (0.99 * self.distance, 1.04 * self.distance)
        found = minimize_scalar(
            self.free_energy, bounds=bounds, args=(temperature,), method="bounded", options={"xatol": 1e-7}
        )
        return float(found.x)


def test_springs_between_neighbors_expand_as_calculated() -> None:
    crystal = _Neighbors()
    found = thermal_expansion(crystal.calculator, equilibrium(crystal.calculator, "Cu", "fcc"))
    values = _values(found)
    before, middle, after = (crystal.distance_at(temperature) for temperature in (280, 300, 320))
    # 1e-4 in the length, 1 % in the slope: the fit over volumes, and the mesh of the formula.
    assert values["lattice constant at room temperature, quasi-harmonic"] == pytest.approx(
        np.sqrt(2) * middle, rel=1e-4
    )
    assert values["linear expansion at room temperature, quasi-harmonic"] == pytest.approx(
        1e6 * np.log(after / before) / 40, rel=0.01
    )
    # B = V ∂²F/∂V² with V = d³/√2: at the minimum V F_VV = F_dd/(9 V/d²).
    h = 0.01
    curvature = sum(
        weight * crystal.free_energy(middle + shift, 300) for weight, shift in ((1, -h), (-2, 0), (1, h))
    ) / (h**2)
    modulus = curvature * np.sqrt(2) / (9 * middle) / units.GPa
    assert values["bulk modulus at room temperature, quasi-harmonic"] == pytest.approx(modulus, rel=0.02)
    (curve,) = found.curves
    lengths = np.array(curve.lines[curve.name])
    assert np.sqrt(2) * crystal.distance_at(900) == pytest.approx(np.interp(900, curve.x, lengths), rel=3e-4)
    assert curve.x[-1] == pytest.approx(0.7 * 1358, abs=10)


def test_there_is_no_expansion_at_zero_temperature(aluminum_expansion: Measured) -> None:
    # The third law; and the curve holds the values.
    (curve,) = aluminum_expansion.curves
    temperature, lengths = np.array(curve.x), np.array(curve.lines[curve.name])
    slope = np.gradient(np.log(lengths), temperature)
    assert abs(slope[1]) < 0.02 * slope[30]
    assert slope[30] == pytest.approx(
        1e-6 * _values(aluminum_expansion)["linear expansion at room temperature, quasi-harmonic"], rel=1e-3
    )
    assert (np.diff(lengths[1:]) > 0).all()


def test_the_supercell_is_converged(fcc_aluminum: Equilibrium, aluminum_expansion: Measured) -> None:
    large = _values(thermal_expansion(EMT(), fcc_aluminum, supercell_length=16))
    # A hundredth of the expansion until 300 K in the length, and 1 % in its slope and the modulus.
    for name, value in _values(aluminum_expansion).items():
        assert value == pytest.approx(large[name], rel=1e-4 if "lattice" in name else 0.01), name


def test_what_melts_early_is_examined_below_melting() -> None:
    sodium = LennardJones(sigma=3.3, epsilon=0.3, rc=1.2 * 2 ** (1 / 6) * 3.3)
    found = thermal_expansion(sodium, equilibrium(sodium, "Na", "fcc"))
    assert [value.name for value in found.values] == [
        "linear expansion at room temperature, quasi-harmonic",
        "lattice constant at room temperature, quasi-harmonic",
        "bulk modulus at room temperature, quasi-harmonic",
    ]


def test_unstable_crystals_have_no_expansion() -> None:
    with pytest.raises(PotentialError, match=r"sc Al is stable at 0 of 9 volumes .* sc Al is unstable"):
        thermal_expansion(EMT(), equilibrium(EMT(), "Al", "sc"), supercell_length=8)


def test_elements_without_a_melting_temperature_are_refused(fcc_aluminum: Equilibrium) -> None:
    carbon = Equilibrium(**{**vars(fcc_aluminum), "element": "C"})
    with pytest.raises(PotentialError, match="no melting temperature is known for C"):
        thermal_expansion(EMT(), carbon)


def test_rippled_potentials_are_refused() -> None:
    if not ANI_AL.is_dir():
        pytest.skip("the published ANI-Al weights are not beside the project (../shared/ani-al)")
    calculator = alpot.load(ANI_AL)
    with pytest.raises(PotentialError, match=r"no smooth function of the volume: .* find its expansion by"):
        thermal_expansion(calculator, equilibrium(calculator, "Al", "fcc"), supercell_length=8)
