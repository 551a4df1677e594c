"""``[stopping]``: when the campaign ends."""

from __future__ import annotations

from pydantic import Field

from alpot.config.table import Positive, Table


class Stopping(Table):
    """When the campaign ends: the first of these that is met."""

    max_labels: int = Field(5000, ge=1, description="budget of reference calculations, the audit's included")
    max_generations: int | None = Field(None, ge=1, description="trainings at most")
    force_error: Positive | None = Field(
        None,
        description="target: root-mean-square force error on audit labels in eV/Å, met when its upper confidence limit"
        " is no larger. With good_generations as well, the target is both together",
    )
    confidence: float = Field(
        0.9, gt=0.5, lt=1, description="that the error is below its upper limit; also that of the forecast's interval"
    )
    audit_labels: int = Field(20, ge=2, description="audit labels needed before the target counts as met")
    quiet_time: Positive | None = Field(
        None, description="stop when the promoted generation found nothing uncertain in this many simulated ps"
    )
    out_of_reach: float = Field(
        10.0,
        ge=0,
        description="stop when even the optimistic end of the forecast asks for more than this many times max_labels to"
        " meet the target force_error; 0: never",
    )
    good_generations: int | None = Field(
        None,
        ge=1,
        description="stop when all properties of assessment.each_generation were within tolerance of the reference for"
        " this many generations in a row",
    )
    max_failures: int = Field(
        50, ge=0, description="failure budget: tasks that may fail for good before the campaign stops"
    )
