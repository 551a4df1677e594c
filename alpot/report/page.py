"""Writes ``report/index.html``: a whole campaign on one page that needs no network, no scripts and no other file."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from datetime import UTC, datetime
from hashlib import sha256
from importlib import resources
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from pydantic import TypeAdapter

from alpot.config import Campaign
from alpot.config_file import parse_campaign
from alpot.errors import StorageError
from alpot.report.charts import Chart, Epoch, error_chart, label_chart, learning_chart
from alpot.report.history import Generation, History
from alpot.report.markup import Markup, element, facts, join, section, table
from alpot.report.status import Property, Status, status_and_history
from alpot.report.tables import GENERATION_COLUMNS, PROPERTY_COLUMNS, by_system, generation_cells, property_cells
from alpot.report.wording import NOTHING, counted, duration, energies_of, milli, picoseconds, spent_on, to_come
from alpot.store.directory import CampaignDirectory
from alpot.store.files import publish, read_bytes
from alpot.store.json_files import read_json

#: Packages whose version may change a result.
_PACKAGES = ("alpot", "ase", "numpy", "scipy", "torch", "torchani", "parsl", "vesin")
_PAGE = "index.html"
_MARKS = {"✓": "yes", "✗": "no"}
#: Should some text ever escape its escaping, a browser still neither runs nor fetches anything.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'"


def write_report(directory: CampaignDirectory) -> Path:
    """Writes the report of a campaign, whatever its state; returns the path of the page.

    Raises:
        AlpotError: the campaign cannot be read, or the page cannot be written.
    """
    for name, content in report_files(directory).items():
        publish(directory.report / name, content.encode())
    return directory.report / _PAGE


def report_files(directory: CampaignDirectory) -> dict[str, str]:
    """The report of a campaign, unwritten: content by name.

    Raises:
        AlpotError: the campaign cannot be read.
    """
    config_text = read_bytes(directory.config).decode()
    config = parse_campaign(config_text, str(directory.config))
    status, history = status_and_history(directory)
    sections = (
        _header(status, config),
        _tiles(status),
        _potential(status),
        _accuracy(status, history, config, _learning_curve(directory, status)),
        _properties(status),
        _work(status),
        _failures(status),
        _settings(config),
        _provenance(history, config_text),
        _footer(),
    )
    return {_PAGE: _page(status.name, sections)}


def _learning_curve(directory: CampaignDirectory, status: Status) -> list[Epoch]:
    """What the last training recorded; empty if there is nothing that can be read."""
    if not status.generations:
        return []
    path = directory.model_path(status.generations[-1].number) / "learning_curve.json"
    try:
        return TypeAdapter(list[Epoch]).validate_python(read_json(path)["epochs"])
    except (StorageError, KeyError, ValueError):
        return []


def _page(title: str, sections: Sequence[Markup]) -> str:
    style = Markup(resources.files("alpot.report").joinpath("page.css").read_text(encoding="utf-8"))
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", http_equiv="Content-Security-Policy", content=_POLICY),
        element("title", f"{title} · alpot"),
        element("style", style),
    )
    return "<!doctype html>\n" + element("html", head, element("body", element("main", *sections)), lang="en") + "\n"


# ----------------------------------------------------------------------------------------------------- the head


def _header(status: Status, config: Campaign) -> Markup:
    subject = f"A potential for {'–'.join(status.elements)}, learned from {config.reference.code}"
    return element(
        "header",
        element("h1", status.name),
        element("p", subject, class_="soft"),
        element("p", element("span", status.phase.value, class_=f"badge {status.phase.value}"), status.message),
    )


def _tiles(status: Status) -> Markup:
    labels, best = status.labels, _promoted(status)
    force = milli(best.audit_force) if best else NOTHING
    energy = milli(best.audit_energy) if best else NOTHING
    tiles = (
        (f"{labels.done:,}", f"labels, {labels.audit:,} of them for the audit"),
        (NOTHING if status.promoted is None else str(status.promoted), "promoted generation"),
        (force, "force error in meV/Å, on audit labels"),
        (energy, "energy error in meV/atom, on audit labels"),
        (picoseconds(status.exploration.simulated_ps), f"simulated by {status.exploration.walkers:,} walkers"),
        (duration(status.elapsed_s), "running time"),
    )
    return element(
        "div",
        *(element("div", element("b", value), element("span", name), class_="tile") for value, name in tiles),
        class_="tiles",
    )


def _promoted(status: Status) -> Generation | None:
    return next((g for g in status.generations if g.number == status.promoted), None)


def _potential(status: Status) -> Markup:
    if status.potential is None:
        return section("The potential", element("p", "No generation was promoted so far.", class_="soft"))
    best = _promoted(status)
    code = f"import alpot\n\natoms.calc = alpot.load({status.potential!r})\natoms.get_potential_energy()  # eV"
    calibration = f"{best.calibration:.2f}" if best and best.calibration is not None else ""
    return section(
        "The potential",
        facts(
            (
                ("Folder", element("code", status.potential)),
                ("Trained on", f"{best.labels:,} labels" if best else ""),
                ("Expected error", f"{calibration} × the deviation of its members" if calibration else ""),
                ("To keep it", element("code", f"alpot export {status.directory} potential/")),
            )
        ),
        element("pre", code),
    )


# -------------------------------------------------------------------------------------------- charts and tables


def _accuracy(status: Status, history: History, config: Campaign, curve: list[Epoch]) -> Markup:
    charts = (
        ("Force error", error_chart(status.generations, config.stopping.force_error)),
        ("Labels", label_chart(history.label_times, status.elapsed_s)),
        ("Last training", learning_chart(curve)),
    )
    cards = [_card(title, chart) for title, chart in charts if chart is not None]
    if not status.generations:
        nothing = element("p", "Nothing was trained so far.", class_="soft")
        return section("Learning", element("div", *cards, class_="cards"), nothing)
    head = element("tr", *(_head_cell(title, unit) for title, unit in GENERATION_COLUMNS))
    rows = [_row(generation_cells(g), "" if g.promoted else "dim") for g in status.generations]
    note = "Audit labels are chosen at random and never trained on; all errors are root-mean-square."
    return section(
        "Learning",
        element("div", *cards, class_="cards"),
        element("p", note, class_="soft small"),
        table(head, *rows),
    )


def _card(title: str, chart: Chart) -> Markup:
    legend = (
        element("span", element("i", style=f"background: var(--series-{color})"), name.replace("_", " "))
        for name, color in chart.legend
    )
    drawing = element("div", Markup(chart.svg), role="img", aria_label=chart.description)
    return element("figure", element("h3", title), drawing, element("figcaption", *legend), class_="card")


def _head_cell(title: str, unit: str = "", style: str = "") -> Markup:
    return element("th", title, element("small", unit) if unit else "", scope="col", class_=style)


def _row(cells: Sequence[str], style: str = "") -> Markup:
    first, *others = cells
    data = (element("td", cell, class_=_MARKS.get(cell, "")) for cell in others)
    return element("tr", element("th", first, scope="row"), *data, class_=style)


def _properties(status: Status) -> Markup:
    if not status.properties:
        return section("Properties", element("p", "Evaluated when the campaign ends.", class_="soft"))
    span = str(len(PROPERTY_COLUMNS))
    rows: list[Markup] = []
    for system, members in by_system(status.properties).items():
        if system:
            rows.append(element("tr", element("th", system, scope="rowgroup", colspan=span)))
        for member in members:
            rows += _property_rows(member, span)
    head = element(
        "tr", *(_head_cell(title, style="" if number else "text") for number, title in enumerate(PROPERTY_COLUMNS))
    )
    judged = [row.ok for row in status.properties if row.ok is not None]
    verdict = f"{sum(judged)} of {len(judged)} within tolerance; " if judged else ""
    note = f"{verdict}generation {status.properties_of}, ± the standard deviation of its members."
    return section("Properties", element("p", note, class_="soft small"), table(head, *rows))


def _property_rows(row: Property, span: str) -> list[Markup]:
    rows = [_row(property_cells(row))]
    if row.error:
        rows.append(element("tr", element("td", row.error, colspan=span, class_="text"), class_="note"))
    return rows


# ------------------------------------------------------------------------------------- the work and its failures


def _work(status: Status) -> Markup:
    labels, explored = status.labels, status.exploration
    tasks = {kind: task.count for kind, task in status.tasks.items()}
    return section(
        "The work",
        facts(
            (
                ("Labels", f"{labels.training:,} to train on, {labels.audit:,} for the audit"),
                ("Brought along", f"{labels.imported:,} of these" if labels.imported else ""),
                (
                    "Budget",
                    f"{labels.calculations:,} of {labels.budget:,} calculations, {labels.seconds:,.1f} s in all",
                ),
                ("Cost", spent_on(status.costs)),
                ("To come", to_come(status.costs.prediction) if status.costs.prediction else ""),
                ("Isolated atoms", energies_of(status.isolated_atoms)),
                ("Queued", f"{labels.queued:,}" if labels.queued else ""),
                ("Rejected", counted(labels.rejected)),
                ("Refused labels", counted(labels.refused)),
                ("Structures found", counted(explored.candidates)),
                ("Dropped", counted(explored.dropped)),
                ("Walkers ended", counted(explored.endings)),
                ("In flight", counted(tasks)),
            )
        ),
    )


def _failures(status: Status) -> Markup:
    counts = {"label": status.labels.failed_attempts, **status.failures}
    lines = [(kind, counted(of_kind)) for kind, of_kind in counts.items() if of_kind]
    if not lines:
        return section("Failures", element("p", "None.", class_="soft"))
    head = element("tr", *(_head_cell(title, style="text") for title in ("task", "class", "message")))
    rows = []
    for failure in reversed(status.recent_failures):
        message = join(failure.message)
        if failure.evidence:
            evidence = element("details", element("summary", "evidence"), element("pre", failure.evidence))
            message = join(failure.message, evidence)
        name = f"{failure.task}, attempt {failure.attempt}"
        cells = (element("td", failure.failure.replace("_", " "), class_="text"), element("td", message, class_="text"))
        rows.append(element("tr", element("th", name, scope="row"), *cells))
    budget = f"{status.given_up} tasks failed for good, {status.max_failures} may. Most failed attempts are repeated."
    return section("Failures", facts(lines), element("p", budget, class_="soft small"), table(head, *rows))


# ------------------------------------------------------------------------------------------ settings, provenance


def _settings(config: Campaign) -> Markup:
    exploration, potential, training, stopping = config.exploration, config.potential, config.training, config.stopping
    starts = ", ".join(start.kind for start in config.material.starts)
    limits = (
        f"{stopping.max_labels:,} calculations",
        f"{stopping.max_generations} generations" if stopping.max_generations else "",
        f"a force error of {milli(stopping.force_error)} meV/Å" if stopping.force_error else "",
        f"nothing uncertain in {stopping.quiet_time:g} ps" if stopping.quiet_time else "",
    )
    temperatures = (*exploration.temperature_start, *exploration.temperature_end)
    low, high = min(temperatures), max(temperatures)
    cheap = config.reference.cheap
    hidden = "–".join(str(width) for width in potential.hidden)
    return section(
        "Settings",
        facts(
            (
                ("Starts", starts),
                ("Reference", config.reference.code),
                *([("Cheap reference", f"{cheap.code}: {', '.join(cheap.use)}")] if cheap else []),
                (
                    "Potential",
                    f"{potential.members} networks {hidden}, cutoff {potential.descriptor.radial_cutoff:g} Å",
                ),
                (
                    "Uncertain above",
                    f"an expected force error of {milli(exploration.mean_force_error)} meV/Å on average,"
                    f" {milli(exploration.max_force_error)} meV/Å for one atom",
                ),
                (
                    "Walkers",
                    f"{exploration.max_time:g} ps of {exploration.timestep:g} fs each, {low:g} to {high:g} K"
                    f" with oscillations of up to {exploration.temperature_amplitude[1]:g} K",
                ),
                ("Training", f"at {training.initial_labels} labels, then every {training.labels_per_generation}"),
                ("Ends at", " or ".join(filter(None, limits))),
                ("Seed", str(config.seed)),
            )
        ),
    )


def _provenance(history: History, config_text: str) -> Markup:
    sessions = [
        f"{s.time} on {s.host} (process {s.pid}), alpot {s.version}, campaign file {s.config[:12]}…"
        for s in history.sessions
    ]
    installed = " · ".join(f"{name} {_version(name)}" for name in _PACKAGES)
    return section(
        "Provenance",
        facts(
            (
                ("Campaign file", element("code", f"sha256 {sha256(config_text.encode()).hexdigest()}")),
                ("Ledger", f"{history.seq:,} events"),
                ("Run", join(*(element("div", session) for session in sessions))),
                ("This page by", f"Python {platform.python_version()} · {installed}"),
            )
        ),
        element("details", element("summary", "The campaign file"), element("pre", config_text)),
    )


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def _footer() -> Markup:
    return element("footer", f"Written by alpot on {datetime.now(UTC):%Y-%m-%d at %H:%M:%S} UTC.")
