"""What the potential says of physics: the table of properties, their curves, and how they changed."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import cycle

from alpot.report.figures import SERIES, Figure, axis, band, cards, line, shown
from alpot.report.markup import Markup, element, join, note, row, section, table
from alpot.report.page.material import Material
from alpot.report.status import Status
from alpot.report.tables import PROPERTY_COLUMNS, by_system, property_cells
from alpot.report.wording import NOTHING, difference_of, mark_of, plural, printable, reference_of, signed, value_of
from alpot.store.property_file import Curve, PropertyFile, PropertyRow, PublishedNumber

#: Only what looks like a DOI becomes a link.
_DOI = re.compile(r"10\.\d{4,9}/[-._;()/:A-Za-z0-9<>+\[\]]+")
_COLUMNS = tuple((title, "") for title in (*PROPERTY_COLUMNS, "literature"))
#: So many small plots can be taken in; the file has all.
_HISTORIES = 24
#: Generations that a small plot can mark one by one.
_FEW = 12
#: Letters of the name of a special point, such as "U|K".
_TICK = 5


def properties(material: Material) -> Markup:
    """The table, curves, history."""
    status = material.status
    if not status.properties:
        nothing = element("p", "Nothing was measured so far; it will be at the end of the campaign.", class_="soft")
        return section("Physical properties", nothing, id_="properties")
    histories = history_figures(status.properties_by_generation)
    return section(
        "Physical properties",
        note(_whose(status)),
        *measured(status.properties, f"generation {status.properties_of}", material.properties),
        element("h3", "By generation") if histories else "",
        cards(histories[:_HISTORIES], "cards small") if histories else "",
        note(f"{len(histories) - _HISTORIES} more are in properties.csv.") if len(histories) > _HISTORIES else "",
        id_="properties",
    )


def _whose(status: Status) -> str:
    if status.properties_of == status.promoted:
        return f"Of generation {status.promoted}, which is promoted."
    promoted = "none is promoted" if status.promoted is None else f"the promoted one, {status.promoted}, was not"
    return f"Of generation {status.properties_of}, the last that was measured; {promoted}."


def measured(rows: Sequence[PropertyRow], of: str, found: PropertyFile | None) -> tuple[Markup, ...]:
    """The table, what it does not say, and the curves.

    Args:
        rows: of the table.
        of: whose they are, such as "generation 2".
        found: the file that they come from, as far as there is one.
    """
    judged = [entry.ok for entry in rows if entry.ok is not None]
    within, compared = found.coverage if found else (0, 0)
    sentences = (
        f"{sum(judged)} of {len(judged)} within tolerance." if judged else "",
        "± is the standard deviation of the potential's members." if any(entry.std for entry in rows) else "",
        f"{within} of {compared} are within one error bar of the reference: 68 %, if the bars are right."
        if compared
        else "",
    )
    literature = _COLUMNS if any(entry.published for entry in rows) else _COLUMNS[:-1]
    lines: list[Markup] = []
    for system, members in by_system(rows).items():
        if system:
            lines.append(element("tr", element("th", system, scope="rowgroup", colspan=str(len(literature)))))
        for member in members:
            lines += _rows(member, len(literature))
    curves = curve_figures(found)
    return (
        note(" ".join(filter(None, sentences))),
        table(f"Properties of {of}", literature, lines, (0, len(_COLUMNS) - 1)),
        _remarks(found),
        element("h3", "Curves") if curves else Markup(),
        cards(curves) if curves else Markup(),
    )


def _rows(entry: PropertyRow, width: int) -> list[Markup]:
    cells = property_cells(entry)
    if width > len(cells):
        cells = (*cells, join(*(_published(found) for found in entry.published)))
    rows = [row(cells, texts=(0, len(_COLUMNS) - 1))]
    if entry.error:
        rows.append(element("tr", element("td", entry.error, colspan=str(width), class_="text"), class_="note"))
    return rows


def _published(found: PublishedNumber) -> Markup:
    """A number of others, with where it is from."""
    number = f"{signed(found.value, '.6g')}" + (f" ± {found.uncertainty:.2g}" if found.uncertainty else "")
    kind = " ".join(filter(None, (found.kind, found.method)))
    temperature = f"{found.temperature:g} K" if found.temperature else ""
    source: str = _short(found.source) or found.doi
    if _DOI.fullmatch(found.doi):
        target = f"https://doi.org/{found.doi}"
        source = element("a", source, href=target, title=found.source, rel="noopener noreferrer")
    words = ", ".join(filter(None, (kind, temperature)))
    detail = element("small", words, ", " if words else "", source, f"; {found.note}" if found.note else "")
    return element("div", number, " ", detail, class_="published")


def _short(source: str) -> str:
    """Authors and year, where a source begins with the one and has the other in brackets."""
    year = re.search(r"\(\d{4}\)", source)
    return f"{source.partition(',')[0]} {year[0]}" if year else source


def _remarks(found: PropertyFile | None) -> Markup:
    """What the numbers do not say."""
    said = [(result.system, text) for result in found.results for text in result.remarks] if found else []
    remarks = [text if text.startswith(system) else f"{system}: {text}" for system, text in said]
    return element("ul", *(element("li", remark) for remark in remarks), class_="soft small") if remarks else Markup()


def curve_figures(found: PropertyFile | None) -> list[Figure]:
    """Each curve of the potential, with that of the reference of the same name."""
    figures = []
    for result in found.results if found else ():
        references = {curve.name: curve for curve in result.reference_curves}
        figures += [_curve_figure(result.system, curve, references.get(curve.name)) for curve in result.curves]
    return figures


def _curve_figure(system: str, curve: Curve, reference: Curve | None) -> Figure:
    """A curve of the potential, solid, beside that of the reference, dashed."""
    same = bool(curve.ticks) or len(curve.lines) > len(SERIES)  # branches of a band structure are not told apart
    several = len(curve.lines) > 1 and not same
    colors = dict(zip(curve.lines, cycle(SERIES), strict=False))
    traces = []
    for side, of, style in (("potential", curve, {}), ("reference", reference, {"dash": "dash", "width": 1.5})):
        for number, (name, values) in enumerate(of.lines.items() if of else ()):
            label = f"{side}: {shown(name)}" if several else side
            color = colors.get(name, SERIES[1]) if several else SERIES[side == "reference"]
            shows = not (same and number)
            traces.append(line(of.x if of else (), values, label, color, line=style, showlegend=shows))
    x_axis = axis(shown(curve.x_label))
    if curve.ticks:
        x_axis |= {
            "tickvals": [place for place, _ in curve.ticks],
            "ticktext": [shown(name, _TICK) for _, name in curve.ticks],
        }
        x_axis |= {"showgrid": True}
    title = f"{printable(curve.name)}, {printable(system)}" if system else printable(curve.name)
    beside = ", beside the reference" if reference else ""
    return Figure(
        title=title,
        description=f"{title}: {curve.y_label} against {curve.x_label}, {plural(len(curve.x), 'point')}{beside}.",
        traces=traces,
        layout={"xaxis": x_axis, "yaxis": axis(shown(curve.y_label))},
        numbers=element("p", element("a", "curves.csv", href="curves.csv")),
    )


def history_figures(measured: dict[int, tuple[PropertyRow, ...]]) -> list[Figure]:
    """One small plot for each property that was measured more than once."""
    series: dict[tuple[str, str, str], list[tuple[int, PropertyRow]]] = {}
    for generation, rows in measured.items():
        for entry in rows:
            if entry.value is not None:
                series.setdefault((entry.system, entry.name or entry.property, entry.unit), []).append(
                    (generation, entry)
                )
    return [_history_figure(*names, rows) for names, rows in series.items() if len(rows) > 1]


def _history_figure(system: str, name: str, unit: str, rows: Sequence[tuple[int, PropertyRow]]) -> Figure:
    generations = [generation for generation, _ in rows]
    values = [entry.value for _, entry in rows]
    low, high = ([(entry.value or 0.0) + sign * (entry.std or 0.0) for _, entry in rows] for sign in (-1, 1))
    mode = "lines+markers" if len(rows) < _FEW else "lines"
    traces = [*band(generations, low, high, SERIES[0]), line(generations, values, "potential", SERIES[0], mode=mode)]
    references = [entry.reference for _, entry in rows]
    if any(value is not None for value in references):
        traces.append(line(generations, references, "reference", SERIES[1], line={"dash": "dash", "width": 1.5}))
    title = f"{printable(name)}, {printable(system)}" if system else printable(name)
    lines = (
        row((str(generation), value_of(entry), reference_of(entry), difference_of(entry), mark_of(entry.ok) or NOTHING))
        for generation, entry in rows
    )
    columns = [("gen.", ""), *((title, "") for title in ("potential", "reference", "difference", ""))]
    return Figure(
        title=title,
        description=f"{title} by generation: {value_of(rows[0][1])} to {value_of(rows[-1][1])} {unit}.",
        traces=traces,
        layout={
            "xaxis": axis("generation", dtick=1 if len(rows) < _FEW else None),
            "yaxis": axis(shown(unit) if unit else ""),
            "showlegend": False,
        },
        numbers=table(f"{title} by generation", columns, lines),
        style="small",
    )
