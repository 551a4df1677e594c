import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from alpot.campaign.samplers import Sampler, shares


def sampler(found: float, walkers: float) -> Sampler:
    return Sampler(recent_found=found, recent_walkers=walkers)


def test_without_finds_the_weights_stand() -> None:
    assert shares([1.0, 2.0], {}) == []
    assert shares([1.0, 2.0], {0: sampler(0, 50.0), 1: sampler(0, 70.0)}) == []
    assert shares([1.0], {0: sampler(5, 10.0)}) == []


def test_equal_rates_keep_the_weights() -> None:
    found = shares([1.0, 3.0], {0: sampler(10, 20.0), 1: sampler(30, 60.0)})
    assert found == pytest.approx([0.25, 0.75], abs=1e-6)


def test_much_data_shares_by_rate_above_the_floor() -> None:
    """Rates 9 : 1 of equal weights: 0.2 / 2 + 0.8 × 0.9 and 0.2 / 2 + 0.8 × 0.1."""
    found = shares([1.0, 1.0], {0: sampler(90_000, 100_000.0), 1: sampler(10_000, 100_000.0)})
    assert found == pytest.approx([0.82, 0.18], abs=1e-3)


def test_little_data_changes_little() -> None:
    found = shares([1.0, 1.0], {0: sampler(2, 3.0), 1: sampler(1, 3.0)})
    assert found[0] == pytest.approx(0.5, abs=0.05)
    assert found[0] > found[1]


def test_a_table_without_walkers_counts_as_average() -> None:
    found = shares([1.0, 1.0, 1.0], {0: sampler(100, 100.0), 1: sampler(0, 100.0)})
    assert found[0] > found[2] > found[1]


@given(
    weights=st.lists(st.floats(1e-6, 1e3), min_size=2, max_size=6),
    finds=st.lists(st.tuples(st.floats(0.0, 1.0), st.floats(0.0, 1e6)), min_size=6, max_size=6),
)
def test_no_table_falls_below_a_fifth_of_its_weight(weights: list[float], finds: list[tuple[float, float]]) -> None:
    arms = {table: sampler(part * walkers, walkers) for table, (part, walkers) in enumerate(finds)}
    found = shares(weights, arms)
    if not found:
        return
    # Six digits are kept of each.
    assert sum(found) == pytest.approx(1.0, abs=1e-5)
    assert all(share >= 0.2 * w / sum(weights) * (1 - 1e-5) for share, w in zip(found, weights, strict=True))
    assert json.loads(json.dumps(found)) == found


def test_a_bandit_notices_what_is_learned() -> None:
    """Two tables; most walkers of the first find something, until what they find is learned: shares follow."""
    rng = np.random.default_rng(0)
    arms = {0: Sampler(), 1: Sampler()}
    chances, history = [0.9, 0.1], []
    for generation in range(14):
        if generation == 6:
            chances = [0.01, 0.1]
        drawn = shares([1.0, 1.0], arms) or [0.5, 0.5]
        history.append(drawn[0])
        walkers = rng.multinomial(100, np.array(drawn) / sum(drawn))
        for table, arm in arms.items():
            arm.add(int(walkers[table]), int(rng.binomial(walkers[table], chances[table])), 1.0)
            arm.fade()
    assert history[0] == 0.5
    assert min(history[2:6]) > 0.7  # 0.82 is the limit
    assert history[-1] < 0.35
    assert arms[0].walkers > arms[0].recent_walkers
