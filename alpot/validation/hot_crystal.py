"""The crystal in motion: its lattice constant at temperature and its expansion, from molecular dynamics.

Nothing is assumed of the potential, unlike in the quasi-harmonic approximation; but atoms move classically, which
matters below the Debye temperature.
"""

from __future__ import annotations

import numpy as np
from ase.calculators.calculator import BaseCalculator
from numpy.typing import NDArray

from alpot.validation.averages import standard_error
from alpot.validation.dynamics import set_velocities
from alpot.validation.lattice import Equilibrium
from alpot.validation.properties import Measured, PropertyValue, attached
from alpot.validation.runs import at_zero_pressure, run_checked, settle

#: In units of the melting temperature: 300 and 600 K for Al. Quantum effects are small, and vacancies few.
_TEMPERATURES = (300 / 933, 600 / 933)
_SETTLING_PS = 1.5
#: Damping time of the barostat: beyond a sound wave through the cell.
_PRESSURE_FS = 300.0
_SAMPLE_INTERVAL = 5


def hot_crystal(
    calculator: BaseCalculator,
    crystal: Equilibrium,
    melting_temperature: float,
    rng: np.random.Generator,
    *,
    minimum_atoms: int = 100,
    time_ps: float = 5.0,
) -> Measured:
    """Lattice constant at about a third of the melting temperature, and the mean linear expansion up to two thirds.

    Runs at constant temperature and zero pressure by the equations of Martyna, Tobias and Klein, J. Chem. Phys. 101,
    4177 (1994). The ratio c/a of hexagonal crystals stays as it is at rest.

    Args:
        calculator: any ASE calculator with stress.
        crystal: at equilibrium according to the same calculator.
        melting_temperature: K.
        rng: first velocities and random forces.
        minimum_atoms: the cell has at least so many.
        time_ps: length of each of the two runs.

    Raises:
        PotentialError: a run fails.
    """
    cold, hot = (share * melting_temperature for share in _TEMPERATURES)
    lengths = [_lengths(calculator, crystal, kelvin, rng, minimum_atoms, time_ps) for kelvin in (cold, hot)]
    (a, b), (da, db) = [length.mean() for length in lengths], [standard_error(length) for length in lengths]
    per_kelvin = 1e6 / (a * (hot - cold))
    return Measured(
        values=(
            PropertyValue(name="lattice constant at a third of melting, dynamics", value=float(a), unit="Å", noise=da),
            PropertyValue(
                name="linear expansion, a third to two thirds of melting, dynamics",
                value=float((b - a) * per_kelvin),
                unit="1e-6/K",
                noise=float(np.hypot(da, db) * per_kelvin),
            ),
        )
    )


def _lengths(
    calculator: BaseCalculator,
    crystal: Equilibrium,
    temperature: float,
    rng: np.random.Generator,
    minimum_atoms: int,
    time_ps: float,
) -> NDArray[np.float64]:
    """(n_samples,) lattice constant in Å along a run."""
    what = f"{crystal.structure} {crystal.element} at {temperature:.0f} K"
    atoms = attached(calculator, crystal.supercell(minimum_atoms))
    set_velocities(atoms, 2 * temperature, rng)  # half of it becomes potential energy
    shape = atoms.cell.array / np.cbrt(atoms.cell.volume)
    settle(atoms, temperature, crystal.bulk_modulus, _SETTLING_PS, what)
    # Edges have settled one by one; from now on the shape is the crystal's.
    atoms.set_cell(shape * np.cbrt(atoms.cell.volume), scale_atoms=True)
    volumes: list[float] = []
    run_checked(
        at_zero_pressure(atoms, temperature, pressure_fs=_PRESSURE_FS),
        atoms,
        time_ps,
        what,
        temperature=temperature,
        sample=lambda: volumes.append(atoms.cell.volume / len(atoms)),
        interval=_SAMPLE_INTERVAL,
    )
    return crystal.lattice_constant * np.cbrt(np.array(volumes) / crystal.volume)
