"""What a measured property is, and how an ensemble gives it an uncertainty at no extra cost.

A property is computed once per *voice*: voice 0 is the potential itself, the others are the members of its ensemble,
all read from the same calls. The standard deviation over the members is the uncertainty of the property.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from ase import Atoms
from ase.calculators.calculator import BaseCalculator
from numpy.typing import NDArray

from alpot.errors import NonFiniteError


@dataclass(frozen=True, kw_only=True)
class PropertyValue:
    """One measured number.

    Attributes:
        name: what was measured, as printed in tables.
        value: in ``unit``.
        unit: as printed in tables; empty for pure numbers.
        std: standard deviation over the members of an ensemble (spread of single members, dividing by M − 1), or None
            where the calculator has no members or the property does not come from energies alone.
        shortfall: why the value is not what it should have been, such as how a run ended early; or None.
    """

    name: str
    value: float
    unit: str
    std: float | None = None
    shortfall: str | None = None


def attached(calculator: BaseCalculator, atoms: Atoms) -> Atoms:
    """A copy of the atoms with the calculator attached; the caller's atoms are never touched."""
    copy = atoms.copy()
    copy.calc = calculator
    return copy


def energy_voices(atoms: Atoms) -> NDArray[np.float64]:
    """Total energy according to the calculator and to each member of its ensemble.

    Args:
        atoms: with a calculator; members are found in its result ``energy_members``, (M,) eV, where it has that.

    Returns:
        (1 + M,) eV, the calculator's own energy first.

    Raises:
        NonFiniteError: an energy is NaN or infinite.
    """
    energy = atoms.get_potential_energy()
    members = np.ravel(getattr(atoms.calc, "results", {}).get("energy_members", ()))
    voices = np.concatenate([[energy], members])
    if not np.isfinite(voices).all():
        raise NonFiniteError(f"the energy of {atoms.symbols} is {voices[0]}: not a finite number (eV)")
    return voices


def from_voices(name: str, voices: NDArray[np.float64], unit: str) -> PropertyValue:
    """A property from its value in each voice.

    Args:
        name: see :class:`PropertyValue`.
        voices: (1 + M,) in ``unit``.
        unit: see :class:`PropertyValue`.
    """
    members = voices[1:]
    # A member without a value (say, no minimum in the window) leaves the spread unknown, rather than too small.
    spread = float(members.std(ddof=1)) if len(members) > 1 else None
    std = spread if spread is not None and np.isfinite(spread) else None
    return PropertyValue(name=name, value=float(voices[0]), unit=unit, std=std)
