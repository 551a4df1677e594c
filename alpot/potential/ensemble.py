"""The ensemble: one descriptor, many networks; energies, forces and stress of every member for a batch of frames."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from ase.data import atomic_numbers
from numpy.typing import NDArray
from torch import Tensor, nn

from alpot.errors import PotentialError
from alpot.potential.batch import Batch
from alpot.potential.descriptor import AevSettings, Environments
from alpot.potential.neighbors import NeighborPairs
from alpot.potential.networks import Activation, ElementNetworks

#: Centers evaluated together: keeps the intermediates of one pass in the processor's cache, and memory bounded.
_CENTERS_PER_PASS = 256


@dataclass(frozen=True, kw_only=True)
class EnsembleResult:
    """What every member says about a batch; M members, float64 throughout.

    With ``mean_only``, forces and virials are those of the ensemble's mean: K = 1, otherwise K = M.

    Attributes:
        atom_energies: (M, n_atoms) eV, self energies included.
        energies: (M, n_frames) eV.
        forces: (K, n_atoms, 3) eV/Å.
        virials: (K, n_frames, 3, 3) eV, derivative of the energy with respect to the strain; stress × volume.
    """

    atom_energies: NDArray[np.float64]
    energies: NDArray[np.float64]
    forces: NDArray[np.float64]
    virials: NDArray[np.float64]

    @property
    def is_finite(self) -> bool:
        """Whether no energy and no force is NaN or infinite."""
        return bool(np.isfinite(self.energies).all() and np.isfinite(self.forces).all())


@dataclass(frozen=True, kw_only=True)
class PairGeometry:
    """Pairs inside the cutoff as tensors: the one input of the descriptor.

    Attributes:
        center, neighbor: (n_pairs,) atom indices, center ascending.
        frame: (n_pairs,) frame index.
        vectors: (n_pairs, 3) Å.
    """

    center: Tensor
    neighbor: Tensor
    frame: Tensor
    vectors: Tensor


class Ensemble(nn.Module):
    """Networks of all members on one atomic environment vector.

    Args:
        elements: chemical symbols, in the order of the species index.
        aev: symmetry functions.
        n_members: number of networks.
        hidden: widths of the hidden layers.
        activation: activation of the hidden layers.
    """

    feature_mean: Tensor
    feature_scale: Tensor
    energy_scale: Tensor

    def __init__(
        self,
        elements: Sequence[str],
        aev: AevSettings,
        n_members: int,
        hidden: Sequence[int],
        activation: Activation,
    ) -> None:
        super().__init__()
        self.elements = tuple(elements)
        self.aev = aev
        self.n_members = n_members
        self.hidden = tuple(hidden)
        self.activation: Activation = activation
        n_features = aev.n_features(len(elements))
        self._networks = nn.ModuleList(
            ElementNetworks(n_members, (n_features, *hidden, 1), activation) for _ in self.elements
        )
        self.register_buffer("feature_mean", torch.zeros(len(elements), n_features))
        self.register_buffer("feature_scale", torch.ones(len(elements), n_features))
        self.register_buffer("energy_scale", torch.ones(len(elements)))
        #: (n_elements,) eV; kept outside the module, so that no cast ever rounds them.
        self.self_energies: NDArray[np.float64] = np.zeros(len(elements))
        self._species_of_number = np.full(119, -1, dtype=np.int64)
        for index, symbol in enumerate(self.elements):
            self._species_of_number[atomic_numbers[symbol]] = index

    @property
    def dtype(self) -> torch.dtype:
        """Floating-point type of the networks."""
        return self.feature_mean.dtype

    @property
    def device(self) -> torch.device:
        """Where the networks live."""
        return self.feature_mean.device

    @property
    def networks(self) -> list[ElementNetworks]:
        """The networks of each element, in the order of ``elements``."""
        return cast(list[ElementNetworks], list(self._networks))

    @property
    def cutoff(self) -> float:
        """Å; atoms farther apart do not see each other."""
        return self.aev.radial_cutoff

    def species(self, numbers: NDArray[np.int64]) -> NDArray[np.int64]:
        """(n_atoms,) element indices.

        Raises:
            PotentialError: an atomic number is not one of the potential's elements.
        """
        species = self._species_of_number[numbers]
        if (species < 0).any():
            from ase.data import chemical_symbols

            unknown = sorted({chemical_symbols[n] for n in numbers[species < 0]})
            raise PotentialError(
                f"this potential knows the elements {list(self.elements)}, but the frame contains {unknown};"
                " use a potential that was trained for them"
            )
        return species

    def atom_outputs(self, species: Tensor, features: Tensor) -> tuple[Tensor, Tensor]:
        """Energies of the atoms without self energies, and their derivatives with respect to the features.

        Args:
            species: (n_atoms,) element indices.
            features: (n_atoms, n_features).

        Returns:
            (M, n_atoms) eV and (M, n_atoms, n_features) eV.
        """
        if len(self.elements) == 1:
            return self._outputs_of_element(0, features)
        energies = features.new_zeros((self.n_members, len(features)))
        gradients = features.new_zeros((self.n_members, *features.shape))
        for index in range(len(self.elements)):
            atoms = (species == index).nonzero()[:, 0]
            if len(atoms):
                energy, gradient = self._outputs_of_element(index, features[atoms])
                energies = energies.index_copy(1, atoms, energy)
                gradients = gradients.index_copy(1, atoms, gradient)
        return energies, gradients

    def _outputs_of_element(self, index: int, features: Tensor) -> tuple[Tensor, Tensor]:
        scaled = (features - self.feature_mean[index]) / self.feature_scale[index]
        energies, gradients = self.networks[index](scaled)
        scale = self.energy_scale[index]
        return energies * scale, gradients * (scale / self.feature_scale[index])

    def geometry(self, batch: Batch, pairs: NeighborPairs) -> PairGeometry:
        """Pair vectors of a batch, those beyond the cutoff left out; rounded to the ensemble's type at the very end.

        Raises:
            PotentialError: two atoms coincide.
        """
        vectors = pairs.vectors(batch)
        squares = np.einsum("pa,pa->p", vectors, vectors)
        if len(squares) and squares.min() < 1e-12:
            worst = int(squares.argmin())
            raise PotentialError(
                f"atoms {pairs.center[worst]} and {pairs.neighbor[worst]} of the batch lie on top of each other"
            )
        inside = (squares < self.cutoff**2).nonzero()[0]
        return PairGeometry(
            center=torch.from_numpy(pairs.center[inside]).to(self.device),
            neighbor=torch.from_numpy(pairs.neighbor[inside]).to(self.device),
            frame=torch.from_numpy(pairs.frame[inside]).to(self.device),
            vectors=torch.from_numpy(vectors[inside]).to(device=self.device, dtype=self.dtype),
        )

    def environments(
        self, species: Tensor, geometry: PairGeometry, centers_per_pass: int = _CENTERS_PER_PASS
    ) -> Iterator[tuple[slice, slice, Environments]]:
        """The descriptor in passes over the centers: (atoms, pairs, environments) of each pass."""
        n_atoms = len(species)
        for begin in range(0, n_atoms, centers_per_pass):
            end = min(begin + centers_per_pass, n_atoms)
            bounds = torch.tensor([begin, end], device=geometry.center.device)
            first, last = (int(x) for x in torch.searchsorted(geometry.center, bounds))
            pairs = slice(first, last)
            environments = Environments(
                self.aev,
                len(self.elements),
                end - begin,
                geometry.center[pairs] - begin,
                species[geometry.neighbor[pairs]],
                geometry.vectors[pairs],
            )
            yield slice(begin, end), pairs, environments

    @torch.no_grad()
    def evaluate(self, batch: Batch, pairs: NeighborPairs, *, mean_only: bool = False) -> EnsembleResult:
        """Energies, forces and virials of every member.

        Args:
            batch: the frames.
            pairs: their neighbor pairs, possibly more than those inside the cutoff.
            mean_only: forces and virials of the ensemble's mean only, which costs about half.

        Raises:
            PotentialError: an element is unknown, or two atoms coincide.
        """
        species_index = self.species(batch.numbers)
        species = torch.from_numpy(species_index).to(self.device)
        geometry = self.geometry(batch, pairs)
        members, n_frames = self.n_members, batch.n_frames
        answers = 1 if mean_only else members
        atom_energies = torch.zeros((members, batch.n_atoms), dtype=torch.float64, device=self.device)
        forces = torch.zeros((batch.n_atoms, answers, 3), dtype=torch.float64, device=self.device)
        virials = torch.zeros((n_frames, answers, 3, 3), dtype=torch.float64, device=self.device)
        for atoms, span, environments in self.environments(species, geometry):
            energies, slopes = self.atom_outputs(species[atoms], environments.features)
            if mean_only:
                slopes = slopes.mean(0, keepdim=True)
            atom_energies[:, atoms] = energies.double()
            gradients = environments.pair_gradients(slopes.transpose(0, 1)).double()
            forces.index_add_(0, geometry.center[span], gradients)
            forces.index_add_(0, geometry.neighbor[span], gradients, alpha=-1.0)
            strain = geometry.vectors[span].double()[:, None, :, None] * gradients[:, :, None, :]
            virials.index_add_(0, geometry.frame[span], strain)
        atom_energies += torch.from_numpy(self.self_energies[species_index]).to(self.device)
        energies = torch.zeros((members, n_frames), dtype=torch.float64, device=self.device)
        energies.index_add_(1, torch.from_numpy(batch.frame_of_atom).to(self.device), atom_energies)
        virials = 0.5 * (virials + virials.transpose(2, 3))
        return EnsembleResult(
            atom_energies=atom_energies.cpu().numpy(),
            energies=energies.cpu().numpy(),
            forces=forces.transpose(0, 1).cpu().numpy(),
            virials=virials.transpose(0, 1).cpu().numpy(),
        )
