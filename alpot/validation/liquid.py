"""The liquid at zero pressure: its density, its structure and how fast its atoms diffuse."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from ase import Atoms, units
from ase.calculators.calculator import BaseCalculator
from ase.neighborlist import neighbor_list
from numpy.typing import NDArray

from alpot.errors import PotentialError
from alpot.validation.averages import standard_error
from alpot.validation.dynamics import time_step_fs
from alpot.validation.lattice import Equilibrium
from alpot.validation.properties import Curve, Measured, PropertyValue, attached
from alpot.validation.runs import at_zero_pressure, melt, run_checked, settle

#: Volume of the liquid in which the crystal melts, in volumes of the crystal at 0 K: metals at their melting point.
_LIQUID_VOLUME = 1.12
_SETTLING_PS = 2.0
#: Damping time of the barostat: beyond a sound wave through the cell.
_PRESSURE_FS = 500.0
_SAMPLE_INTERVAL = 10
#: Every so many samples, distances are counted.
_DISTANCE_SAMPLES = 5
_BIN = 0.05  # Å
#: Structure and diffusion are measured in so many blocks of the run, too, whose scatter is their noise; the latter from
#: displacements over these fractions of a block: 0.4 to 0.8 ps of the default 1.6 ps, when the motion is no longer that
#: of a free atom in a cage.
_BLOCKS = 5
_LAGS = (0.25, 0.5)
#: Within a block, atoms of a liquid move at least by this fraction of the distance between neighbors; atoms of a
#: crystal or glass stay within 0.15 of it (Lindemann).
_LIQUID_MOTION = 0.3


@dataclass(frozen=True, kw_only=True)
class _Run:
    """What was sampled at equal intervals.

    Attributes:
        interval_ps: between samples.
        volumes: (n_samples,) Å³.
        scaled: (n_samples, n_atoms, 3) positions in units of the cell's edges, never wrapped.
        frames: every fifth sample.
    """

    interval_ps: float
    volumes: NDArray[np.float64]
    scaled: NDArray[np.float64]
    frames: list[Atoms]


def liquid_properties(
    calculator: BaseCalculator,
    crystal: Equilibrium,
    temperature: float,
    rng: np.random.Generator,
    *,
    minimum_atoms: int = 250,
    time_ps: float = 8.0,
) -> Measured:
    """Density, radial distribution and self-diffusion of the liquid at zero pressure.

    The crystal is melted at three times the temperature, settles in volume by weak coupling, and is then sampled in one
    run at constant temperature and pressure by the equations of Martyna, Tobias and Klein, J. Chem. Phys. 101, 4177
    (1994). A global thermostat of this kind leaves diffusion as it is (Basconi and Shirts, J. Chem. Theory Comput. 9,
    2887 (2013)); displacements are those of scaled positions, so that the breathing of the cell does not count.

    Diffusion is Einstein's, ⟨|r(t) − r(0)|²⟩ = 6 D t, and is that of the periodic cell: in an infinite liquid it is
    larger by 2.84 k_B T / (6 π η L), η the viscosity (Yeh and Hummer, J. Phys. Chem. B 108, 15873 (2004)), some 10 % in
    a cell of 256 metal atoms. Two potentials are to be compared at equal numbers of atoms.

    Args:
        calculator: any ASE calculator with stress.
        crystal: at equilibrium according to the same calculator.
        temperature: K.
        rng: first velocities and random forces.
        minimum_atoms: the cell has at least so many.
        time_ps: length of the run that is sampled.

    Raises:
        PotentialError: a run fails, or what it ends with is not a liquid.
    """
    what = f"liquid {crystal.element} at {temperature:.0f} K"
    atoms = attached(calculator, crystal.supercell(minimum_atoms))
    atoms.set_cell(atoms.cell.array * _LIQUID_VOLUME ** (1 / 3), scale_atoms=True)
    melt(atoms, temperature, rng, what)
    settle(atoms, temperature, crystal.bulk_modulus, _SETTLING_PS, what)
    run = _sample(atoms, temperature, time_ps, what)

    density = atoms.get_masses().sum() * units._amu * 1e27 / run.volumes  # amu/Å³ are 1e27 times as many g/cm³ as kg
    diffusion = _diffusion(run)
    _check_liquid(diffusion, run, what)
    return Measured(
        values=(
            PropertyValue(
                name="liquid density", value=float(density.mean()), unit="g/cm³", noise=standard_error(density)
            ),
            PropertyValue(
                name="liquid self-diffusion",
                value=float(10 * diffusion.mean()),  # 1 Å²/ps = 10⁻⁸ m²/s
                unit="10⁻⁹ m²/s",
                noise=float(10 * diffusion.std(ddof=1) / np.sqrt(_BLOCKS)),
            ),
            *_structure_values(run.frames),
        ),
        curves=(_distribution_curve(run.frames),),
    )


def _sample(atoms: Atoms, temperature: float, time_ps: float, what: str) -> _Run:
    """Run at constant temperature and zero pressure."""
    dynamics = at_zero_pressure(atoms, temperature, pressure_fs=_PRESSURE_FS)
    volumes: list[float] = []
    scaled: list[NDArray[np.float64]] = []
    frames: list[Atoms] = []

    def sample() -> None:
        volumes.append(atoms.cell.volume)
        scaled.append(atoms.get_scaled_positions(wrap=False))
        if len(volumes) % _DISTANCE_SAMPLES == 0:
            frames.append(Atoms(numbers=atoms.numbers, positions=atoms.positions, cell=atoms.cell, pbc=True))

    run_checked(dynamics, atoms, time_ps, what, temperature=temperature, sample=sample, interval=_SAMPLE_INTERVAL)
    return _Run(
        interval_ps=time_step_fs(atoms) * _SAMPLE_INTERVAL / 1000,
        volumes=np.array(volumes),
        scaled=np.array(scaled),
        frames=frames,
    )


def _diffusion(run: _Run) -> NDArray[np.float64]:
    """(n_blocks,) Å²/ps: a sixth of the slope of the mean square displacement, averaged over all origins of a block."""
    edges = np.mean([frame.cell.lengths() for frame in run.frames], axis=0)
    length = len(run.scaled) // _BLOCKS
    lags = np.unique(np.linspace(_LAGS[0] * length, _LAGS[1] * length, 8).astype(int))
    slopes = []
    for block in range(_BLOCKS):
        positions = run.scaled[block * length : (block + 1) * length] * edges
        positions = positions - positions.mean(axis=1, keepdims=True)  # the drift of the whole is no diffusion
        squares = [((positions[lag:] - positions[:-lag]) ** 2).sum(axis=2).mean() for lag in lags]
        slopes.append(np.polynomial.polynomial.polyfit(lags * run.interval_ps, squares, 1)[1])
    return np.array(slopes) / 6


def _check_liquid(diffusion: NDArray[np.float64], run: _Run, what: str) -> None:
    """Refuse a crystal that did not melt, a liquid that froze on the way, and a glass."""
    block_ps = run.interval_ps * len(run.volumes) / _BLOCKS
    neighbor = 2 ** (1 / 6) * np.cbrt(run.volumes.mean() / run.scaled.shape[1])  # Å, of close-packed spheres
    motion = np.sqrt(np.maximum(6 * diffusion * block_ps, 0.0)) / neighbor
    if not motion.min() > _LIQUID_MOTION:
        raise PotentialError(
            f"{what} is not a liquid: within {block_ps:.1f} ps its atoms diffused by {motion.min():.2f} of the distance"
            f" between neighbors (at least {_LIQUID_MOTION} in a liquid); it froze, or never melted. Try a higher"
            " temperature"
        )


def _distribution_curve(frames: list[Atoms]) -> Curve:
    radii, distribution = _radial_distribution(frames)
    return Curve(
        name="liquid radial distribution",
        x_label="distance (Å)",
        y_label="g(r)",
        x=tuple(radii.tolist()),
        lines={"liquid radial distribution": tuple(distribution.tolist())},
    )


def _structure_values(frames: list[Atoms]) -> tuple[PropertyValue, ...]:
    """First peak and coordination of the whole run, with the noise that its blocks show."""
    length = len(frames) // _BLOCKS
    blocks = [_structure(frames[block * length : (block + 1) * length]) for block in range(_BLOCKS)]
    errors = np.std(blocks, axis=0, ddof=1) / np.sqrt(_BLOCKS)
    names = (("first-neighbor distance", "Å"), ("first-peak height", ""), ("coordination number", ""))
    return tuple(
        PropertyValue(name=f"liquid {name}", value=value, unit=unit, noise=float(error))
        for (name, unit), value, error in zip(names, _structure(frames), errors, strict=True)
    )


def _structure(frames: list[Atoms]) -> tuple[float, float, float]:
    """Position in Å and height of the first peak of g(r), and the number of neighbors below it."""
    radii, distribution = _radial_distribution(frames)
    peak, height = _first_peak(radii, distribution)
    density = len(frames[0]) / float(np.mean([frame.cell.volume for frame in frames]))
    return peak, height, _coordination(radii, distribution, peak, density)


def _radial_distribution(frames: list[Atoms]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Midpoints of bins (n_bins,) in Å up to half the cell, and g(r) there."""
    reach = min(frame.cell.lengths().min() for frame in frames) / 2
    edges = np.arange(0, reach, _BIN)
    shells = 4 / 3 * np.pi * np.diff(edges**3)
    total = np.zeros(len(shells))
    for frame in frames:
        distances = neighbor_list("d", frame, edges[-1])  # each pair twice
        total += np.histogram(distances, edges)[0] * frame.cell.volume / (len(frame) ** 2 * shells)
    return (edges[1:] + edges[:-1]) / 2, total / len(frames)


def _first_peak(radii: NDArray[np.float64], distribution: NDArray[np.float64]) -> tuple[float, float]:
    """Position in Å and height of the highest peak, of the parabola through the five bins about it."""
    top = int(distribution.argmax())
    near = slice(top - 2, top + 3)
    c0, c1, c2 = np.polynomial.polynomial.polyfit(radii[near] - radii[top], distribution[near], 2)
    return float(radii[top] - c1 / (2 * c2)), float(c0 - c1**2 / (4 * c2))


def _coordination(
    radii: NDArray[np.float64], distribution: NDArray[np.float64], peak: float, number_density: float
) -> float:
    """Neighbors up to the first minimum: ∫ 4π r² ρ g(r) dr; the minimum lies between the peak and twice its radius."""
    smooth = np.convolve(distribution, np.ones(5) / 5, mode="same")
    between = np.flatnonzero((radii > peak) & (radii < min(1.8 * peak, radii[-3])))
    minimum = between[smooth[between].argmin()]
    shells = 4 * np.pi * radii**2 * _BIN
    return float(number_density * (shells * distribution)[: minimum + 1].sum())
