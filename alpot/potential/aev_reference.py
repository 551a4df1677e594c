"""The descriptor in plain torch: on any device, in any type, differentiable twice. The other backends' oracle."""

from __future__ import annotations

import torch
from torch import Tensor

from alpot.errors import PotentialError
from alpot.potential.descriptor import AevSettings, Environments
from alpot.potential.kernels import Geometry


class ReferenceKernels:
    """See ``kernels.Kernels``.

    Args:
        settings: the symmetry functions.
        n_elements: number of elements of the potential.
        dtype: of the features.
    """

    def __init__(self, settings: AevSettings, n_elements: int, dtype: torch.dtype) -> None:
        self.settings, self.n_elements, self.dtype = settings, n_elements, dtype

    def environments(self, geometry: Geometry, begin: int, end: int) -> ReferenceEnvironments:
        """See ``kernels.Kernels``."""
        return ReferenceEnvironments(self, geometry, begin, end)


class ReferenceEnvironments:
    """See ``kernels.Environments``.

    Attributes:
        center, neighbor: (n_pairs,) atom indices of the pairs inside the cutoff; center counts from ``begin``.
        vectors: (n_pairs, 3) Å.
        terms: the descriptor as a function of the vectors.
    """

    def __init__(self, kernels: ReferenceKernels, geometry: Geometry, begin: int, end: int) -> None:
        self._geometry, self._begin = geometry, begin
        first = geometry.first_pair[begin : end + 1]
        pairs = slice(int(first[0]), int(first[-1]))
        center = torch.repeat_interleave(torch.arange(end - begin, device=first.device), first.diff())
        neighbor = geometry.neighbor[pairs].long()
        atoms = center + begin
        cells = geometry.cells[geometry.frame.long()[atoms]]
        vectors = geometry.positions[neighbor] - geometry.positions[atoms]
        vectors = vectors + (geometry.shift[pairs, None].double() @ cells)[:, 0]
        squares = vectors.detach().square().sum(1)
        if len(squares) and squares.min() < 1e-12:
            worst = int(squares.argmin())
            raise PotentialError(
                f"atoms {int(atoms[worst])} and {int(neighbor[worst])} of the batch lie on top of each other"
            )
        # A distance that is NaN stays, so that it is seen in the result.
        inside = (~(squares >= kernels.settings.radial_cutoff**2)).nonzero()[:, 0]
        self.center, self.neighbor = center[inside], neighbor[inside]
        self.vectors = vectors[inside].to(kernels.dtype)
        self.terms = Environments(
            kernels.settings,
            kernels.n_elements,
            end - begin,
            self.center,
            geometry.species.long()[self.neighbor],
            self.vectors,
        )

    @property
    def features(self) -> Tensor:
        """(n_centers, n_features)."""
        return self.terms.features

    def add_forces(self, weights: Tensor, forces: Tensor, virials: Tensor) -> None:
        """See ``kernels.Environments``."""
        gradients = self.terms.pair_gradients(weights).double()
        forces.index_add_(0, self.center + self._begin, gradients)
        forces.index_add_(0, self.neighbor, gradients, alpha=-1.0)
        strain = self.vectors.double()[:, None, :, None] * gradients[:, :, None, :]
        virials.index_add_(0, self._geometry.frame.long()[self.center + self._begin], strain)
