"""What training needs of labelled frames, computed once: features, their derivatives, targets.

Derivatives take tens of kilobytes per atom. Where they do not fit into memory they are computed again for each batch,
which costs about as much as what the networks do with them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import psutil
import torch
from ase import Atoms
from ase.stress import voigt_6_to_full_3x3_stress
from numpy.typing import NDArray

from alpot.errors import PotentialError
from alpot.potential.batch import Batch
from alpot.potential.descriptor_derivatives import count_neighbors, fill_jacobian, scale_jacobian
from alpot.potential.ensemble import Ensemble
from alpot.potential.jacobian import VOIGT, Array, Functions, Jacobian, feature_columns
from alpot.potential.kernels import Geometry, GeometryArrays
from alpot.potential.neighbors import NeighborSearch
from alpot.potential.threads import in_order

#: Share of the free memory that stored derivatives may take.
MEMORY_SHARE = 0.5


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


@dataclass(kw_only=True)
class FrameCache:
    """All labelled frames, one after the other.

    Attributes:
        offsets: (n_frames + 1,) frame f owns the atoms offsets[f]:offsets[f + 1].
        geometry: atoms and pairs; its species are indices of the ensemble's elements.
        functions: symmetry functions.
        columns: (n_features,) places of the features in a row, which is padded.
        features: (n_atoms, width) of the functions; standardised once ``scale`` has been called.
        scales: (n_elements, width) factors by which derivatives of the features have been multiplied.
        first_pair, first_item: (n_frames + 1,) where the pairs and items of each frame begin when all are stored.
        most_pairs, most_items: that a center has.
        jacobian: derivatives of all frames; None where they do not fit into memory.
        energies: (n_frames,) eV, self energies taken off.
        forces: (n_atoms, 3) eV/Å.
        virials: (n_frames, 6) eV, stress × volume in Voigt order; NaN where a frame has none.
    """

    offsets: NDArray[np.int64]
    geometry: GeometryArrays
    functions: Functions
    columns: NDArray[np.int64]
    features: Array
    scales: Array
    first_pair: NDArray[np.int64]
    first_item: NDArray[np.int64]
    most_pairs: int
    most_items: int
    jacobian: Jacobian | None
    energies: NDArray[np.float64]
    forces: NDArray[np.float64]
    virials: NDArray[np.float64]

    @classmethod
    def of(cls, ensemble: Ensemble, frames: Sequence[LabelledFrame], memory_share: float = MEMORY_SHARE) -> FrameCache:
        """Compute features, and as many derivatives as may be stored, in the ensemble's floating-point type.

        Raises:
            PotentialError: an element is unknown, or two atoms of a frame coincide.
        """
        batch = Batch.from_atoms([frame.atoms for frame in frames])
        species = ensemble.species(batch.numbers)
        pairs = NeighborSearch(ensemble.cutoff).pairs(batch)
        geometry = Geometry.of(batch, torch.from_numpy(species), pairs, "cpu").arrays()
        dtype = np.dtype(str(ensemble.dtype).removeprefix("torch."))
        functions = Functions.of(ensemble.aev, len(ensemble.elements), dtype)
        counts = np.zeros((batch.n_atoms, 2), np.int64)
        coinciding = count_neighbors(geometry, functions, counts)
        if coinciding >= 0:
            frame = int(geometry.frame[coinciding])
            raise PotentialError(
                f"labelled frame {frames[frame].key}: atom {coinciding - batch.offsets[frame]} and one of its neighbors"
                " lie on top of each other; remove this label"
            )
        first_pair, first_item = np.concatenate([np.zeros((1, 2), np.int64), counts.cumsum(0)])[batch.offsets].T.copy()
        self_energies = np.add.reduceat(ensemble.self_energies[species], batch.offsets[:-1])
        cache = cls(
            offsets=batch.offsets,
            geometry=geometry,
            functions=functions,
            columns=feature_columns(ensemble.aev, len(ensemble.elements)),
            # Vectors of the kernels may reach beyond the last row.
            features=np.zeros((batch.n_atoms + 1, functions.width), dtype)[:-1],
            scales=np.ones((len(ensemble.elements), functions.width), dtype),
            first_pair=first_pair,
            first_item=first_item,
            most_pairs=int(counts[:, 0].max()),
            most_items=int(counts[:, 1].max()),
            jacobian=None,
            energies=np.array([frame.energy for frame in frames]) - self_energies,
            forces=np.concatenate([frame.forces for frame in frames]),
            virials=np.array([_virial(frame, volume) for frame, volume in zip(frames, batch.volumes, strict=True)]),
        )
        if cache.bytes_of_jacobian <= memory_share * psutil.virtual_memory().available:
            cache.jacobian = cache.room_for(np.arange(len(frames)))
        cache._fill()
        return cache

    @property
    def n_frames(self) -> int:
        """Number of frames."""
        return len(self.offsets) - 1

    @property
    def with_strain(self) -> bool:
        """Whether any frame has a virial."""
        return bool(np.isfinite(self.virials).any())

    @property
    def bytes_of_jacobian(self) -> int:
        """What the derivatives of all frames take."""
        return Jacobian.bytes_of(
            self.functions,
            int(self.offsets[-1]),
            int(self.first_pair[-1]),
            int(self.first_item[-1]),
            with_strain=self.with_strain,
        )

    def room_for(self, frames: NDArray[np.int64]) -> Jacobian:
        """Memory for the derivatives of some frames."""
        return self._allocate(*(int(np.diff(first)[frames].sum()) for first in self._firsts))

    def room_for_atoms(self, n_atoms: int) -> Jacobian:
        """Memory for the derivatives of any frames with that many atoms together, or of any single one."""
        sizes, room = np.diff(self.offsets), []
        for first in self._firsts:
            own = np.diff(first)
            room.append(int(max(own.max(), np.ceil((own / sizes).max() * n_atoms))))
        return self._allocate(*room)

    @property
    def _firsts(self) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        return self.offsets, self.first_pair, self.first_item

    def _allocate(self, n_atoms: int, n_pairs: int, n_items: int) -> Jacobian:
        return Jacobian.allocate(self.functions, n_atoms, n_pairs, n_items, with_strain=self.with_strain)

    def derivatives_of(self, frames: NDArray[np.int64]) -> Jacobian:
        """Derivatives of some frames, one after the other, computed now; multiplied by ``scales``."""
        jacobian, center = self.room_for(frames), 0
        for frame in frames:
            begin, end = self.offsets[frame], self.offsets[frame + 1]
            features, species = np.empty_like(self.features[begin : end + 1]), self.geometry.species[begin:end]
            fill_jacobian(
                self.geometry, self.functions, begin, end, jacobian, center, self.with_strain, features[: end - begin]
            )
            scale_jacobian(
                jacobian, self.functions, center, center + end - begin, species, self.scales, self.with_strain
            )
            center += end - begin
        return jacobian

    def _fill(self) -> None:
        """Features of all frames, and their derivatives if they are stored; otherwise these are thrown away."""
        f, n_blocks = self.functions, self.functions.n_blocks
        is_stored = self.jacobian is not None
        jacobian = self.jacobian if self.jacobian is not None else self.room_for_atoms(0)

        def fill(frame: int) -> None:
            begin, end = self.offsets[frame], self.offsets[frame + 1]
            if is_stored:
                jacobian.first_pair[begin * f.n_elements] = self.first_pair[frame]
                jacobian.first_item[begin * n_blocks] = self.first_item[frame]
            center = begin if is_stored else 0
            fill_jacobian(self.geometry, f, begin, end, jacobian, center, self.with_strain, self.features[begin:end])

        # Frames share room where nothing is stored, so one thread does it.
        for _ in in_order(fill, range(self.n_frames), torch.get_num_threads() if is_stored else 1):
            pass

    def scale(self, means: NDArray[np.float64], deviations: NDArray[np.float64], units: NDArray[np.float64]) -> None:
        """Standardise the features, and make their derivatives those of networks with standardised features.

        Args:
            means, deviations: (n_elements, n_features) of the features.
            units: (n_elements,) eV per unit of the networks' outputs.
        """
        shift, factor = np.zeros_like(self.scales), np.ones_like(self.scales)
        shift[:, self.columns], factor[:, self.columns] = means, 1.0 / deviations
        species = self.geometry.species
        self.features -= shift[species]
        self.features *= factor[species]
        self.scales = factor * units[:, None].astype(factor.dtype)
        if self.jacobian is not None:
            scale_jacobian(self.jacobian, self.functions, 0, len(species), species, self.scales, self.with_strain)


def _virial(frame: LabelledFrame, volume: float) -> NDArray[np.float64]:
    if frame.stress is None:
        return np.full(6, np.nan)
    full = voigt_6_to_full_3x3_stress(frame.stress) * volume
    return np.array([full[i] for i in VOIGT])
