"""HTML that cannot be broken by what it shows: text is escaped, only what was made here is not."""

from __future__ import annotations

import html
import json
from collections.abc import Container, Iterable, Sequence
from typing import Any

_VOID = frozenset({"meta", "br"})
_MARKS = {"✓": "yes", "✗": "no"}
#: Inside a script element, a browser looks for these and nothing else; in JSON strings they may be spelled otherwise.
_ESCAPES = {ord(char): f"\\u{ord(char):04x}" for char in "<>&\u2028\u2029"}


class Markup(str):
    """A piece of HTML; all other strings are text."""

    __slots__ = ()


def join(*content: str) -> Markup:
    """Pieces one after the other; those that are not markup are escaped."""
    return Markup("".join(part if isinstance(part, Markup) else html.escape(part) for part in content))


def element(tag: str, *content: str, **attributes: str) -> Markup:
    """An HTML element; an attribute that Python reserves gets an underscore, ``class_``; empty ones are left out."""
    names = "".join(
        f' {name.rstrip("_").replace("_", "-")}="{html.escape(value)}"' for name, value in attributes.items() if value
    )
    return Markup(f"<{tag}{names}>" if tag in _VOID else f"<{tag}{names}>{join(*content)}</{tag}>")


def json_block(content: Any) -> Markup:
    """Data for the page's own script, which reads it as text: a browser runs nothing in it, whatever it holds.

    Args:
        content: JSON-able, without NaN.
    """
    text = json.dumps(content, ensure_ascii=False, allow_nan=False, separators=(",", ":")).translate(_ESCAPES)
    return element("script", Markup(text), type="application/json")


def section(title: str, *content: str, id_: str) -> Markup:
    """A part of the page under its heading; ``id_`` is for links to it."""
    heading = element("h2", title, id=f"{id_}-title")
    return element("section", heading, *content, id=id_, aria_labelledby=f"{id_}-title")


def facts(pairs: Iterable[tuple[str, str]]) -> Markup:
    """A list of named facts, without those that say nothing."""
    known = [(name, text) for name, text in pairs if text]
    return element("dl", *(join(element("dt", name), element("dd", text)) for name, text in known))


def note(*text: str) -> Markup:
    """What is said in passing."""
    return element("p", *text, class_="soft small")


def row(cells: Sequence[str], style: str = "", texts: Container[int] = (0,)) -> Markup:
    """A row of a table, headed by its first cell.

    Args:
        cells: as text or markup.
        style: class of the row.
        texts: numbers of the columns that hold text rather than numbers.
    """
    first, *others = cells
    data = (
        element("td", cell, class_=_MARKS.get(cell, "") or ("text" if column in texts else ""))
        for column, cell in enumerate(others, 1)
    )
    return element("tr", element("th", first, scope="row"), *data, class_=style)


def table(
    caption: str, columns: Sequence[tuple[str, str]], rows: Iterable[Markup], texts: Container[int] = (0,)
) -> Markup:
    """A table that scrolls by itself, with the keyboard too, where the screen is too narrow.

    Args:
        caption: what it shows, for those who cannot see where it stands.
        columns: title and unit of each.
        rows: see ``row``.
        texts: numbers of the columns that hold text rather than numbers.
    """
    head = element(
        "tr",
        *(
            element(
                "th", title, element("small", unit) if unit else "", scope="col", class_="text" if n in texts else ""
            )
            for n, (title, unit) in enumerate(columns)
        ),
    )
    parts = (element("caption", caption), element("thead", head), element("tbody", *rows))
    return element("div", element("table", *parts), class_="scroll", role="region", aria_label=caption, tabindex="0")
