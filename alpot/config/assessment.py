"""``[assessment]``: which physical properties are measured, when, and what follows from them."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from alpot.config.table import Table

PropertyName = Literal[
    "lattice",
    "phases",
    "cold_curve",
    "elastic",
    "phonons",
    "thermal_expansion",
    "hot_crystal",
    "vacancy",
    "vacancy_migration",
    "divacancy",
    "interstitials",
    "surfaces",
    "stacking_faults",
    "grain_boundaries",
    "dimer",
    "liquid",
    "melting_point",
    "shock",
    "fresh_frames",
    "nve",
    "langevin",
]


class Assessment(Table):
    """Is it good enough? Errors on audit labels and some properties each generation, more properties at the end."""

    properties: tuple[PropertyName, ...] = Field(
        ("lattice", "elastic", "phases", "vacancy"),
        description="physical properties evaluated at the end of the campaign",
    )
    each_generation: tuple[PropertyName, ...] = Field(
        (), description="physical properties evaluated for every generation, so that their history can be seen"
    )
    compare_reference: bool = Field(
        False,
        description="evaluate the same properties with the reference too, once; only sensible where it is cheap",
    )
    hold_back: bool = Field(
        False,
        description="do not promote a generation in which a property of each_generation is out of tolerance that is"
        " within it for the promoted one",
    )

    @model_validator(mode="after")
    def _something_to_hold_back_for(self) -> Assessment:
        if self.hold_back and not self.is_judged:
            raise ValueError(
                "hold_back needs each_generation, the properties that are looked at, and compare_reference = true, what"
                " they are compared with"
            )
        return self

    @property
    def is_judged(self) -> bool:
        """Whether each generation's properties are compared with the reference's."""
        return bool(self.each_generation) and self.compare_reference
