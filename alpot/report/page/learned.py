"""What has it learned? The map of configuration space, and which densities and temperatures were reached."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from alpot.report.figures import Figure, axis, cards, packed, points, thinned
from alpot.report.markup import Markup, element, row, section, table
from alpot.report.page.material import Material
from alpot.store.assessment_file import AssessmentFile, MapPoint

_NAN = float("nan")
#: Colours from low to high, of the style sheet.
_SCALE = "var(--sequence)"
#: Bars that explain a colour, beside a plot.
_BAR = {"thickness": 10, "outlinewidth": 0, "len": 0.9}
_BAR_TITLE = {"font": {"size": 12.5}}
#: Generations that a bar can number one by one.
_FEW = 10
_GENERATION = "gen."


def learned(material: Material) -> Markup:
    """The map and the coverage."""
    assessment = material.assessment
    if assessment is None or not assessment.map:
        nothing = element("p", "The map is drawn once a generation was promoted.", class_="soft")
        return section("What has it learned?", nothing, id_="learned")
    figures = (map_figure(assessment), *coverage_figures(assessment.map))
    return section("What has it learned?", cards(figures), id_="learned")


def map_figure(assessment: AssessmentFile) -> Figure:
    """All labels in the plane of their two principal components, coloured by generation."""
    labels = assessment.map
    generations = sorted({point.generation for point in labels})
    colors = {"colorscale": _SCALE, "cmin": generations[0], "cmax": max(generations[-1], generations[0] + 1)}
    colors |= {"colorbar": _bar("generation", generations)}
    drawn = thinned(labels)
    traces = []
    for audit in (False, True):
        own = [point for point in drawn if point.audit is audit]
        if own:
            symbol = {"symbol": "circle-open" if audit else "circle", "size": 6 if audit else 5, "opacity": 0.8}
            traces.append(
                _cloud(own, [p.x for p in own], [p.y for p in own], name="audit" if audit else "trained on")
                | {"marker": {"color": packed([p.generation for p in own]), "coloraxis": "coloraxis", **symbol}}
            )
    total = assessment.map_total or len(labels)
    share = f" {len(drawn):,} of {total:,} labels are drawn." if len(drawn) < total else ""
    return Figure(
        title="Map of configuration space",
        description=f"Each point is a label; close points are alike. {len(labels):,} labels of generations"
        f" {generations[0]} to {generations[-1]}.",
        traces=traces,
        layout={
            "xaxis": axis("first component", showticklabels=False, zeroline=False),
            "yaxis": axis("second component", showticklabels=False, zeroline=False),
            "coloraxis": colors,
            "hovermode": "closest",
            "showlegend": False,
        },
        numbers=_generation_numbers(labels),
        note=f"Projection of the mean atomic environment; close points are alike, hollow ones are of the audit.{share}",
        style="wide tall",
    )


def _bar(title: str, generations: Sequence[float]) -> dict[str, Any]:
    """The bar of a colour; of generations, if there are any, it numbers no halves."""
    whole: dict[str, Any] = {"tickformat": "d"} if generations else {}
    if generations and max(generations) - min(generations) <= _FEW:
        whole |= {"tick0": 0, "dtick": 1}
    return {**_BAR, "title": {**_BAR_TITLE, "text": title}, **whole}


def coverage_figures(labels: Sequence[MapPoint]) -> list[Figure]:
    """Density and temperature, coloured by energy; density and energy, coloured by generation."""
    dense = [point for point in labels if point.density is not None]
    warm = [point for point in dense if point.temperature is not None]
    figures = []
    if warm:
        left_out = len(labels) - len(warm)
        figures.append(
            _coverage(
                "Density and temperature",
                warm,
                ("temperature (K)", [point.temperature or 0.0 for point in warm]),
                ("energy<br>eV/atom", [point.energy for point in warm]),
                f"{left_out:,} labels without a temperature are not shown." if left_out else "",
            )
        )
    if dense:
        energies = [point.energy for point in dense]
        colors = (_GENERATION, [float(point.generation) for point in dense])
        figures.append(_coverage("Density and energy", dense, ("energy (eV/atom)", energies), colors))
    return figures


def _coverage(
    title: str, labels: Sequence[MapPoint], y: tuple[str, list[float]], color: tuple[str, list[float]], remark: str = ""
) -> Figure:
    densities = [point.density or 0.0 for point in labels]
    low, high = (float(value) for value in np.percentile(color[1], (1, 99)))
    scale = {"colorscale": _SCALE, "cmin": low, "cmax": high if high > low else low + 1.0}
    scale |= {"colorbar": _bar(color[0], color[1] if color[0] == _GENERATION else ())}
    marker = {"size": 5, "opacity": 0.75, "color": packed(thinned(color[1])), "coloraxis": "coloraxis"}
    ranges = [("density (g/cm³)", densities), y, (color[0].replace("<br>", " in "), color[1])]
    rows = (
        row((name, *(f"{value:.4g}" for value in np.percentile(values, (0, 5, 50, 95, 100)))))
        for name, values in ranges
    )
    columns = [(name, "") for name in ("", "lowest", "5 %", "median", "95 %", "highest")]
    n_drawn = len(thinned(labels))
    share = f"{n_drawn:,} of {len(labels):,} labels are drawn." if n_drawn < len(labels) else ""
    spans = f"{min(densities):.3g} to {max(densities):.3g} g/cm³, {y[0]} {min(y[1]):.4g} to {max(y[1]):.4g}"
    return Figure(
        title=title,
        description=f"{len(labels):,} labels: density {spans}.",
        traces=[_cloud(thinned(labels), thinned(densities), thinned(y[1]), name="labels") | {"marker": marker}],
        layout={
            "xaxis": axis("density (g/cm³)"),
            "yaxis": axis(y[0]),
            "coloraxis": scale,
            "hovermode": "closest",
            "showlegend": False,
        },
        numbers=table(title, columns, rows),
        note=" ".join(filter(None, (remark, share))),
    )


def _cloud(labels: Sequence[MapPoint], x: Sequence[float], y: Sequence[float], name: str) -> dict[str, Any]:
    """Points that say what they are under the pointer."""
    facts = [
        (
            point.generation,
            point.n_atoms,
            _NAN if point.density is None else point.density,
            _NAN if point.temperature is None else point.temperature,
            point.energy,
        )
        for point in labels
    ]
    hover = (
        "generation %{customdata[0]}, %{customdata[1]} atoms<br>%{customdata[2]:.3g} g/cm³, %{customdata[3]:.0f} K"
        "<br>%{customdata[4]:.4f} eV/atom<extra></extra>"
    )
    return points(x=packed(x), y=packed(y), customdata=packed(facts), hovertemplate=hover, name=name)


def _generation_numbers(labels: Sequence[MapPoint]) -> Markup:
    rows = []
    for generation in sorted({point.generation for point in labels}):
        own = [point for point in labels if point.generation == generation]
        densities = [point.density for point in own if point.density is not None]
        span = f"{min(densities):.3g} to {max(densities):.3g}" if densities else ""
        rows.append(row((str(generation), f"{len(own):,}", f"{sum(point.audit for point in own):,}", span)))
    columns = (("generation", ""), ("labels", ""), ("of the audit", ""), ("density", "g/cm³"))
    return table("Labels on the map by generation", columns, rows)
