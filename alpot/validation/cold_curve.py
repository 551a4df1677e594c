"""The cold curve: energy and pressure of a static crystal from strong compression to strong expansion.

It tells what a potential does where shocks and melts take it: that it has a wall, and no holes on the way there.
"""

from __future__ import annotations

import numpy as np
from ase import Atoms
from ase.calculators.calculator import BaseCalculator
from ase.units import GPa
from numpy.typing import NDArray

from alpot.errors import NonFiniteError
from alpot.validation.crystals import build_crystal
from alpot.validation.lattice import Equilibrium
from alpot.validation.properties import Curve, Measured, PropertyValue, attached, energy_of

#: V/V0 from 0.5 (in aluminum 200 GPa and more, a strong shock) to 1.6 (beyond the liquid's spinodal).
_RATIOS = np.linspace(0.5, 1.6, 23)
#: V/V0 at which pressures and an energy go into the table: a shock, a strong shock, and a torn crystal.
_PRESSURE_RATIOS = (0.85, 0.70)
_ENERGY_RATIO = 1.3
#: −dE/dV is a central difference over this fraction of the volume: good to 1e-3, and to 0.02 GPa with float32 energies.
_DIFFERENCE = 0.005
#: Stress and energy disagree beyond this fraction of the pressure, and at least so many GPa.
_DISAGREEMENT, _LEAST_DISAGREEMENT = 0.02, 0.5


def cold_curve(calculator: BaseCalculator, crystal: Equilibrium) -> Measured:
    """Energy above equilibrium in eV/atom and pressure in GPa for V/V0 = 0.5 … 1.6, at constant c/a and 0 K.

    The pressure is that of the stress; a remark says where it is not −dE/dV. Another names where the energy does not
    rise with the distance from equilibrium: there the crystal falls into a hole of the potential.

    Args:
        calculator: any ASE calculator with stress.
        crystal: from :func:`alpot.validation.lattice.equilibrium` with the same calculator.

    Raises:
        NonFiniteError: an energy or a stress is NaN or infinite.
    """
    samples = np.array([_sample(calculator, crystal, ratio) for ratio in _RATIOS])
    energies, pressures, slopes = samples.T  # eV/atom, eV/Å³, eV/Å³
    above = energies - crystal.energy
    values = [
        PropertyValue(name=f"cold pressure at V/V0 = {ratio:.2f}", value=_at(ratio, pressures) / GPa, unit="GPa")
        for ratio in _PRESSURE_RATIOS
    ]
    values.append(
        PropertyValue(
            name=f"cold energy at V/V0 = {_ENERGY_RATIO:.2f}", value=_at(_ENERGY_RATIO, above), unit="eV/atom"
        )
    )
    return Measured(
        values=tuple(values),
        curves=(
            _curve("cold energy", "energy above equilibrium (eV/atom)", above),
            _curve("cold pressure", "pressure (GPa)", pressures / GPa),
        ),
        remarks=(*_holes(energies), *_inconsistency(pressures, slopes)),
    )


def _sample(calculator: BaseCalculator, crystal: Equilibrium, ratio: float) -> tuple[float, float, float]:
    """Energy in eV/atom, and the pressure in eV/Å³ from the stress and from −dE/dV."""

    def compressed(factor: float) -> Atoms:
        volume = ratio * factor * crystal.volume
        return attached(calculator, build_crystal(crystal.element, crystal.structure, volume, crystal.c_over_a))

    smaller, atoms, larger = (compressed(1 + sign * _DIFFERENCE) for sign in (-1, 0, 1))
    energy = energy_of(atoms) / len(atoms)
    pressure = float(-atoms.get_stress()[:3].mean())
    if not np.isfinite(pressure):
        raise NonFiniteError(
            f"the pressure of {crystal.structure} {crystal.element} at V/V0 = {ratio:.2f} is {pressure} eV/Å³"
        )
    slope = (energy_of(smaller) - energy_of(larger)) / (larger.get_volume() - smaller.get_volume())
    return energy, pressure, slope


def _at(ratio: float, samples: NDArray[np.float64]) -> float:
    return float(samples[np.abs(_RATIOS - ratio).argmin()])


def _curve(name: str, label: str, y: NDArray[np.float64]) -> Curve:
    return Curve(name=name, x_label="V/V0", y_label=label, x=tuple(_RATIOS.tolist()), lines={name: tuple(y.tolist())})


def _holes(energies: NDArray[np.float64]) -> tuple[str, ...]:
    """Where the energy falls while the crystal is taken away from V/V0 = 1, one sentence for each direction."""
    middle = int(np.abs(_RATIOS - 1).argmin())
    remarks = []
    for word, indices in (("compression", range(middle, 0, -1)), ("expansion", range(middle, len(_RATIOS) - 1))):
        step = -1 if word == "compression" else 1
        falls = [index for index in indices if not energies[index + step] > energies[index]]
        if falls:
            where = ", ".join(f"{_RATIOS[index]:.2f} to {_RATIOS[index + step]:.2f}" for index in falls)
            remarks.append(
                f"The energy does not rise on {word} from V/V0 = {where}: the potential has a hole, into which a"
                " simulation may fall."
            )
    return tuple(remarks)


def _inconsistency(pressures: NDArray[np.float64], slopes: NDArray[np.float64]) -> tuple[str, ...]:
    """Where the pressure of the stress and −dE/dV (eV/Å³) differ most, if they do."""
    excess = np.abs(pressures - slopes) - np.maximum(_DISAGREEMENT * np.abs(slopes), _LEAST_DISAGREEMENT * GPa)
    worst = int(excess.argmax())
    if excess[worst] <= 0:
        return ()
    return (
        f"The stress is not the derivative of the energy: at V/V0 = {_RATIOS[worst]:.2f} the pressure is"
        f" {pressures[worst] / GPa:.1f} GPa, but −dE/dV is {slopes[worst] / GPa:.1f} GPa.",
    )
