"""Descriptor kernels for the CPU, compiled by numba: one center at a time, vectorised over features or neighbors.

The formulas are those of ``descriptor.py`` (the oracle is ``aev_reference.py``), arranged so that almost nothing
transcendental is left inside the loop over triples:

- The Gaussian of the mean distance is a product of one factor per neighbor and one per triple,

      exp(−η ((r_j + r_k)/2 − R_a)²) = D_a(r_j) D_a(r_k) exp(η (r_j − r_k)² / 4),   D_a(r) = exp(−η (r − R_a)² / 2).

- The angular term ((1 + cos(θ − θ_z))/2)^ζ is a function of c = cos θ alone: cubic Hermite interpolation in a table of
  all its sections, fine enough for the floating-point type (``AngleTable``). Forces are the exact derivative of what
  is interpolated.
- A Gaussian of the distance is nothing outside a window of shifts around the distance; only those are evaluated.

Letters: i center; j, k neighbors; a shift of the angular Gaussian; z section of the angle; m member.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from alpot.errors import PotentialError
from alpot.potential.aev_loops import Loops, center_virials, compiled_loops, scatter
from alpot.potential.aev_rows import LANES, Rows, Terms, gather
from alpot.potential.angle_table import AngleTable
from alpot.potential.denormals import flushed_denormals
from alpot.potential.descriptor import AevSettings, element_pair_table
from alpot.potential.kernels import Geometry

#: A term of this size beside 1 is below the resolution of the type.
_NEGLIGIBLE = {torch.float32: 1e-9, torch.float64: 1e-18}
#: Exponents beyond which a float overflows.
_LARGEST_EXPONENT = {torch.float32: 80.0, torch.float64: 650.0}


class CpuKernels:
    """Descriptor kernels on the CPU; they hold no state and release Python's lock, so that threads may share them.

    Args:
        settings: the symmetry functions.
        n_elements: number of elements of the potential.
        dtype: torch.float32 or torch.float64, type of the features.
    """

    def __init__(self, settings: AevSettings, n_elements: int, dtype: torch.dtype) -> None:
        self.settings, self.n_elements, self.dtype = settings, n_elements, dtype
        self.numpy_type = to = np.float32 if dtype == torch.float32 else np.float64
        table = AngleTable(settings, dtype)
        self.terms = Terms(
            cutoff=to(settings.radial_cutoff),
            radial_eta=to(settings.radial_eta),
            radial_shifts=np.array(settings.radial_shifts, to),
            angular_cutoff=to(settings.angular_cutoff),
            angular_eta=to(settings.angular_eta),
            angular_shifts=np.array(settings.angular_shifts, to),
            table=table.values.astype(to).ravel(),
            table_start=to(table.start),
            nodes_per_cosine=to(1.0 / table.spacing),
            n_nodes=len(table.values),
            block_of=element_pair_table(n_elements).numpy().astype(np.int32),
        )
        self.window = _window(settings, dtype)

    @staticmethod
    def serve(settings: AevSettings, dtype: torch.dtype) -> bool:
        """Whether the factors of the angular Gaussians stay within the range of the type.

        The largest is exp(η (r_j − r_k)² / 4), which matters where the mean of the two is a shift: below the cutoff.
        """
        return settings.angular_eta * (0.5 * settings.angular_cutoff) ** 2 <= _LARGEST_EXPONENT[dtype]

    def compiled(self, n_members: int) -> Loops:
        """The compiled functions for K = ``n_members`` energies."""
        s = self.settings
        return compiled_loops(s.n_radial, self.window, len(s.angular_shifts), len(s.angle_sections), n_members)

    def environments(self, geometry: Geometry, begin: int, end: int) -> CpuEnvironments:
        """See ``kernels.Kernels``."""
        return CpuEnvironments(self, geometry, begin, end)


class CpuEnvironments:
    """See ``kernels.Environments``."""

    def __init__(self, kernels: CpuKernels, geometry: Geometry, begin: int, end: int) -> None:
        self._kernels = kernels
        self._begin = begin
        self._frame = geometry.frame[begin:end]
        arrays = geometry.arrays()
        n_centers = end - begin
        first = arrays.first_pair[begin : end + 1] - arrays.first_pair[begin]
        n_slots = int(first[-1])
        self._rows = rows = Rows(
            first=first[:-1],
            counts=np.empty((n_centers, kernels.n_elements + 1), np.int32),
            **{name: np.empty(n_slots + LANES, kernels.numpy_type) for name in "xyzr"},
            partners=np.empty(n_slots, np.int32),
            kinds=np.empty(n_slots, np.int32),
        )
        coinciding = gather(arrays, begin, end, rows, kernels.terms)
        if coinciding >= 0:
            raise PotentialError(f"atom {coinciding} of the batch and one of its neighbors lie on top of each other")
        features = np.empty((n_centers, kernels.settings.n_features(kernels.n_elements)), kernels.numpy_type)
        with flushed_denormals():
            kernels.compiled(1).features(rows, kernels.terms, features.reshape(-1))
        self.features = torch.from_numpy(features)

    def add_forces(self, weights: Tensor, forces: Tensor, virials: Tensor) -> None:
        """See ``kernels.Environments``."""
        self.pair_gradients(weights).add_to(forces, virials)

    def pair_gradients(self, weights: Tensor) -> PairGradients:
        """The part of ``add_forces`` that threads may do at the same time."""
        n_centers, n_members, _ = weights.shape
        weight = weights.contiguous().numpy().reshape(-1)
        gradients = np.empty((len(self._rows.partners), 3, n_members), self._kernels.numpy_type)
        compiled = self._kernels.compiled(n_members)
        with flushed_denormals():
            if n_members == 1:
                compiled.mean_gradients(self._rows, self._kernels.terms, weight, gradients)
            else:
                compiled.member_gradients(self._rows, self._kernels.terms, weight, gradients.reshape(-1))
        virials = np.empty((n_centers, n_members, 3, 3))
        center_virials(self._rows, gradients, virials)
        return PairGradients(self._rows, self._begin, self._frame, gradients, virials)


@dataclass(frozen=True)
class PairGradients:
    """Derivatives of energies by the pair vectors of some centers, and the virials of each center."""

    _rows: Rows
    _first_center: int
    _frame: Tensor
    _gradients: NDArray[Any]
    _virials: NDArray[np.float64]

    def add_to(self, forces: Tensor, virials: Tensor) -> None:
        """Add what belongs to each atom and each frame; shapes as in ``kernels.Environments``."""
        scatter(self._rows, self._first_center, self._gradients, forces.numpy())
        virials.index_add_(0, self._frame, torch.from_numpy(self._virials))


def _window(settings: AevSettings, dtype: torch.dtype) -> int:
    """How many radial shifts around a distance matter: all where they are not evenly spaced."""
    shifts = np.array(settings.radial_shifts)
    spacings = np.diff(shifts)
    if len(shifts) < 3 or np.ptp(spacings) > 1e-6 * spacings.mean():
        return len(shifts)
    reach = math.sqrt(-math.log(_NEGLIGIBLE[dtype]) / settings.radial_eta)
    return min(len(shifts), 8 * math.ceil((2.0 * reach / float(spacings.mean()) + 1.0) / 8.0))
