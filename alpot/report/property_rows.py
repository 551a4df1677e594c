"""Physical properties as a campaign's ledger hands them on: rows of their table, of this alpot or an older one."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from alpot.store.property_file import PublishedNumber


class Property(BaseModel):
    """One row of the property table, see ``alpot.store.property_file.PropertyRow``."""

    model_config = ConfigDict(frozen=True)

    property: str = ""
    system: str = ""
    name: str = ""
    unit: str = ""
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
