"""What the rest of the potential asks of a descriptor kernel: features of atoms, and forces from weights on them.

Three backends answer: ``aev_reference`` (plain torch, any device; the oracle that the others are tested against),
``aev_cpu`` (numba) and ``aev_gpu`` (Triton).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from alpot.potential.batch import Batch
from alpot.potential.neighbors import NeighborPairs


class GeometryArrays(NamedTuple):
    """``Geometry`` as the arrays that compiled loops take."""

    species: NDArray[np.int32]
    positions: NDArray[np.float64]
    cells: NDArray[np.float64]
    frame: NDArray[np.int32]
    first_pair: NDArray[np.int64]
    neighbor: NDArray[np.int32]
    shift: NDArray[np.int32]


@dataclass(frozen=True, kw_only=True)
class Geometry:
    """Where the atoms of a batch are and who is near whom, as tensors on one device.

    Pairs are directed (each physical pair twice) and grouped by center; some may be longer than the cutoff.

    Attributes:
        species: (n_atoms,) int32 element indices.
        positions: (n_atoms, 3) float64 Å.
        cells: (n_frames, 3, 3) float64 Å.
        pbc: (n_frames, 3) bool.
        frame: (n_atoms,) int32 index of the frame of each atom.
        first_pair: (n_atoms + 1,) int64; center i owns the pairs first_pair[i]:first_pair[i + 1].
        neighbor: (n_pairs,) int32 atom index.
        shift: (n_pairs, 3) int32 cell vectors to be added to the neighbor's position.
    """

    species: Tensor
    positions: Tensor
    cells: Tensor
    pbc: Tensor
    frame: Tensor
    first_pair: Tensor
    neighbor: Tensor
    shift: Tensor

    @classmethod
    def of(cls, batch: Batch, species: Tensor, pairs: NeighborPairs, device: torch.device | str) -> Geometry:
        """Tensors of a batch and its pairs; on the CPU they share the arrays' memory."""
        return cls(
            species=species.to(device=device, dtype=torch.int32),
            positions=torch.from_numpy(batch.positions).to(device),
            cells=torch.from_numpy(batch.cells).to(device),
            pbc=torch.from_numpy(batch.pbc).to(device),
            frame=torch.from_numpy(batch.frame_of_atom).to(device=device, dtype=torch.int32),
            first_pair=torch.from_numpy(pairs.first_pair).to(device),
            neighbor=torch.from_numpy(pairs.neighbor).to(device),
            shift=torch.from_numpy(pairs.shift).to(device),
        )

    def arrays(self) -> GeometryArrays:
        """The same memory as numpy arrays; on the CPU only."""
        return GeometryArrays(*(getattr(self, name).numpy() for name in GeometryArrays._fields))

    @property
    def n_atoms(self) -> int:
        """Number of atoms of all frames together."""
        return len(self.species)

    @property
    def n_frames(self) -> int:
        """Number of frames."""
        return len(self.cells)


class Environments(Protocol):
    """Descriptor of some consecutive centers of a batch."""

    @property
    def features(self) -> Tensor:
        """(n_centers, n_features) atomic environment vectors."""
        ...

    def add_forces(self, weights: Tensor, forces: Tensor, virials: Tensor) -> None:
        """Add the forces and virials of K energies of these centers.

        Args:
            weights: (n_centers, K, n_features) derivatives of the energies with respect to the features, eV.
            forces: (n_atoms, K, 3) float64 eV/Å, added to.
            virials: (n_frames, K, 3, 3) float64 eV, Σ r_a ∂E/∂r_b over the pairs is added to; not symmetrised.
        """


class Kernels(Protocol):
    """A backend, made for one descriptor."""

    def environments(self, geometry: Geometry, begin: int, end: int) -> Environments:
        """Descriptor of the centers begin:end.

        Raises:
            PotentialError: two atoms coincide.
        """
