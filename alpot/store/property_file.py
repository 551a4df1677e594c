"""The physical properties of a potential as data: the rows of their table, and the curves behind them.

``alpot validate`` writes one such file, and a campaign writes one for each generation whose properties it measures.
"""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from alpot.errors import StorageError
from alpot.store.json_files import publish_json, read_json


class Part(BaseModel):
    """Base of the file and its parts: values that do not change."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Curve(Part):
    """A measured function, or several over the same axis.

    Attributes:
        name: what was measured, as printed above a plot.
        x_label: of the axis, with its unit in the field's way: "distance (Å)".
        y_label: likewise.
        x: (n,) points.
        lines: (n,) values by the name of the line; one line is named like the curve.
        ticks: positions on x that have a name, such as (0.0, "Γ"); empty where the axis has plain numbers.
    """

    name: str
    x_label: str
    y_label: str
    x: tuple[float, ...]
    lines: dict[str, tuple[float, ...]]
    ticks: tuple[tuple[float, str], ...] = ()


class PublishedNumber(Part):
    """What somebody else has found, in the unit of the row.

    Attributes:
        value: the number.
        uncertainty: as published, or None.
        kind: ``experiment`` or ``dft``.
        method: the functional, or how it was measured; may be empty.
        temperature: K.
        doi: of the publication.
        source: authors, journal, volume, page (year).
        note: what one has to know to compare with it; may be empty.
    """

    value: float
    uncertainty: float | None = None
    kind: str
    method: str = ""
    temperature: float
    doi: str
    source: str
    note: str = ""


class PropertyRow(Part):
    """One line of the table of properties.

    Attributes:
        property: the name in the campaign file that asked for it.
        system: what it is a property of, such as "fcc Al".
        name: what was measured.
        unit: of all numbers in this row; empty for pure numbers.
        value: of the potential, or None where it failed.
        std: standard deviation over the members of the ensemble, each measured by itself, or None.
        noise: standard error of the measurement itself, of an average over a finite run; or None.
        uncertainty: expected error of the potential: the members' deviation times the potential's calibration, and the
            noise; or None.
        reference: the reference's value, or None where it was not asked for or failed.
        difference: value − reference, or None.
        published: what others have found.
        tolerance: what is accepted, as text with the row's unit or %, or None where nothing is promised.
        ok: whether the value is within tolerance; None where that cannot be said.
        error: why a value is missing or fell short, or None.
    """

    property: str
    system: str
    name: str
    unit: str
    value: float | None = None
    std: float | None = None
    noise: float | None = None
    uncertainty: float | None = None
    reference: float | None = None
    difference: float | None = None
    published: tuple[PublishedNumber, ...] = ()
    tolerance: str | None = None
    ok: bool | None = None
    error: str | None = None


class PropertyResult(Part):
    """One property of one element.

    Attributes:
        property: as in the campaign file.
        system: such as "fcc Al".
        rows: its numbers.
        curves: of the potential.
        reference_curves: of the reference, as far as there are any.
        remarks: sentences on what the numbers do not say.
        seconds: that measuring took, members and reference included.
    """

    property: str
    system: str
    rows: tuple[PropertyRow, ...]
    curves: tuple[Curve, ...] = ()
    reference_curves: tuple[Curve, ...] = ()
    remarks: tuple[str, ...] = ()
    seconds: float = 0.0


class PropertyFile(Part):
    """All properties that were measured of one potential.

    Attributes:
        potential: what was measured, in words.
        reference: what it is compared with, in words; empty for nothing.
        provenance: hashes and versions.
        results: in the order of the table.
    """

    potential: str
    reference: str = ""
    provenance: dict[str, str] = {}
    results: tuple[PropertyResult, ...] = ()

    @property
    def rows(self) -> tuple[PropertyRow, ...]:
        """The whole table."""
        return tuple(row for result in self.results for row in result.rows)

    @property
    def coverage(self) -> tuple[int, int]:
        """How many properties are within one error bar of the reference, and how many have both.

        If the error bars are those of a normal distribution, it is 68 % of them.
        """
        errors = [
            abs(row.difference) <= row.uncertainty
            for row in self.rows
            if row.difference is not None and row.uncertainty
        ]
        return sum(errors), len(errors)


def write_property_file(path: Path, properties: PropertyFile) -> None:
    """Writes a file; one that is there is replaced; ``StorageError`` if it cannot be written."""
    publish_json(path, properties.model_dump(mode="json"))


def read_property_file(path: Path) -> PropertyFile:
    """Reads a file.

    Raises:
        StorageError: it is missing, damaged, or of another alpot.
    """
    try:
        return PropertyFile.model_validate(read_json(path))
    except ValidationError as error:
        raise StorageError(
            f"{path} is not what this alpot writes ({error.error_count()} entries are wrong); measure the properties"
            " again"
        ) from error
