"""What a terminal shows of a campaign: the tables of generations and properties, and the status as a panel.

The tables' cells are plain text for any medium; the page renders the same ones. Strings of the campaign go through
``Text`` and ``printable``: rich must not read them as markup, nor the terminal as commands.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from rich import box
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.measure import Measurement
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from alpot.report.coverage import pooled
from alpot.report.history import Generation
from alpot.report.status import Phase, Status
from alpot.report.wording import (
    NOTHING,
    bound_of,
    counted,
    difference_of,
    duration,
    generation_of,
    held_of,
    mark_of,
    milli,
    outlook_words,
    picoseconds,
    printable,
    promise_of,
    published_of,
    reference_of,
    spent_on,
    to_come,
    value_of,
)
from alpot.store.property_file import PropertyRow

#: Titles and units of the columns; forces in meV/Å, energies in meV/atom.
GENERATION_COLUMNS = (
    ("gen.", ""),
    ("labels", ""),
    ("audit force", "meV/Å"),
    ("audit energy", "meV/atom"),
    ("train / validate / test force", "meV/Å"),
    ("train / validate / test energy", "meV/atom"),
    ("error bound", ""),
    ("coverage", "%"),
    ("training", "h:mm:ss"),
    ("promoted", ""),
)
PROPERTY_COLUMNS = ("property", "potential", "reference", "difference", "tolerance", "")
#: Those that a terminal has room for.
_ON_TERMINAL = (0, 1, 2, 3, 4, 9)
_FOLDS_WIDTH = 14
_MARKS = {"✓": "green", "✗": "red"}
_PANEL_WIDTH = 110
#: Names give way to published numbers, down to this.
_NAMES_WIDTH = 30
#: Wider than any table, to measure how wide one would be.
_UNLIMITED = 1000
_GENERATIONS_IN_PANEL = 5
_COLORS = {
    Phase.FINISHED: "green",
    Phase.FAILED: "red",
    Phase.INTERRUPTED: "red",
    Phase.STOPPING: "yellow",
    Phase.STOPPED: "yellow",
}


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
        NOTHING if generation.bound is None else bound_of(generation.bound),
        NOTHING if generation.coverage is None else f"{100 * generation.coverage.share:.0f}",
        duration(generation.seconds),
        mark_of(generation.promoted),
    )


def property_cells(row: PropertyRow) -> tuple[str, ...]:
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


def by_system(rows: Sequence[PropertyRow]) -> dict[str, list[PropertyRow]]:
    """The rows of each system, in order."""
    systems: dict[str, list[PropertyRow]] = {}
    for row in rows:
        systems.setdefault(row.system, []).append(row)
    return systems


def generation_table(generations: Sequence[Generation]) -> Table:
    """The generations on a terminal: what tells whether it gets better; the rest is on the page."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="dim", show_edge=False)
    for column in _ON_TERMINAL:
        title, unit = GENERATION_COLUMNS[column]
        # Three numbers in one cell must not be cut.
        width = _FOLDS_WIDTH if "/" in title else None
        table.add_column(f"{title}\n{unit}", justify="right" if title != "promoted" else "center", min_width=width)
    for generation in generations:
        cells = generation_cells(generation)
        style = "" if generation.promoted else "dim"
        table.add_row(*(_cell(cells[column]) for column in _ON_TERMINAL), style=style)
    return table


def property_table(rows: Sequence[PropertyRow], generation: int | None = None) -> RenderableType:
    """The properties on a terminal, with a section for each system; below, why something is missing."""
    title = "Properties" if generation is None else f"Properties of generation {generation}"
    notes = [f" {row.system} {row.name or row.property}: {row.error}" for row in rows if row.error]
    return Group(_Properties(rows, title), *(Text(printable(note), style="yellow") for note in notes))


class _Properties:
    """Rows under ``PROPERTY_COLUMNS``, and published numbers beside them, or below where the terminal is too narrow."""

    def __init__(self, rows: Sequence[PropertyRow], title: str) -> None:
        self._rows, self._title = rows, title
        self._published = [row for row in rows if row.published]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        wide = self._table(with_published=True)
        wanted = Measurement.get(console, options.update_width(_UNLIMITED), wide).maximum
        if not self._published or wanted <= options.max_width:
            yield wide
            return
        yield self._table(with_published=False)
        yield Text("Published", style="bold")
        for row in self._published:
            yield Text(printable(f" {row.system} {row.name or row.property}: {published_of(row)} {row.unit}"))

    def _table(self, *, with_published: bool) -> Table:
        table = Table(box=box.SIMPLE_HEAD, title=self._title, title_style="bold", title_justify="left")
        table.header_style, table.pad_edge, table.show_edge = "dim", False, False
        for number, header in enumerate(PROPERTY_COLUMNS):
            # Names may take several lines, numbers must not be cut.
            table.add_column(header, justify="left" if number == 0 else "right", no_wrap=number > 0, overflow="fold")
        if with_published and self._published:
            table.columns[0].max_width = _NAMES_WIDTH
            table.add_column("published", no_wrap=True)
        for system, members in by_system(self._rows).items():
            table.add_section()
            if system:
                table.add_row(Text(printable(system), style="bold"))
            for row in members:
                cells = (*property_cells(row), published_of(row)) if with_published else property_cells(row)
                table.add_row(*map(_cell, cells[: len(table.columns)]))
        return table


def status_view(status: Status) -> RenderableType:
    """Everything that ``alpot status`` says: the panel, the last failure, the properties once there are any."""
    parts: list[RenderableType] = [status_panel(status)]
    if status.recent_failures:
        last = status.recent_failures[-1]
        parts.append(Text(printable(f"last failure: {last.task} ({last.failure}): {last.message}"), style="yellow"))
    if status.potential is not None:
        parts.append(Text(f"potential: {printable(status.potential)}"))
    if status.properties:
        parts += [Text(), property_table(status.properties, status.properties_of)]
    return Group(*parts)


def status_panel(status: Status, since_s: float = 0.0) -> RenderableType:
    """The status at a glance.

    Args:
        status: what to show.
        since_s: time in s since the status was taken; clocks tick by it.
    """
    color = _COLORS.get(status.phase, "cyan")
    facts = Table.grid(padding=(0, 2), expand=True)
    facts.add_column(style="dim", no_wrap=True)
    facts.add_column(overflow="fold", ratio=1)
    facts.add_row("Labels", _budget_bar(status))
    for name, text in _facts(status, since_s):
        facts.add_row(name, Text(text))
    parts: list[RenderableType] = [facts]
    if status.generations:
        parts += [Text(), generation_table(status.generations[-_GENERATIONS_IN_PANEL:])]
    parts += [Text(), Text(printable(status.message), style=color)]
    title = Text.assemble(
        (f" {printable(status.name)} ", "bold"),
        (f" {' '.join(status.elements)} ", "dim"),
        f" {generation_of(status)} ",
        (f" {duration(status.elapsed_s + since_s)} ", "bold"),
    )
    content = Group(*parts)
    return Panel(content, title=title, title_align="left", border_style=color, width=_PANEL_WIDTH, padding=(1, 2))


def _budget_bar(status: Status) -> RenderableType:
    labels = status.labels
    done, noun = (labels.calculations, "calculations") if labels.settled is None else (labels.settled, "structures")
    bar = Table.grid(padding=(0, 2), expand=True)
    bar.add_column(ratio=1)
    bar.add_column(no_wrap=True)
    bar.add_row(
        ProgressBar(total=labels.budget, completed=min(done, labels.budget)),
        Text(f"{done:,} of {labels.budget:,} {noun}", style="bold"),
    )
    return bar


def _facts(status: Status, since_s: float) -> list[tuple[str, str]]:
    """Named lines; those that have nothing to say are left out."""
    labels, exploration = status.labels, status.exploration
    sorts = {"to train on": labels.training, "audit": labels.audit, "queued": labels.queued, "running": labels.running}
    walkers = (
        f"{exploration.walkers:,} walkers · {picoseconds(exploration.simulated_ps)}" if exploration.walkers else ""
    )
    working = [f"{kind} ×{tasks.count} ({duration(tasks.oldest_s + since_s)})" for kind, tasks in status.tasks.items()]
    failed = Counter(labels.failed_attempts)
    for counts in status.failures.values():
        failed.update(counts)
    given_up = f"; {status.given_up} of {status.max_failures} given up" if status.given_up else ""
    facts = [
        ("", " · ".join(f"{count:,} {name}" for name, count in sorts.items())),
        ("Force error", outlook_words(status.outlook) if status.outlook else ""),
        ("Cost", spent_on(status.costs)),
        ("To come", to_come(status.costs.prediction) if status.costs.prediction else ""),
        ("Force errors", _bound(status)),
        ("Rejected", counted(labels.rejected)),
        ("Refused", counted(labels.refused)),
        ("Failed", counted(failed) + given_up),
        ("Explored", " · ".join(filter(None, (walkers, counted(exploration.endings))))),
        ("Found", counted(exploration.candidates)),
        ("Dropped", counted(exploration.dropped)),
        ("Working on", " · ".join(working)),
    ]
    return [(name, text) for name, text in facts if text]


def _bound(status: Status) -> str:
    """What the promoted generation says of its errors, and how often such bounds held."""
    best = next((found for found in status.generations if found.number == status.promoted), None)
    coverage = pooled(found.coverage for found in status.generations)
    return "; ".join(
        filter(
            None,
            (
                promise_of(best.bound) if best and best.bound else "",
                f"bounds held for {held_of(coverage)}" if coverage else "",
            ),
        )
    )


def _cell(text: str) -> Text:
    """A cell that rich does not read as markup."""
    return Text(text, style=_MARKS.get(text, ""))
