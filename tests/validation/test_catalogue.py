"""The catalogue, the tolerances and the published values speak of the same things."""

from __future__ import annotations

from typing import get_args

import numpy as np
import pytest
from ase.calculators.emt import EMT

from alpot.config import PropertyName
from alpot.validation.bench import Bench
from alpot.validation.catalogue import CATALOGUE, number_of
from alpot.validation.literature import literature
from alpot.validation.tolerances import expected_rows

#: Of static crystals, each a matter of seconds with EMT.
_QUICK = tuple(
    name
    for name, entry in CATALOGUE.items()
    if entry.compare is None and not entry.is_long and name not in ("grain_boundaries", "interstitials")
)


def test_every_name_in_a_campaign_file_can_be_measured() -> None:
    assert set(CATALOGUE) == set(get_args(PropertyName))


@pytest.fixture(scope="module")
def copper() -> Bench:
    return Bench(EMT(), "Cu")


@pytest.mark.parametrize("name", _QUICK)
def test_what_is_promised_is_measured(copper: Bench, name: PropertyName) -> None:
    measure = CATALOGUE[name].measure
    assert measure is not None
    found = {value.name: value.unit for value in measure(copper, copper.rng(number_of(name))).values}
    promised = {row.name: row.unit for row in expected_rows(name, "Cu")}
    assert promised.items() <= found.items()


def test_random_numbers_are_those_of_the_property(copper: Bench) -> None:
    first, again, other = (copper.rng(number).random(3) for number in (1, 1, 2))
    assert np.array_equal(first, again) and not np.array_equal(first, other)


def test_published_values_are_of_rows_of_the_table() -> None:
    rows = {(name, row.name, row.unit) for name in CATALOGUE for row in expected_rows(name, "Al")}
    strangers = {(value.property, value.name, value.unit) for value in literature("Al")} - rows
    # An average over a polycrystal is no surface that is computed, and a potential knows no free atom.
    assert {name for _, name, _ in strangers} == {"surface energy (polycrystal)", "cohesive energy"}
