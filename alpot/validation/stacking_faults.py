"""Energies of faults in the stacking of close-packed planes of fcc, and the curve of sliding one plane over another."""

from __future__ import annotations

import numpy as np
from ase.calculators.calculator import BaseCalculator
from ase.constraints import FixCartesian
from ase.units import J, m
from numpy.typing import NDArray
from scipy.interpolate import CubicSpline

from alpot.errors import PotentialError
from alpot.validation.lattice import Equilibrium
from alpot.validation.lattice_planes import LatticePlanes, cubic_planes, relax_along_normal, reversed_in_plane
from alpot.validation.properties import Curve, Measured, PropertyValue, attached

#: (111) planes of a cell. Faults are then twice the cutoff of a learned potential apart, or more.
_PLANES = 24
#: Shifts along the curve; the spline through them is within 0.1 % of its limit at the maximum.
_SHIFTS = 11


def stacking_fault_energies(
    calculator: BaseCalculator, crystal: Equilibrium, *, planes: int = _PLANES, shifts: int = _SHIFTS
) -> Measured:
    """Intrinsic, extrinsic, twin and unstable stacking-fault energies of fcc in mJ/m², and the curve to the first.

    One part of the crystal slides over the other along ⟨112⟩ by u times the Burgers vector of the partial dislocation,
    a/√6: at u = 1 lies the intrinsic fault, and on the way to it the unstable one (Vítek, Phil. Mag. 18, 773 (1968);
    Rice, J. Mech. Phys. Solids 40, 239 (1992)). Along the curve atoms and cell relax along the normal only. All cells
    are periodic, with one atom per (111) plane and one fault, but for the twin, which needs two boundaries.

    Args:
        calculator: any ASE calculator with stress.
        crystal: fcc, from :func:`alpot.validation.lattice.equilibrium` with the same calculator.
        planes: of a cell; even.
        shifts: points of the curve.

    Raises:
        PotentialError: the crystal is not fcc, or a fault does not relax.
    """
    if crystal.structure != "fcc":
        raise PotentialError(
            f"stacking-fault energies are computed for fcc crystals only; {crystal.element} is examined as"
            f" {crystal.structure}"
        )
    faults = _Faults(calculator, cubic_planes(crystal, (1, 1, 1)), planes)
    u = np.linspace(0, 1, shifts)
    curve = np.array([faults.sheared(float(shift)) for shift in u])
    values = {
        "intrinsic stacking fault energy": curve[-1],
        "unstable stacking fault energy": _highest(u, curve),
        "extrinsic stacking fault energy": faults.reversed_steps(2),
        "twin boundary energy (Σ3 (111))": faults.reversed_steps(planes // 2) / 2,
    }
    return Measured(
        values=tuple(PropertyValue(name=name, value=float(value), unit="mJ/m²") for name, value in values.items()),
        curves=(
            Curve(
                name="generalized stacking fault energy",
                x_label="shift along ⟨112⟩ (a/√6)",
                y_label="energy (mJ/m²)",
                x=tuple(u.tolist()),
                lines={"generalized stacking fault energy": tuple(curve.tolist())},
            ),
        ),
    )


def _highest(u: NDArray[np.float64], energies: NDArray[np.float64]) -> float:
    """Maximum of the spline through points (n,); by the three-fold axis of the plane its ends are level."""
    spline = CubicSpline(u, energies, bc_type="clamped")
    level = spline.derivative().roots(extrapolate=False)
    return float(spline(level).max())


class _Faults:
    """Energies in mJ/m² of cells of so many (111) planes whose steps were changed."""

    def __init__(self, calculator: BaseCalculator, planes: LatticePlanes, count: int) -> None:
        self._calculator = calculator
        self._planes = planes
        self._steps = np.tile(planes.steps, (count, 1))
        bulk = attached(calculator, planes.stack(self._steps))
        # Relaxed as well: the lattice constant is that of an equation of state, not of the stress.
        self._bulk_energy = relax_along_normal(bulk, f"fcc {planes.element}")

    def sheared(self, shift: float) -> float:
        """One step longer by a fraction of itself in the plane: a whole one leads to the place of the step after it."""
        steps = self._steps.copy()
        steps[-1, :2] *= 1 + shift
        return self._relaxed(steps, f"a (111) stacking fault sheared by {shift:.2f} partials in fcc", in_plane=False)

    def reversed_steps(self, count: int) -> float:
        """The last steps lead back in the plane: two make an extrinsic fault, half of all make two twin boundaries."""
        steps = self._steps.copy()
        steps[-count:] = reversed_in_plane(steps[-count:])
        return self._relaxed(steps, f"a stacking fault of {count} reversed (111) planes in fcc", in_plane=True)

    def _relaxed(self, steps: NDArray[np.float64], what: str, *, in_plane: bool) -> float:
        atoms = attached(self._calculator, self._planes.stack(steps))
        if not in_plane:
            atoms.set_constraint(FixCartesian(range(len(atoms)), mask=(True, True, False)))
        energy = relax_along_normal(atoms, f"{what} {self._planes.element}")
        return (energy - self._bulk_energy) / self._planes.area / (1e-3 * J / m**2)
