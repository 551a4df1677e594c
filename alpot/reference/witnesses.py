"""No number is believed that a code has said once only.

Files are cut short, mixed with those of another run, or damaged, and a parser finds numbers in all of them. Every code
writes its results in two places (a log for people, a file for programs); what a label holds must stand in both.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

from alpot.reference.dft_code import Calculation, OutputError, Reading

#: Å; outputs repeat positions and cell with 5 digits and more.
_GEOMETRY_TOLERANCE = 2e-4


def agree(what: str, first: ArrayLike | None, second: ArrayLike | None, tolerance: float) -> None:
    """Raises ``OutputError`` unless two places say the same.

    Args:
        what: the quantity, for the message.
        first, second: of the same shape; None where a place says nothing.
        tolerance: largest difference; what rounding in the coarser place explains.
    """
    if first is None or second is None:
        if first is second:
            return
        raise OutputError(f"only one of two places in the output tells the {what}")
    a, b = np.asarray(first, dtype=float), np.asarray(second, dtype=float)
    if a.shape != b.shape:
        raise OutputError(f"two places in the output tell the {what} in the shapes {a.shape} and {b.shape}")
    if not (np.isfinite(a).all() and np.isfinite(b).all()):  # nor may a tolerance grow with what is not finite
        raise OutputError(f"the output tells a {what} that is not finite")
    difference = np.abs(a - b).max(initial=0.0)
    if not difference <= tolerance:  # NaN is no agreement
        raise OutputError(f"two places in the output differ in the {what} by {difference:.3g}, above {tolerance:.3g}")


def as_declared(what: str, told: str | float | None, asked: str | float) -> None:
    """Raises ``OutputError`` unless the output repeats what was asked for: it is of another level of theory.

    Args:
        what: the setting, for the message.
        told: what the output says; None where it says nothing.
        asked: what was asked for; numbers may differ in the seventh digit.
    """
    is_number = isinstance(asked, float) and isinstance(told, float)
    if told == asked or (is_number and math.isclose(float(told or 0.0), float(asked), rel_tol=1e-6, abs_tol=1e-9)):
        return
    raise OutputError(f"the output is of another level of theory: its {what} is {told}, not {asked}")


def agreed(
    calculation: Calculation, reading: Reading, witness: Reading, *, energy: float, forces: float, stress: float
) -> Reading:
    """The reading, if it is of the frame that was asked for, and another one says the same.

    Args:
        calculation: what was asked for.
        reading: the more precise one, which is returned.
        witness: the other one.
        energy, forces, stress: tolerances in eV, eV/Å and eV/Å³: the rounding of the witness.

    Raises:
        OutputError: they differ, or belong to another frame.
    """
    shape = (len(calculation.atoms), 3)
    if reading.forces.shape != shape:
        raise OutputError(f"the output has forces of the shape {reading.forces.shape}, not {shape}")
    agree("energy", reading.energy, witness.energy, energy)
    agree("forces", reading.forces, witness.forces, forces)
    agree("stress", reading.stress, witness.stress, stress)
    if reading.smearing_energy is not None and witness.smearing_energy is not None:
        agree("smearing energy", reading.smearing_energy, witness.smearing_energy, energy)
    for told in (reading, witness):
        if told.cell is not None and calculation.atoms.cell.rank == 3:
            _same("cell", told.cell, calculation.atoms.cell.array)
        if told.symbols is not None and list(told.symbols) != list(calculation.atoms.symbols):
            raise OutputError("the output is of another frame: it has not the elements that were asked for")
        if told.positions is not None:
            _same_positions(told.positions, calculation)
    return reading


def _same(what: str, seen: np.ndarray, asked: np.ndarray) -> None:
    if seen.shape != asked.shape or not np.abs(seen - asked).max(initial=0.0) <= _GEOMETRY_TOLERANCE:
        raise OutputError(f"the output is of another frame: its {what} is not what was asked for")


def _same_positions(seen: np.ndarray, calculation: Calculation) -> None:
    """Up to lattice vectors: some codes wrap atoms into the cell."""
    atoms = calculation.atoms
    if seen.shape != atoms.positions.shape or not np.isfinite(seen).all():
        raise OutputError("the output is of another frame: it has not the atoms that were asked for")
    fractional = np.linalg.solve(atoms.cell.array.T, (seen - atoms.positions).T).T
    _same("positions", (fractional - np.round(fractional)) @ atoms.cell.array, np.zeros_like(seen))
