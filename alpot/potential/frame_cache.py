"""Descriptor of labelled frames with its derivatives, computed once, so that training touches only the networks.

Forces are linear in the networks' input gradient, F = −Jᵀ dE/dG, with a Jacobian J = dG/dx that does not depend on the
weights. It is sparse and has structure: a radial feature depends on one distance (one number per pair and feature),
an angular one on the vectors inside the small angular cutoff. Both are stored padded per atom, for batched products.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from ase import Atoms
from ase.stress import voigt_6_to_full_3x3_stress
from numpy.typing import NDArray
from torch import Tensor

from alpot.potential.batch import Batch
from alpot.potential.ensemble import Ensemble
from alpot.potential.neighbors import NeighborSearch
from alpot.potential.segments import Segments


class LabelledFrame(Protocol):
    """A frame and what the reference says of it; ``alpot.store.labels.Label`` is one.

    Attributes:
        key: identity of the label.
        atoms: the frame.
        energy: eV.
        forces: (n_atoms, 3) eV/Å.
        stress: (6,) eV/Å³ in ASE's order and sign, or None.
    """

    @property
    def key(self) -> str: ...  # noqa: D102
    @property
    def atoms(self) -> Atoms: ...  # noqa: D102
    @property
    def energy(self) -> float: ...  # noqa: D102
    @property
    def forces(self) -> NDArray[np.float64]: ...  # noqa: D102
    @property
    def stress(self) -> NDArray[np.float64] | None: ...  # noqa: D102


@dataclass(frozen=True, kw_only=True)
class CachedFrame:
    """One frame, ready for training.

    Attributes:
        species: (n_atoms,) element indices.
        features: (n_atoms, n_features).
        radial_slopes: (n_atoms · n_elements, width, n_radial) derivative of the radial terms by the distance.
        radial_units: (n_atoms · n_elements, width, 3) unit vectors, zero where padded.
        radial_neighbors: (n_atoms · n_elements · width,) atom index of the neighbor.
        angular_jacobian: (n_atoms · n_element_pairs, width · 3, n_angular).
        angular_neighbors: (n_atoms · n_element_pairs · width,) atom index of the neighbor.
        strain_jacobian: (n_atoms · n_features, 6) derivative of the features by the strain (Voigt order).
        energy: eV, self energies taken off.
        forces: (n_atoms, 3) eV/Å.
        virial: (6,) eV, stress × volume in Voigt order, or None.
    """

    species: Tensor
    features: Tensor
    radial_slopes: Tensor
    radial_units: Tensor
    radial_neighbors: Tensor
    angular_jacobian: Tensor
    angular_neighbors: Tensor
    strain_jacobian: Tensor
    energy: float
    forces: Tensor
    virial: Tensor | None

    @property
    def n_atoms(self) -> int:
        """Number of atoms."""
        return len(self.species)

    def predicted_forces(self, gradients: Tensor) -> Tensor:
        """Forces from the networks' input gradients.

        Args:
            gradients: (M, n_atoms, n_features) eV.

        Returns:
            (n_atoms, 3, M) eV/Å.
        """
        n_members = gradients.shape[0]
        n_atoms, n_radial = self.n_atoms, self.radial_slopes.shape[2]
        split = len(self.radial_slopes) // n_atoms * n_radial
        by_feature = gradients.permute(1, 2, 0)
        radial = by_feature[:, :split].reshape(-1, n_radial, n_members)
        along = torch.bmm(self.radial_slopes, radial)  # (n_atoms · n_elements, width, M)
        pulls = (self.radial_units[..., None] * along[:, :, None, :]).view(n_atoms, -1, 3, n_members)
        angular = by_feature[:, split:].reshape(len(self.angular_jacobian), -1, n_members)
        turns = torch.bmm(self.angular_jacobian, angular).view(n_atoms, -1, 3, n_members)
        on_center = pulls.sum(1) + turns.sum(1)
        on_neighbors = torch.zeros_like(on_center)
        on_neighbors = on_neighbors.index_add(0, self.radial_neighbors, pulls.flatten(0, 1))
        on_neighbors = on_neighbors.index_add(0, self.angular_neighbors, turns.flatten(0, 1))
        return on_center - on_neighbors

    def predicted_virial(self, gradients: Tensor) -> Tensor:
        """(M, 6) eV: stress × volume from the networks' input gradients (M, n_atoms, n_features)."""
        return gradients.flatten(1) @ self.strain_jacobian


@torch.no_grad()
def cache_frames(ensemble: Ensemble, frames: Sequence[LabelledFrame]) -> list[CachedFrame]:
    """Compute descriptors and derivatives of labelled frames in the ensemble's floating-point type."""
    search = NeighborSearch(ensemble.cutoff)
    cached = []
    for frame in frames:
        search.forget(0)
        cached.append(_cache_frame(ensemble, frame, search))
    return cached


def _cache_frame(ensemble: Ensemble, frame: LabelledFrame, search: NeighborSearch) -> CachedFrame:
    batch = Batch.from_atoms([frame.atoms])
    species_index = ensemble.species(batch.numbers)
    species = torch.from_numpy(species_index).to(ensemble.device)
    geometry = ensemble.geometry(batch, search.pairs(batch))
    ((_, _, environments),) = ensemble.environments(species, geometry, centers_per_pass=batch.n_atoms)
    n_radial = environments.settings.n_radial
    segments = environments.radial_segments
    slopes = segments.pad(environments.radial_jacobian())
    units = environments.vectors / environments.distances[:, None]
    bins, pair, jacobian = environments.angular_jacobian()
    angular_segments = Segments(bins, batch.n_atoms * environments.n_element_pairs)
    vectors = environments.vectors
    # Strain derivative Σ r_a ∂G/∂r_b, symmetrised, in Voigt order.
    rows, columns = torch.tensor([[0, 1, 2, 1, 0, 0], [0, 1, 2, 2, 2, 1]], device=ensemble.device)
    radial_strain = segments.pad(vectors[:, rows] * units[:, columns]).transpose(1, 2) @ slopes
    tensor = vectors[pair][:, :, None, None] * jacobian[:, None]  # (n_items, 3, 3, n_angular)
    tensor = 0.5 * (tensor + tensor.transpose(1, 2))
    angular_strain = vectors.new_zeros((angular_segments.n_bins, 6, jacobian.shape[2]))
    angular_strain.index_add_(0, bins, tensor[:, rows, columns])
    n_atoms = batch.n_atoms
    strain = torch.cat(
        [
            radial_strain.view(n_atoms, -1, 6, n_radial).transpose(2, 3).reshape(n_atoms, -1, 6),
            angular_strain.view(n_atoms, -1, 6, jacobian.shape[2]).transpose(2, 3).reshape(n_atoms, -1, 6),
        ],
        dim=1,
    )
    virial = None
    if frame.stress is not None:
        full = voigt_6_to_full_3x3_stress(frame.stress) * batch.volumes[0]
        virial = vectors.new_tensor(full[rows.cpu().numpy(), columns.cpu().numpy()])
    return CachedFrame(
        species=species,
        features=environments.features,
        radial_slopes=slopes,
        radial_units=segments.pad(units),
        radial_neighbors=segments.pad(geometry.neighbor).flatten(),
        angular_jacobian=angular_segments.pad(jacobian).flatten(1, 2),
        angular_neighbors=angular_segments.pad(geometry.neighbor[pair]).flatten(),
        strain_jacobian=strain.flatten(0, 1),
        energy=float(frame.energy - ensemble.self_energies[species_index].sum()),
        forces=vectors.new_tensor(frame.forces),
        virial=virial,
    )
