"""The single measurements behind a table: what is measured with whom, and what the outcome depends on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from alpot.config import PropertyName
from alpot.errors import UsageError
from alpot.validation.catalogue import CATALOGUE, refuse_unknown
from alpot.validation.crystals import preferred_structure


class Job(BaseModel):
    """One property of one element, or of all elements where it is a comparison of potential and reference."""

    model_config = ConfigDict(frozen=True)

    name: PropertyName
    elements: tuple[str, ...]

    @property
    def element(self) -> str:
        """The element, or the first of all."""
        return self.elements[0]

    @property
    def system(self) -> str:
        """What it is a property of, as printed in tables."""
        if len(self.elements) > 1:
            return "-".join(self.elements)
        return f"{preferred_structure(self.element)} {self.element}"


class Measurement(BaseModel):
    """What is measured with whom.

    Attributes:
        job: what.
        of: with whom.
        member: of the potential's ensemble, from 0; −1 for the potential, or the reference, itself.
    """

    model_config = ConfigDict(frozen=True)

    job: Job
    of: Literal["potential", "reference"]
    member: int = -1

    def question(self, identities: Mapping[str, str], seed: int) -> dict[str, Any] | None:
        """All that the outcome depends on, JSON-able; None where that is not known.

        Args:
            identities: hashes of all that the answers of ``potential`` and ``reference`` depend on, as far as known.
            seed: of everything random.
        """
        entry = CATALOGUE[self.job.name]
        asked = ("potential", "reference") if entry.compare else (self.of,)
        calculators = [identities.get(name, "") for name in asked]
        if not all(calculators):
            return None
        return {
            "property": self.job.name,
            "version": entry.version,
            "elements": list(self.job.elements),
            "calculators": calculators,
            "member": self.member,
            "seed": seed,
        }


def jobs_of(elements: Sequence[str], properties: Sequence[PropertyName]) -> list[Job]:
    """What is to be measured, in the order of the table.

    Raises:
        UsageError: a property is unknown, or there are no elements.
    """
    refuse_unknown(tuple(properties))
    if not elements:
        raise UsageError("validate needs an element; name one, such as Al")
    return [
        Job(name=name, elements=group)
        for name in dict.fromkeys(properties)
        for group in ([tuple(elements)] if CATALOGUE[name].compare else [(element,) for element in elements])
    ]


def measurements_of(job: Job, *, members: int, has_reference: bool) -> Iterator[Measurement]:
    """With whom a job is measured: the potential first.

    Args:
        job: what.
        members: of the potential's ensemble; 0 for none.
        has_reference: whether there is a reference.
    """
    entry = CATALOGUE[job.name]
    for member in range(-1, members if entry.by_members else 0):
        yield Measurement(job=job, of="potential", member=member)
    if has_reference and entry.by_reference:
        yield Measurement(job=job, of="reference")
