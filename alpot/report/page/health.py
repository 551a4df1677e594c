"""Is it done, is it healthy? The head of the page: state, figures at a glance, and what somebody should look at."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Iterator

from alpot.campaign.subject import Kind
from alpot.report.coverage import pooled
from alpot.report.history import Generation
from alpot.report.markup import Markup, element, facts, section
from alpot.report.page.material import Material
from alpot.report.status import Phase, Status
from alpot.report.wording import NOTHING, counted, duration, held_of, milli, picoseconds, plural, promise_of

#: A task that takes so many times longer than the longest of its kind before hangs, or is another sort of task.
_STALLED_FACTOR = 3.0
#: What starts slowly does not hang: s.
_STALLED_LEAST_S = 900.0
#: A share of failed attempts that somebody should look at, if there are enough attempts to tell.
_FAILED_SHARE, _FAILED_LEAST = 0.1, 10
#: So many properties are named in one sentence.
_NAMED = 6
#: A calibration factor beyond which the members' deviation is a poor guide to the error.
_POORLY_CALIBRATED = 4.0
#: Bounds that held less often than promised by this are no bounds, if so many atoms and labels say so.
_MISSED_SHARE, _MISSED_ATOMS, _MISSED_FRAMES = 0.1, 300, 10


def head(material: Material) -> Markup:
    """Name, subject and state of the campaign."""
    status, config = material.status, material.config
    subject = f"A potential for {'–'.join(status.elements)}, learned from {config.reference.code}"
    state = element("p", element("span", status.phase.value, class_=f"badge {status.phase.value}"), status.message)
    return element("header", element("h1", status.name), element("p", subject, class_="soft"), state)


def health(material: Material) -> Markup:
    """The tiles, and the warnings."""
    warnings = list(_warnings(material))
    if warnings:
        verdict = element("ul", *(element("li", warning) for warning in warnings), class_="warnings")
    else:
        verdict = element("p", "Nothing that anybody would have to look at.", class_="well")
    return section("Is it done, is it healthy?", _tiles(material), verdict, _potential(material), id_="health")


def _tiles(material: Material) -> Markup:
    status, best = material.status, material.promoted
    labels = status.labels
    tiles = (
        (f"{labels.done:,}", f"labels, {labels.audit:,} of them for the audit"),
        (NOTHING if status.promoted is None else str(status.promoted), "promoted generation"),
        (milli(best.audit_force) if best else NOTHING, "force error in meV/Å, on audit labels"),
        (milli(best.audit_energy) if best else NOTHING, "energy error in meV/atom, on audit labels"),
        (picoseconds(status.exploration.simulated_ps), f"simulated by {status.exploration.walkers:,} walkers"),
        (duration(status.elapsed_s), "running time"),
    )
    boxes = (element("div", element("b", value), element("span", name), class_="tile") for value, name in tiles)
    return element("div", *boxes, class_="tiles")


def _potential(material: Material) -> Markup:
    status, best = material.status, material.promoted
    if status.potential is None:
        return element("p", "No generation was promoted so far.", class_="soft")
    code = f"import alpot\n\natoms.calc = alpot.load({status.potential!r})\natoms.get_potential_energy()  # eV"
    lines = (
        ("Folder", element("code", status.potential)),
        ("Trained on", f"{best.labels:,} labels" if best else ""),
        ("Force errors", f"{promise_of(best.bound)} (σ: deviation of its members)" if best and best.bound else ""),
        ("To keep it", element("code", f"alpot export {shlex.quote(status.directory)} potential/")),
    )
    return element("div", element("h3", "The potential"), facts(lines), element("pre", code), class_="block")


def _warnings(material: Material) -> Iterator[str]:
    """What somebody should look at, the gravest first, as whole sentences."""
    status = material.status
    if status.phase in (Phase.FAILED, Phase.INTERRUPTED):
        yield f"The campaign is {status.phase.value}: {status.message}."
    if status.given_up:
        yield f"{plural(status.given_up, 'task')} failed for good; the campaign stops at {status.max_failures + 1}."
    yield from _stalled(material)
    yield from _failing(status)
    if status.labels.refused:
        yield f"Labels that turned out to be wrong or damaged are not used: {counted(status.labels.refused)}."
    best, last = material.promoted, status.generations[-1] if status.generations else None
    if last is not None and last.promoted is False:
        yield f"The last generation, {last.number}, {_not_promoted(last, best)}."
    if best is not None and best.calibration is not None and best.calibration > _POORLY_CALIBRATED:
        yield (
            f"The members' deviation understates the error {best.calibration:.1f} times; it is corrected for, but"
            " says little about single atoms."
        )
    yield from _uncovered(material)
    of = "" if status.properties_of == status.promoted else f" for generation {status.properties_of}"
    missed = [row.name or row.property for row in status.properties if row.ok is False]
    if missed:
        yield f"Outside of their tolerance{of}: {_some(missed)}."
    failed = [row.name or row.property for row in status.properties if row.value is None and row.error]
    if failed:
        yield f"Could not be measured{of}: {_some(failed)}."
    yield from material.problems


def _uncovered(material: Material) -> Iterator[str]:
    """Bounds on errors that did not hold."""
    confidence = material.config.exploration.confidence
    found = pooled(generation.coverage for generation in material.status.generations)
    if found is None or found.atoms < _MISSED_ATOMS or found.frames < _MISSED_FRAMES:
        return
    if found.share < confidence - _MISSED_SHARE:
        yield (
            f"Bounds on force errors should hold for {100 * confidence:.0f} % of all atoms, but held for only"
            f" {held_of(found)}: walkers go further than they should."
        )


def _not_promoted(last: Generation, best: Generation | None) -> str:
    """Why, as far as the ledger says."""
    if best is None or last.audit_force is None:
        return "was not promoted: it has no finite errors on audit labels"
    if last.held_back:
        are = "is" if len(last.held_back) == 1 else "are"
        names = _some(list(last.held_back))
        return f"was held back: {names} {are} out of tolerance, which generation {best.number} has within it"
    return f"was not promoted: on audit labels it is worse than generation {best.number}"


def _some(names: list[str]) -> str:
    """The first of them, and how many more there are; the table of properties has all."""
    more = f", and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return f"{', '.join(names[:_NAMED])}{more}"


def _stalled(material: Material) -> Iterator[str]:
    for name, tasks in material.status.tasks.items():
        longest = material.history.utilisation.longest_s(Kind(name))
        if longest is not None and tasks.oldest_s > max(_STALLED_FACTOR * longest, _STALLED_LEAST_S):
            yield (
                f"A {name} task has been running for {duration(tasks.oldest_s)}; the longest before took"
                f" {duration(longest)}."
            )


def _failing(status: Status) -> Iterator[str]:
    labels = status.labels
    failed = Counter(labels.failed_attempts)
    attempts = labels.done - labels.imported + failed.total()
    if failed.total() >= _FAILED_LEAST and failed.total() > _FAILED_SHARE * attempts:
        yield f"{100 * failed.total() / attempts:.0f} % of the attempts at labels failed: {counted(failed)}."
    for kind, counts in status.failures.items():
        yield f"Attempts at {kind} tasks failed: {counted(counts)}."
