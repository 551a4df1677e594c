"""Figures of the page: what plotly is to draw, in words for those who cannot see it, and its numbers as a table.

Here is data only; the page's script hands it to plotly.js. Colours are names of the style sheet, ``var(--series-0)``,
which the script looks up, so that figures follow the reader's choice of dark or light.
"""

from __future__ import annotations

import base64
import html
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike

from alpot.report.markup import Markup, element, json_block
from alpot.report.wording import printable

_T = TypeVar("_T")
#: Colours of the style sheet for things of which there are several.
SERIES = tuple(f"var(--series-{number})" for number in range(6))
#: More points than this say nothing more to the eye, and make a browser slow: all is drawn as SVG, which works without
#: WebGL (a page has few contexts for it, and the 3-D frames need one) and can be saved.
_MANY_POINTS = 5000
#: Fewer ticks do not tell that an axis is logarithmic.
_TICKS = 3


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One plot.

    Attributes:
        title: above it.
        description: what can be seen in it, as whole sentences.
        traces: what plotly draws, as it spells it.
        layout: likewise.
        numbers: a table of what is drawn, or where it can be found.
        note: below it.
        style: class of its card: ``wide``, ``small``.
    """

    title: str
    description: str
    traces: list[dict[str, Any]]
    layout: dict[str, Any]
    numbers: Markup
    note: str = ""
    style: str = ""


def card(figure: Figure) -> Markup:
    """The figure as a part of the page."""
    plot = element("div", class_="plot", role="img", aria_label=figure.description)
    data = json_block({"name": figure.title, "data": figure.traces, "layout": figure.layout})
    save = element("button", "Save as SVG", type="button", class_="save", aria_label=f"Save “{figure.title}” as SVG")
    numbers = element("details", element("summary", "Numbers"), figure.numbers)
    caption = element("p", figure.note, class_="soft small") if figure.note else ""
    feet = element("div", numbers, save, class_="feet")
    content = (element("figcaption", element("h3", figure.title)), plot, data, caption, feet)
    return element("figure", *content, class_=f"card {figure.style}".strip())


def cards(figures: Sequence[Figure | None], style: str = "cards") -> Markup:
    """Those figures that there are, side by side where there is room."""
    return element("div", *(card(figure) for figure in figures if figure is not None), class_=style)


def shown(text: object, longest: int = 60) -> str:
    """A campaign's own words for plotly, which would read HTML and TeX in them, and has no room for a novel."""
    words = printable(text)
    return html.escape(words if len(words) <= longest else f"{words[: longest - 1]}…").replace("$", "&#36;")


def axis(title: str, **more: Any) -> dict[str, Any]:
    """An axis with its title."""
    return {"title": {"text": title}} | more


def log_axis(title: str, values: Sequence[float]) -> dict[str, Any]:
    """A logarithmic axis for these values, whole numbers at its ticks; plotly would write "2" between 10 and 100."""
    low, high = min(values), max(values)
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for digits in ((1,), (1, 2, 5), range(1, 10)):
        ticks = [float(f"{digit}e{decade}") for decade in decades for digit in digits]
        if len([tick for tick in ticks if low <= tick <= high]) >= _TICKS:
            break
    else:
        return axis(title, type="log")  # over so short a range, plotly spaces its ticks as on a linear axis
    return axis(title, type="log", tickvals=ticks, ticktext=[f"{tick:g}" for tick in ticks])


def packed(values: ArrayLike) -> dict[str, str]:
    """Numbers as plotly reads them fastest and shortest: single precision, base64; NaN is a gap."""
    array = np.asarray(values, dtype="<f4")
    shape = {"shape": ",".join(map(str, array.shape))} if array.ndim > 1 else {}
    return {"dtype": "f4", "bdata": base64.b64encode(array.tobytes()).decode()} | shape


def thinned(items: Sequence[_T]) -> Sequence[_T]:
    """An even choice from many, so that a browser can draw them at once."""
    return items[:: -(-len(items) // _MANY_POINTS)] if items else items


def points(**more: Any) -> dict[str, Any]:
    """A cloud of points."""
    return {"type": "scatter", "mode": "markers"} | more


def line(x: Sequence[float], y: Sequence[float | None], name: str, color: str, **more: Any) -> dict[str, Any]:
    """A line with a name."""
    style = {"color": color, "width": 2} | more.pop("line", {})
    return {"type": "scatter", "mode": "lines", "x": list(x), "y": list(y), "name": name, "line": style} | more


def band(x: Sequence[float], low: Sequence[float], high: Sequence[float], color: str) -> list[dict[str, Any]]:
    """What lies between two lines, as a shade of their colour; without a name."""
    quiet: dict[str, Any] = {"hoverinfo": "skip", "showlegend": False, "opacity": 0.5, "line": {"width": 0.5}}
    return [line(x, low, "", color, **quiet), line(x, high, "", color, fill="tonexty", **quiet)]
