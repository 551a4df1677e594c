"""Lines of the table from made-up measurements: error bars, verdicts, and what is said."""

from __future__ import annotations

import numpy as np
import pytest

from alpot.store.property_file import PropertyFile, PropertyResult
from alpot.validation.measurement import Job, Measurement
from alpot.validation.outcome import Outcome
from alpot.validation.properties import PropertyValue
from alpot.validation.table import results_of


def gave(value: float, noise: float | None = None, shortfall: str | None = None, *remarks: str) -> Outcome:
    found = PropertyValue(name="vacancy formation energy", value=value, unit="eV", noise=noise, shortfall=shortfall)
    return Outcome(values=(found,), remarks=remarks)


def result(potential: Outcome, members: list[Outcome], reference: Outcome | None, calibration: float = 1.0):
    job = Job(name="vacancy", elements=("Al",))
    outcomes = {Measurement(job=job, of="potential", member=n): o for n, o in enumerate([potential, *members], -1)}
    if reference is not None:
        outcomes[Measurement(job=job, of="reference")] = reference
    (found,) = results_of([job], outcomes, calibration)
    return found


def test_the_error_bar_is_what_the_members_differ_by_and_the_noise_of_both_runs() -> None:
    members = [gave(0.6), gave(0.7), gave(0.8)]
    (row,) = result(gave(0.7, 0.03), members, gave(0.72, 0.04), calibration=2.0).rows
    assert row.std == pytest.approx(0.1) and row.noise == 0.03
    assert row.uncertainty == pytest.approx(np.sqrt(0.2**2 + 0.03**2 + 0.04**2))
    # Exact numbers have no noise; without members there is nothing else.
    (row,) = result(gave(0.7), [], gave(0.7)).rows
    assert row.std is None and row.uncertainty is None


def test_noise_of_the_members_runs_is_not_their_disagreement() -> None:
    """Potential, members and reference are the same; all that differs is noise: 68 % lie within one error bar."""
    rng = np.random.default_rng(0)

    def run() -> Outcome:
        return gave(float(rng.normal(1.0, 0.1)), 0.1)

    results = tuple(result(run(), [run() for _ in range(8)], run(), calibration=3.0) for _ in range(400))
    within, compared = PropertyFile(potential="", results=results).coverage
    assert compared == 400
    # The spread of eight noisy members is sometimes larger than their noise: bars are a little too wide, never narrow.
    assert 0.64 < within / compared < 0.92


def test_what_fell_short_is_not_good_and_compares_with_nothing() -> None:
    (row,) = result(gave(0.7, None, "it became something else"), [], gave(0.7)).rows
    assert row.ok is False and row.error == "it became something else"
    (row,) = result(gave(0.7), [], gave(0.7, None, "it still drifted")).rows
    assert row.ok is None and row.error == "the reference: it still drifted"
    members = [gave(0.7), gave(0.8), gave(0.1, None, "it became something else")]
    (row,) = result(gave(0.7), members, gave(0.7)).rows
    assert row.std is None and row.ok is True


def test_remarks_of_the_reference_are_told() -> None:
    found: PropertyResult = result(gave(0.7, None, None, "Mine."), [], gave(0.7, None, None, "Mine.", "Yours."))
    assert found.remarks == ("Mine.", "The reference: Mine.", "The reference: Yours.")
