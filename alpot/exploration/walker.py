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
from alpot.exploration.schedules import Schedule, compression_to, draw_density, draw_temperature
from alpot.structures.density import density_of

#: Å. Atoms at 10 Å/ps go 2500 Å in the longest runs; beyond this, distances lose their digits.
FARTHEST = 1e6
#: A kinetic temperature this many times T(t) is no fluctuation, not even of one atom (chance below 1e-5); room
#: temperature is added for walkers that are cold by schedule but fall into a minimum.
_HOTTEST, _ROOM_TEMPERATURE = 10.0, 300.0
#: Å that a recoil goes in one time step at most: a tenth of the way on which atoms turn hard.
_RECOIL_STRIDE = 0.1
#: 1/fs at most while a cascade lasts. Its collisions are over after some 0.2 ps; at this friction the heat is gone
#: after 0.5 ps, as if it had spread in a larger crystal.
_CASCADE_FRICTION = 0.001
#: fs; after this, 2 % of the heat is left, and the walker goes on at the usual pace.
_CASCADE_TIME = 2000.0
#: What ``info`` of a start may hold, see ``alpot.structures.starts.draw_start``.
MOTION = ("recoil", "compression", "bias")


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


@dataclass(frozen=True, kw_only=True)
class Pace:
    """How time goes: time step in fs and friction in 1/fs."""

    timestep: float
    friction: float


@dataclass
class Walker:
    """One walker, apart from the present positions and velocities.

    Attributes:
        start: the frame that it started from, with its first velocities.
        temperature: T(t) in K.
        density: ρ(t) in g/cm³, without what the compression adds to it; None where the frame is not periodic in all
            directions.
        seed: of its noise, which is its own, so that its path does not depend on the others.
        usual_pace: how it goes, except in a cascade.
        audit_time: ps at which a frame is taken, certain or not; None for most walkers.
        recoil: eV that one atom got on top of its first velocity.
        cascade_pace, cascade_steps: how it goes in its first steps, and how many they are, if it has a recoil.
        compression: length of the cell along one of its vectors, relative to that of the start; None where it is kept.
        axis: which vector that is.
        bias: eV by which it is drawn to where the members disagree, at most.
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
    usual_pace: Pace
    audit_time: float | None
    recoil: float = 0.0
    cascade_pace: Pace | None = None
    cascade_steps: int = 0
    compression: Schedule | None = None
    axis: int = 0
    bias: float = 0.0
    step: int = 0
    has_left: bool = False
    last_good: Check | None = None
    found: tuple[Snapshot, ...] = ()
    audit: Snapshot | None = None

    @classmethod
    def begin(cls, atoms: Atoms, settings: Exploration, rng: np.random.Generator) -> Walker:
        """Draw the schedules, velocities of the Maxwell-Boltzmann distribution at T(0), and what the start asks for.

        All is at rest as a whole: of a recoil of energy E in N atoms of one mass, E (1 − 1/N) is left in this frame.
        """
        temperature = draw_temperature(settings, rng)
        density = None
        if atoms.pbc.all():
            density = draw_density(settings, density_of(atoms.numbers, atoms.get_volume()), rng)
        masses = atoms.get_masses()[:, None]
        velocities = rng.standard_normal((len(atoms), 3)) * np.sqrt(units.kB * temperature.at(0.0) / masses)
        velocities -= (masses * velocities).sum(axis=0) / masses.sum()
        start = Atoms(atoms.numbers, positions=atoms.positions, cell=atoms.cell, pbc=atoms.pbc, masses=masses[:, 0])
        start.info["start"] = str(atoms.info.get("start", ""))
        if "table" in atoms.info:
            start.info["table"] = int(atoms.info["table"])
        start.info |= {name: float(atoms.info[name]) for name in MOTION if name in atoms.info}
        # Where errors are looked for moves with what is found; where they are measured does not.
        audited = rng.random() < settings.audit_share * atoms.info.get("audit_factor", 1.0)
        walker = cls(
            start=start,
            temperature=temperature,
            density=density,
            seed=int(rng.integers(2**63)),
            usual_pace=Pace(timestep=settings.timestep, friction=settings.friction),
            audit_time=float(rng.uniform(0.0, settings.max_time)) if audited else None,
        )
        if audited:  # errors are measured on what the potential does by itself
            start.info.pop("bias", None)
        walker.bias = start.info.get("bias", 0.0)
        # What not every start asks for is drawn last, so that all else is the same with and without it.
        if "recoil" in start.info:
            velocities += walker._draw_recoil(start.info["recoil"], settings.check_interval, rng)
        if "compression" in start.info and start.pbc.any():
            walker.compression = compression_to(settings, start.info["compression"])
            walker.axis = int(rng.choice(np.flatnonzero(start.pbc)))
        start.set_velocities(velocities)
        return walker

    def _draw_recoil(self, energy: float, check_interval: int, rng: np.random.Generator) -> NDArray[np.float64]:
        """Velocities (n_atoms, 3) without drift, of one atom drawn at random; the pace is made for it.

        Args:
            energy: eV.
            check_interval: steps; the pace changes at a check.
            rng: for the atom and its direction.
        """
        masses = self.start.get_masses()[:, None]
        struck = int(rng.integers(len(masses)))
        direction = rng.standard_normal(3)
        speed = np.sqrt(2.0 * energy / masses[struck, 0])
        velocities = np.zeros((len(masses), 3))
        velocities[struck] = speed * direction / np.linalg.norm(direction)
        self.recoil = energy
        timestep = min(self.usual_pace.timestep, float(_RECOIL_STRIDE / (speed * units.fs)))
        self.cascade_pace = Pace(timestep=timestep, friction=min(self.usual_pace.friction, _CASCADE_FRICTION))
        self.cascade_steps = check_interval * int(np.ceil(_CASCADE_TIME / (timestep * check_interval)))
        return np.asarray(velocities - (masses * velocities).sum(axis=0) / masses.sum())

    def __len__(self) -> int:
        """Number of atoms."""
        return len(self.start)

    @property
    def pace(self) -> Pace:
        """How it goes now."""
        return self.cascade_pace if self.cascade_pace is not None and self.is_in_cascade else self.usual_pace

    @property
    def is_in_cascade(self) -> bool:
        """Whether its recoil is still being passed on."""
        return self.step < self.cascade_steps

    @property
    def time(self) -> float:
        """Simulated time in ps."""
        if self.cascade_pace is None:
            return self.step * self.usual_pace.timestep * 1e-3
        quick = min(self.step, self.cascade_steps)
        return (quick * self.cascade_pace.timestep + (self.step - quick) * self.usual_pace.timestep) * 1e-3

    @property
    def awaits_audit(self) -> bool:
        """Whether an audit frame is to be taken later."""
        return self.audit is None and self.audit_time is not None

    @property
    def wants_audit(self) -> bool:
        """Whether the audit frame is due."""
        return self.audit is None and self.audit_time is not None and self.time >= self.audit_time

    def is_lost(self, farthest: float, kinetic_temperature: float) -> bool:
        """Whether an atom is nowhere (not finite), too far away for any physical motion, or the walker explodes.

        The members may well agree on forces that tear a frame apart, so the heat is looked at too; that of the recoil
        is no sign of it.

        Args:
            farthest: largest absolute coordinate, Å.
            kinetic_temperature: K.
        """
        limit = _HOTTEST * (self.temperature.at(self.time) + _ROOM_TEMPERATURE)
        limit += 2.0 * self.recoil / (3.0 * units.kB * len(self))
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
