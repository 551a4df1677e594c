from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from ase.calculators.emt import EMT
from ase.calculators.lj import LennardJones
from ase.units import GPa

from alpot.errors import NonFiniteError
from alpot.validation.cold_curve import cold_curve
from alpot.validation.lattice import Equilibrium, equilibrium

#: Lattice sums of fcc: Kittel, Introduction to Solid State Physics, chapter 3.
FCC_12, FCC_6 = 12.13188, 14.45392
SIGMA, EPSILON, CUTOFF = 3.4, 0.0104, 5.0


def test_lennard_jones_is_its_lattice_sums() -> None:
    pair = LennardJones(sigma=SIGMA, epsilon=EPSILON, rc=CUTOFF * SIGMA)
    crystal = equilibrium(pair, "Ar", "fcc")
    measured = cold_curve(pair, crystal)
    # E(V) = 2 ε [A12 (d/σ)^−12 − A6 (d/σ)^−6] with d³ = √2 V, and what the cutoff and the shift of the pair energy
    # leave out of it, 2 × 8π/3 ρ (σ/r_c)³ ε for a uniform density ρ/σ³.
    volumes = np.array(measured.curves[0].x) * crystal.volume
    inverse = SIGMA**3 / (np.sqrt(2) * volumes)  # (σ/d)³
    repulsion, attraction = 2 * EPSILON * FCC_12 * inverse**4, 2 * EPSILON * FCC_6 * inverse**2
    missing = 16 * np.pi / 3 * SIGMA**3 / volumes / CUTOFF**3 * EPSILON
    energies = repulsion - attraction + missing
    pressures = (4 * repulsion - 2 * attraction + missing) / volumes / GPa
    # The uniform density is good to a few percent of a correction that is 1 % itself.
    np.testing.assert_allclose(measured.curves[1].lines["cold pressure"], pressures, atol=2e-3, rtol=2e-3)
    found = measured.curves[0].lines["cold energy"]
    np.testing.assert_allclose(found, energies - energies[10], atol=1e-4, rtol=2e-3)
    assert measured.remarks == ()
    values = {value.name: (value.value, value.unit) for value in measured.values}
    assert values["cold pressure at V/V0 = 0.70"] == (pytest.approx(pressures[4], rel=3e-3), "GPa")
    assert values["cold pressure at V/V0 = 0.85"] == (pytest.approx(pressures[7], rel=3e-3), "GPa")
    assert values["cold energy at V/V0 = 1.30"] == (pytest.approx(energies[16] - energies[10], rel=3e-3), "eV/atom")


class _Changed(EMT):
    """EMT with a hole at one volume per atom, or with a wrong stress."""

    hole_at: float | None = None
    stress_factor = 1.0

    def calculate(self, *args: Any, **kwargs: Any) -> None:
        super().calculate(*args, **kwargs)
        if self.hole_at is not None:
            volume = self.atoms.get_volume() / len(self.atoms)
            self.results["energy"] -= len(self.atoms) * np.exp(-((volume - self.hole_at) ** 2))
        self.results["stress"] = self.stress_factor * self.results["stress"]


def test_a_hole_is_named(fcc_aluminum: Equilibrium) -> None:
    calculator = _Changed()
    calculator.hole_at = 0.6 * fcc_aluminum.volume
    measured = cold_curve(calculator, fcc_aluminum)
    assert "The energy does not rise on compression from V/V0 = 0.70 to 0.65, 0.65 to 0.60:" in measured.remarks[0]
    # The hole has no stress here, and that is seen too.
    assert "The stress is not the derivative of the energy" in measured.remarks[1]


def test_a_wrong_stress_is_named(fcc_aluminum: Equilibrium) -> None:
    calculator = _Changed()
    calculator.stress_factor = 1.1
    (remark,) = cold_curve(calculator, fcc_aluminum).remarks
    # EMT's 55 GPa at half the volume, and a tenth more.
    assert remark == (
        "The stress is not the derivative of the energy: at V/V0 = 0.50 the pressure is 60.5 GPa, but −dE/dV is"
        " 55.0 GPa."
    )


def test_a_pressure_that_is_not_finite_is_an_error(fcc_aluminum: Equilibrium) -> None:
    calculator = _Changed()
    calculator.stress_factor = np.nan
    with pytest.raises(NonFiniteError, match=r"fcc Al at V/V0 = 0\.50 is nan"):
        cold_curve(calculator, fcc_aluminum)
