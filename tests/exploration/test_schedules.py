import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alpot.config import Exploration
from alpot.exploration.schedules import Schedule, draw_density, draw_temperature, values

VALUE = st.floats(1.0, 5000.0)


@settings(max_examples=25, deadline=None, derandomize=True)
@given(
    start=VALUE,
    end=VALUE,
    amplitude=VALUE,
    period=st.floats(0.1, 50),
    duration=st.floats(1, 100),
    share=st.floats(0, 1),
)
def test_the_papers_formula(start, end, amplitude, period, duration, share):
    schedule = Schedule(start=start, end=end, amplitude=amplitude, period=period, duration=duration)
    t = share * duration
    expected = amplitude * math.sin(math.pi * t / period) ** 2 + (1 - t / duration) * start + t / duration * end
    assert schedule.at(t) == pytest.approx(expected, rel=1e-12)


def test_landmarks():
    schedule = Schedule(start=300.0, end=900.0, amplitude=500.0, period=2.0, duration=10.0)
    assert [schedule.at(t) for t in (0.0, 1.0, 2.0, 10.0)] == pytest.approx([300.0, 860.0, 420.0, 900.0])
    assert not schedule.is_constant
    assert Schedule(start=3.0, end=3.0, amplitude=0.0, period=1.0, duration=1.0).is_constant
    assert not Schedule(start=3.0, end=4.0, amplitude=0.0, period=1.0, duration=1.0).is_constant


def test_it_stays_positive_beyond_the_end():
    """A walker runs on to its next check; from 1000 K to 10 K within 50 steps, the line goes below zero."""
    schedule = Schedule(start=1000.0, end=10.0, amplitude=0.0, period=1.0, duration=0.05)
    assert schedule.at(0.06) == 10.0


@settings(max_examples=25, deadline=None, derandomize=True)
@given(seed=st.integers(0, 10_000))
def test_draws_lie_in_the_ranges(seed):
    settings = Exploration(
        temperature_start=(10, 20),
        temperature_end=(100, 200),
        temperature_amplitude=(0, 5),
        temperature_period=(1, 2),
        density_end=(3, 4),
        density_amplitude=(0.1, 0.2),
        density_period=(5, 6),
        max_time=7.0,
    )
    rng = np.random.default_rng(seed)
    temperature, density = draw_temperature(settings, rng), draw_density(settings, 2.7, rng)
    assert 10 <= temperature.start <= 20 and 100 <= temperature.end <= 200
    assert 0 <= temperature.amplitude <= 5 and 1 <= temperature.period <= 2
    assert density.start == 2.7 and 3 <= density.end <= 4
    assert 0.1 <= density.amplitude <= 0.2 and 5 <= density.period <= 6
    assert temperature.duration == density.duration == 7.0


def test_density_is_kept_by_default():
    assert draw_density(Exploration(), 2.7, np.random.default_rng(0)).is_constant


def test_a_downward_oscillation_never_empties_the_cell(settings_of):
    settings = settings_of(density_amplitude=(-50.0, -50.0), density_end=(2.0, 2.0), max_time=10.0)
    schedule = draw_density(settings, 3.0, np.random.default_rng(0))
    assert min(schedule.at(time) for time in np.linspace(0.0, 10.0, 200)) >= 0.5 * 2.0


def test_many_schedules_at_once():
    rng = np.random.default_rng(0)
    schedules = [
        Schedule(start=a, end=b, amplitude=c, period=d, duration=e) for a, b, c, d, e in rng.uniform(1, 2, (4, 5))
    ]
    times = rng.uniform(0, 3, (6, 4))
    expected = [[each.at(time) for each, time in zip(schedules, row, strict=True)] for row in times]
    np.testing.assert_allclose(values(schedules, times), expected, rtol=1e-14)
