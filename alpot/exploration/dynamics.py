"""Molecular dynamics of many walkers at once, on the device of the ensemble.

Time goes in stretches of some steps on fixed neighbor pairs, within which the host neither waits for the device nor
decides anything. A stretch begins with a move; where the atoms then are is known for sure, so that pairs found there
serve the first forces at least. How long they will serve is predicted from the velocities. Whether they did is watched
on the device, and where they did not, the stretch is repeated from that first move on, with new pairs and fewer steps:
forces from pairs that may be incomplete never enter a trajectory.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from alpot.config import Exploration
from alpot.exploration.bias import bias_forces, width_for
from alpot.exploration.kept_pairs import KeptPairs, Margins, PairSearch, search_for
from alpot.exploration.measurement import Measurement, measure
from alpot.exploration.phase_space import AtomRows, Course, PhaseSpace, WalkerRows
from alpot.exploration.walker import FARTHEST, Walker
from alpot.potential.ensemble import Ensemble
from alpot.potential.kernels import Geometry

#: Å; larger skins mean fewer searches but more pairs to look at in every step.
_SKIN = 0.5
#: Steps whose noise is drawn at once; bounds the memory that takes where checks are rare.
_STEPS_PER_COURSE = 16
#: Atoms are predicted to go this much farther than at their present velocities: a search is cheaper than a repetition.
_FORESIGHT = 1.25


@dataclass(frozen=True, kw_only=True)
class InFlight:
    """Walkers between two advances, and all that their further way depends on.

    Attributes:
        walkers: in the order of their slots, one at least.
        atoms, cells: where they are, and where their pairs were searched: the pairs decide the order of the sums.
        noise: (n_walkers, n_bytes) uint8 on the host, states of their random numbers.
        searched_scales: (n_walkers, 2) scales of the cells when their pairs were searched.
    """

    walkers: Sequence[Walker]
    atoms: AtomRows
    cells: WalkerRows
    noise: Tensor
    searched_scales: NDArray[np.float64]


class Dynamics:
    """Walkers that advance together.

    Args:
        ensemble: the potential.
        settings: of the exploration.
        accepted_deviation: mean σ_F over the atoms that is just accepted, eV/Å, for walkers with a bias; where there
            is no such σ_F (zero, negative or not finite), none has.
        search: finds neighbor pairs; by default the one for the ensemble's device.
        skin: Å added to the cutoff when pairs are searched.
        stretch: steps on fixed pairs at most; by default 1 on a CPU, where it costs nothing to look at the atoms
            between two steps, and many on a GPU.
    """

    def __init__(
        self,
        ensemble: Ensemble,
        settings: Exploration,
        accepted_deviation: float = 0.0,
        *,
        search: PairSearch | None = None,
        skin: float = _SKIN,
        stretch: int | None = None,
    ) -> None:
        self.space = PhaseSpace(ensemble.device)
        self._ensemble = ensemble
        self._bias_width = width_for(accepted_deviation)
        self._has_bias = 0.0 < self._bias_width < np.inf
        self._contact_factor = settings.contact_factor
        self._pairs = KeptPairs(self.space, search or search_for(ensemble.device), ensemble.cutoff, skin)
        self._stretch = stretch or (1 if ensemble.device.type == "cpu" else _STEPS_PER_COURSE)
        self._geometry: Geometry | None = None
        self._member_forces = torch.empty(0)  # (K, n_atoms, 3) of the last evaluation

    @property
    def walkers(self) -> list[Walker]:
        """In the order of their slots."""
        return self.space.walkers

    def add(self, walkers: Sequence[Walker]) -> list[Measurement]:
        """Add walkers in the last slots, and measure them at their starts; the others are left alone.

        Raises:
            PotentialError: an element is unknown, or two atoms coincide.
        """
        first = len(self.walkers)
        numbers = np.concatenate([walker.start.numbers for walker in walkers])
        self.space.append(walkers, torch.from_numpy(self._ensemble.species(numbers)))
        self._pairs.append()
        self._geometry = None
        geometry = self._pairs.geometry(first)
        self._evaluate(geometry, first, mean_only=False)
        return measure(self.space, first, geometry, self._member_forces, self._contact_factor)

    def in_flight(self) -> InFlight:
        """The walkers as they are now, as views: to be put away before they go on."""
        return InFlight(
            walkers=self.walkers,
            atoms=self.space.atoms,
            cells=self.space.cells,
            noise=self.space.noise_states(),
            searched_scales=self._pairs.searched_scales,
        )

    def resume(self, in_flight: InFlight) -> None:
        """Add walkers that were in flight; from here on they go, bit by bit on a CPU, as they would have gone there."""
        self.space.append_in_flight(in_flight.walkers, in_flight.atoms, in_flight.cells, list(in_flight.noise))
        self._pairs.append_in_flight(in_flight.searched_scales)
        self._geometry = None

    def keep(self, slots: Sequence[int]) -> None:
        """Drop all walkers but those in some slots (ascending)."""
        self.space.keep(slots)
        self._pairs.keep(slots)
        self._geometry = None

    def advance(self, n_steps: int) -> list[Measurement]:
        """Advance all walkers and measure them; the random numbers of a walker depend on ``n_steps`` of each call."""
        for done in range(0, n_steps, _STEPS_PER_COURSE):
            course = self.space.course(min(_STEPS_PER_COURSE, n_steps - done))
            step = 0
            while step < course.n_steps:
                end = min(step + self._stretch, course.n_steps)
                step = self._go(course, step, end, measured=n_steps - done - 1)
            for walker in self.walkers:
                walker.step += course.n_steps
        return measure(self.space, 0, self._all_pairs(), self._member_forces, self._contact_factor)

    def _go(self, course: Course, begin: int, end: int, measured: int) -> int:
        """One stretch.

        Args:
            course: the steps.
            begin, end: those of them that are to be done, as far as the pairs last.
            measured: the one after which every member's forces are wanted.

        Returns:
            How far it came.
        """
        self.space.kick()
        self.space.move(course, begin)
        margins = self._see_to_pairs(course.scales[begin + 1 : end + 1])
        saved = self.space.saved()
        while outrun := self._follow(course, begin, margins, measured):
            self.space.restore(saved)
            end = begin + margins.n_steps // 2
            margins = self._see_to_pairs(course.scales[begin + 1 : end + 1], outrun)
        return begin + margins.n_steps

    def _follow(self, course: Course, begin: int, margins: Margins, measured: int) -> list[int]:
        """Complete the first step of a stretch, and do the others.

        Returns:
            The walkers whose atoms went farther than their pairs allow.
        """
        excesses: list[Tensor] = []
        for index in range(margins.n_steps):
            if index > 0:
                self.space.kick()
                self.space.move(course, begin + index)
                excesses.append(margins.excess(index))
            self._evaluate(self._all_pairs(), 0, mean_only=begin + index != measured)
            self.space.kick()
        return self._slots_above(torch.stack(excesses).amax(0)) if excesses else []

    def _see_to_pairs(self, scales: NDArray[np.float64], outrun: Sequence[int] = ()) -> Margins:
        """Search the walkers whose pairs are not sure to be complete now, or not likely to last a stretch.

        Args:
            scales: (n_steps, n_walkers, 2) after each step of the stretch, of which the first has been done.
            outrun: walkers to be searched in any case.

        Returns:
            The margins of as many steps as the pairs will probably last, of one at least.
        """
        margins = self._pairs.margins(scales)
        speeds = torch.linalg.vector_norm(self.space.atoms.velocities, dim=1)
        # (n_steps, n_walkers) Å per unit of speed
        reach = _FORESIGHT * np.outer(np.arange(len(scales)), self.space.timesteps)
        excess = margins.displacements(0) + self.space.of_atoms(reach[-1]) * speeds - margins.allowance.amin(0)
        slots = sorted({*outrun, *self._slots_above(excess)})
        if not slots:
            return margins
        farthest, fastest = self._largest(self.space.atoms.positions.abs().amax(1)), self._largest(speeds)
        lost = [slot for slot in slots if not farthest[slot] < FARTHEST]
        for slot in lost:
            self.walkers[slot].has_left = True
            self.space.park(slot, self._pairs.ratios(scales[0]))
        slots = [slot for slot in slots if slot not in lost]
        if slots:
            self._pairs.renew(slots, scales[0])
            self._geometry = None
        is_enough = self._pairs.allowances(scales)[:, slots] >= reach[:, slots] * fastest[slots]
        # New pairs are complete where the atoms are now, so that the first step always counts.
        n_steps = max(1, int(np.append(is_enough.all(axis=1), False).argmin()))
        return self._pairs.margins(scales[:n_steps])

    def _slots_above(self, excess: Tensor) -> list[int]:
        """Walkers with an atom whose excess is above zero or not a number, from (n_atoms,)."""
        if bool((excess <= 0).all()):
            return []
        return [slot for slot, largest in enumerate(self._largest(excess)) if not largest <= 0]

    def _largest(self, of_atoms: Tensor) -> NDArray[np.float64]:
        """(n_walkers,) largest value among its atoms."""
        return np.asarray(torch.segment_reduce(of_atoms, "max", offsets=self.space.offsets).cpu())

    def _all_pairs(self) -> Geometry:
        if self._geometry is None:
            self._geometry = self._pairs.geometry()
        return self._geometry

    def _evaluate(self, geometry: Geometry, first: int, *, mean_only: bool) -> None:
        """Set the forces of the walkers from one slot on; if one of them has a bias, all members are asked at once."""
        is_biased = self._has_bias and any(walker.bias > 0 for walker in self.walkers[first:])
        result = self._ensemble.evaluate_geometry(geometry, mean_only=mean_only and not is_biased)
        self._member_forces = result.forces
        forces = result.forces.mean(0)
        if is_biased:
            counts, heights = self.space.offsets[first:].diff(), self.space.biases[first:]
            forces += bias_forces(result.energies, result.forces, geometry.frame, counts, heights, self._bias_width)
        begin, _ = self.space.span(first)
        self.space.atoms.forces[begin:] = forces
