"""Measures properties of a potential, of each of its members, and of its reference, and puts them into one table.

A property that fails becomes rows that say why; the others are measured all the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from ase.calculators.calculator import BaseCalculator
from ase.data import atomic_numbers
from pydantic import ValidationError

from alpot.config import PropertyName
from alpot.errors import UsageError
from alpot.store.measurements import Measurements
from alpot.store.property_file import PropertyResult
from alpot.validation.bench import Bench
from alpot.validation.catalogue import CATALOGUE, number_of, refuse_unknown
from alpot.validation.crystals import preferred_structure
from alpot.validation.outcome import Outcome
from alpot.validation.table import result_of


@dataclass(frozen=True)
class Job:
    """One property of one element, or of all elements where it is a comparison of potential and reference."""

    name: PropertyName
    elements: tuple[str, ...]

    @property
    def system(self) -> str:
        """What it is a property of, as printed in tables."""
        if len(self.elements) > 1:
            return "-".join(self.elements)
        return f"{preferred_structure(self.elements[0])} {self.elements[0]}"

    def question(self, identity: str, seed: int) -> dict[str, Any]:
        """All that the outcome depends on, for what is kept of it.

        Args:
            identity: hash of the calculator that is measured (and of the one that it is compared with).
            seed: of everything random.
        """
        version = CATALOGUE[self.name].version
        return {
            "property": self.name,
            "version": version,
            "elements": list(self.elements),
            "calculator": identity,
            "seed": seed,
        }


@dataclass(frozen=True, kw_only=True)
class Specimen:
    """A calculator that is measured.

    Attributes:
        calculator: any ASE calculator.
        identity: hash of all that its answers depend on; empty if that is not known, and then nothing is kept.
    """

    calculator: BaseCalculator
    identity: str = ""


def jobs_of(elements: Sequence[str], properties: Sequence[PropertyName]) -> list[Job]:
    """What is to be measured, in the order of the table.

    Raises:
        UsageError: a property is unknown, or there are no elements.
    """
    refuse_unknown(tuple(properties))
    if not elements:
        raise UsageError("validate needs an element")
    return [
        Job(name, group)
        for name in dict.fromkeys(properties)
        for group in ([tuple(elements)] if CATALOGUE[name].compare else [(element,) for element in elements])
    ]


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
    bench = benches[job.elements[0]]
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
    calculators = [specimen.calculator, *members_of(specimen.calculator)]
    voices = [benches_of(calculator, elements, seed) for calculator in calculators]
    true_benches = benches_of(truth.calculator, elements, seed) if truth else {}

    def outcome(job: Job, identity: str, benches: Mapping[str, Bench], against: BaseCalculator | None) -> Outcome:
        question = job.question(identity, seed)
        known = known_outcome(measurements, question) if measurements and identity else None
        if known is not None:
            return known
        found = measure(job, benches, against)
        if measurements and identity and found.is_final:
            measurements.keep(question, found.dump())
        return found

    results = []
    for job in jobs:
        entry = CATALOGUE[job.name]
        against = truth if entry.compare else None
        identities = [
            member_identity(specimen.identity, number - 1, "" if against is None else against.identity)
            for number in range(len(voices))
        ]
        asked = voices if entry.by_members else voices[:1]
        found = [
            outcome(job, identity, benches, against.calculator if against else None)
            for identity, benches in zip(identities, asked, strict=False)
        ]
        true = outcome(job, truth.identity, true_benches, None) if truth and entry.by_reference else None
        calibration = calibration_of(specimen.calculator)
        results.append(result_of(job.name, job.system, found[0], found[1:], true, calibration))
    return results


def member_identity(identity: str, member: int, against: str = "") -> str:
    """Hash of one member of a potential, −1 for the potential itself, perhaps compared with a reference."""
    if not identity:
        return ""
    return ":".join(filter(None, (identity, f"member {member}" if member >= 0 else "", against)))
