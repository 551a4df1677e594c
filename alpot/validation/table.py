"""The lines of the table: a potential's value beside its error bar, its reference, what is published, and a verdict."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from alpot.config import PropertyName
from alpot.store.property_file import PropertyResult, PropertyRow, PublishedNumber
from alpot.validation.literature import published_for
from alpot.validation.outcome import Outcome
from alpot.validation.tolerances import Expected, expected_rows


def result_of(
    name: PropertyName,
    system: str,
    potential: Outcome,
    members: Sequence[Outcome],
    reference: Outcome | None,
    calibration: float,
) -> PropertyResult:
    """Put together what was measured of one property.

    Args:
        name: of the property.
        system: what it is a property of.
        potential: what the potential gave.
        members: what each member of its ensemble gave; empty for no ensemble.
        reference: what the reference gave, or None where it was not asked.
        calibration: factor from the members' deviation to the expected error.
    """
    element = system.rpartition(" ")[2].partition("-")[0]
    expected = list(expected_rows(name, element))
    known = {row.name for row in expected}
    measured = (*potential.values, *(reference.values if reference else ()))
    for value in measured:
        if value.name not in known:
            known.add(value.name)
            expected.append(Expected(value.name, value.unit))
    rows = [_row(name, system, element, row, potential, members, reference, calibration) for row in expected]
    outcomes = [potential, *members, *([reference] if reference else [])]
    return PropertyResult(
        property=name,
        system=system,
        rows=tuple(rows),
        curves=potential.curves,
        reference_curves=reference.curves if reference else (),
        remarks=potential.remarks,
        seconds=round(sum(outcome.seconds for outcome in outcomes), 3),
    )


def _row(
    name: PropertyName,
    system: str,
    element: str,
    expected: Expected,
    potential: Outcome,
    members: Sequence[Outcome],
    reference: Outcome | None,
    calibration: float,
) -> PropertyRow:
    measured = potential.value(expected.name)
    truth = reference.value(expected.name) if reference else None
    value = measured.value if measured else None
    true = truth.value if truth else None
    std = _spread(members, expected.name)
    noise = measured.noise if measured else None
    ok = None
    if expected.tolerance is not None:
        ok = False if value is None else expected.tolerance.judge(value, true)
    return PropertyRow(
        property=name,
        system=system,
        name=expected.name,
        unit=expected.unit,
        value=value,
        std=std,
        noise=noise,
        uncertainty=_uncertainty(std, noise, calibration),
        reference=true,
        difference=None if value is None or true is None else value - true,
        tolerance=str(expected.tolerance) if expected.tolerance else None,
        ok=ok,
        published=_published(element, name, expected),
        error=_error(expected.name, potential, reference),
    )


def _published(element: str, name: PropertyName, expected: Expected) -> tuple[PublishedNumber, ...]:
    fields = set(PublishedNumber.model_fields)
    return tuple(
        PublishedNumber.model_validate(found.model_dump(include=fields))
        for found in published_for(element, name, expected.name)
        if found.unit == expected.unit
    )


def _spread(members: Sequence[Outcome], name: str) -> float | None:
    """Standard deviation over the members, dividing by M − 1.

    A member without a value leaves the spread unknown, rather than too small.
    """
    values = [value.value for member in members if (value := member.value(name)) is not None]
    return float(np.std(values, ddof=1)) if len(values) == len(members) > 1 else None


def _uncertainty(std: float | None, noise: float | None, calibration: float) -> float | None:
    parts = [part for part in (calibration * std if std is not None else None, noise) if part is not None]
    return math.hypot(*parts) if parts else None


def _error(name: str, potential: Outcome, reference: Outcome | None) -> str | None:
    measured = potential.value(name)
    if potential.error or measured is None:
        return potential.error or " ".join(potential.remarks) or "it was not measured"
    if measured.shortfall:
        return measured.shortfall
    if reference is not None and reference.value(name) is None:
        return f"the reference failed: {reference.error or ' '.join(reference.remarks) or 'it was not measured'}"
    return None
