"""The angular terms of the descriptor as a table, from which ``aev_loops.py`` interpolates."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from alpot.potential.descriptor import AevSettings

#: Largest error of the angular terms in their table.
_TABLE_ERROR = {torch.float32: 2e-9, torch.float64: 1e-12}


class AngleTable:
    """Values and slopes of the angular terms on a grid of c = 0.95 cos θ, fine enough for a floating-point type.

    Attributes:
        start, spacing: of the grid.
        values: (n_nodes, 2, n_sections) terms, and their derivatives by c times the spacing.
    """

    #: The grid goes a little beyond ±0.95, so that rounding does not leave it.
    start = -0.9501

    def __init__(self, settings: AevSettings, dtype: torch.dtype) -> None:
        zeta, sections = settings.angular_zeta, np.array(settings.angle_sections)

        def terms(c: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
            c = c[:, None]
            s = np.sqrt(1.0 - c * c)
            base = np.maximum(0.5 + 0.5 * (c * np.cos(sections) + s * np.sin(sections)), 1e-12)
            value = base**zeta
            return value, zeta * value / base * 0.5 * (np.cos(sections) - c / s * np.sin(sections))

        n_intervals = 256
        while True:
            spacing = -2.0 * self.start / n_intervals
            nodes = self.start + spacing * np.arange(n_intervals + 1)
            value, slope = terms(nodes)
            middle: NDArray[Any] = 0.5 * (value[:-1] + value[1:]) + spacing / 8.0 * (slope[:-1] - slope[1:])
            error = np.abs(middle - terms(nodes[:-1] + 0.5 * spacing)[0]).max()
            if error <= _TABLE_ERROR[dtype]:
                break
            n_intervals *= 2
        self.spacing = spacing
        self.values = np.stack([value, slope * spacing], axis=1)
