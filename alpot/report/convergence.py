"""Shows a convergence study: tables for the terminal, and a plot of error against setting.

matplotlib is imported when the plot is drawn. Names are not read as mathematics.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from alpot.report.wording import NOTHING, milli, plural, printable
from alpot.store.files import publish_with
from alpot.store.study import Ladder, Point, Study

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_COLUMNS = ("max. force\nmeV/Å", "RMS force\nmeV/Å", "energy\nmeV/atom", "stress\nmeV/Å³", "time\ns/label")
_BLUE, _ORANGE, _GREY = "#2b6cb0", "#c05621", "#a0aec0"
_SIZE = (4.2, 3.4)
_DOTS_PER_INCH = 150
#: Differences below this in meV/Å are noise, and would stretch the axis.
_FLOOR = 1e-3


def study_view(study: Study) -> RenderableType:
    """What the terminal shows: a table for each setting that was varied, then the recommendations."""
    parts: list[RenderableType] = [Text(f"left out: {printable(reason)}", style="yellow") for reason in study.left_out]
    for ladder in study.ladders:
        parts += [Text(), _table(ladder)]
        for point in ladder.points:
            if point.failure:
                parts.append(Text(printable(f"{point.value:g} failed: {point.failure}"), style="red"))
            elif point.missing:
                missing = f"{point.missing} of {plural(len(study.structures), 'label')} to be computed"
                parts.append(Text(f"{point.value:g} not yet: {missing}", style="yellow"))
        parts.append(Text(printable(ladder.sentence), style="green" if ladder.line else "yellow"))
        if ladder.line:
            parts.append(Text(f"  {printable(ladder.line)}", style="bold"))
    return Group(*parts)


def _table(ladder: Ladder) -> Table:
    title = f"{ladder.key} ({ladder.unit})" if ladder.unit else ladder.key
    table = Table(box=box.SIMPLE_HEAD, title=printable(title), title_style="bold", title_justify="left")
    table.pad_edge = table.show_edge = False
    table.header_style = "dim"
    table.add_column("value", justify="right")
    for title in _COLUMNS:
        table.add_column(title, justify="right")
    table.add_column("", no_wrap=True)
    exact = _exact(ladder)
    for point in ladder.points:
        marks = {
            "failed": bool(point.failure),
            "not yet": point.missing > 0,
            "enough": point.value == ladder.recommended,
            "campaign": point.value == ladder.own,
            "reference": point is exact,
        }
        note = ", ".join(name for name, holds in marks.items() if holds)
        style = "red" if point.failure else "green" if point.value == ladder.recommended else ""
        table.add_row(f"{point.value:g}", *_cells(point), Text(note), style=style)
    return table


def _cells(point: Point) -> tuple[str, ...]:
    return (
        milli(point.force_max),
        milli(point.force_rms),
        milli(point.energy_spread),
        milli(point.stress_max),
        NOTHING if point.seconds is None else f"{point.seconds:.3g}",
    )


def _exact(ladder: Ladder) -> Point | None:
    """What the others were held against."""
    return next((point for point in reversed(ladder.points) if point.is_known), None)


def write_plots(folder: Path, study: Study) -> list[Path]:
    """Draws error against setting into ``convergence.png`` and ``convergence.svg``, which are replaced."""
    from matplotlib.figure import Figure

    n_ladders = len(study.ladders)
    figure = Figure(figsize=(_SIZE[0] * n_ladders, _SIZE[1]), layout="constrained")
    for axes, ladder in zip(figure.subplots(1, n_ladders, squeeze=False)[0], study.ladders, strict=True):
        _draw(axes, ladder, study.force_tolerance)
    paths = [folder / "convergence.png", folder / "convergence.svg"]
    for path in paths:
        publish_with(path, lambda temporary: figure.savefig(temporary, dpi=_DOTS_PER_INCH))
    return paths


def _draw(axes: Axes, ladder: Ladder, tolerance: float) -> None:
    exact = _exact(ladder)
    known = [point for point in ladder.points if point.is_known and point is not exact]
    places = {id(point): number for number, point in enumerate(ladder.points)}
    for name, color, marker in (("force_max", _BLUE, "o"), ("force_rms", _GREY, "s")):
        errors = [max(1000 * (getattr(point, name) or 0.0), _FLOOR) for point in known]
        label = "largest force difference" if name == "force_max" else "RMS"
        axes.plot([places[id(point)] for point in known], errors, color=color, marker=marker, markersize=5, label=label)
    axes.axhline(1000 * tolerance, color=_ORANGE, linewidth=1.2, linestyle=(0, (4, 3)), label="tolerance")
    for point in ladder.points:
        if not point.is_known:
            why = "failed" if point.failure else "not yet"
            axes.axvline(places[id(point)], color=_GREY, linewidth=6, alpha=0.25)
            axes.text(places[id(point)], 0.5, why, transform=axes.get_xaxis_transform(), rotation=90, ha="center")
        elif point.value == ladder.recommended:
            error = max(1000 * (point.force_max or 0.0), _FLOOR)
            axes.plot([places[id(point)]], [error], "o", markersize=12, markerfacecolor="none", color=_ORANGE)
    _scale_logarithmically(axes)
    axes.set_xlim(-0.4, len(ladder.points) - 0.6)
    axes.set_xticks(range(len(ladder.points)), [f"{point.value:g}" for point in ladder.points])
    unit = f" ({ladder.unit})" if ladder.unit else ""
    axes.set_xlabel(f"{ladder.key}{unit}", parse_math=False)
    against = "" if exact is None else f" from {exact.value:g}"
    axes.set_ylabel(f"force difference{against} (meV/Å)")
    axes.grid(True, axis="y", color="#e2e8f0", linewidth=0.8)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    axes.legend(frameon=False, fontsize="small")


def _scale_logarithmically(axes: Axes) -> None:
    """A logarithmic axis whose numbers are written out: 0.5, 1, 2."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
