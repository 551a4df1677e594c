from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.calculators.calculator import BaseCalculator
from ase.calculators.emt import EMT
from ase.calculators.lj import LennardJones

import alpot
from alpot.potential.baseline import Baseline
from alpot.potential.pair_repulsion import PairRepulsion, zbl_energy
from alpot.validation.crystals import start_volume
from alpot.validation.dimer import dimer_curve, pair_compression
from alpot.validation.lattice import Equilibrium, equilibrium
from alpot.validation.properties import Measured

SIGMA, EPSILON = 3.4, 0.0104


class Hollow(LennardJones):
    """Lennard-Jones whose wall, at 20 eV, has nothing behind it."""

    def calculate(self, *args: object, **kwargs: object) -> None:
        super().calculate(*args, **kwargs)
        energy = self.results["energy"]
        self.results["energy"] = energy if energy < 20.0 else 20.0 - np.log(energy / 20.0)


def named(measured: Measured) -> dict[str, float]:
    return {value.name: value.value for value in measured.values}


def of_pair(distance: float) -> float:
    x = (SIGMA / distance) ** 6
    return 4 * EPSILON * (x**2 - x)


def test_a_pair_potential_gives_its_own_curve() -> None:
    found = dimer_curve(LennardJones(sigma=SIGMA, epsilon=EPSILON, rc=8.0), "Ar")
    values = named(found)
    # 10 eV = 4 ε (x² − x): a quadratic in (σ/r)⁶. ASE shifts the energy by less than 1e-4 eV; points are 0.05 Å apart.
    x = 0.5 + np.sqrt(0.25 + 10.0 / (4 * EPSILON))
    assert values["dimer distance at 10 eV"] == pytest.approx(SIGMA / x ** (1 / 6), rel=2e-3)
    half = 0.5 * (4 * start_volume("Ar")) ** (1 / 3) / np.sqrt(2)
    height = values["dimer energy at half the nearest-neighbor distance"]
    assert height == pytest.approx(of_pair(half), abs=1e-3)
    (curve,) = found.curves
    np.testing.assert_allclose(curve.lines["ZBL"], zbl_energy(18, 18, np.array(curve.x)))
    assert not any("hole" in remark or "no wall" in remark for remark in found.remarks)


def test_a_hole_behind_the_wall_and_no_wall_at_all_are_told() -> None:
    hollow = dimer_curve(Hollow(sigma=SIGMA, epsilon=EPSILON, rc=8.0), "Ar")
    assert any("falls as they come closer than" in remark for remark in hollow.remarks)
    soft = dimer_curve(PairRepulsion(), "H")  # its radii do not reach, and hydrogen's charge is small
    assert "dimer distance at 10 eV" in named(soft)
    none = dimer_curve(LennardJones(sigma=0.1, epsilon=EPSILON, rc=8.0), "Ar")
    assert "dimer distance at 10 eV" not in named(none)
    assert any("have no wall" in remark for remark in none.remarks)


def test_a_compressed_pair_of_a_pair_potential_is_a_sum_over_the_lattice() -> None:
    """All the others are one fixed lattice, so the energy is that of one atom in it."""
    pair = LennardJones(sigma=SIGMA, epsilon=EPSILON, rc=2.2 * SIGMA)
    crystal = equilibrium(pair, "Ar", "fcc")
    found = pair_compression(pair, crystal)
    spacing = crystal.lattice_constant / np.sqrt(2)
    grid = np.stack(np.meshgrid(*[np.arange(-5, 6)] * 3), axis=-1).reshape(-1, 3)
    sites = 0.5 * crystal.lattice_constant * grid[(grid.sum(axis=1) % 2 == 0) & grid.any(axis=1)]
    shift = 0.5 * 0.5 * crystal.lattice_constant * np.array([1.0, 1.0, 0.0])

    def energy(position: np.ndarray) -> float:
        distances = np.linalg.norm(sites - position, axis=1)
        near = distances[distances < 2.2 * SIGMA]
        return float((of_pair(near) - of_pair(2.2 * SIGMA)).sum())

    expected = energy(shift) - energy(np.zeros(3))
    assert named(found)["compressed pair at half the nearest-neighbor distance"] == pytest.approx(expected, rel=1e-6)
    assert found.curves[0].x[-1] == pytest.approx(spacing) and found.curves[0].x[0] == pytest.approx(0.4 * spacing)
    assert not found.remarks


def test_in_hcp_the_neighbor_lies_in_the_plane_on_either_side_of_the_ideal_shape() -> None:
    pair = LennardJones(sigma=SIGMA, epsilon=EPSILON, rc=2.2 * SIGMA)
    a, heights = 3.75, []
    for c_over_a in (1.60, 1.66):
        crystal = Equilibrium(
            element="Ar",
            structure="hcp",
            volume=a**3 * c_over_a * np.sqrt(3) / 4,
            c_over_a=c_over_a,
            lattice_constant=a,
            bulk_modulus=3.0,
            energy=-0.08,
        )
        found = pair_compression(pair, crystal)
        assert found.curves[0].x[-1] == pytest.approx(a)  # out of the plane it is 3.70 or 3.79 Å
        heights.append(named(found)["compressed pair at half the nearest-neighbor distance"])
    # The bond with the neighbor at a/2, 112 eV, is nearly all of it, and the same; the other planes are 4 % farther.
    assert heights[0] == pytest.approx(heights[1], rel=0.01)


def test_metals_have_a_wall(fcc_aluminum: Equilibrium, tungsten: BaseCalculator, bcc_tungsten: Equilibrium) -> None:
    assert not pair_compression(tungsten, bcc_tungsten).remarks
    assert not pair_compression(EMT(), fcc_aluminum, minimum_atoms=32).remarks


def test_the_published_potential_has_a_hole_that_the_repulsion_of_nuclei_closes(ani_al: Path) -> None:
    """No feature of its descriptor sees atoms closer than 0.8 Å: there the dimer is two atoms apart."""
    calculator = alpot.load(ani_al, mean_forces_only=True)
    found = dimer_curve(calculator, "Al")
    assert any("hole" in remark for remark in found.remarks)
    assert found.curves[0].lines["energy of the dimer"][0] == pytest.approx(0.0, abs=0.05)
    crystal = equilibrium(calculator, "Al", "fcc")
    assert any("hole" in remark for remark in pair_compression(calculator, crystal).remarks)
    atoms = Atoms("Al2", positions=[[0, 0, 0], [0, 0, 0.6]])
    atoms.calc = calculator
    assert np.abs(atoms.get_forces()).max() < 1.0
    calculator.ensemble.baseline = Baseline({"code": "zbl", "hash": ""}, PairRepulsion)
    for repelled in (dimer_curve(calculator, "Al"), pair_compression(calculator, crystal)):
        assert not any("hole" in remark for remark in repelled.remarks)
    assert equilibrium(calculator, "Al", "fcc").lattice_constant == crystal.lattice_constant  # no pair is that close
