"""The page of properties that were measured without a campaign: `alpot validate`."""

from __future__ import annotations

from pathlib import Path

from alpot.report.markup import Markup, element, facts, section
from alpot.report.metrics import property_files
from alpot.report.page.document import PAGE, page_of
from alpot.report.page.properties import measured
from alpot.report.page.provenance import versions
from alpot.store.files import publish
from alpot.store.property_file import PropertyFile

_CONTENTS = (("properties", "The table"), ("provenance", "Provenance"))


def write_validation(folder: Path, found: PropertyFile) -> list[Path]:
    """Writes the page and its tables into a folder; returns their paths; ``StorageError`` if one cannot be written."""
    files = property_files(found) | {PAGE: validation_page(found)}
    for name, content in files.items():
        publish(folder / name, content.encode())
    return [folder / name for name in files]


def validation_page(found: PropertyFile) -> str:
    """The page, which needs no network and no other file."""
    title = f"Physical properties of {found.potential}"
    against = element("p", f"Beside {found.reference}", class_="soft") if found.reference else ""
    header = element("header", element("h1", title), against)
    table = section("The table", *measured(found.rows, found.potential, found), id_="properties")
    return page_of(title, header, (table, _provenance(found)), _CONTENTS)


def _provenance(found: PropertyFile) -> Markup:
    lines = [(name.capitalize(), element("code", text)) for name, text in found.provenance.items()]
    lines.append(("This page by", versions()))
    return section("Provenance", element("div", facts(lines), class_="block"), id_="provenance")
