"""What of each walker is looked at in a check, found on the device; only these few numbers go to the host."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from ase import units
from torch import Tensor

from alpot.exploration.phase_space import PhaseSpace
from alpot.exploration.uncertainty import force_deviation
from alpot.potential.kernels import Geometry

#: Pairs looked at together; bounds the memory that takes, about 200 bytes each.
_PAIRS_PER_PASS = 2**18


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """One walker at a check.

    Attributes:
        mean_deviation, max_deviation: of σ_F over its atoms, not calibrated, eV/Å.
        farthest: largest absolute coordinate, Å.
        kinetic_temperature: K.
        in_contact: whether two atoms are closer than their elements allow.
    """

    mean_deviation: float
    max_deviation: float
    farthest: float
    kinetic_temperature: float
    in_contact: bool


def measure(
    space: PhaseSpace, first: int, geometry: Geometry, member_forces: Tensor, contact_factor: float
) -> list[Measurement]:
    """Measure all walkers from one slot on.

    Args:
        space: the walkers.
        first: slot of the first walker that is looked at.
        geometry: of the walkers from there on.
        member_forces: (n_members, n_atoms, 3) eV/Å on their atoms.
        contact_factor: two atoms are in contact below this fraction of the sum of their covalent radii.
    """
    begin, _ = space.span(first)
    offsets = space.offsets[first:] - begin
    atoms = space.atoms
    deviation = force_deviation(member_forces)
    squares = atoms.masses[begin:, 0] * atoms.velocities[begin:].square().sum(1) / (3.0 * units.kB)
    contacts = touching(geometry, atoms.radii[begin:], contact_factor)
    table = torch.stack(
        [
            torch.segment_reduce(deviation, "mean", offsets=offsets),
            torch.segment_reduce(deviation, "max", offsets=offsets),
            torch.segment_reduce(atoms.positions[begin:].abs().amax(1), "max", offsets=offsets),
            torch.segment_reduce(squares, "mean", offsets=offsets),
            torch.segment_reduce(contacts.double(), "max", offsets=offsets),
        ],
        dim=1,
    )
    return [
        Measurement(
            mean_deviation=mean,
            max_deviation=largest,
            farthest=farthest,
            kinetic_temperature=temperature,
            in_contact=contact > 0,
        )
        for mean, largest, farthest, temperature, contact in table.tolist()
    ]


def touching(geometry: Geometry, radii: Tensor, factor: float) -> Tensor:
    """(n_atoms,) whether another atom, or an image of its own, is closer than the elements of the two allow.

    Args:
        geometry: of any frames.
        radii: (n_atoms,) covalent radii, Å.
        factor: fraction of the sum of two covalent radii.
    """
    contacts = torch.zeros_like(radii)  # of each atom
    n_pairs = len(geometry.neighbor)
    for begin in range(0, n_pairs, _PAIRS_PER_PASS):
        end = min(begin + _PAIRS_PER_PASS, n_pairs)
        pairs = torch.arange(begin, end, device=radii.device)
        center = torch.searchsorted(geometry.first_pair, pairs, right=True) - 1
        neighbor = geometry.neighbor[begin:end]
        cells = geometry.cells.index_select(0, geometry.frame.index_select(0, center))
        images = torch.bmm(geometry.shift[begin:end, None].to(cells.dtype), cells)[:, 0]
        vectors = geometry.positions.index_select(0, neighbor) + images - geometry.positions.index_select(0, center)
        limits = factor * (radii.index_select(0, center) + radii.index_select(0, neighbor))
        close = torch.linalg.vector_norm(vectors, dim=1) < limits
        contacts.index_add_(0, center, close.double())
    return contacts > 0
