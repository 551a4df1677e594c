"""The two tables that matter, generations and properties: their cells, and how a terminal shows them.

Cells are plain text for any medium; the page renders the same ones.
"""

from __future__ import annotations

from collections.abc import Sequence

from rich import box
from rich.table import Table
from rich.text import Text

from alpot.report.history import Generation
from alpot.report.status import Property
from alpot.report.wording import (
    NOTHING,
    difference_of,
    duration,
    mark_of,
    milli,
    printable,
    reference_of,
    value_of,
)

#: Titles and units of the columns; forces in meV/Å, energies in meV/atom.
GENERATION_COLUMNS = (
    ("generation", ""),
    ("labels", ""),
    ("audit force", "meV/Å"),
    ("audit energy", "meV/atom"),
    ("train / validate / test force", "meV/Å"),
    ("train / validate / test energy", "meV/atom"),
    ("calibration", "σ → error"),
    ("training", "h:mm:ss"),
    ("promoted", ""),
)
PROPERTY_COLUMNS = ("property", "potential", "reference", "difference", "tolerance", "")
_MARKS = {"✓": "green", "✗": "red"}


def generation_cells(generation: Generation) -> tuple[str, ...]:
    """One row under ``GENERATION_COLUMNS``."""
    errors = generation.errors
    folds = {
        quantity: "/".join(milli(errors.get(f"{role}_{quantity}")) for role in ("train", "validate", "test"))
        for quantity in ("force", "energy")
    }
    return (
        str(generation.number),
        f"{generation.labels:,}",
        milli(generation.audit_force),
        milli(generation.audit_energy),
        folds["force"] if errors else NOTHING,
        folds["energy"] if errors else NOTHING,
        NOTHING if generation.calibration is None else f"{generation.calibration:.2f}",
        duration(generation.seconds),
        mark_of(generation.promoted),
    )


def property_cells(row: Property) -> tuple[str, ...]:
    """One row under ``PROPERTY_COLUMNS``."""
    name = row.name or row.property
    return (
        printable(f"{name} ({row.unit})" if row.unit else name),
        value_of(row),
        reference_of(row),
        difference_of(row),
        printable(row.tolerance or NOTHING),
        mark_of(row.ok),
    )


def by_system(rows: Sequence[Property]) -> dict[str, list[Property]]:
    """The rows of each system, in order."""
    systems: dict[str, list[Property]] = {}
    for row in rows:
        systems.setdefault(row.system, []).append(row)
    return systems


def generation_table(generations: Sequence[Generation], *, brief: bool = False) -> Table:
    """The generations on a terminal; ``brief``: only what tells whether it gets better."""
    shown = (0, 1, 2, 3, 4, 8) if brief else range(len(GENERATION_COLUMNS))
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="dim", show_edge=False)
    for column in shown:
        title, unit = GENERATION_COLUMNS[column]
        header = "train / valid. / test force" if brief and column == 4 else title
        table.add_column(f"{header}\n{unit}", justify="right" if column < 8 else "center")
    for generation in generations:
        cells = generation_cells(generation)
        style = "" if generation.promoted else "dim"
        table.add_row(*(_cell(cells[column]) for column in shown), style=style)
    return table


def property_table(rows: Sequence[Property], generation: int | None = None) -> Table:
    """The properties on a terminal, with a section for each system, and the reason where something is missing."""
    title = "Properties" if generation is None else f"Properties of generation {generation}"
    table = Table(box=box.SIMPLE_HEAD, title=title, title_style="bold", title_justify="left", header_style="dim")
    for number, header in enumerate(PROPERTY_COLUMNS):
        table.add_column(header, justify="left" if number == 0 else "right")
    for system, members in by_system(rows).items():
        table.add_section()
        if system:
            table.add_row(Text(printable(system), style="bold"))
        for row in members:
            table.add_row(*(_cell(cell) for cell in property_cells(row)))
            if row.error:
                table.add_row(Text(f"  {printable(row.error)}", style="yellow"))
    return table


def _cell(text: str) -> Text:
    """A cell that rich does not read as markup."""
    return Text(text, style=_MARKS.get(text, ""))
