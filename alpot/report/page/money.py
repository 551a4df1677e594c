"""Where did the money go? Labels and core-hours by reason, failures, and how busy the workers were."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from alpot.campaign.subject import Kind
from alpot.report.figures import SERIES, Figure, axis, cards, line, shown
from alpot.report.history import Failure, History
from alpot.report.markup import Markup, element, facts, join, note, row, section, table
from alpot.report.page.material import Material
from alpot.report.spending import Spending
from alpot.report.status import Starts, Status
from alpot.report.wording import NOTHING, core_time, counted, duration, energies_of, plural, spent_on, to_come

#: A line of more points than pixels only makes the page heavy.
_POINTS = 200


def money(material: Material) -> Markup:
    """Labels, costs, utilisation, failures."""
    status, history = material.status, material.history
    figures = (
        label_figure(history.label_times, status.elapsed_s),
        _cost_figure(status.spending),
        utilisation_figure(history, status.elapsed_s),
    )
    return section(
        "Where did the money go?",
        _work(status),
        cards(figures),
        _spending_table(status.spending),
        _starts_table(status.exploration.starts),
        *_failures(status),
        id_="money",
    )


def _work(status: Status) -> Markup:
    labels, explored = status.labels, status.exploration
    tasks = {kind: task.count for kind, task in status.tasks.items()}
    lines = (
        ("Labels", f"{labels.training:,} to train on, {labels.audit:,} for the audit"),
        ("Brought along", f"{labels.imported:,} of these" if labels.imported else ""),
        ("Budget", f"{labels.calculations:,} of {labels.budget:,} calculations, {labels.seconds:,.1f} s in all"),
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
    return element("div", facts(lines), class_="block")


def clock(end_s: float) -> tuple[float, str]:
    """A unit of time that suits such a span: s in it, and its name."""
    return (3600.0, "h") if end_s > 7200 else (60.0, "min") if end_s > 120 else (1.0, "s")


def label_figure(label_times: Sequence[tuple[float, str]], elapsed_s: float) -> Figure | None:
    """Labels computed over running time, stacked by the reason of their candidate."""
    if not label_times:
        return None
    totals = Counter(reason for _, reason in label_times)
    names = [reason for reason, _ in totals.most_common(len(SERIES) - 1 if len(totals) > len(SERIES) else len(SERIES))]
    groups = names if len(totals) <= len(SERIES) else [*names, "other"]
    place = {reason: index for index, reason in enumerate(names)}
    end = max(elapsed_s, label_times[-1][0], 1e-3)
    times = np.linspace(0.0, end, _POINTS)
    scale, unit = clock(end)
    arrivals: list[list[float]] = [[] for _ in groups]
    for arrival, reason in label_times:
        arrivals[place.get(reason, len(groups) - 1)].append(arrival)
    traces = [
        line(
            np.round(times / scale, 4).tolist(),
            np.searchsorted(np.array(own), times, side="right").tolist(),
            f"{shown(group).replace('_', ' ')} ({len(own):,})",
            SERIES[number],
            stackgroup="labels",
            line={"width": 0.5},
        )
        for number, (group, own) in enumerate(zip(groups, arrivals, strict=True))
    ]
    rows = (row((reason.replace("_", " "), f"{count:,}")) for reason, count in totals.most_common())
    return Figure(
        title="Labels",
        description=f"{plural(len(label_times), 'label')} over running time, by the reason of their candidate:"
        f" {counted(totals, ', ')}.",
        traces=traces,
        layout={"xaxis": axis(f"running time ({unit})"), "yaxis": axis("labels", rangemode="tozero")},
        numbers=table("Labels by reason", (("reason", ""), ("labels", "")), rows),
    )


def _cost_figure(spending: dict[str, Spending]) -> Figure | None:
    """Cost by reason, of labels and of failures."""
    known = {reason: spent for reason, spent in spending.items() if spent.core_seconds or spent.failed_core_seconds}
    if not known:
        return None
    total = sum(spent.core_seconds + spent.failed_core_seconds for spent in known.values())
    scale, unit = (3600.0, "core-hours") if total > 360 else (1.0, "core-seconds")
    order = sorted(known, key=lambda reason: known[reason].core_seconds + known[reason].failed_core_seconds)
    names = [shown(reason).replace("_", " ") for reason in order]
    bars = (("labels", "core_seconds", SERIES[0]), ("failures", "failed_core_seconds", "var(--bad)"))
    traces = [
        {
            "type": "bar",
            "orientation": "h",
            "name": name,
            "y": names,
            "x": [round(getattr(known[reason], attribute) / scale, 4) for reason in order],
            "marker": {"color": color},
        }
        for name, attribute, color in bars
        if any(getattr(spent, attribute) for spent in known.values())
    ]
    return Figure(
        title="Cost of labels",
        description=f"Cost in {unit} by reason; the most went into {order[-1].replace('_', ' ')}.",
        traces=traces,
        layout={"barmode": "stack", "xaxis": axis(unit), "yaxis": axis("", type="category")},
        numbers=_spending_table(known),
    )


def _spending_table(spending: dict[str, Spending]) -> Markup:
    if not spending:
        return Markup()
    rows = [
        row(
            (
                reason.replace("_", " "),
                f"{spent.labels:,}",
                _price(spent.core_seconds),
                f"{spent.rejected:,}",
                f"{spent.failures:,}",
                _price(spent.failed_core_seconds),
            )
        )
        for reason, spent in sorted(spending.items(), key=lambda item: (-item[1].core_seconds, item[0]))
    ]
    columns = (
        ("reason", ""),
        ("labels", ""),
        ("cost", ""),
        ("rejected", ""),
        ("failed attempts", ""),
        ("cost of these", ""),
    )
    return table("Labels and their cost by reason", columns, rows)


def _starts_table(starts: Sequence[Starts]) -> Markup:
    """What exploring from each table of starts has found, and how much of it is still done."""
    if not any(own.walkers for own in starts):
        return Markup()
    rows = [
        row(
            (
                f"{number}: {own.kind}",
                f"{own.walkers:,}",
                f"{own.simulated_ps:,.4g}",
                f"{own.found:,}",
                f"{100 * own.found / own.walkers:.0f} %" if own.walkers else NOTHING,
                f"{100 * own.configured_share:.0f} %",
                f"{100 * own.share:.0f} %",
            )
        )
        for number, own in enumerate(starts, start=1)
    ]
    columns = (
        ("table", ""),
        ("walkers", ""),
        ("simulated", "ps"),
        ("finds", ""),
        ("walkers that find", ""),
        ("configured share", ""),
        ("share now", ""),
    )
    return table("Exploration by table of starts", columns, rows)


def _price(core_seconds: float) -> str:
    return core_time(core_seconds / 3600) if core_seconds else NOTHING


def utilisation_figure(history: History, elapsed_s: float) -> Figure | None:
    """Tasks in flight over running time, by kind."""
    in_flight = ((task.kind, task.since) for task in history.running.values())
    utilisation = history.utilisation.with_running(in_flight, elapsed_s)
    kinds = [kind for kind in Kind if utilisation.busy_s(kind) > 0]
    if not kinds or elapsed_s <= 0:
        return None
    edges = np.linspace(0.0, elapsed_s, _POINTS + 1)
    scale, unit = clock(elapsed_s)
    middles = np.round((edges[1:] + edges[:-1]) / 2 / scale, 4).tolist()
    traces, rows = [], []
    for number, kind in enumerate(kinds):
        running = utilisation.running(kind, edges)
        counts = np.round(running, 3).tolist()
        style = {"width": 0.5, "shape": "hvh"}
        traces.append(line(middles, counts, kind.value, SERIES[number], stackgroup="tasks", line=style))
        busy = duration(utilisation.busy_s(kind))
        rows.append(row((kind.value, f"{len(utilisation.ends[kind]):,}", busy, f"{running.mean():.2f}")))
    workers = history.sessions[-1].label_workers if history.sessions else None
    remark = f"{plural(workers, 'worker')} for labels." if workers else ""
    columns = (("task", ""), ("attempts", ""), ("time", "h:mm:ss"), ("at the same time, on average", ""))
    return Figure(
        title="Utilisation",
        description=f"Tasks in flight over running time, by kind: {', '.join(kind.value for kind in kinds)}.",
        traces=traces,
        layout={"xaxis": axis(f"running time ({unit})"), "yaxis": axis("tasks in flight", rangemode="tozero")},
        numbers=table("Tasks by kind", columns, rows),
        note=remark,
    )


def _failures(status: Status) -> tuple[Markup, ...]:
    title = element("h3", "Failures")
    counts = {"label": status.labels.failed_attempts, **status.failures}
    lines = [(kind, counted(of_kind)) for kind, of_kind in counts.items() if of_kind]
    if not lines:
        return title, element("p", "None.", class_="soft")
    budget = f"{status.given_up} tasks failed for good, {status.max_failures} may. Most failed attempts are repeated."
    columns = (("task", ""), ("class", ""), ("message", ""))
    rows = (_failure_row(failure) for failure in reversed(status.recent_failures))
    last = table("The last failures", columns, rows, texts=(0, 1, 2))
    return title, element("div", facts(lines), class_="block"), note(budget), last


def _failure_row(failure: Failure) -> Markup:
    message = join(failure.message)
    if failure.evidence:
        evidence = element("details", element("summary", "evidence"), element("pre", failure.evidence))
        message = join(failure.message, evidence)
    name = f"{failure.task}, attempt {failure.attempt}"
    return row((name, failure.failure.replace("_", " "), message), texts=(0, 1, 2))
