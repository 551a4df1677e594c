"""How good is the potential? Errors on labels that it was never trained on, and what its uncertainty is worth."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from alpot.campaign.subject import Bound
from alpot.report.coverage import Coverage, pooled
from alpot.report.figures import SERIES, Figure, axis, band, cards, line, log_axis, packed, points, shown, thinned
from alpot.report.history import Generation
from alpot.report.intervals import Interval, rms_interval
from alpot.report.markup import Markup, element, join, note, row, section, table
from alpot.report.outlook import Outlook
from alpot.report.page.material import Epoch, Material
from alpot.report.tables import GENERATION_COLUMNS, generation_cells
from alpot.report.wording import NOTHING, bound_of, held_of, milli, outlook_words, plural, promise_of
from alpot.store.assessment_file import AssessmentFile, AuditFrame, SigmaBin

_POINTS = 200
#: Frames by reason are worth a line of their own from this many on.
_FRAMES_PER_REASON = 5
#: The bound is no straight line on logarithmic scales.
_BOUND_POINTS = 30
_FRAME_TABLE = "audit_frames.csv"


def quality(material: Material) -> Markup:
    """Errors, parity, uncertainty, and how they came about."""
    generations, assessment = material.status.generations, material.assessment
    coverage = pooled(generation.coverage for generation in generations)
    if not generations:
        nothing = element("p", "Nothing was trained so far.", class_="soft")
        return section("How good is the potential?", nothing, id_="quality")
    figures = (
        error_figure(generations, material.config.stopping.force_error, material.status.outlook),
        *(_parity_figures(assessment) if assessment else ()),
        _uncertainty_figure(assessment.sigma_bins, material.promoted, coverage) if assessment else None,
        learning_figure(material.learning_curve),
    )
    rows = (row(generation_cells(g), "" if g.promoted else "dim") for g in generations)
    return section(
        "How good is the potential?",
        note("Audit labels are chosen at random and never trained on; all errors are root-mean-square."),
        _audit_table(assessment) if assessment else "",
        cards(figures),
        element("h3", "Generations"),
        table("Errors of each generation", GENERATION_COLUMNS, rows),
        note(
            "The error bound of an atom follows from σ, the deviation of the members. Coverage is how often it held on"
            " audit labels that came after it was learned."
        ),
        id_="quality",
    )


# ------------------------------------------------------------------------------------------------------- errors


def _audit_table(assessment: AssessmentFile) -> Markup:
    """Errors with intervals; by reason where there are several."""
    audit = assessment.audit
    if not audit:
        return Markup()
    groups = {"all audit labels": audit}
    reasons = sorted({frame.reason for frame in audit})
    if len(reasons) > 1:
        groups |= {f"of these, {reason}": [frame for frame in audit if frame.reason == reason] for reason in reasons}
    rows = [
        row((name.replace("_", " "), *_audit_cells(frames)))
        for name, frames in groups.items()
        if frames is audit or len(frames) >= _FRAMES_PER_REASON
    ]
    columns = (
        ("", ""),
        ("force error", "meV/Å"),
        ("95 % interval", "meV/Å"),
        ("energy error", "meV/atom"),
        ("95 % interval", "meV/atom"),
        ("worst atom", "meV/Å"),
        ("frames", ""),
    )
    method = "Intervals by the bootstrap over frames; all frames: "
    link = element("a", _FRAME_TABLE, href=_FRAME_TABLE)
    title = f"Audit errors of generation {assessment.generation}"
    return join(element("h3", title), table(title, columns, rows), note(method, link, "."))


def _audit_cells(frames: Sequence[AuditFrame]) -> tuple[str, ...]:
    cells: list[str] = []
    for errors in ([frame.force_rmse for frame in frames], [frame.energy_error for frame in frames]):
        cells += [milli(float(np.sqrt(np.mean(np.square(errors))))), _span(rms_interval(errors))]
    worst = max(frame.force_max_error for frame in frames)
    return (*cells, milli(worst), f"{len(frames):,}")


def _span(interval: Interval | None) -> str:
    return NOTHING if interval is None else f"{milli(interval.low)} to {milli(interval.high)}"


def error_figure(
    generations: Sequence[Generation], target: float | None, outlook: Outlook | None = None
) -> Figure | None:
    """Force errors against the number of labels, and where they are heading.

    Args:
        generations: of the campaign.
        target: what the user asked for, eV/Å.
        outlook: the learning curve, if it is known.
    """
    audit = [g for g in generations if g.audit_force is not None]
    if not audit:
        return None
    labels, errors = [g.labels for g in audit], [1000 * (g.audit_force or 0.0) for g in audit]
    symbols = ["circle" if g.promoted else "circle-open" for g in audit]
    marker = {"size": 9, "symbol": symbols}
    traces = [
        line(labels, errors, "audit labels (hollow: not promoted)", SERIES[0], mode="lines+markers", marker=marker)
    ]
    tested = [g for g in generations if "test_force" in g.errors]
    if tested:
        held_out = [1000 * g.errors["test_force"] for g in tested]
        traces.append(line([g.labels for g in tested], held_out, "the members' own test folds", SERIES[1]))
    height = {}
    limits = [g.audit_force_high for g in audit]
    if any(limit is not None for limit in limits):
        above = [0.0 if limit is None else 1000 * limit - error for limit, error in zip(limits, errors, strict=True)]
        traces[0]["error_y"] = {"type": "data", "symmetric": False, "array": above, "arrayminus": [0.0] * len(above)}
    ahead = outlook.curve if outlook else ()
    if ahead:
        at = [point.labels for point in ahead]
        traces += band(at, [1000 * point.low for point in ahead], [1000 * point.high for point in ahead], SERIES[3])
        traces.append(line(at, [1000 * point.expected for point in ahead], "learning curve", SERIES[3]))
        # Where little is known, the band is far higher than what is of interest.
        height = {
            "range": [0.0, 1.2 * max(*errors, 1000 * (target or 0.0), *(1000 * (limit or 0.0) for limit in limits))]
        }
    if target is not None:
        ends = sorted({labels[0], labels[-1], *(point.labels for point in ahead[-1:])})
        style = {"dash": "dash", "width": 1.5}
        wanted = [1000 * target] * len(ends)
        traces.append(line(ends, wanted, "target", SERIES[2], line=style, mode="lines+markers", marker={"size": 1}))
    rows = (
        row((str(g.number), f"{g.labels:,}", milli(g.audit_force), milli(g.errors.get("test_force")))) for g in audit
    )
    columns = (("gen.", ""), ("labels", ""), ("audit", "meV/Å"), ("test folds", "meV/Å"))
    last = f"{milli(audit[-1].audit_force)} meV/Å with {plural(labels[-1], 'label')}"
    return Figure(
        title="Force error",
        description=f"Force error on audit labels against the number of labels trained on: {last}.",
        traces=traces,
        layout={
            "xaxis": axis("labels to train on"),
            "yaxis": axis("force error (meV/Å)", rangemode="tozero", **height),
        },
        numbers=table("Force error by generation", columns, rows),
        note=f"{outlook_words(outlook)}." if outlook else "",
    )


def learning_figure(curve: Sequence[Epoch]) -> Figure | None:
    """The losses of a training by epoch: the median of the members, and their range."""
    # Members that were trained again begin at epoch 0 once more: what follows is of them alone.
    members = {len(losses) for epoch in curve for losses in (epoch.training_loss, epoch.validation_loss)}
    first = [epoch for number, epoch in enumerate(curve) if number == epoch.epoch]
    if len(first) < 2 or len(members) != 1 or 0 in members:
        return None
    chosen = np.unique(np.linspace(0, len(first) - 1, _POINTS).astype(int))
    traces, last, drawn = [], [], []
    for number, name in enumerate(("training", "validation")):
        losses = np.array([getattr(first[n], f"{name}_loss") for n in chosen])
        losses[~(np.isfinite(losses) & (losses > 0))] = np.nan
        known = ~np.isnan(losses).all(axis=1)
        if not known.any():
            continue
        at, of_members = [first[n].epoch for n in chosen[known]], losses[known]
        low, high = np.nanmin(of_members, 1).tolist(), np.nanmax(of_members, 1).tolist()
        drawn += low + high
        traces += band(at, low, high, SERIES[number])
        traces.append(line(at, np.nanmedian(of_members, 1).tolist(), name, SERIES[number]))
        last.append(row((name, f"{np.nanmedian(of_members[-1]):.3g}", f"{low[-1]:.3g} to {high[-1]:.3g}")))
    if not drawn:
        return None
    return Figure(
        title="Last training",
        description=f"Training and validation loss over {len(first)} epochs, on a logarithmic scale.",
        traces=traces,
        layout={"xaxis": axis("epoch"), "yaxis": log_axis("loss", drawn)},
        numbers=table("Loss in the last epoch", (("", ""), ("median", ""), ("members", "")), last),
        note="Lines are the median of the members, bands their range.",
    )


# ------------------------------------------------------------------------------------------ parity, uncertainty


def _parity_figures(assessment: AssessmentFile) -> tuple[Figure | None, Figure | None]:
    audit, forces = assessment.audit, assessment.force_parity
    link = element("p", element("a", _FRAME_TABLE, href=_FRAME_TABLE))
    energy = force = None
    if audit:
        energy = _parity_figure(
            "Energy parity",
            "energy (eV/atom)",
            [frame.energy for frame in audit],
            [frame.energy_predicted for frame in audit],
            [f"{shown(frame.reason)}, {frame.n_atoms} atoms" for frame in audit],
            link,
        )
    if forces.reference:
        shares = f"{len(forces.reference):,} force components"
        if forces.total and forces.total > len(forces.reference):
            shares += f", chosen at random of {forces.total:,}"
        force = _parity_figure("Force parity", "force (eV/Å)", forces.reference, forces.predicted, [], link, shares)
    return energy, force


def _parity_figure(
    title: str,
    quantity: str,
    reference: Sequence[float],
    predicted: Sequence[float],
    texts: Sequence[str],
    numbers: Markup,
    remark: str = "",
) -> Figure:
    ends = [min(*reference, *predicted), max(*reference, *predicted)]
    misfit = np.subtract(predicted, reference)
    error = float(np.sqrt(np.mean(np.square(misfit))))
    correlation = float(np.corrcoef(reference, predicted)[0, 1]) if len(reference) > 2 and np.std(predicted) else None
    words = (
        f"{len(reference):,} points; root-mean-square error {1000 * error:.3g} m{quantity.split('(')[1].rstrip(')')}"
    )
    words += "" if correlation is None else f", correlation {correlation:.4f}"
    cloud = points(
        x=packed(thinned(reference)),
        y=packed(thinned(predicted)),
        name="audit labels",
        marker={"size": 5, "color": SERIES[0], "opacity": 0.55},
        showlegend=False,
    )
    if texts:
        cloud |= {"text": list(thinned(texts))}
    diagonal = line(ends, ends, "exact", "var(--soft)", line={"width": 1, "dash": "dot"}, hoverinfo="skip")
    square = axis(f"predicted {quantity}", scaleanchor="x", scaleratio=1, constrain="domain")
    n_drawn = len(thinned(reference))
    if n_drawn < len(reference):
        remark = f"{remark} {n_drawn:,} of {len(reference):,} points are drawn.".strip()
    return Figure(
        title=title,
        description=f"Predicted against reference {quantity} of audit labels: {words}.",
        traces=[diagonal | {"showlegend": False}, cloud],
        layout={"xaxis": axis(f"reference {quantity}", constrain="domain"), "yaxis": square, "hovermode": "closest"},
        numbers=join(element("p", f"{words}."), numbers),
        note=remark,
    )


def _uncertainty_figure(
    bins: Sequence[SigmaBin], generation: Generation | None, coverage: Coverage | None
) -> Figure | None:
    """Actual error against the members' deviation, and the bound above them."""
    known = [entry for entry in bins if entry.sigma > 0 and entry.error > 0]
    if len(known) < 2:
        return None
    sigma, error = [1000 * entry.sigma for entry in known], [1000 * entry.error for entry in known]
    counts = [entry.count for entry in known]
    marker = {"size": 9, "color": SERIES[0]}
    text = [f"{count:,} atoms" for count in counts]
    ends = [min(sigma), max(sigma)]
    thin = {"width": 1, "dash": "dot"}
    traces = [
        line(ends, ends, "error = σ", "var(--soft)", line=thin, hoverinfo="skip"),
        line(sigma, error, "atoms by σ", SERIES[0], mode="markers", marker=marker, text=text),
    ]
    bound = generation.bound if generation else None
    remark = "Each point stands for atoms of similar deviation; full ones are the root mean square of their errors."
    drawn = list(error)
    if bound is not None and bound.slope > 0:
        added = list(_bound_traces(known, bound, ends))
        traces += added
        drawn += [value for trace in added for value in trace["y"]]
        remark += (
            f" {100 * bound.confidence:.0f} % of errors lie below the hollow ones, which belong on the line: errors are"
            f" {promise_of(bound)}."
        )
    if coverage is not None:
        remark += f" Bounds held for {held_of(coverage)}."
    rows = (row((f"{s:.3g}", f"{e:.3g}", f"{n:,}")) for s, e, n in zip(sigma, error, counts, strict=True))
    ranks = np.argsort(np.argsort(sigma)), np.argsort(np.argsort(error))
    order = float(np.corrcoef(*ranks)[0, 1])
    return Figure(
        title="Error against uncertainty",
        description=f"Force error of atoms against the deviation of the members, in {len(known)} bins on logarithmic"
        f" scales; rank correlation of the bins {order:.2f}.",
        traces=traces,
        layout={
            "xaxis": log_axis("deviation of the members, σ (meV/Å)", sigma),
            "yaxis": log_axis("force error (meV/Å)", drawn),
        },
        numbers=table("Error by uncertainty", (("σ", "meV/Å"), ("error", "meV/Å"), ("atoms", "")), rows),
        note=remark,
    )


def _bound_traces(bins: Sequence[SigmaBin], bound: Bound, ends: Sequence[float]) -> Iterator[dict[str, Any]]:
    """The bound from one σ to another, both in meV/Å, and where it should be by the errors of each bin."""
    along = np.geomspace(ends[0], ends[1], _BOUND_POINTS)
    above = bound.slope * (along + 1000 * bound.floor)
    share = f"{100 * bound.confidence:.0f} %"
    yield line(along.tolist(), above.tolist(), f"{share} bound: {bound_of(bound)}", SERIES[1])
    found = [(1000 * entry.sigma, 1000 * entry.error_quantile) for entry in bins if entry.error_quantile]
    if found:
        sigma, error = zip(*found, strict=True)
        hollow = {"size": 9, "symbol": "circle-open", "color": SERIES[1]}
        yield line(sigma, error, f"{share} of atoms by σ", SERIES[1], mode="markers", marker=hollow)
