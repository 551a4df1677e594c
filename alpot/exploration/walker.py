"""One walker: what it started from, the schedules it follows, what was seen of it, and what it reports in the end.

Where its atoms are is known to ``alpot.exploration.phase_space`` only, which moves all walkers together.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from ase import Atoms, units
from numpy.typing import NDArray

from alpot.config import Exploration
from alpot.exploration.schedules import Schedule, draw_density, draw_temperature
from alpot.structures.density import density_of

#: Å. Atoms at 10 Å/ps go 2500 Å in the longest runs; beyond this, distances lose their digits.
FARTHEST = 1e6
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


@dataclass(frozen=True, kw_only=True)
class Check:
    """When a walker was looked at, and the force errors that were to be expected, in ps and eV/Å."""

    time: float
    mean_error: float
    max_error: float


class Ending(StrEnum):
    """Why a walker stopped."""

    UNCERTAIN = "uncertain"
    CONTACT = "contact"
    BLOW_UP = "blow_up"
    FINISHED = "finished"


@dataclass(frozen=True, kw_only=True)
class WalkerReport:
    """What one walker found.

    Attributes:
        ending: why it stopped.
        time: simulated ps.
        found: uncertain frames, each some time after the one before.
        rewound: the last good frame before a contact or a blow-up, or before it went too far at once.
        audit: the frame taken at a random time, if it was asked for and reached.
        table: number of the table of ``material.starts`` that its start was drawn from, where that is known.
    """

    ending: Ending
    time: float
    found: tuple[Snapshot, ...] = ()
    rewound: Snapshot | None = None
    audit: Snapshot | None = None
    table: int | None = None


@dataclass
class Walker:
    """One walker, apart from the present positions and velocities.

    Attributes:
        start: the frame that it started from, with its first velocities.
        temperature: T(t) in K.
        density: ρ(t) in g/cm³; None where the frame is not periodic in all directions.
        seed: of its noise, which is its own, so that its path does not depend on the others.
        timestep: fs.
        audit_time: ps at which a frame is taken, certain or not; None for most walkers.
        step: time steps done.
        has_left: whether an atom was found nowhere or too far away, so that the walker could not go on.
        last_good: the last check after which it went on.
        found: uncertain frames on its way so far.
        audit: the audit frame, once taken.
    """

    start: Atoms
    temperature: Schedule
    density: Schedule | None
    seed: int
    timestep: float
    audit_time: float | None
    step: int = 0
    has_left: bool = False
    last_good: Check | None = None
    found: tuple[Snapshot, ...] = ()
    audit: Snapshot | None = None

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
        start = Atoms(atoms.numbers, positions=atoms.positions, cell=atoms.cell, pbc=atoms.pbc, masses=masses[:, 0])
        start.set_velocities(velocities)
        start.info["start"] = str(atoms.info.get("start", ""))
        if "table" in atoms.info:
            start.info["table"] = int(atoms.info["table"])
        audited = rng.random() < settings.audit_share
        return cls(
            start=start,
            temperature=temperature,
            density=density,
            seed=int(rng.integers(2**63)),
            timestep=settings.timestep,
            audit_time=float(rng.uniform(0.0, settings.max_time)) if audited else None,
        )

    def __len__(self) -> int:
        """Number of atoms."""
        return len(self.start)

    @property
    def time(self) -> float:
        """Simulated time in ps."""
        return self.step * self.timestep * 1e-3

    @property
    def wants_audit(self) -> bool:
        """Whether the audit frame is due."""
        return self.audit is None and self.audit_time is not None and self.time >= self.audit_time

    def is_lost(self, farthest: float, kinetic_temperature: float) -> bool:
        """Whether an atom is nowhere (not finite), too far away for any physical motion, or the walker explodes.

        The members may well agree on forces that tear a frame apart, so the heat is looked at too.

        Args:
            farthest: largest absolute coordinate, Å.
            kinetic_temperature: K.
        """
        limit = _HOTTEST * (self.temperature.at(self.time) + _ROOM_TEMPERATURE)
        return self.has_left or not (farthest < FARTHEST and kinetic_temperature <= limit)

    def snapshot(self, positions: NDArray[np.float64], cell: NDArray[np.float64], check: Check) -> Snapshot:
        """The frame of a check, (n_atoms, 3) and (3, 3) Å, with the atoms wrapped into the cell."""
        atoms = Atoms(self.start.numbers, positions=positions, cell=cell, pbc=self.start.pbc, info=self.start.info)
        atoms.wrap()
        return Snapshot(
            atoms=atoms,
            time=check.time,
            temperature=self.temperature.at(check.time),
            density=density_of(atoms.numbers, atoms.get_volume()) if atoms.pbc.all() else None,
            mean_error=check.mean_error,
            max_error=check.max_error,
        )
