"""What a measurement of a property gives: numbers, curves, and what has to be said about them.

A property is a function from an ASE calculator to a :class:`Measured`. It knows nothing of ensembles: the suite calls
it once with the potential and once with each of its members, and the spread of the members is its error bar.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from ase import Atoms
from ase.calculators.calculator import BaseCalculator

from alpot.errors import NonFiniteError
from alpot.store.property_file import Curve

__all__ = ["Curve", "Measured", "PropertyValue", "attached", "energy_of"]


@dataclass(frozen=True, kw_only=True)
class PropertyValue:
    """One measured number.

    Attributes:
        name: what was measured, as printed in tables.
        value: in ``unit``.
        unit: as printed in tables; empty for pure numbers.
        noise: standard error of the measurement itself, of a property that is an average over a finite run; None
            where the number is exact up to its tolerance.
        shortfall: why the value is not what it should have been, such as how a run ended early; or None.
    """

    name: str
    value: float
    unit: str
    noise: float | None = None
    shortfall: str | None = None


@dataclass(frozen=True, kw_only=True)
class Measured:
    """All that a property gives.

    Attributes:
        values: numbers, in the order of the table.
        curves: for plots.
        remarks: whole sentences on what the numbers do not say: a mode is imaginary, a fault is not stable.
    """

    values: tuple[PropertyValue, ...]
    curves: tuple[Curve, ...] = ()
    remarks: tuple[str, ...] = ()


def attached(calculator: BaseCalculator, atoms: Atoms) -> Atoms:
    """A copy of the atoms with the calculator attached; the caller's atoms are never touched."""
    copy = atoms.copy()
    copy.calc = calculator
    return copy


def energy_of(atoms: Atoms) -> float:
    """Potential energy in eV of atoms with a calculator.

    Raises:
        NonFiniteError: it is NaN or infinite.
    """
    energy = float(atoms.get_potential_energy())
    if not np.isfinite(energy):
        raise NonFiniteError(f"the energy of {atoms.symbols} is {energy}: not a finite number (eV)")
    return energy
