"""Equation of state of a crystal: bulk modulus and its pressure derivative, after Birch and Murnaghan."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from alpot.errors import PotentialError


class EquationOfState(NamedTuple):
    """A fitted equation of state.

    Attributes:
        volume: of the minimum, Å³ per atom.
        energy: of the minimum, eV/atom.
        bulk_modulus: eV/Å³.
        derivative: dB/dP.
        misfit: eV/atom, the largest deviation of an energy from the fit.
    """

    volume: float
    energy: float
    bulk_modulus: float
    derivative: float
    misfit: float


def birch_murnaghan(volumes: NDArray[np.float64], energies: NDArray[np.float64]) -> EquationOfState:
    """Fit the third-order equation of state of Birch, Phys. Rev. 71, 809 (1947).

    It is a cubic in x = V^(−2/3), so the fit is linear. At the minimum, with primes for derivatives by x,
    B = 4/9 x² E″/V and dB/dP = 4 + 2/3 x E‴/E″.

    Args:
        volumes: (n,) Å³ per atom.
        energies: (n,) eV/atom.

    Raises:
        PotentialError: there is no minimum among these volumes.
    """
    x = volumes ** (-2 / 3)
    middle, width = x.mean(), np.ptp(x) / 2  # scaled to ±1, to keep the fit well conditioned
    z = (x - middle) / width
    coefficients = np.polynomial.polynomial.polyfit(z, energies, 3)
    _, c1, c2, c3 = coefficients
    # The root of c1 + 2 c2 z + 3 c3 z² with positive curvature, in the form that allows c3 = 0.
    discriminant = c2**2 - 3 * c1 * c3
    denominator = c2 + np.sqrt(max(discriminant, 0.0))
    if discriminant <= 0 or denominator <= 0 or abs(c1) > denominator:
        raise PotentialError(
            f"the energies at {volumes.min():.2f} to {volumes.max():.2f} Å³ per atom have no minimum in their equation"
            " of state: they are not smooth, or this calculator does not bind the crystal"
        )
    root = -c1 / denominator
    x_minimum = middle + width * root
    second, third = (2 * c2 + 6 * c3 * root) / width**2, 6 * c3 / width**3
    volume = x_minimum**-1.5
    return EquationOfState(
        volume=float(volume),
        energy=float(np.polynomial.polynomial.polyval(root, coefficients)),
        bulk_modulus=float(4 / 9 * x_minimum**2 * second / volume),
        derivative=float(4 + 2 / 3 * x_minimum * third / second),
        misfit=float(np.abs(energies - np.polynomial.polynomial.polyval(z, coefficients)).max()),
    )
