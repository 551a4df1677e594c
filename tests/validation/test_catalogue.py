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
from alpot.validation.measurement import Job, Measurement
from alpot.validation.outcome import Outcome
from alpot.validation.table import results_of
from alpot.validation.tolerances import expected_rows

#: Of static crystals, each a matter of seconds with EMT.
_QUICK = tuple(
    name
    for name, entry in CATALOGUE.items()
    if entry.compare is None and not entry.is_long and name not in ("grain_boundaries", "interstitials")
)

#: Those that take long even so, and have tests of their own.
_NOT_SO_QUICK = {"phonons", "vacancy_migration", "stacking_faults"}

_CUBIC_ONLY: set[PropertyName] = {"stacking_faults", "divacancy", "interstitials", "grain_boundaries"}


def test_every_name_in_a_campaign_file_can_be_measured() -> None:
    assert set(CATALOGUE) == set(get_args(PropertyName))


@pytest.fixture(scope="module")
def copper() -> Bench:
    return Bench(EMT(), "Cu")


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow) if name in _NOT_SO_QUICK else name for name in _QUICK]
)
def test_what_is_promised_is_measured(copper: Bench, name: PropertyName) -> None:
    measure = CATALOGUE[name].measure
    assert measure is not None
    found = {value.name: value.unit for value in measure(copper, copper.rng(number_of(name))).values}
    promised = {row.name: row.unit for row in expected_rows(name, "Cu")}
    assert promised.items() <= found.items()


def test_random_numbers_are_those_of_the_property(copper: Bench) -> None:
    first, again, other = (copper.rng(number).random(3) for number in (1, 1, 2))
    assert np.array_equal(first, again) and not np.array_equal(first, other)


@pytest.mark.parametrize("element", ["Al", "W", "Mg", "Si"])
@pytest.mark.parametrize("name", CATALOGUE)
def test_a_failure_is_always_told(name: PropertyName, element: str) -> None:
    job = Job(name=name, elements=(element,))
    failed = {Measurement(job=job, of="potential"): Outcome(error="the sky fell")}
    (result,) = results_of([job], failed, 1.0)
    told = [row.error for row in result.rows] or list(result.remarks)
    assert told and set(told) == {"the sky fell"}


@pytest.mark.parametrize(("element", "missing"), [("W", {"stacking_faults"}), ("Mg", _CUBIC_ONLY), ("Si", _CUBIC_ONLY)])
def test_nothing_is_promised_that_a_crystal_has_not(element: str, missing: set[PropertyName]) -> None:
    assert {name for name in _CUBIC_ONLY if not expected_rows(name, element)} == missing


def test_published_values_are_of_rows_of_the_table() -> None:
    rows = {(name, row.name, row.unit) for name in CATALOGUE for row in expected_rows(name, "Al")}
    assert {(value.property, value.name, value.unit) for value in literature("Al")} <= rows
