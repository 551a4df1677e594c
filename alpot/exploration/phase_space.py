"""Where the atoms of all walkers are and how they move, as tensors on one device; forces come from elsewhere."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from ase import units
from ase.data import covalent_radii
from numpy.typing import NDArray
from torch import Tensor

from alpot.exploration.deformation import Deformation
from alpot.exploration.rows import Rows
from alpot.exploration.schedules import values
from alpot.exploration.walker import Walker


@dataclass(frozen=True, kw_only=True)
class AtomRows:
    """What is known of each atom.

    Attributes:
        species: (n_atoms,) int32 element indices.
        radii: (n_atoms,) covalent radii, Å.
        masses: (n_atoms, 1) amu.
        positions, velocities, forces: (n_atoms, 3) Å, ASE's units, eV/Å.
        searched_at: (n_atoms, 3) Å where it was when its neighbors were searched.
        good_positions: (n_atoms, 3) Å at the last check that its walker passed.
    """

    species: Tensor
    radii: Tensor
    masses: Tensor
    positions: Tensor
    velocities: Tensor
    forces: Tensor
    searched_at: Tensor
    good_positions: Tensor


@dataclass(frozen=True, kw_only=True)
class WalkerRows:
    """What is known of each walker.

    Attributes:
        pbc: (n_walkers, 3) periodic directions.
        cells: (n_walkers, 3, 3) Å.
        searched_cells: (n_walkers, 3, 3) Å when the neighbors were searched.
        good_cells: (n_walkers, 3, 3) Å at the last check that was passed.
    """

    pbc: Tensor
    cells: Tensor
    searched_cells: Tensor
    good_cells: Tensor


@dataclass(frozen=True, kw_only=True)
class Course:
    """What of the next steps is known beforehand.

    Attributes:
        kicks: (n_steps, n_atoms, 3) what the heat bath adds to the velocities.
        scales: (n_steps + 1, n_walkers, 2) of the cells before the first step and after each, see
            ``alpot.exploration.deformation``; the first is relative to that at a density of 1 g/cm³ (always 1 where the
            density is constant), the second relative to the start.
        of_atoms, of_cells: what positions and cells become in each step; None where no cell changes.
    """

    kicks: Tensor
    scales: NDArray[np.float64]
    of_atoms: Deformation | None
    of_cells: Deformation | None

    @property
    def n_steps(self) -> int:
        """Number of steps."""
        return len(self.kicks)


class PhaseSpace:
    """Positions, velocities and cells of walkers of any size, one after the other.

    The time step is BAOAB (Leimkuhler & Matthews, J. Chem. Phys. 138, 174102 (2013)), followed by the rescaling to
    ρ(t) and to the compression: ``kick``, ``move``, new forces, ``kick``. Each walker has its own time step and
    friction.

    Args:
        device: where the tensors live.

    Attributes:
        walkers: in the order of their atoms.
        timesteps: (n_walkers,) in ASE's unit of time.
        biases: (n_walkers,) eV, see ``alpot.exploration.bias``.
        offsets: (n_walkers + 1,) walker w owns the atoms offsets[w]:offsets[w + 1].
        walker: (n_atoms,) int32 index of each atom's walker.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.walkers: list[Walker] = []
        self._noise: list[torch.Generator] = []
        self._atoms = Rows(_atom_rows([], torch.empty(0, dtype=torch.int32), device))
        self._cells = Rows(_walker_rows([], device))
        self._number_atoms()

    @property
    def atoms(self) -> AtomRows:
        """All atoms."""
        return self._atoms.used

    @property
    def cells(self) -> WalkerRows:
        """All cells."""
        return self._cells.used

    def append(self, walkers: Sequence[Walker], species: Tensor) -> None:
        """Add walkers at their starts; forces are zero until they are set.

        Args:
            walkers: with step 0.
            species: (n_atoms,) element indices of their atoms.
        """
        noise = [torch.Generator(self.device).manual_seed(walker.seed) for walker in walkers]
        self._add(walkers, _atom_rows(walkers, species, self.device), _walker_rows(walkers, self.device), noise)

    def append_in_flight(
        self, walkers: Sequence[Walker], atoms: AtomRows, cells: WalkerRows, noise: Sequence[Tensor]
    ) -> None:
        """Add walkers as they were in flight, here or in another process.

        Args:
            walkers: with the steps that they have done.
            atoms, cells: as they were.
            noise: state of each walker's random numbers, see ``noise_states``.
        """
        generators = [torch.Generator(self.device) for _ in walkers]
        for generator, state in zip(generators, noise, strict=True):
            # In memory of its own: torch 2 crashes on a state whose address is not a multiple of its vectors' length.
            generator.set_state(state.clone())
        self._add(walkers, atoms, cells, generators)

    def _add(
        self, walkers: Sequence[Walker], atoms: AtomRows, cells: WalkerRows, noise: Sequence[torch.Generator]
    ) -> None:
        self._atoms.append(atoms)
        self._cells.append(cells)
        self.walkers.extend(walkers)
        self._noise.extend(noise)
        self._number_atoms()

    def noise_states(self) -> Tensor:
        """(n_walkers, n_bytes) uint8 on the host: where each walker's random numbers are; it must be one at least."""
        return torch.stack([generator.get_state() for generator in self._noise])

    def keep(self, slots: Sequence[int]) -> None:
        """Drop all walkers but those in some slots (ascending)."""
        rows = np.concatenate([np.arange(0), *(np.arange(*self.span(slot)) for slot in slots)])
        self._atoms.keep(torch.from_numpy(rows).to(self.device))
        self._cells.keep(torch.tensor(slots, dtype=torch.int64, device=self.device))
        self.walkers = [self.walkers[slot] for slot in slots]
        self._noise = [self._noise[slot] for slot in slots]
        self._number_atoms()

    def span(self, slot: int) -> tuple[int, int]:
        """Begin and end of the atoms of one walker."""
        return int(self._first_atom[slot]), int(self._first_atom[slot + 1])

    def _number_atoms(self) -> None:
        counts = [len(walker) for walker in self.walkers]
        self._first_atom = np.cumsum([0, *counts])
        self.offsets = torch.from_numpy(self._first_atom).to(self.device)
        owner = np.repeat(np.arange(len(counts), dtype=np.int32), counts)
        self.walker = torch.from_numpy(owner).to(self.device)
        self._note_paces()
        biases = np.array([walker.bias for walker in self.walkers], dtype=np.float64)
        self.biases = torch.from_numpy(biases).to(self.device)
        self._axes = np.array([_axis(walker) for walker in self.walkers]).reshape(-1, 3)

    def _note_paces(self) -> None:
        """Look up how each walker goes now."""
        self._paces = [walker.pace for walker in self.walkers]
        self.timesteps = np.array([pace.timestep * units.fs for pace in self._paces])
        self._kept_shares = np.array([math.exp(-pace.friction * pace.timestep) for pace in self._paces])
        self._kept_by_atoms = self.of_atoms(self._kept_shares).unsqueeze(1)  # of the velocities, in O
        self._half_steps = self.of_atoms(0.5 * self.timesteps).unsqueeze(1)
        self._half_kicks = self._half_steps / self.atoms.masses

    def course(self, n_steps: int) -> Course:
        """Draw the noise of the next steps, and look up T(t), ρ(t) and the compression.

        The random numbers of a walker depend on its seed and on how many steps were asked for in each call.
        """
        if self._paces != [walker.pace for walker in self.walkers]:
            self._note_paces()
        times = self._times(np.arange(n_steps + 1))
        temperatures = values([walker.temperature for walker in self.walkers], times[:-1])
        strength = np.sqrt((1.0 - self._kept_shares**2) * units.kB * temperatures)
        shapes = [(n_steps, len(walker), 3) for walker in self.walkers]
        # Each walker's numbers are drawn into memory of their own: where they go must not change what they are.
        kicks = torch.cat([self._normal(*pair) for pair in zip(shapes, self._noise, strict=True)], dim=1)
        kicks *= self.of_atoms(strength).unsqueeze(2) / self.atoms.masses.sqrt()
        scales = self._scales_at(times)
        if (scales == scales[0]).all():
            return Course(kicks=kicks, scales=scales, of_atoms=None, of_cells=None)
        ratios = scales[1:] / scales[:-1]
        return Course(
            kicks=kicks, scales=scales, of_atoms=self.deformation_of_atoms(ratios), of_cells=self._deformation(ratios)
        )

    def deformation_of_atoms(self, ratios: NDArray[np.float64]) -> Deformation:
        """What becomes of positions when the scales change by ratios (n_steps, n_walkers, 2)."""
        return self._deformation(ratios, self.walker)

    def _deformation(self, ratios: NDArray[np.float64], which: Tensor | None = None) -> Deformation:
        """The deformation of each walker, or of those that are named (n,), if need be more than once."""

        def column(values: NDArray[np.float64], dim: int) -> Tensor:
            on_device = torch.from_numpy(values).to(self.device)
            return on_device if which is None else on_device.index_select(dim, which)

        growth, squeeze = ratios[..., 0], ratios[..., 1] - 1.0
        return Deformation(
            growth=column(growth, 1).unsqueeze(2) if (growth != 1.0).any() else None,
            squeeze=column(squeeze, 1).unsqueeze(2) if squeeze.any() else None,
            axes=column(self._axes, 0),
        )

    def _normal(self, shape: tuple[int, int, int], noise: torch.Generator) -> Tensor:
        return torch.randn(shape, generator=noise, dtype=torch.float64, device=self.device)

    @property
    def scales(self) -> NDArray[np.float64]:
        """(n_walkers, 2) present scales of the cells, as in ``Course``."""
        return self._scales_at(self._times(np.zeros(1, dtype=np.int64)))[0]

    def _times(self, steps_ahead: NDArray[np.int64]) -> NDArray[np.float64]:
        """(n_steps, n_walkers) ps at some steps from now on."""
        now = np.array([walker.time for walker in self.walkers])
        picoseconds = np.array([walker.pace.timestep * 1e-3 for walker in self.walkers])
        return np.asarray(now + steps_ahead[:, None] * picoseconds, dtype=np.float64)

    def _scales_at(self, times: NDArray[np.float64]) -> NDArray[np.float64]:
        scales = np.ones((*times.shape, 2))
        for slot, walker in enumerate(self.walkers):
            if walker.density is not None and not walker.density.is_constant:
                scales[:, slot, 0] = np.cbrt(1.0 / values([walker.density], times[:, slot, None])[:, 0])
            if walker.compression is not None:
                scales[:, slot, 1] = values([walker.compression], times[:, slot, None])[:, 0]
        return scales

    def of_atoms(self, of_walkers: NDArray[np.float64]) -> Tensor:
        """(..., n_atoms) the value of its walker for each atom, from (..., n_walkers)."""
        return torch.from_numpy(of_walkers).to(self.device).index_select(-1, self.walker)

    def kick(self) -> None:
        """Half a time step of acceleration (B)."""
        self.atoms.velocities.addcmul_(self.atoms.forces, self._half_kicks)

    def move(self, course: Course, step: int) -> None:
        """A, O, A of one step of a course, then the deformation of cell and positions."""
        positions, velocities = self.atoms.positions, self.atoms.velocities
        positions.addcmul_(velocities, self._half_steps)
        velocities.mul_(self._kept_by_atoms).add_(course.kicks[step])
        positions.addcmul_(velocities, self._half_steps)
        if course.of_atoms is not None and course.of_cells is not None:
            course.of_atoms.apply_to(positions, step)
            course.of_cells.apply_to(self.cells.cells, step)

    def saved(self) -> tuple[Tensor, Tensor, Tensor]:
        """Copies of what ``kick`` and ``move`` change; for ``restore``."""
        return self.atoms.positions.clone(), self.atoms.velocities.clone(), self.cells.cells.clone()

    def restore(self, saved: tuple[Tensor, Tensor, Tensor]) -> None:
        """Go back to what was saved."""
        present = (self.atoms.positions, self.atoms.velocities, self.cells.cells)
        for tensor, earlier in zip(present, saved, strict=True):
            tensor.copy_(earlier)

    def park(self, slot: int, ratios: NDArray[np.float64]) -> None:
        """Put a walker that cannot go on at rest where it was last searched, so that it disturbs nobody.

        Args:
            slot: which.
            ratios: (n_walkers, 2) of all walkers' scales since then.
        """
        atoms = slice(*self.span(slot))
        searched_at = self.deformation_of_atoms(ratios[None]).apply_to(self.atoms.searched_at.clone(), 0)
        self.atoms.positions[atoms] = searched_at[atoms]
        self.atoms.velocities[atoms] = 0.0

    def note_good(self) -> None:
        """Remember the present frames as good ones."""
        self.atoms.good_positions.copy_(self.atoms.positions)
        self.cells.good_cells.copy_(self.cells.cells)

    def frame(self, slot: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Present positions (n_atoms, 3) and cell (3, 3) of one walker, Å, as arrays of their own."""
        return self._host(slot, self.atoms.positions, self.cells.cells)

    def good_frame(self, slot: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """The same at the last check that the walker passed."""
        return self._host(slot, self.atoms.good_positions, self.cells.good_cells)

    def _host(self, slot: int, positions: Tensor, cells: Tensor) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        begin, end = self.span(slot)
        return positions[begin:end].cpu().numpy().copy(), cells[slot].cpu().numpy().copy()


def _atom_rows(walkers: Sequence[Walker], species: Tensor, device: torch.device) -> AtomRows:
    def column(arrays: list[NDArray[np.float64]], *shape: int) -> Tensor:
        return torch.from_numpy(np.concatenate([np.empty((0, *shape)), *arrays])).to(device)

    starts = [walker.start for walker in walkers]
    positions = column([atoms.positions for atoms in starts], 3)
    return AtomRows(
        species=species.to(device=device, dtype=torch.int32),
        radii=column([covalent_radii[atoms.numbers] for atoms in starts]),
        masses=column([atoms.get_masses()[:, None] for atoms in starts], 1),
        positions=positions,
        velocities=column([atoms.get_velocities() for atoms in starts], 3),
        forces=torch.zeros_like(positions),
        searched_at=positions,
        good_positions=positions,
    )


def _walker_rows(walkers: Sequence[Walker], device: torch.device) -> WalkerRows:
    cells = np.array([walker.start.cell.array for walker in walkers], dtype=np.float64).reshape(-1, 3, 3)
    pbc = np.array([walker.start.pbc for walker in walkers], dtype=bool).reshape(-1, 3)
    on_device = torch.from_numpy(cells).to(device)
    return WalkerRows(
        pbc=torch.from_numpy(pbc).to(device), cells=on_device, searched_cells=on_device, good_cells=on_device
    )


def _axis(walker: Walker) -> NDArray[np.float64]:
    """(3,) unit vector along which a walker is compressed; zero where it is not."""
    if walker.compression is None:
        return np.zeros(3)
    vector = walker.start.cell.array[walker.axis]
    return np.asarray(vector / np.linalg.norm(vector))
