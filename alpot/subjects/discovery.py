"""How candidates were found: what they remember of it in the provenance of their labels, and from which starts."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from alpot.exploration.walker import MOTION, Ending, Snapshot, WalkerReport

_GENERATION, _TEMPERATURE, _REASON = "generation", "temperature_K", "reason"
#: The reason of labels that no exploration found.
_IMPORTED = "imported"


class Discovery(NamedTuple):
    """How a label came to be wanted.

    Attributes:
        reason: why it was a candidate.
        generation: that learns from it first: the one after that which found it. 0 for what there was before any.
        temperature: of its walker in K; None where there was none.
    """

    reason: str
    generation: int
    temperature: float | None


def provenance_of(snapshot: Snapshot, walker: int, generation: int) -> dict[str, Any]:
    """Where a frame comes from."""
    return {
        "start": snapshot.atoms.info.get("start", ""),
        "table": snapshot.atoms.info.get("table"),
        "walker": walker,
        _GENERATION: generation,
        "time_ps": snapshot.time,
        _TEMPERATURE: snapshot.temperature,
        "density_g_per_cm3": snapshot.density,
        "mean_force_error": snapshot.mean_error,
        "max_force_error": snapshot.max_error,
        **{name: snapshot.atoms.info[name] for name in MOTION if name in snapshot.atoms.info},
    }


def discovery_of(provenance: Mapping[str, Any], *, imported: bool = False) -> Discovery:
    """What the provenance of a label says.

    Args:
        provenance: of a label; that of an imported one may hold anything.
        imported: whether the label was brought along; the generation that it may name is of another campaign.
    """
    temperature = provenance.get(_TEMPERATURE)
    if not isinstance(temperature, float | int) or not math.isfinite(temperature):
        temperature = None
    found_by = None if imported else provenance.get(_GENERATION)
    return Discovery(
        reason=str(provenance.get(_REASON, _IMPORTED)),
        generation=0 if found_by is None else found_by + 1,
        temperature=temperature,
    )


def finds_by_table(reports: Sequence[WalkerReport]) -> list[dict[str, Any]]:
    """What was found from each table of starts, as of ``alpot.campaign.subject.SamplerFinds``."""
    tables = sorted({report.table for report in reports if report.table is not None})
    own = {table: [report for report in reports if report.table == table] for table in tables}
    return [
        {
            "table": table,
            "walkers": len(walkers),
            "found": sum(_has_found(report) for report in walkers),
            "simulated_time": sum(report.time for report in walkers),
        }
        for table, walkers in own.items()
    ]


def _has_found(report: WalkerReport) -> bool:
    """Whether a walker met uncertainty; a contact alone is none, some starts always end so."""
    return bool(report.found) or (report.rewound is not None and report.ending is not Ending.CONTACT)
