"""Physical properties as the ledger hands them on: rows of the table, curves, and what others have published."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Published(BaseModel):
    """What others have found for a property, see ``alpot.validation.literature``.

    Attributes:
        value: in the unit of the property's row.
        uncertainty: likewise; None where none is given.
        kind: ``experiment`` or ``dft``.
        method: such as the functional.
        temperature: in K; None where none is given.
        doi: of the source.
        source: authors, journal, year.
    """

    model_config = ConfigDict(frozen=True)

    value: float
    uncertainty: float | None = None
    kind: str = ""
    method: str = ""
    temperature: float | None = None
    doi: str = ""
    source: str = ""


class PropertyCurve(BaseModel):
    """A measured function of the potential, beside that of the reference where there is one.

    Attributes:
        property: the name in the campaign file that asked for it.
        system: what it is a property of.
        name: what was measured.
        x_label: of the axis, with its unit.
        y_label: likewise.
        x: points (n,).
        lines: values (n,) by the name of the line.
        reference_x: points of the reference (m,); empty where they are the same.
        reference_lines: values of the reference (m,) by the name of the line.
        ticks: places on x that have a name.
    """

    model_config = ConfigDict(frozen=True)

    property: str = ""
    system: str = ""
    name: str = ""
    x_label: str = ""
    y_label: str = ""
    x: tuple[float, ...]
    lines: dict[str, tuple[float | None, ...]]
    reference_x: tuple[float, ...] = ()
    reference_lines: dict[str, tuple[float | None, ...]] = {}
    ticks: tuple[tuple[float, str], ...] = ()


class Property(BaseModel):
    """One row of the property table, see ``alpot.validation.suite.PropertyRow``; ``literature`` is of others."""

    model_config = ConfigDict(frozen=True)

    property: str = ""
    system: str = ""
    name: str = ""
    unit: str = ""
    value: float | None = None
    std: float | None = None
    reference: float | None = None
    difference: float | None = None
    tolerance: str | None = None
    ok: bool | None = None
    error: str | None = None
    literature: tuple[Published, ...] = ()
