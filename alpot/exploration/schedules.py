"""Temperature, density and compression of a walker as functions of time, with one draw of the parameters per walker.

From Smith et al., Nat. Commun. 12, 1257 (2021):

    f(t) = f_amp sin²(π t / t_per) + (1 − t/t_max) f_start + (t/t_max) f_end
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from alpot.config import Exploration


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """One quantity (temperature in K, density in g/cm³ or relative length) over time.

    Attributes:
        start, end: values of the linear part at time 0 and at ``duration``.
        amplitude: of the oscillation, same unit.
        period: of the oscillation, ps.
        duration: ps.
    """

    start: float
    end: float
    amplitude: float
    period: float
    duration: float

    @property
    def is_constant(self) -> bool:
        """Whether the value never changes."""
        return self.amplitude == 0 and self.start == self.end

    def at(self, time: float) -> float:
        """Value at a time in ps; a walker may run on beyond ``duration`` until its next check, at the end's value."""
        return float(values([self], np.array([time]))[0])


def values(schedules: Sequence[Schedule], times: NDArray[np.float64]) -> NDArray[np.float64]:
    """(..., n_schedules) value of each schedule at its own times (..., n_schedules) in ps."""
    columns = [(each.start, each.end, each.amplitude, each.period, each.duration) for each in schedules]
    start, end, amplitude, period, duration = np.array(columns).T
    share = np.minimum(times / duration, 1.0)
    oscillation = amplitude * np.square(np.sin(np.pi * times / period))
    return np.asarray(oscillation + (1.0 - share) * start + share * end)


def draw_temperature(settings: Exploration, rng: np.random.Generator) -> Schedule:
    """T(t) of one walker, K."""
    return Schedule(
        start=float(rng.uniform(*settings.temperature_start)),
        end=float(rng.uniform(*settings.temperature_end)),
        amplitude=float(rng.uniform(*settings.temperature_amplitude)),
        period=float(rng.uniform(*settings.temperature_period)),
        duration=settings.max_time,
    )


def draw_density(settings: Exploration, start: float, rng: np.random.Generator) -> Schedule:
    """ρ(t) of one walker in g/cm³, from the density of its start."""
    end = start if settings.density_end is None else float(rng.uniform(*settings.density_end))
    # A downward oscillation may halve the density, never empty the cell.
    amplitude = max(float(rng.uniform(*settings.density_amplitude)), -0.5 * min(start, end))
    return Schedule(
        start=start,
        end=end,
        amplitude=amplitude,
        period=float(rng.uniform(*settings.density_period)),
        duration=settings.max_time,
    )


def compression_to(settings: Exploration, strain: float) -> Schedule:
    """Length of one walker's cell along its axis, relative to the start's: steadily down to 1 − strain."""
    return Schedule(start=1.0, end=1.0 - strain, amplitude=0.0, period=1.0, duration=settings.max_time)
