"""A small shock: a crystal runs into a wall, and what lies behind the front obeys the jump conditions, or does not."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from ase import Atoms, units
from ase.calculators.calculator import BaseCalculator
from ase.md.verlet import VelocityVerlet
from numpy.typing import NDArray

from alpot.errors import PotentialError
from alpot.validation.averages import standard_error
from alpot.validation.bars import build_bar
from alpot.validation.crystallinity import crystalline_share, lateral_wave_vectors
from alpot.validation.dynamics import set_velocities, time_step_fs
from alpot.validation.lattice import Equilibrium
from alpot.validation.melting import melting_temperature
from alpot.validation.properties import Curve, Measured, PropertyValue, attached
from alpot.validation.runs import hold, run_checked, settle

#: ASE's unit of velocity in km/s: 1 km/s is 0.01 Å/fs.
_KM_PER_S = 0.01 / units.fs
#: K, room temperature, for elements that are then solid; others at this fraction of their melting temperature, where
#: no crystal melts by itself.
_ROOM, _SOLID = 300.0, 0.6
#: Length of the bar in units of its width; the wall that stops it; the vacuum behind it.
_ELONGATION = 5.0
_WALL_CELLS = 2
_VACUUM = 15.0  # Å, beyond the reach of metals' potentials
#: The crystal's own volume at the temperature is the average of so many ps, after as many that do not count.
_EXPANSION_PS, _EXPANSION_ATOMS = 1.0, 100
#: A front compresses within some tens of fs: half of the usual time step.
_STEP = 0.5
_SAMPLE_INTERVAL = 10
#: The run ends when the front has passed this share of the layers; it starts to count after the first share, when it
#: has become steady.
_COUNTED = (0.25, 0.8)
#: The velocity is measured over the whole way, and over so many parts of it for its noise.
_PARTS = 3
#: Å: what lies closer to the wall or to the front than this is neither crystal nor shocked state.
_EDGE = 8.0
#: The slowest front that is waited for, in units of the speed of sound √(B/ρ).
_SLOWEST = 0.7
#: Fewer samples of the shocked state have no standard error.
_FEWEST_SAMPLES = 5
#: When the front is at this share of the layers, more than this share of those ahead is crystal; of a melt none is.
_HALFWAY, _CRYSTAL = 0.5, 0.5
#: Two measurements of the pressure agree within this fraction in a steady shock.
_STEADY = 0.1


@dataclass(frozen=True, kw_only=True)
class _Bar:
    """Atoms that fly into a wall at rest, and the layers that they begin in.

    Attributes:
        atoms: with calculator, velocities and the wall's atoms fixed.
        layer: (n_atoms,) number of the layer, from the wall on.
        start: (n_layers,) first height of the layers in Å; 0 is the wall's surface.
        area: of the bar's cross-section, Å².
        density: before the shock, amu/Å³.
        temperature: before the shock, K.
        wave_vectors: of the crystal's lateral order, see :func:`lateral_wave_vectors`.
    """

    atoms: Atoms
    layer: NDArray[np.int64]
    start: NDArray[np.float64]
    area: float
    density: float
    temperature: float
    wave_vectors: NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class _Run:
    """What was sampled.

    Attributes:
        times: (n_samples,) fs.
        velocities: (n_samples, n_layers) mean velocity along the bar in km/s, the wall at rest.
        heights: (n_samples, n_layers) mean positions along the bar in Å.
        temperatures: (n_samples, n_layers) K, of the motion relative to the layer's mean.
        pressures: (n_samples,) on the wall, GPa.
        halfway: the bar when the front had not yet passed half of the layers.
    """

    times: NDArray[np.float64]
    velocities: NDArray[np.float64]
    heights: NDArray[np.float64]
    temperatures: NDArray[np.float64]
    pressures: NDArray[np.float64]
    halfway: Atoms


def shock(
    calculator: BaseCalculator,
    crystal: Equilibrium,
    rng: np.random.Generator,
    *,
    piston_velocity: float = 1.0,
    minimum_atoms: int = 600,
    uncertainty: BaseCalculator | None = None,
    error_limit: float = 0.5,
) -> Measured:
    """Shock velocity, pressure, compression and temperature behind a piston that is driven into a crystal along [001].

    The bar flies into a wall of fixed atoms, which in the bar's own frame is a piston. Four things are measured
    independently: U_s from the times at which layers are stopped, the pressure from the force on the wall, compression
    from the distances of stopped layers, temperature from their velocities. In a steady shock they obey the jump
    conditions ρ/ρ₀ = U_s/(U_s − u_p) and P = ρ₀ U_s u_p (Rankine and Hugoniot; Zel'dovich and Raizer, Physics of Shock
    Waves, eqs. 1.67 and 1.68); a remark says so where they do not. A bar as small as this one has no dislocations: a
    shock that a real crystal would yield under may remain elastic. It begins at 300 K, or at six tenths of the melting
    temperature of elements that melt below 500 K.

    Args:
        calculator: any ASE calculator with stress.
        crystal: at equilibrium according to the same calculator.
        rng: first velocities.
        piston_velocity: u_p, km/s.
        minimum_atoms: of the bar, its wall included.
        uncertainty: a calculator whose results have ``forces_bound`` (n_atoms,) eV/Å, such as
            :class:`alpot.potential.calculator.AlpotCalculator`, which judges the shocked atoms; by default
            ``calculator``, if it gives them.
        error_limit: eV/Å; the remark says of how many of the shocked atoms the bound on the force error is larger.

    Raises:
        PotentialError: a run fails, the crystal ahead of the front is none any more, or no front went through the bar.
    """
    what = f"a shock of {piston_velocity:.1f} km/s in {crystal.element}"
    bar = _prepare(calculator, crystal, rng, piston_velocity, minimum_atoms, what)
    speed = piston_velocity + _SLOWEST * np.sqrt(crystal.bulk_modulus * units.GPa / bar.density) / _KM_PER_S
    run = _drive(bar, piston_velocity, bar.start[-1] / (1e-2 * speed), what)

    stopped = _crossing_times(run, piston_velocity)
    _check_crystal(bar, run.halfway, what)
    velocity = _front_velocity(bar, run, stopped, what)
    pressure, *state = _shocked_state(bar, run, stopped, what)
    expected = bar.density * velocity.value * piston_velocity * _KM_PER_S**2 / units.GPa
    verdict, judged = _verdict(bar, _behind(bar, run, stopped)[-1][1], uncertainty or calculator, error_limit)
    return Measured(
        values=(velocity, pressure, *state, *verdict),
        curves=(
            Curve(
                name="particle velocity",
                x_label="position before the shock (Å)",
                y_label="velocity (km/s)",
                x=tuple(bar.start.tolist()),
                lines={"particle velocity": tuple((run.velocities[-1] + piston_velocity).tolist())},
            ),
        ),
        remarks=(*_steadiness(pressure.value, expected, what), *judged),
    )


def _check_crystal(bar: _Bar, halfway: Atoms, what: str) -> None:
    """Refuse a shock that has something else than the crystal between its front and the bar's free end."""
    end = bar.start[-1]
    inside = (bar.start > _HALFWAY * end + _EDGE) & (bar.start < end - _EDGE)
    ahead = halfway[np.isin(bar.layer, np.flatnonzero(inside))]
    if len(ahead) and not crystalline_share(ahead, bar.wave_vectors) > _CRYSTAL:
        raise PotentialError(
            f"{what}: the {len(ahead)} atoms ahead of the front have lost the order of the crystal at"
            f" {bar.temperature:.0f} K; with this potential it melts or becomes another one before the shock arrives"
        )


def _front_velocity(bar: _Bar, run: _Run, stopped: NDArray[np.float64], what: str) -> PropertyValue:
    """U_s, from the times at which layers are stopped."""
    passed = np.flatnonzero(np.isfinite(stopped))
    if len(passed) < _COUNTED[1] * len(bar.start):
        raise PotentialError(
            f"{what} went through {len(passed)} of {len(bar.start)} layers only in {run.times[-1]:.0f} fs: no front was"
            " formed, or it is slower than sound"
        )
    counted = passed[passed >= _COUNTED[0] * len(bar.start)]
    slope = _slope(stopped[counted], bar.start[counted])
    # Neighboring layers are stopped together, so the fit's own error is too small: parts of the way are independent.
    parts = [_slope(stopped[part], bar.start[part]) for part in np.array_split(counted, _PARTS)]
    noise = np.std(parts, ddof=1) / np.sqrt(_PARTS)
    # 1 Å/fs = 100 km/s
    return PropertyValue(name="shock velocity", value=100 * slope, unit="km/s", noise=float(100 * noise))


def _shocked_state(bar: _Bar, run: _Run, stopped: NDArray[np.float64], what: str) -> tuple[PropertyValue, ...]:
    """Pressure, compression and temperature between wall and front, averages over samples."""
    behind = _behind(bar, run, stopped)
    if len(behind) < _FEWEST_SAMPLES:
        raise PotentialError(
            f"{what} leaves room between wall and front in {len(behind)} samples only ({_FEWEST_SAMPLES} are needed;"
            f" the bar has {len(bar.start)} layers): use more atoms"
        )
    series = (
        ("shock pressure", "GPa", [run.pressures[s] for s, _ in behind]),
        ("shock compression", "", [1 / _slope(bar.start[b], run.heights[s, b]) for s, b in behind]),
        ("shock temperature", "K", [run.temperatures[s, b].mean() for s, b in behind]),
    )
    return tuple(
        PropertyValue(name=name, value=float(np.mean(samples)), unit=unit, noise=standard_error(samples))
        for name, unit, samples in series
    )


def _temperature(element: str) -> float:
    """K, before the shock."""
    try:
        return min(_ROOM, _SOLID * melting_temperature([element]))
    except PotentialError:  # carbon and others that are solid at room temperature
        return _ROOM


def _prepare(
    calculator: BaseCalculator,
    crystal: Equilibrium,
    rng: np.random.Generator,
    piston_velocity: float,
    minimum_atoms: int,
    what: str,
) -> _Bar:
    """The bar at zero pressure and its temperature, on its way into the wall."""
    kelvin = _temperature(crystal.element)
    cell = crystal.supercell(1)
    cell.set_cell(cell.cell.array * _expansion(calculator, crystal, kelvin, rng, what)[:, None], scale_atoms=True)
    atoms = attached(calculator, build_bar(cell, minimum_atoms, _ELONGATION))
    wave_vectors = lateral_wave_vectors(atoms)
    density = atoms.get_masses().sum() / atoms.cell.volume
    atoms.positions[:, 2] -= _WALL_CELLS * cell.cell[2, 2]
    wall = atoms.positions[:, 2] < -1e-3
    heights = np.unique(atoms.positions[~wall, 2].round(4))
    layer = np.where(wall, -1, np.searchsorted(heights, atoms.positions[:, 2].round(4)))
    atoms.set_cell(atoms.cell.array + np.diag([0, 0, _VACUUM]))
    hold(atoms, wall)
    set_velocities(atoms, 2 * kelvin, rng)
    velocities = atoms.get_velocities()
    velocities[~wall, 2] -= velocities[~wall, 2].mean() + piston_velocity * _KM_PER_S
    atoms.set_velocities(velocities)
    area = float(np.linalg.norm(np.cross(atoms.cell[0], atoms.cell[1])))
    return _Bar(
        atoms=atoms,
        layer=layer,
        start=heights,
        area=area,
        density=density,
        temperature=kelvin,
        wave_vectors=wave_vectors,
    )


def _expansion(
    calculator: BaseCalculator, crystal: Equilibrium, kelvin: float, rng: np.random.Generator, what: str
) -> NDArray[np.float64]:
    """(3,) by how much the edges of the crystal are longer at this temperature than at rest."""
    atoms = attached(calculator, crystal.supercell(_EXPANSION_ATOMS))
    rest = atoms.cell.lengths()
    edges: list[NDArray[np.float64]] = []
    set_velocities(atoms, 2 * kelvin, rng)
    settle(atoms, kelvin, crystal.bulk_modulus, _EXPANSION_PS, what)
    settle(
        atoms,
        kelvin,
        crystal.bulk_modulus,
        _EXPANSION_PS,
        what,
        sample=lambda: edges.append(atoms.cell.lengths()),
        interval=10,
    )
    mean = np.mean(edges, axis=0) / rest
    # The two edges across are equal by symmetry, all three in a cubic crystal; less noise, no shear.
    return np.array([*[mean[:2].mean()] * 2, mean[2]]) if crystal.structure == "hcp" else np.full(3, mean.mean())


def _drive(bar: _Bar, piston_velocity: float, limit_fs: float, what: str) -> _Run:
    """Run until the front has passed its share of the layers, or the time is up."""
    atoms, layers = bar.atoms, len(bar.start)
    moving = bar.layer >= 0
    counts = np.bincount(bar.layer[moving])
    masses = atoms.get_masses()[moving]
    step_fs = _STEP * time_step_fs(atoms)
    dynamics = VelocityVerlet(atoms, timestep=step_fs * units.fs)
    samples: list[tuple[NDArray[np.float64], ...]] = []
    halfway = atoms.copy()

    def by_layer(values: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.bincount(bar.layer[moving], values, layers) / counts

    def sample() -> None:
        velocities = atoms.get_velocities()[moving]
        mean = by_layer(velocities[:, 2])
        velocities[:, 2] -= mean[bar.layer[moving]]
        kinetic = by_layer(masses * (velocities**2).sum(axis=1))
        force = atoms.get_forces(apply_constraint=False)[~moving, 2].sum()
        pressure = np.array(-force / bar.area / units.GPa)
        height = by_layer(atoms.positions[moving, 2])
        samples.append((mean / _KM_PER_S, height, kinetic / (3 * units.kB), pressure))

    # The kinetic energy of the flight counts as heat here.
    flight = float(masses.mean()) * (piston_velocity * _KM_PER_S) ** 2 / (3 * units.kB)
    while len(samples) * _SAMPLE_INTERVAL * step_fs < limit_fs:
        stretch_ps = _SAMPLE_INTERVAL * step_fs / 1000
        run_checked(
            dynamics,
            atoms,
            stretch_ps,
            what,
            temperature=bar.temperature + flight,
            sample=sample,
            interval=_SAMPLE_INTERVAL,
        )
        passed = (samples[-1][0] > -piston_velocity / 2).mean()
        if passed < _HALFWAY:
            halfway = atoms.copy()
        if passed > _COUNTED[1]:
            break
    times = np.arange(1.0, len(samples) + 1) * (_SAMPLE_INTERVAL * step_fs)
    velocities, heights, temperatures, pressures = (np.array(column) for column in zip(*samples, strict=True))
    return _Run(
        times=times,
        velocities=velocities,
        heights=heights,
        temperatures=temperatures,
        pressures=pressures,
        halfway=halfway,
    )


def _crossing_times(run: _Run, piston_velocity: float) -> NDArray[np.float64]:
    """(n_layers,) fs at which a layer has lost half of its velocity for the first time; NaN where it has not."""
    half = -piston_velocity / 2
    times = np.full(run.velocities.shape[1], np.nan)
    for number, velocity in enumerate(run.velocities.T):
        after = np.flatnonzero(velocity > half)
        if len(after) and after[0] > 0:
            k = after[0]
            share = (half - velocity[k - 1]) / (velocity[k] - velocity[k - 1])
            times[number] = run.times[k - 1] + share * (run.times[k] - run.times[k - 1])
    return times


def _behind(bar: _Bar, run: _Run, stopped: NDArray[np.float64]) -> list[tuple[int, NDArray[np.int64]]]:
    """Samples of the second half of the run, and the layers that then lie between wall and front, off both."""
    found = []
    for number in range(len(run.times) // 2, len(run.times)):
        passed = np.flatnonzero(stopped <= run.times[number])
        front = bar.start[passed].max(initial=0.0)
        inside = passed[(bar.start[passed] > _EDGE) & (bar.start[passed] < front - 2 * _EDGE)]
        if len(inside) >= 4:
            found.append((number, inside))
    return found


def _slope(x: NDArray[np.float64], y: NDArray[np.float64]) -> float:
    """Of the straight line through points (n,), with the least squares of deviations in ``y``."""
    return float(np.polyfit(x, y, 1)[0])


def _steadiness(pressure: float, expected: float, what: str) -> tuple[str, ...]:
    if abs(pressure / expected - 1) < _STEADY:
        return ()
    return (
        f"{what[0].upper()}{what[1:]} is not steady: the wall feels {pressure:.1f} GPa, and the jump conditions give"
        f" {expected:.1f} GPa.",
    )


def _verdict(
    bar: _Bar, behind: NDArray[np.int64], judge: BaseCalculator, limit: float
) -> tuple[tuple[PropertyValue, ...], tuple[str, ...]]:
    """The ensemble's own word on the shocked atoms, where it has one."""
    atoms = attached(judge, bar.atoms)
    atoms.get_forces()
    bounds = judge.results.get("forces_bound")
    if bounds is None:
        return (), ()
    errors = bounds[np.isin(bar.layer, behind)]
    return (
        (
            PropertyValue(name="shock force error bound, mean", value=float(errors.mean()), unit="eV/Å"),
            PropertyValue(name="shock force error bound, largest", value=float(errors.max()), unit="eV/Å"),
        ),
        (
            f"{100 * np.mean(errors > limit):.0f} % of the {len(errors)} atoms in the shocked region may have a force"
            f" error above {limit} eV/Å, by the potential's own bound.",
        ),
    )
