"""Cells that grow in all directions alike, and shrink along one axis of their own besides.

Lengths relative to some reference are two numbers, the *scales* of a walker: of all directions, and of its axis
besides. From scales (λ₁, s₁) to (λ₂, s₂) all vectors v become

    M v = λ (v + (s − 1) n (n · v)),  λ = λ₂ / λ₁,  s = s₂ / s₁,

with the unit vector n along the axis, which M leaves where it is. M shortens no vector by more than λ min(1, s).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Deformation:
    """M of many vectors, in each of some steps.

    Attributes:
        growth: (n_steps, n, 1) λ of each vector; None where all are 1.
        squeeze: (n_steps, n, 1) s − 1 of each vector; None where all are 0.
        axes: (n, 3) unit vectors n.
    """

    growth: Tensor | None
    squeeze: Tensor | None
    axes: Tensor

    def apply_to(self, vectors: Tensor, step: int) -> Tensor:
        """The vectors (n, 3) or (n, 3, 3) after one of the steps, changed in place; each (3, 3) is three vectors."""
        whole = (slice(None), None) if vectors.dim() == 3 else (slice(None),)
        if self.squeeze is not None:
            axes = self.axes[whole]
            along = (vectors * axes).sum(-1, keepdim=True)
            vectors.addcmul_(axes, along.mul_(self.squeeze[step][whole]))
        if self.growth is not None:
            vectors.mul_(self.growth[step][whole])
        return vectors


def least_growth(scales: NDArray[np.float64], reference: NDArray[np.float64]) -> NDArray[np.float64]:
    """(...,) what is left of the length of any vector, from scales (..., 2) at the reference to scales (..., 2)."""
    ratio = scales / reference
    return np.asarray(ratio[..., 0] * np.minimum(ratio[..., 1], 1.0))
