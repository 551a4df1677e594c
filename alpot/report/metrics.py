"""What the page shows, as files for other programs: CSV tables, and one line of JSON per generation.

Units stand in the titles of the columns; what a program reads is neither rounded nor scaled.
"""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from alpot.report.history import ERRORS, Generation
from alpot.report.status import Status
from alpot.store.assessment_file import AssessmentFile, AuditFrame
from alpot.store.property_file import PropertyFile, PropertyRow

_UNITS = {"force": "eV/A", "energy": "eV/atom"}
#: A spreadsheet takes a cell that begins with one of these for a formula.
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def metrics_files(status: Status, assessment: AssessmentFile | None, properties: PropertyFile | None) -> dict[str, str]:
    """Content of each file by its name; those that would be empty have their titles at least."""
    return {
        "generations.csv": _csv(_GENERATION_TITLES, map(_generation_row, status.generations)),
        "properties.csv": _csv(_PROPERTY_TITLES, _property_rows(status)),
        "curves.csv": _csv(_CURVE_TITLES, _curve_rows(properties)),
        "labels_by_reason.csv": _csv(_SPENDING_TITLES, _spending_rows(status)),
        "audit_frames.csv": _csv(_AUDIT_TITLES, map(_audit_row, assessment.audit if assessment else ())),
        "failures.csv": _csv(("task", "class", "attempts"), _failure_rows(status)),
        "metrics.jsonl": "".join(_metrics_line(status, generation) for generation in status.generations),
    }


def property_files(found: PropertyFile) -> dict[str, str]:
    """The same tables of properties that were measured without a campaign."""
    return {
        "properties.csv": _csv(_PROPERTY_TITLES[1:], map(_property_row, found.rows)),
        "curves.csv": _csv(_CURVE_TITLES, _curve_rows(found)),
    }


_GENERATION_TITLES = (
    *("generation", "labels", "promoted", "elapsed_s", "training_s", "core_hours", "epochs"),
    "audit_labels",
    *("audit_force_eV/A", "audit_force_high_eV/A", "audit_energy_eV/atom", "calibration"),
    *("bound_slope", "bound_floor_eV/A", "bound_confidence", "bound_labels"),
    *("coverage", "coverage_atoms", "coverage_labels"),
    *(f"{name}_{_UNITS[name.split('_')[1]]}" for name in ERRORS),
)


def _generation_row(generation: Generation) -> tuple[object, ...]:
    g, bound, coverage = generation, generation.bound, generation.coverage
    known = (g.number, g.labels, g.promoted, g.elapsed_s, g.seconds, g.core_hours, g.epochs, g.audit_labels)
    promised = (bound.slope, bound.floor, bound.confidence, bound.n_frames) if bound else (None,) * 4
    held = (coverage.share, coverage.atoms, coverage.frames) if coverage else (None,) * 3
    errors = (g.audit_force, g.audit_force_high, g.audit_energy, g.calibration, *promised, *held)
    return (*known, *errors, *(g.errors.get(name) for name in ERRORS))


_PROPERTY_TITLES = (
    *("generation", "property", "system", "name", "unit", "value", "std", "noise", "uncertainty"),
    *("reference", "difference", "tolerance", "ok", "error"),
    *("published", "published_source"),
)


def _property_rows(status: Status) -> Iterator[tuple[object, ...]]:
    for generation, rows in status.properties_by_generation.items():
        yield from ((generation, *_property_row(row)) for row in rows)


def _property_row(row: PropertyRow) -> tuple[object, ...]:
    known = (getattr(row, name) for name in _PROPERTY_TITLES[1:-2])
    values = [found.value for found in row.published]
    sources = "; ".join(f"{found.source}, doi:{found.doi}" for found in row.published)
    return (*known, values[0] if len(values) == 1 else "; ".join(map(str, values)), sources)


_CURVE_TITLES = ("property", "system", "name", "of", "line", "x_label", "y_label", "x", "y")


def _curve_rows(properties: PropertyFile | None) -> Iterator[tuple[object, ...]]:
    for result in properties.results if properties else ():
        for side, curves in (("potential", result.curves), ("reference", result.reference_curves)):
            for curve in curves:
                for name, values in curve.lines.items():
                    labels = (side, name, curve.x_label, curve.y_label)
                    for at, value in zip(curve.x, values, strict=False):
                        yield (result.property, result.system, curve.name, *labels, at, value)


_SPENDING_TITLES = ("reason", "labels", "core_hours", "rejected", "failed_attempts", "failed_core_hours")


def _spending_rows(status: Status) -> Iterator[tuple[object, ...]]:
    for reason, spent in sorted(status.spending.items()):
        costs = spent.core_seconds / 3600, spent.failed_core_seconds / 3600
        yield (reason, spent.labels, costs[0], spent.rejected, spent.failures, costs[1])


_AUDIT_TITLES = (
    *("key", "reason", "n_atoms", "energy_eV/atom", "energy_predicted_eV/atom", "energy_error_eV/atom"),
    *("force_rmse_eV/A", "force_max_error_eV/A", "sigma_mean_eV/A", "sigma_max_eV/A"),
)


def _audit_row(frame: AuditFrame) -> tuple[object, ...]:
    energies = (frame.energy, frame.energy_predicted, frame.energy_error)
    forces = (frame.force_rmse, frame.force_max_error, frame.sigma_mean, frame.sigma_max)
    return (frame.key, frame.reason, frame.n_atoms, *energies, *forces)


def _failure_rows(status: Status) -> Iterator[tuple[object, ...]]:
    for task, counts in {"label": status.labels.failed_attempts, **status.failures}.items():
        for failure, count in Counter(counts).most_common():
            yield (task, failure, count)


def _metrics_line(status: Status, generation: Generation) -> str:
    """One generation: how it was made, its errors in eV/Å and eV/atom, its properties."""
    rows = status.properties_by_generation.get(generation.number, ())
    measured = [
        {"property": row.property, "system": row.system, "name": row.name or row.property, "unit": row.unit}
        | {"value": row.value, "std": row.std, "reference": row.reference, "ok": row.ok}
        for row in rows
    ]
    line = generation.model_dump(mode="json") | {"properties": measured}
    return json.dumps(line, ensure_ascii=False, allow_nan=False) + "\n"


def _csv(titles: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    text = io.StringIO()
    lines = csv.writer(text, lineterminator="\n")
    lines.writerow(titles)
    lines.writerows([_safe(cell) for cell in row] for row in rows)
    return text.getvalue()


def _safe(cell: object) -> object:
    """Text that a spreadsheet would compute gets an apostrophe in front, which says that it is text."""
    return f"'{cell}" if isinstance(cell, str) and cell.startswith(_FORMULA) else cell
