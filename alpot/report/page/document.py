"""Puts the page together: one file that needs no network and no other file, and its tables as files beside it."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from hashlib import sha256
from importlib import resources
from pathlib import Path

from alpot.report.markup import Markup, element
from alpot.report.metrics import metrics_files
from alpot.report.page.hard import hard
from alpot.report.page.health import head, health
from alpot.report.page.learned import learned
from alpot.report.page.material import gather
from alpot.report.page.money import money
from alpot.report.page.properties import properties
from alpot.report.page.provenance import foot, provenance
from alpot.report.page.quality import quality
from alpot.store.directory import CampaignDirectory
from alpot.store.files import publish

PAGE = "index.html"
_UNSCRIPTED = "Plots and 3-D frames need JavaScript; all numbers are in the tables."
_CONTENTS = (
    ("health", "Health"),
    ("quality", "Quality"),
    ("properties", "Properties"),
    ("learned", "Learned"),
    ("money", "Money"),
    ("hard", "Hard"),
    ("provenance", "Provenance"),
)


def write_report(directory: CampaignDirectory) -> Path:
    """Writes the report of a campaign, whatever its state; returns the path of the page.

    Raises:
        AlpotError: the campaign cannot be read, or the files cannot be written.
    """
    for name, content in report_files(directory).items():
        publish(directory.report / name, content.encode())
    return directory.report / PAGE


def report_files(directory: CampaignDirectory) -> dict[str, str]:
    """The report of a campaign, unwritten: content by name, the page last.

    Raises:
        AlpotError: the campaign cannot be read.
    """
    material = gather(directory)
    sections = (
        health(material),
        quality(material),
        properties(material),
        learned(material),
        money(material),
        hard(material),
        provenance(material),
    )
    page = page_of(material.status.name, head(material), sections, _CONTENTS)
    return metrics_files(material.status, material.assessment, material.properties) | {PAGE: page}


def page_of(title: str, header: Markup, sections: Sequence[Markup], contents: Sequence[tuple[str, str]]) -> str:
    """A whole page.

    Args:
        title: of the window.
        header: what stands above all sections.
        sections: of the page.
        contents: id and title of the sections that the page links to.
    """
    has_plots = any('class="plot' in part for part in sections)
    scripts = (_plotly(), _resource("page.js")) if has_plots else ()
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=_policy(scripts)),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="color-scheme", content="light dark"),
        element("title", f"{title} · alpot"),
        element("style", Markup(_resource("page.css"))),
    )
    links = (element("a", name, href=f"#{id_}") for id_, name in contents)
    body = element(
        "body",
        element("a", "To the content", href="#main", class_="skip"),
        header,
        element("nav", *links, aria_label="Contents"),
        *([element("p", _UNSCRIPTED, class_="unscripted")] if scripts else []),
        element("main", *sections, id="main", tabindex="-1"),
        foot(),
        *(element("script", Markup(script)) for script in scripts),
    )
    return "<!doctype html>\n" + element("html", head, body, lang="en") + "\n"


def _policy(scripts: Sequence[str]) -> str:
    """Should some text ever escape its escaping, a browser still runs nothing but our scripts, and fetches nothing."""
    hashes = (base64.b64encode(sha256(script.encode()).digest()).decode() for script in scripts)
    allowed = " ".join(f"'sha256-{digest}'" for digest in hashes) or "'none'"
    return f"default-src 'none'; style-src 'unsafe-inline'; img-src data: blob:; script-src {allowed}; base-uri 'none'"


def _resource(name: str) -> str:
    return resources.files("alpot.report.page").joinpath(name).read_text(encoding="utf-8")


def _plotly() -> str:
    """plotly.js as its Python package brings it along; imported late, it takes its time."""
    from plotly.offline import get_plotlyjs

    script: str = get_plotlyjs()
    return script
