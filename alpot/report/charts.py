"""Charts of the page as pieces of SVG, drawn by matplotlib without a display, coloured by the page's style sheet.

matplotlib is imported when the first chart is drawn. Nothing that a campaign chose to write (reasons, names) is drawn
by matplotlib, which would read it as mathematics: legends are written by the page.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from io import StringIO
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import BaseModel

from alpot.report.history import Generation

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: Colours that stand for the style sheet's while matplotlib draws.
_TEXT, _GRID, _PAPER = "#010203", "#010204", "#010205"
SERIES = 6
_SERIES = tuple(f"#01030{number}" for number in range(SERIES))
_STYLES = {_TEXT: "var(--soft)", _GRID: "var(--line)", _PAPER: "var(--card)"} | {
    color: f"var(--series-{number})" for number, color in enumerate(_SERIES)
}
#: A path of more points than pixels only makes the page heavy.
_POINTS = 200
_SIZE = (4.3, 2.9)


class Epoch(BaseModel):
    """One line of a learning curve, see ``alpot.potential.training.Epoch``: losses (n_members,)."""

    epoch: int
    training_loss: list[float]
    validation_loss: list[float]


@dataclass(frozen=True)
class Chart:
    """A drawing with its legend.

    Attributes:
        svg: an ``<svg>`` element.
        description: for those who cannot see it.
        legend: name and number of the colour of each series.
    """

    svg: str
    description: str
    legend: tuple[tuple[str, int], ...]


def error_chart(generations: Sequence[Generation], target: float | None) -> Chart | None:
    """Force errors against the number of labels; ``target`` in eV/Å is what the user asked for."""
    audit = [g for g in generations if g.audit_force is not None]
    if not audit:
        return None
    figure, axes = _canvas("labels to train on", "force error (meV/Å)")
    labels, errors = [g.labels for g in audit], [1000 * (g.audit_force or 0.0) for g in audit]
    axes.plot(labels, errors, color=_SERIES[0], linewidth=2, zorder=3)
    for generation, error in zip(audit, errors, strict=True):
        inside = _SERIES[0] if generation.promoted else _PAPER
        style: dict[str, Any] = {"markerfacecolor": inside, "markeredgecolor": _SERIES[0], "markeredgewidth": 2}
        axes.plot([generation.labels], [error], "o", markersize=7, zorder=4, **style)
    legend = [("audit labels (hollow: not promoted)", 0)]
    tested = [g for g in generations if "test_force" in g.errors]
    if tested:
        points = [g.labels for g in tested], [1000 * g.errors["test_force"] for g in tested]
        axes.plot(*points, color=_SERIES[1], linewidth=2, marker="o", markersize=4)
        legend.append(("the members' own test folds", 1))
    if target is not None:
        axes.axhline(1000 * target, color=_SERIES[2], linewidth=1.5, linestyle=(0, (4, 3)))
        legend.append(("target", 2))
    axes.set_ylim(bottom=0)
    last = f"{errors[-1]:.0f} meV/Å with {labels[-1]} labels"
    return Chart(_svg(figure, "errors"), f"Force error on audit labels against labels: {last}.", tuple(legend))


def label_chart(label_times: Sequence[tuple[float, str]], elapsed_s: float) -> Chart | None:
    """Labels computed over running time, stacked by the reason of their candidate."""
    if not label_times:
        return None
    totals = Counter(reason for _, reason in label_times)
    names = [reason for reason, _ in totals.most_common(SERIES - 1 if len(totals) > SERIES else SERIES)]
    groups = names if len(totals) <= SERIES else [*names, "other"]
    place = {reason: index for index, reason in enumerate(names)}
    end = max(elapsed_s, label_times[-1][0], 1e-3)
    times = np.linspace(0.0, end, _POINTS)
    scale, unit = (3600.0, "h") if end > 7200 else (60.0, "min") if end > 120 else (1.0, "s")
    arrivals: list[list[float]] = [[] for _ in groups]
    for arrival, reason in label_times:
        arrivals[place.get(reason, len(groups) - 1)].append(arrival)
    counts = [np.searchsorted(np.array(own), times, side="right") for own in arrivals]
    figure, axes = _canvas(f"running time ({unit})", "labels")
    axes.stackplot(times / scale, counts, colors=_SERIES[: len(groups)], edgecolor=_PAPER, linewidth=0.8)
    axes.set_xlim(0, end / scale)
    axes.set_ylim(bottom=0)
    legend = tuple(
        (f"{group} ({own[-1]:,})", index) for index, (group, own) in enumerate(zip(groups, counts, strict=True))
    )
    return Chart(_svg(figure, "labels"), f"{len(label_times)} labels over running time.", legend)


def learning_chart(curve: Sequence[Epoch]) -> Chart | None:
    """The losses of a training by epoch: the median of the members, and their range."""
    # Members that were trained again begin at epoch 0 once more: what follows is of them alone.
    members = {len(losses) for line in curve for losses in (line.training_loss, line.validation_loss)}
    first = [line for number, line in enumerate(curve) if number == line.epoch]
    if len(first) < 2 or len(members) != 1 or 0 in members:
        return None
    figure, axes = _canvas("epoch", "loss")
    scale_logarithmically(axes)
    epochs = np.array([line.epoch for line in first])
    chosen = np.unique(np.linspace(0, len(first) - 1, _POINTS).astype(int))
    for number, name in enumerate(("training_loss", "validation_loss")):
        losses = np.array([getattr(line, name) for line in first])[chosen]
        losses[~(np.isfinite(losses) & (losses > 0))] = np.nan
        known = ~np.isnan(losses).all(axis=1)
        shown, at = losses[known], epochs[chosen][known]
        if len(at) == 0:
            continue
        axes.fill_between(at, np.nanmin(shown, 1), np.nanmax(shown, 1), color=_SERIES[number], alpha=0.18, linewidth=0)
        axes.plot(at, np.nanmedian(shown, 1), color=_SERIES[number], linewidth=2)
    description = f"Training and validation loss over {len(first)} epochs."
    return Chart(_svg(figure, "learning"), description, (("training", 0), ("validation", 1)))


# ----------------------------------------------------------------------------------------------------- matplotlib


def _canvas(x_label: str, y_label: str) -> tuple[Figure, Axes]:
    """A quiet pair of axes."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=_SIZE, layout="constrained")
    axes = figure.add_subplot()
    axes.set_xlabel(x_label, color=_TEXT)
    axes.set_ylabel(y_label, color=_TEXT)
    axes.grid(True, axis="y", color=_GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(which="both", colors=_TEXT, length=0, pad=6)
    for side, spine in axes.spines.items():
        spine.set_visible(side == "bottom")
        spine.set_color(_GRID)
    return figure, axes


def scale_logarithmically(axes: Axes) -> None:
    """A logarithmic axis whose numbers are written out: 0.5, 1, 2."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


def _svg(figure: Figure, name: str) -> str:
    """The figure as an element of a page: no fonts, no metadata, no names that another chart has too."""
    from matplotlib import rc_context

    stream = StringIO()
    nobody = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": name}):
        figure.savefig(stream, format="svg", transparent=True, metadata=nobody)
    text = stream.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", text, count=1)
    text = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", text, count=1)
    text = re.sub(r'(<g) id="[^"]*"', r"\1", text)
    text = re.sub(r"font: ([0-9.]+px) [^;\"]*", r"font-size: \1", text)
    for color, style in _STYLES.items():
        text = text.replace(color, style)
    return text
