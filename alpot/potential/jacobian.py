"""The Jacobian of the descriptor, stored compactly: the derivatives of the features by positions and strain.

Forces are linear in the gradient g = dE/dG of the networks by the descriptor: F = −Jᵀ g, with a Jacobian J = dG/dr that
does not depend on the weights. It is sparse and has structure:

- a radial term depends on one distance: per pair a unit vector, and dG/dr of the few shifts near the distance;
- an angular one on the neighbors inside the small cutoff: per center, pair of elements and neighbor a dense
  3 × n_angular block, the sum over the triples that the neighbor is part of;
- the virial: per center a dense 6 × n_features block, the derivative by the strain in Voigt order.

That is 30 kB per atom for ANI-Al in float32. ``descriptor_derivatives`` fills it, ``jacobian_products`` multiplies with
it. All is numba's: arrays are flat, and rows of features are padded to whole tiles, block by block.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from alpot.potential.descriptor import AevSettings, element_pair_table
from alpot.potential.matrix_tiles import COLUMNS, ROWS

Array = NDArray[Any]
#: A Gaussian below this share of its peak is left out: nothing beside the others in the type.
_NEGLIGIBLE = {np.dtype(np.float32): 1e-9, np.dtype(np.float64): 1e-18}
#: Shifts or sections that kernels handle at once.
LANES = 8
#: Components of the strain, in Voigt order.
VOIGT = ((0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1))


def padded(size: int, unit: int = COLUMNS) -> int:
    """The next multiple of ``unit``."""
    return -(-size // unit) * unit


def _whole_vectors(numbers: Any, dtype: Any) -> Array:
    return np.pad(np.array(numbers), (0, -len(numbers) % LANES)).astype(dtype)


class Functions(NamedTuple):
    """Symmetry functions in the kernels' type, and the layout of a row of features.

    Attributes:
        n_elements, n_blocks, n_radial: numbers of elements, of pairs of elements, and of radial shifts.
        radial_width, angular_width: padded lengths of the block of an element, and of a pair of elements.
        width: length of a row: the blocks of all elements, then those of all pairs of elements.
        window: radial shifts evaluated per pair.
        block: (n_elements, n_elements) index of each pair of elements.
        radial_shifts: (radial_width,) Å.
        angular_shifts: Å, section_cosines, section_sines: padded to whole vectors.
        n_shifts, n_sections: numbers of angular shifts and sections.
        reach: Å beyond which a radial Gaussian is nothing.
    """

    n_elements: int
    n_blocks: int
    n_radial: int
    radial_width: int
    angular_width: int
    width: int
    window: int
    block: NDArray[np.int64]
    radial_cutoff: Any
    radial_eta: Any
    radial_shifts: Array
    angular_cutoff: Any
    angular_eta: Any
    angular_shifts: Array
    angular_zeta: Any
    section_cosines: Array
    section_sines: Array
    n_shifts: int
    n_sections: int
    reach: Any

    @classmethod
    def of(cls, settings: AevSettings, n_elements: int, dtype: Any) -> Functions:
        """Of a descriptor, for float32 or float64 kernels."""
        to = np.dtype(dtype).type
        shifts = np.array(settings.radial_shifts)
        radial_width, angular_width = padded(settings.n_radial), padded(settings.n_angular)
        reach = math.sqrt(-math.log(_NEGLIGIBLE[np.dtype(dtype)]) / settings.radial_eta)
        window = radial_width
        if (np.diff(shifts) > 0).all():
            # The most shifts that fit within the reach of one distance.
            most = int((np.searchsorted(shifts, shifts + 2 * reach, side="right") - np.arange(len(shifts))).max())
            window = min(padded(most, 8), radial_width)
        n_blocks = n_elements * (n_elements + 1) // 2
        return cls(
            n_elements=n_elements,
            n_blocks=n_blocks,
            n_radial=settings.n_radial,
            radial_width=radial_width,
            angular_width=angular_width,
            width=n_elements * radial_width + n_blocks * angular_width,
            window=window,
            block=element_pair_table(n_elements).numpy().astype(np.int64),
            radial_cutoff=to(settings.radial_cutoff),
            radial_eta=to(settings.radial_eta),
            radial_shifts=np.pad(shifts, (0, radial_width - len(shifts))).astype(dtype),
            angular_cutoff=to(settings.angular_cutoff),
            angular_eta=to(settings.angular_eta),
            angular_shifts=_whole_vectors(settings.angular_shifts, dtype),
            angular_zeta=to(settings.angular_zeta),
            section_cosines=_whole_vectors(np.cos(settings.angle_sections), dtype),
            section_sines=_whole_vectors(np.sin(settings.angle_sections), dtype),
            n_shifts=len(settings.angular_shifts),
            n_sections=len(settings.angle_sections),
            reach=to(reach),
        )


def feature_columns(settings: AevSettings, n_elements: int) -> NDArray[np.int64]:
    """(n_features,) place of each feature in a padded row."""
    columns, start = [], 0
    n_blocks = n_elements * (n_elements + 1) // 2
    for size in [settings.n_radial] * n_elements + [settings.n_angular] * n_blocks:
        columns.append(np.arange(start, start + size))
        start += padded(size)
    return np.concatenate(columns)


class Jacobian(NamedTuple):
    """Derivatives of the features of some centers, one frame after the other.

    Attributes:
        first_pair: (n_centers · n_elements + 1,) pairs of a center with the neighbors of one element.
        pair_neighbor: (n_pairs,) index of the neighbor in its frame.
        pair_unit: (n_pairs · 3,) from center to neighbor.
        pair_window: (n_pairs,) first of the radial shifts that matter.
        pair_slope: (n_pairs · window,) derivative of the radial terms by the distance.
        first_item: (n_centers · n_blocks + 1,) neighbors on which the angular terms of a pair of elements depend.
        item_neighbor: (n_items,) index of the neighbor in its frame.
        item_block: (n_items · 3 · angular_width,) derivatives by the neighbor's position.
        strain: (n_centers · 6 · width,) derivatives by the strain; empty where nobody asks for virials.
    """

    first_pair: NDArray[np.int64]
    pair_neighbor: NDArray[np.int32]
    pair_unit: Array
    pair_window: NDArray[np.int32]
    pair_slope: Array
    first_item: NDArray[np.int64]
    item_neighbor: NDArray[np.int32]
    item_block: Array
    strain: Array

    @classmethod
    def allocate(
        cls, functions: Functions, n_centers: int, n_pairs: int, n_items: int, *, with_strain: bool
    ) -> Jacobian:
        """Room for so many centers, pairs and items."""
        f, dtype = functions, functions.radial_shifts.dtype
        return cls(
            first_pair=np.zeros(n_centers * f.n_elements + 1, np.int64),
            pair_neighbor=np.zeros(n_pairs, np.int32),
            pair_unit=np.zeros(n_pairs * 3, dtype),
            pair_window=np.zeros(n_pairs, np.int32),
            pair_slope=np.zeros(n_pairs * f.window, dtype),
            first_item=np.zeros(n_centers * f.n_blocks + 1, np.int64),
            item_neighbor=np.zeros(n_items, np.int32),
            item_block=np.zeros((3 * n_items + ROWS) * f.angular_width, dtype),
            strain=np.zeros((6 * n_centers * with_strain + ROWS) * f.width, dtype),
        )

    @staticmethod
    def bytes_of(functions: Functions, n_centers: int, n_pairs: int, n_items: int, *, with_strain: bool) -> int:
        """Memory that ``allocate`` takes, nearly."""
        f, size = functions, functions.radial_shifts.dtype.itemsize
        per_center = 8 * (f.n_elements + f.n_blocks) + 6 * f.width * size * with_strain
        per_pair, per_item = 8 + (3 + f.window) * size, 4 + 3 * f.angular_width * size
        return n_centers * per_center + n_pairs * per_pair + n_items * per_item
