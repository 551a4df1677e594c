"""Physical properties of a generation: measured, kept with their curves, compared with those of the promoted one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from alpot.config import Campaign, PropertyName
from alpot.store.directory import CampaignDirectory
from alpot.store.measurements import Measurements
from alpot.store.property_file import PropertyFile, write_property_file
from alpot.validation.suite import Specimen, validate


def measure_generation(
    directory: CampaignDirectory,
    config: Campaign,
    generation: int,
    names: Sequence[PropertyName],
    potential: Specimen,
    reference: Specimen | None,
) -> list[dict[str, Any]]:
    """Measure properties, and write the generation's file of them, which has their curves.

    Args:
        directory: the campaign; what is measured of the reference is kept there, and measured once.
        config: of the campaign.
        generation: whose potential it is.
        names: of the properties.
        potential: the generation's.
        reference: what it is compared with, if anything.

    Returns:
        Rows of their table, see ``PropertyRow``, for the ledger.
    """
    results = validate(
        potential,
        config.material.elements,
        names,
        reference=reference,
        seed=config.seed,
        measurements=Measurements(directory.measurements),
    )
    found = PropertyFile(
        potential=f"generation {generation}",
        reference=config.reference.code if reference else "",
        provenance={"potential": potential.identity, **({"reference": reference.identity} if reference else {})},
        results=tuple(results),
    )
    write_property_file(directory.properties_path(generation), found)
    return [row.model_dump(mode="json") for row in found.rows]


def lost_properties(rows: Sequence[Mapping[str, Any]], within_before: Sequence[Sequence[str]]) -> list[str]:
    """Names of properties that are out of tolerance and were within it for the promoted generation.

    Args:
        rows: of the table.
        within_before: system and name of those that were.
    """
    before = {tuple(entry) for entry in within_before}
    return [row["name"] for row in rows if row["ok"] is False and (row["system"], row["name"]) in before]
