"""Measures properties of a potential, of each of its members, and of its reference, and puts them into one table.

A property that fails becomes rows that say why; the others are measured all the same.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from ase.calculators.calculator import BaseCalculator
from ase.data import atomic_numbers
from pydantic import ValidationError

from alpot.config import PropertyName
from alpot.store.measurements import Measurements
from alpot.store.property_file import PropertyResult
from alpot.validation.bench import Bench
from alpot.validation.catalogue import CATALOGUE, number_of
from alpot.validation.measurement import Job, jobs_of, measurements_of
from alpot.validation.outcome import Outcome
from alpot.validation.table import results_of


@dataclass(frozen=True, kw_only=True)
class Specimen:
    """A calculator that is measured.

    Attributes:
        calculator: any ASE calculator.
        identity: hash of all that its answers depend on; empty if that is not known, and then nothing is kept.
    """

    calculator: BaseCalculator
    identity: str = ""


def benches_of(
    calculator: BaseCalculator, elements: Sequence[str], seed: int, judge: BaseCalculator | None = None
) -> dict[str, Bench]:
    """A bench for each element; ``judge`` as in :class:`Bench`."""
    return {element: Bench(calculator, element, (seed, atomic_numbers[element]), judge) for element in elements}


def measure(job: Job, benches: Mapping[str, Bench], reference: BaseCalculator | None = None) -> Outcome:
    """Measure one property with one calculator.

    Args:
        job: what to measure.
        benches: of the calculator, by element.
        reference: of a comparison.
    """
    entry = CATALOGUE[job.name]
    bench = benches[job.element]
    rng = bench.rng(number_of(job.name))
    if entry.compare is None:
        assert entry.measure is not None, "an entry of the catalogue measures or compares"
        return Outcome.of(partial(entry.measure, bench, rng))
    if reference is None:
        return Outcome(error=f"{job.name} compares with a reference, and there is none: a reference is needed")
    return Outcome.of(partial(entry.compare, bench.judge, reference, job.elements, rng))


def known_outcome(measurements: Measurements, question: Mapping[str, Any]) -> Outcome | None:
    """What was kept of a question; None if there is nothing, or nothing that this alpot understands."""
    known = measurements.find(question)
    try:
        return None if known is None else Outcome.model_validate(known)
    except ValidationError:
        return None


def remembered(
    measurements: Measurements | None, question: Mapping[str, Any] | None, make: Callable[[], Outcome]
) -> Outcome:
    """What was kept of a question, or else what is made now, which is kept if it is a finding.

    Args:
        measurements: where it is kept; None for nowhere.
        question: all that the outcome depends on; None where that is not known, and then nothing is kept.
        make: measures.
    """
    if measurements is None or question is None:
        return make()
    outcome = known_outcome(measurements, question)
    if outcome is None:
        outcome = make()
        if outcome.is_final:
            measurements.keep(question, outcome.dump())
    return outcome


def members_of(calculator: BaseCalculator) -> list[BaseCalculator]:
    """The members of an ensemble as calculators (those of its method ``members``); none for any other calculator."""
    members = getattr(calculator, "members", None)
    return list(members()) if callable(members) else []


def calibration_of(calculator: BaseCalculator) -> float:
    """Factor from the members' deviation to the expected error, as far as the calculator's card knows one."""
    return float(getattr(getattr(calculator, "card", None), "calibration", 1.0))


def validate(
    potential: Specimen | BaseCalculator,
    elements: Sequence[str],
    properties: Sequence[PropertyName],
    *,
    reference: Specimen | BaseCalculator | None = None,
    seed: int = 0,
    measurements: Measurements | None = None,
) -> list[PropertyResult]:
    """Measure physical properties of a potential and its members, and of its reference where that is given.

    Everything is measured in this process; ``alpot validate`` spreads the same work over workers.

    Args:
        potential: any ASE calculator; one with a method ``members`` gets error bars.
        elements: chemical symbols; each is examined as a pure crystal, and all together where potential and reference
            are compared on frames.
        properties: names as in the campaign file.
        reference: the truth, if it is cheap enough for some hundred calls.
        seed: of everything random; what one property draws does not depend on which others are asked for.
        measurements: where measurements of specimens with an identity are kept, so that none is made twice.

    Returns:
        One result for each property and element, in the order of ``properties``.

    Raises:
        UsageError: a property is unknown, or there are no elements.
    """
    jobs = jobs_of(elements, properties)
    specimen = potential if isinstance(potential, Specimen) else Specimen(calculator=potential)
    truth = Specimen(calculator=reference) if isinstance(reference, BaseCalculator) else reference
    members = members_of(specimen.calculator)
    calculators = {("potential", n): calculator for n, calculator in enumerate([specimen.calculator, *members], -1)}
    identities = {"potential": specimen.identity}
    if truth is not None:
        calculators["reference", -1] = truth.calculator
        identities["reference"] = truth.identity
    benches = {who: benches_of(calculator, elements, seed) for who, calculator in calculators.items()}
    against = truth.calculator if truth else None
    outcomes = {
        step: remembered(
            measurements,
            step.question(identities, seed),
            partial(measure, job, benches[step.of, step.member], against),
        )
        for job in jobs
        for step in measurements_of(job, members=len(members), has_reference=truth is not None)
    }
    return results_of(jobs, outcomes, calibration_of(specimen.calculator))
