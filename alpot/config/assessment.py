"""``[assessment]``: which physical properties are measured at the end."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from alpot.config.table import Table

PropertyName = Literal["lattice", "elastic", "phases", "vacancy", "fresh_frames", "nve", "langevin"]


class Assessment(Table):
    """Is it good enough? Errors on audit labels each generation, physical properties at the end."""

    properties: tuple[PropertyName, ...] = Field(
        ("lattice", "elastic", "phases", "vacancy"),
        description="physical properties evaluated at the end of the campaign",
    )
    compare_reference: bool = Field(
        False, description="evaluate the same properties with the reference too; only sensible where it is cheap"
    )
