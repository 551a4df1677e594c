"""One walker: a frame with velocities that follows its own schedules of temperature and density."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from ase import Atoms, units
from numpy.typing import NDArray

from alpot.config import Exploration
from alpot.exploration.schedules import Schedule, draw_density, draw_temperature
from alpot.structures.density import density_of, volume_of

#: Å. Atoms at 10 Å/ps go 2500 Å in the longest runs; beyond this, distances lose their digits.
_FARTHEST = 1e6
#: A kinetic temperature this many times T(t) is no fluctuation, not even of one atom (chance below 1e-5); room
#: temperature is added for walkers that are cold by schedule but fall into a minimum.
_HOTTEST, _ROOM_TEMPERATURE = 10.0, 300.0


@dataclass(frozen=True)
class Snapshot:
    """A frame of a walker and what was known of it."""

    atoms: Atoms
    time: float
    temperature: float
    density: float | None
    mean_error: float
    max_error: float


@dataclass
class Walker:
    """State of one walker; lengths in Å, velocities in ASE's units.

    Attributes:
        start: what it started from, in words.
        numbers: (n_atoms,).
        masses: (n_atoms, 1) amu.
        positions, velocities: (n_atoms, 3).
        cell: (3, 3) Å.
        pbc: (3,).
        temperature: T(t) in K.
        density: ρ(t) in g/cm³; None where the frame is not periodic in all directions.
        rng: noise of this walker alone, so that its path does not depend on the others.
        audit_time: ps at which a frame is taken, certain or not; None for most walkers.
        step: time steps done.
        last_good: the frame of the last check that it passed.
        audit: the audit frame, once taken.
    """

    start: str
    numbers: NDArray[np.int64]
    masses: NDArray[np.float64]
    positions: NDArray[np.float64]
    velocities: NDArray[np.float64]
    cell: NDArray[np.float64]
    pbc: NDArray[np.bool_]
    temperature: Schedule
    density: Schedule | None
    rng: np.random.Generator
    timestep: float
    audit_time: float | None
    step: int = 0
    last_good: Snapshot | None = None
    audit: Snapshot | None = field(default=None)

    @classmethod
    def begin(cls, atoms: Atoms, settings: Exploration, rng: np.random.Generator) -> Walker:
        """Draw the schedules, and velocities of the Maxwell-Boltzmann distribution at T(0) without drift."""
        temperature = draw_temperature(settings, rng)
        density = None
        if atoms.pbc.all():
            density = draw_density(settings, density_of(atoms.numbers, atoms.get_volume()), rng)
        masses = atoms.get_masses()[:, None]
        velocities = rng.standard_normal((len(atoms), 3)) * np.sqrt(units.kB * temperature.at(0.0) / masses)
        velocities -= (masses * velocities).sum(axis=0) / masses.sum()
        audited = rng.random() < settings.audit_share
        return cls(
            start=str(atoms.info.get("start", "")),
            numbers=atoms.numbers.copy(),
            masses=masses,
            positions=atoms.positions.copy(),
            velocities=velocities,
            cell=atoms.cell.array.copy(),
            pbc=atoms.pbc.copy(),
            temperature=temperature,
            density=density,
            rng=rng,
            timestep=settings.timestep,
            audit_time=float(rng.uniform(0.0, settings.max_time)) if audited else None,
        )

    @property
    def time(self) -> float:
        """Simulated time in ps."""
        return self.step * self.timestep * 1e-3

    @property
    def is_lost(self) -> bool:
        """Whether an atom is nowhere (not finite), too far away for any physical motion, or the walker explodes.

        The members may well agree on forces that tear a frame apart, so the heat is looked at too.
        """
        limit = _HOTTEST * (self.temperature.at(self.time) + _ROOM_TEMPERATURE)
        return not bool((np.abs(self.positions) < _FARTHEST).all() and self.kinetic_temperature <= limit)

    @property
    def kinetic_temperature(self) -> float:
        """K, from the velocities."""
        return float((self.masses * self.velocities**2).sum() / (self.velocities.size * units.kB))

    def kick(self, forces: NDArray[np.float64]) -> None:
        """Half a time step of acceleration (B); forces (n_atoms, 3) eV/Å."""
        self.velocities += 0.5 * self.timestep * units.fs * forces / self.masses

    def move(self, friction: float) -> None:
        """A, O, A of one BAOAB step (Leimkuhler & Matthews, J. Chem. Phys. 138, 174102 (2013)), then ρ(t).

        Args:
            friction: 1/fs.
        """
        half = 0.5 * self.timestep * units.fs
        self.positions += half * self.velocities
        keep = np.exp(-friction * self.timestep)
        target = self.temperature.at(self.time)
        noise = self.rng.standard_normal(self.velocities.shape)
        self.velocities *= keep
        self.velocities += np.sqrt((1.0 - keep**2) * units.kB * target / self.masses) * noise
        self.positions += half * self.velocities
        self.step += 1
        if self.density is not None and not self.density.is_constant:
            self._follow_density(self.density)

    def _follow_density(self, density: Schedule) -> None:
        """Rescale cell and positions isotropically to ρ(t)."""
        volume = volume_of(self.numbers, density.at(self.time))
        stretch = (volume / abs(np.linalg.det(self.cell))) ** (1.0 / 3.0)
        self.cell *= stretch
        self.positions *= stretch

    def snapshot(self, mean_error: float, max_error: float) -> Snapshot:
        """The present frame, atoms wrapped into the cell."""
        atoms = Atoms(self.numbers, positions=self.positions, cell=self.cell, pbc=self.pbc)
        atoms.wrap()
        atoms.info["start"] = self.start
        return Snapshot(
            atoms=atoms,
            time=self.time,
            temperature=self.temperature.at(self.time),
            density=density_of(self.numbers, atoms.get_volume()) if self.pbc.all() else None,
            mean_error=mean_error,
            max_error=max_error,
        )
