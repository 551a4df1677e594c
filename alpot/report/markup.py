"""HTML that cannot be broken by what it shows: text is escaped, only what was made here is not."""

from __future__ import annotations

import html
from collections.abc import Iterable

_VOID = frozenset({"meta", "br"})


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


def section(title: str, *content: str) -> Markup:
    """A part of the page under its heading."""
    return element("section", element("h2", title), *content)


def facts(pairs: Iterable[tuple[str, str]]) -> Markup:
    """A list of named facts, without those that say nothing."""
    known = [(name, text) for name, text in pairs if text]
    return element("dl", *(join(element("dt", name), element("dd", text)) for name, text in known))


def table(head: Markup, *rows: Markup) -> Markup:
    """A table that scrolls by itself where the screen is too narrow."""
    body = element("table", element("thead", head), element("tbody", *rows))
    return element("div", body, class_="scroll")
