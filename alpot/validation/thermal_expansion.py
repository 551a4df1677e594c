"""Thermal expansion of a crystal in the quasi-harmonic approximation: phonons at several volumes.

F(V, T) = E(V) + F_vib(V, T), and at a temperature the crystal has the volume with the lowest F: Allen, Mod. Phys.
Lett. B 34, 2050025 (2020). What is left out is that vibrations change each other at constant volume. That grows with
temperature, so curves end well below melting. It is not small either where frequencies change within the amplitude of
a vibration, as they do for learned potentials whose energy ripples: such a potential is refused, and has to be examined
by molecular dynamics (``hot_crystal``).
"""

from __future__ import annotations

import numpy as np
from ase.calculators.calculator import BaseCalculator
from ase.units import GPa
from numpy.polynomial import Polynomial
from numpy.typing import NDArray

from alpot.errors import PotentialError
from alpot.validation.lattice import Equilibrium
from alpot.validation.melting import melting_temperature
from alpot.validation.phonons import (
    displaced_crystal,
    instability_of,
    measure_force_constants,
    sample_modes,
    vibrational_free_energy,
)
from alpot.validation.properties import Curve, Measured, PropertyValue, attached, energy_of

#: Volumes, relative to equilibrium without vibrations: metals expand by 6 to 7 % until they melt.
_VOLUMES = np.linspace(0.98, 1.10, 9)
#: Of the polynomial in V that is fitted to the free energies.
_DEGREE = 4
#: One more than the polynomial has coefficients.
_FEWEST_VOLUMES = _DEGREE + 2
#: K; of the numbers in the table.
_ROOM_TEMPERATURE = 300.0
#: Of the melting temperature. Above, anharmonicity and vacancies are felt in all metals.
_HIGHEST_SHARE_OF_MELTING = 0.7
#: Å. Shorter than for dispersion curves: sums over all modes converge sooner, EMT's expansion to 1 %.
_SUPERCELL_LENGTH = 10.0
#: Between zero and the temperature of the table.
_STEPS = 30
#: eV/atom, root mean square at the temperature of the table. EMT's free energies are off the polynomial by 3e-6, those
#: of the published ANI-Al by 3e-4: its transverse frequency at L rises by half between 98 and 103 % of the volume and
#: falls again, and its crystal would shrink when heated to 300 K, while in molecular dynamics it expands as it should.
_RIPPLE = 1e-4


def thermal_expansion(
    calculator: BaseCalculator, crystal: Equilibrium, *, supercell_length: float = _SUPERCELL_LENGTH
) -> Measured:
    """Linear expansion coefficient, lattice constant, isothermal bulk modulus at room temperature; the curve a(T).

    Room temperature is 300 K; elements that melt below 430 K are examined at 0.7 of their melting temperature instead.
    c/a of hcp stays as it is without vibrations: the expansion is the mean over all directions.

    Args:
        calculator: any ASE calculator.
        crystal: from :func:`alpot.validation.lattice.equilibrium` with the same calculator.
        supercell_length: Å, smallest distance between images of the displaced atom.

    Raises:
        PotentialError: the crystal is unstable at too many volumes, or its free energy has no minimum among them, or
            its element has no known melting temperature.
        NonFiniteError: an energy or a force is NaN or infinite.
    """
    highest = _HIGHEST_SHARE_OF_MELTING * melting_temperature([crystal.element])
    temperature = min(_ROOM_TEMPERATURE, highest)
    step = temperature / _STEPS
    temperatures = np.arange(0, highest + step / 2, step)
    volumes, energies, remarks = _free_energies(calculator, crystal, temperatures, supercell_length)
    _require_smoothness(crystal, volumes, energies[_STEPS])
    minima = np.array([_minimum(volumes, row) for row in energies])  # (temperatures, 2)
    missing = np.isnan(minima[:, 0])
    known = int(missing.argmax()) if missing.any() else len(temperatures)
    if known <= _STEPS:
        raise PotentialError(
            f"the quasi-harmonic free energy of {crystal.structure} {crystal.element} has no minimum at"
            f" {temperatures[known]:.0f} K between {volumes[0]:.2f} and {volumes[-1]:.2f} Å³ per atom: this potential"
            f" has no expansion at {temperature:.0f} K"
        )
    if known < len(temperatures):
        remarks = (*remarks, f"The expansion leaves the volumes examined above {temperatures[known - 1]:.0f} K.")
    temperatures, volumes, moduli = temperatures[:known], minima[:known, 0], minima[:known, 1]
    lengths = crystal.lattice_constant * np.cbrt(volumes / crystal.volume)
    expansion = np.gradient(np.log(lengths), temperatures, edge_order=2)
    at = "at room temperature, quasi-harmonic"
    name = "lattice constant against temperature"
    return Measured(
        values=(
            PropertyValue(name=f"linear expansion {at}", value=float(1e6 * expansion[_STEPS]), unit="1e-6/K"),
            PropertyValue(name=f"lattice constant {at}", value=float(lengths[_STEPS]), unit="Å"),
            PropertyValue(name=f"bulk modulus {at}", value=float(moduli[_STEPS] / GPa), unit="GPa"),
        ),
        curves=(
            Curve(
                name=name,
                x_label="temperature (K)",
                y_label="lattice constant (Å)",
                x=tuple(temperatures),
                lines={name: tuple(lengths)},
            ),
        ),
        remarks=remarks,
    )


def _free_energies(
    calculator: BaseCalculator, crystal: Equilibrium, temperatures: NDArray[np.float64], supercell_length: float
) -> tuple[NDArray[np.float64], NDArray[np.float64], tuple[str, ...]]:
    """Helmholtz free energies at volumes at which the crystal is stable.

    Returns:
        Volumes in Å³/atom (n_volumes,), energies in eV/atom (n_temperatures, n_volumes), and a remark where a volume is
        missing.

    Raises:
        PotentialError: the crystal is unstable at too many volumes.
    """
    phonon = displaced_crystal(crystal, supercell_length)
    stable, energies, remarks = [], [], []
    for volume in crystal.volume * _VOLUMES:
        stretch = float(np.cbrt(volume / crystal.volume))
        measure_force_constants(phonon, calculator, stretch=stretch)
        sample_modes(phonon)
        instability = instability_of(phonon, crystal)
        if instability:
            remarks.append(f"At {volume:.2f} Å³ per atom {instability.sentence} This volume is left out.")
            continue
        cell = attached(calculator, crystal.primitive)
        cell.set_cell(stretch * cell.cell, scale_atoms=True)
        stable.append(volume)
        energies.append(energy_of(cell) / len(cell) + vibrational_free_energy(phonon, temperatures))
    if len(stable) < _FEWEST_VOLUMES:
        raise PotentialError(
            f"{crystal.structure} {crystal.element} is stable at {len(stable)} of {len(_VOLUMES)} volumes"
            f" ({_FEWEST_VOLUMES} are needed), so its thermal expansion is unknown. {remarks[0]}"
        )
    return np.array(stable), np.transpose(energies), tuple(remarks)


def _require_smoothness(crystal: Equilibrium, volumes: NDArray[np.float64], energies: NDArray[np.float64]) -> None:
    """Refuse free energies (n_volumes,) that are no smooth function of the volume.

    Raises:
        PotentialError: they are not.
    """
    fit = Polynomial.fit(volumes, energies, _DEGREE)
    ripple = float(np.sqrt(np.mean((fit(volumes) - energies) ** 2)))
    if not ripple < _RIPPLE:
        raise PotentialError(
            f"the quasi-harmonic free energy of {crystal.structure} {crystal.element} is no smooth function of the"
            f" volume: it is {1000 * ripple:.2f} meV/atom off a polynomial (limit {1000 * _RIPPLE:.2f}). The"
            " frequencies of this potential change within the amplitude of the vibrations; find its expansion by"
            " molecular dynamics"
        )


def _minimum(volumes: NDArray[np.float64], energies: NDArray[np.float64]) -> tuple[float, float]:
    """Volume of the lowest minimum (Å³/atom), and the bulk modulus V F'' there (eV/Å³); NaN if there is none."""
    energy = Polynomial.fit(volumes, energies, _DEGREE)
    stationary = [root.real for root in energy.deriv().roots() if np.isreal(root)]
    minima = [v for v in stationary if volumes[0] < v < volumes[-1] and energy.deriv(2)(v) > 0]
    if not minima:
        return np.nan, np.nan
    volume = min(minima, key=energy)
    return float(volume), float(volume * energy.deriv(2)(volume))
