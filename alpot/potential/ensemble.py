"""The ensemble: one descriptor, many networks; energies, forces and stress of every member for a batch of frames."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple, cast

import numpy as np
import torch
from ase.data import atomic_numbers
from numpy.typing import NDArray
from torch import Tensor, nn

from alpot.errors import PotentialError
from alpot.potential.aev_cpu import CpuEnvironments, CpuKernels
from alpot.potential.aev_reference import ReferenceKernels
from alpot.potential.baseline import Baseline
from alpot.potential.batch import Batch
from alpot.potential.descriptor import AevSettings
from alpot.potential.kernels import Geometry, Kernels
from alpot.potential.neighbors import NeighborPairs
from alpot.potential.networks import Activation, ElementNetworks
from alpot.potential.networks_cpu import CpuNetworks
from alpot.potential.threads import in_order, single_threaded_torch

#: Centers evaluated together on the CPU: their intermediates stay in the processor's cache.
_CENTERS_PER_PASS = 128
#: Of a GPU's free memory, for the intermediates of one pass.
_SHARE_OF_FREE_MEMORY = 0.25


@dataclass(frozen=True, kw_only=True)
class EnsembleResult:
    """What every member says about a batch; M members, float64 throughout.

    With ``mean_only``, forces and virials are those of the ensemble's mean: K = 1, otherwise K = M.

    Attributes:
        atom_energies: (M, n_atoms) eV, self energies included; NaN in frames where a baseline has none.
        energies: (M, n_frames) eV.
        forces: (K, n_atoms, 3) eV/Å.
        virials: (K, n_frames, 3, 3) eV, derivative of the energy with respect to the strain; stress × volume. NaN in
            frames of which a baseline gives no stress.
    """

    atom_energies: NDArray[np.float64]
    energies: NDArray[np.float64]
    forces: NDArray[np.float64]
    virials: NDArray[np.float64]

    @property
    def is_finite(self) -> bool:
        """Whether no energy, force and virial is NaN or infinite."""
        return self.has_forces and bool(np.isfinite(self.virials).all())

    @property
    def has_forces(self) -> bool:
        """Whether no energy and no force is NaN or infinite."""
        return all(np.isfinite(values).all() for values in (self.energies, self.forces))


class EnsembleTensors(NamedTuple):
    """``EnsembleResult`` as tensors on the ensemble's device."""

    atom_energies: Tensor
    energies: Tensor
    forces: Tensor
    virials: Tensor


def _kernels_for(device: torch.device, aev: AevSettings, n_elements: int, dtype: torch.dtype) -> Kernels:
    if device.type == "cpu" and CpuKernels.serve(aev, dtype):
        return CpuKernels(aev, n_elements, dtype)
    if device.type == "cuda":
        from alpot.potential.aev_gpu import GpuKernels  # Triton comes with torch's CUDA builds only

        return GpuKernels(aev, n_elements, dtype)
    return ReferenceKernels(aev, n_elements, dtype)


class Ensemble(nn.Module):
    """Networks of all members on one atomic environment vector.

    Args:
        elements: chemical symbols, in the order of the species index.
        aev: symmetry functions.
        n_members: number of networks.
        hidden: widths of the hidden layers.
        activation: activation of the hidden layers.

    Attributes:
        baseline: what the networks are the correction to; ``evaluate`` and ``evaluate_geometry`` add it to the answers
            of all members. None for a potential that learns the whole.
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
        self.baseline: Baseline | None = None
        self._self_energies_on_device: tuple[NDArray[np.float64], Tensor] | None = None
        self._packed: dict[int, CpuNetworks] = {}
        self._gpu_passes: dict[int, int] = {}
        self._kernels: tuple[tuple[torch.device, torch.dtype], Kernels] | None = None
        self._numbers = np.array([atomic_numbers[symbol] for symbol in self.elements], dtype=np.int64)
        self._species_of_number = np.full(119, -1, dtype=np.int64)
        self._species_of_number[self._numbers] = np.arange(len(self.elements))

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

    def member(self, index: int) -> Ensemble:
        """One member as an ensemble of its own; it shares the baseline, and no weights."""
        alone = Ensemble(self.elements, self.aev, 1, self.hidden, self.activation).to(self.device, self.dtype)
        networks = {name for name, _ in self.named_parameters()}
        state = self.state_dict()
        alone.load_state_dict({n: t[index : index + 1] if n in networks else t for n, t in state.items()})
        alone.self_energies = self.self_energies.copy()
        alone.baseline = self.baseline
        return alone

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

    def atom_outputs(self, species: Tensor, features: Tensor, *, mean_only: bool = False) -> tuple[Tensor, Tensor]:
        """Energies of the atoms without self energies, and their derivatives with respect to the features.

        Args:
            species: (n_atoms,) element indices.
            features: (n_atoms, n_features).
            mean_only: derivatives of the mean over the members, K = 1 instead of M.

        Returns:
            (M, n_atoms) eV and (K, n_atoms, n_features) eV.
        """
        if len(self.elements) == 1:
            return self._outputs_of_element(0, features, mean_only)
        energies = features.new_zeros((self.n_members, len(features)))
        gradients = features.new_zeros((1 if mean_only else self.n_members, *features.shape))
        for index in range(len(self.elements)):
            atoms = (species == index).nonzero()[:, 0]
            if len(atoms):
                energy, gradient = self._outputs_of_element(index, features[atoms], mean_only)
                energies = energies.index_copy(1, atoms, energy)
                gradients = gradients.index_copy(1, atoms, gradient)
        return energies, gradients

    def _outputs_of_element(self, index: int, features: Tensor, mean_only: bool) -> tuple[Tensor, Tensor]:
        scaled = (features - self.feature_mean[index]) / self.feature_scale[index]
        if self.device.type == "cpu" and not torch.is_grad_enabled():
            energies, gradients = self._cpu_networks(index).evaluate(scaled, mean_only=mean_only)
        else:
            energies, gradients = self.networks[index](scaled)
            if mean_only:
                gradients = gradients.mean(0, keepdim=True)
        scale = self.energy_scale[index]
        return energies * scale, gradients * (scale / self.feature_scale[index])

    def evaluate(self, batch: Batch, pairs: NeighborPairs, *, mean_only: bool = False) -> EnsembleResult:
        """Energies, forces and virials of every member.

        Args:
            batch: the frames.
            pairs: their neighbor pairs, possibly more than those inside the cutoff.
            mean_only: forces and virials of the mean only, which takes a third less time.

        Raises:
            PotentialError: an element is unknown, or two atoms coincide.
        """
        species = torch.from_numpy(self.species(batch.numbers))
        result = self.evaluate_geometry(Geometry.of(batch, species, pairs, self.device), mean_only=mean_only)
        return EnsembleResult(**{name: getattr(result, name).cpu().numpy() for name in EnsembleTensors._fields})

    def evaluate_geometry(self, geometry: Geometry, *, mean_only: bool) -> EnsembleTensors:
        """As ``evaluate``, from and to tensors on the ensemble's device.

        Raises:
            PotentialError: two atoms coincide (seen on the CPU only; on a GPU the result is not finite).
        """
        members, n_atoms, n_frames = self.n_members, geometry.n_atoms, geometry.n_frames
        answers = 1 if mean_only else members
        atom_energies = geometry.positions.new_empty((members, n_atoms))
        forces = geometry.positions.new_zeros((n_atoms, answers, 3))
        virials = geometry.positions.new_zeros((n_frames, answers, 3, 3))
        step = _CENTERS_PER_PASS if self.device.type == "cpu" else self._gpu_pass(answers)
        passes = [slice(begin, min(begin + step, n_atoms)) for begin in range(0, n_atoms, step)]
        evaluate_pass = partial(self._evaluate_pass, geometry, mean_only)
        with single_threaded_torch() as n_threads:
            results = in_order(evaluate_pass, passes, min(n_threads, len(passes)))
            for atoms, (energies, add_forces) in zip(passes, results, strict=True):
                atom_energies[:, atoms] = energies
                add_forces(forces, virials)
        atom_energies += self._uploaded_self_energies()[geometry.species.long()]
        energies = atom_energies.new_zeros((members, n_frames))
        energies.index_add_(1, geometry.frame, atom_energies)
        if self.baseline is not None:
            numbers = self._numbers[geometry.species.cpu().numpy()]
            self.baseline.add_to(geometry, numbers, atom_energies, energies, forces, virials)
        return EnsembleTensors(
            atom_energies, energies, forces.transpose(0, 1), 0.5 * (virials + virials.transpose(2, 3)).transpose(0, 1)
        )

    @torch.no_grad()
    def features(self, batch: Batch, pairs: NeighborPairs) -> NDArray[np.float64]:
        """(n_atoms, n_features) atomic environment vectors, shifted and scaled as the networks see them.

        Args:
            batch: the frames.
            pairs: their neighbor pairs, possibly more than those inside the cutoff.

        Raises:
            PotentialError: an element is unknown, or two atoms coincide.
        """
        geometry = Geometry.of(batch, torch.from_numpy(self.species(batch.numbers)), pairs, self.device)
        found = np.empty((batch.n_atoms, self.aev.n_features(len(self.elements))))
        for begin in range(0, batch.n_atoms, _CENTERS_PER_PASS):
            end = min(begin + _CENTERS_PER_PASS, batch.n_atoms)
            species = geometry.species[begin:end].long()
            raw = self.kernels.environments(geometry, begin, end).features
            scaled = (raw - self.feature_mean[species]) / self.feature_scale[species]
            found[begin:end] = scaled.cpu().numpy()
        return found

    @torch.no_grad()
    def _evaluate_pass(
        self, geometry: Geometry, mean_only: bool, atoms: slice
    ) -> tuple[Tensor, Callable[[Tensor, Tensor], None]]:
        """Energies of some atoms (M, n_atoms), and what adds their parts to forces and virials."""
        environments = self.kernels.environments(geometry, atoms.start, atoms.stop)
        energies, slopes = self.atom_outputs(geometry.species[atoms], environments.features, mean_only=mean_only)
        weights = slopes.transpose(0, 1)
        if isinstance(environments, CpuEnvironments):
            return energies, environments.pair_gradients(weights).add_to
        return energies, partial(environments.add_forces, weights)

    def _cpu_networks(self, index: int) -> CpuNetworks:
        """The networks of one element, packed again when their weights have changed."""
        known = self._packed.get(index)
        if known is None or not known.is_current:
            known = self._packed[index] = CpuNetworks(self.networks[index])
        return known

    @property
    def kernels(self) -> Kernels:
        """Descriptor kernels for the ensemble's device and type."""
        wanted = (self.device, self.dtype)
        if self._kernels is None or self._kernels[0] != wanted:
            self._kernels = (wanted, _kernels_for(self.device, self.aev, len(self.elements), self.dtype))
        return self._kernels[1]

    def _uploaded_self_energies(self) -> Tensor:
        """``self_energies`` on the device, where they stay."""
        known = self._self_energies_on_device
        if known is None or known[0] is not self.self_energies or known[1].device != self.device:
            known = self._self_energies_on_device = (
                self.self_energies,
                torch.from_numpy(self.self_energies).to(self.device),
            )
        return known[1]

    def _gpu_pass(self, answers: int) -> int:
        """How many centers' intermediates fit in a share of the GPU's memory; asked once, for it is slow to ask."""
        if answers not in self._gpu_passes:
            numbers = (1 + answers + self.n_members) * self.aev.n_features(len(self.elements))
            numbers += 2 * self.n_members * sum(self.hidden)
            free, _ = torch.cuda.mem_get_info(self.device)
            bytes_per_center = numbers * self.feature_mean.element_size()
            self._gpu_passes[answers] = max(1024, int(_SHARE_OF_FREE_MEMORY * free / bytes_per_center))
        return self._gpu_passes[answers]
