"""The lines of the table: a potential's value beside its error bar, its reference, what is published, and a verdict."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from alpot.store.property_file import PropertyResult, PropertyRow, PublishedNumber
from alpot.validation.literature import published_for
from alpot.validation.measurement import Job, Measurement
from alpot.validation.outcome import Outcome
from alpot.validation.properties import PropertyValue
from alpot.validation.tolerances import Expected, expected_rows


def results_of(
    jobs: Sequence[Job], outcomes: Mapping[Measurement, Outcome], calibration: float
) -> list[PropertyResult]:
    """The table from what everybody gave: one result for each job.

    Args:
        jobs: in the order of the table.
        outcomes: of the potential for each job; of its members and of the reference, as far as they were asked.
        calibration: factor from the members' deviation to the expected error.
    """
    return [_result(_Answers.to(job, outcomes, calibration)) for job in jobs]


def _result(answers: _Answers) -> PropertyResult:
    potential, reference = answers.potential, answers.reference
    expected = list(expected_rows(answers.job.name, answers.job.element))
    known = {row.name for row in expected}
    for value in (*potential.values, *(reference.values if reference else ())):
        if value.name not in known:
            known.add(value.name)
            expected.append(Expected(value.name, value.unit))
    rows = tuple(answers.row(row) for row in expected)
    return PropertyResult(
        property=answers.job.name,
        system=answers.job.system,
        rows=rows,
        curves=potential.curves,
        reference_curves=reference.curves if reference else (),
        remarks=answers.remarks(with_error=not rows),
        seconds=round(sum(outcome.seconds for outcome in answers.everybody), 3),
    )


@dataclass(frozen=True)
class _Answers:
    """What everybody gave for one property; ``members`` and ``reference`` as far as they were asked."""

    job: Job
    potential: Outcome
    members: Sequence[Outcome]
    reference: Outcome | None
    calibration: float

    @classmethod
    def to(cls, job: Job, outcomes: Mapping[Measurement, Outcome], calibration: float) -> _Answers:
        members = [outcome for step, outcome in outcomes.items() if step.job == job and step.member >= 0]
        potential = outcomes[Measurement(job=job, of="potential")]
        return cls(job, potential, members, outcomes.get(Measurement(job=job, of="reference")), calibration)

    @property
    def everybody(self) -> list[Outcome]:
        return [self.potential, *self.members, *([self.reference] if self.reference else [])]

    def row(self, expected: Expected) -> PropertyRow:
        measured = self.potential.value(expected.name)
        truth = self.reference.value(expected.name) if self.reference else None
        value = measured.value if measured else None
        true = truth.value if truth else None
        std, intrinsic = self._spread(expected.name)
        noise = measured.noise if measured else None
        return PropertyRow(
            property=self.job.name,
            system=self.job.system,
            name=expected.name,
            unit=expected.unit,
            value=value,
            std=std,
            noise=noise,
            uncertainty=_together(
                None if intrinsic is None else self.calibration * intrinsic, noise, truth.noise if truth else None
            ),
            reference=true,
            difference=None if value is None or true is None else value - true,
            tolerance=str(expected.tolerance) if expected.tolerance else None,
            ok=_verdict(expected, measured, truth),
            published=_published(self.job, expected),
            error=self._error(expected.name, measured, truth),
        )

    def remarks(self, *, with_error: bool) -> tuple[str, ...]:
        """Of the potential and the reference; and why nothing was measured, where no row can say so."""
        errors = [self.potential.error] if with_error and self.potential.error else []
        others = (f"The reference: {remark}" for remark in (self.reference.remarks if self.reference else ()))
        return (*errors, *self.potential.remarks, *others)

    def _spread(self, name: str) -> tuple[float | None, float | None]:
        """Standard deviation over the members, dividing by M − 1, and what of it is not the noise of their own runs.

        A member without a sound value leaves the spread unknown, rather than too small.
        """
        values = [value for member in self.members if (value := member.value(name)) and value.shortfall is None]
        if len(values) != len(self.members) or len(values) < 2:
            return None, None
        std = float(np.std([value.value for value in values], ddof=1))
        noise = float(np.mean([(value.noise or 0.0) ** 2 for value in values]))
        return std, math.sqrt(max(0.0, std**2 - noise))

    def _error(self, name: str, measured: PropertyValue | None, truth: PropertyValue | None) -> str | None:
        if measured is None:
            return self.potential.error or " ".join(self.potential.remarks) or "it was not measured"
        if measured.shortfall:
            return measured.shortfall
        if self.reference is None:
            return None
        if truth is None:
            why = self.reference.error or " ".join(self.reference.remarks) or "it was not measured"
            return f"the reference failed: {why}"
        return f"the reference: {truth.shortfall}" if truth.shortfall else None


def _verdict(expected: Expected, measured: PropertyValue | None, truth: PropertyValue | None) -> bool | None:
    """Whether a value is within tolerance: one that is not what it should be is not, and nothing compares with one."""
    if expected.tolerance is None:
        return None
    if measured is None or (measured.shortfall and expected.tolerance.is_relative):
        return False
    return expected.tolerance.judge(measured.value, truth.value if truth and truth.shortfall is None else None)


def _together(*parts: float | None) -> float | None:
    """Independent errors added up; None where none is known."""
    known = [part for part in parts if part is not None]
    return math.hypot(*known) if known else None


def _published(job: Job, expected: Expected) -> tuple[PublishedNumber, ...]:
    fields = set(PublishedNumber.model_fields)
    return tuple(
        PublishedNumber.model_validate(found.model_dump(include=fields))
        for found in published_for(job.element, job.name, expected.name)
        if found.unit == expected.unit
    )
