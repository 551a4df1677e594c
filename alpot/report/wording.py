"""Numbers and reasons as people read them; the same words on the terminal, in the log and on the page."""

from __future__ import annotations

import math
from collections.abc import Mapping

from alpot.campaign.subject import Bound
from alpot.report.costs import Prediction
from alpot.report.coverage import Coverage
from alpot.report.outlook import Outlook
from alpot.report.status import Spent, Status
from alpot.store.property_file import PropertyRow, PublishedNumber

#: Stands where nothing is known.
NOTHING = "–"
_MINUS = "−"
#: A reference is shown with so many significant digits at least, however uncertain the potential is.
_REFERENCE_DIGITS = 3
_MOST_DECIMALS = 6
#: Published numbers that a terminal has room for.
_PUBLISHED = 2


def printable(text: object) -> str:
    """One line without control characters: strings of a campaign must not steer the terminal."""
    return "".join(char if char.isprintable() else " " for char in str(text))


def duration(seconds: float) -> str:
    """Hours, minutes and seconds, ``0:02:13``; with days in front where there are any."""
    minutes, second = divmod(int(seconds), 60)
    hours, minute = divmod(minutes, 60)
    days, hour = divmod(hours, 24)
    return (f"{days} d " if days else "") + f"{hour}:{minute:02d}:{second:02d}"


def core_time(core_hours: float) -> str:
    """What was computed, in core-hours or, where that is very little, in core-seconds."""
    if core_hours < 0.1:
        return f"{3600 * core_hours:.3g} core-s"
    return f"{core_hours:.3g} core-hours" if core_hours < 999.5 else f"{core_hours:,.0f} core-hours"


def spent_on(costs: Spent) -> str:
    """What labels have cost; empty where nothing is on record."""
    per_label, steps, memory = costs.core_seconds_per_label, costs.scf_steps_per_label, costs.peak_memory_MB
    parts = (
        f"{core_time(costs.label_core_hours)} on labels" if per_label is not None else "",
        f"{core_time(costs.failure_core_hours)} on failures" if costs.failure_core_hours else "",
        f"{core_time(per_label / 3600)} per label" if per_label is not None else "",
        f"{steps:.0f} SCF steps per label" if steps is not None else "",
        f"at most {memory:,.0f} MB" if memory is not None else "",
    )
    return " · ".join(filter(None, parts))


def to_come(prediction: Prediction) -> str:
    """What the rest of the label budget will take."""
    cost, wall = prediction.core_hours, prediction.wall_hours
    text = f"about {core_time(cost.expected)} ({core_time(cost.low)} to {core_time(cost.high)})"
    text += f" for {plural(prediction.labels, 'label')}"
    if wall is None or prediction.workers is None:
        return text
    return f"{text} · {duration(3600 * wall.expected)} on {plural(prediction.workers, 'worker')} at least"


def outlook_words(outlook: Outlook) -> str:
    """The force error, and what the target will take."""
    text = f"{milli(outlook.force_error)} meV/Å"
    if outlook.force_error_high is not None:
        text += f" (at most {milli(outlook.force_error_high)} with {100 * outlook.confidence:g} % confidence)"
    if outlook.exponent is not None and outlook.exponent_std is not None:
        text += f", ∝ labels^{signed(-outlook.exponent, '.2f')} ± {outlook.exponent_std:.2f}"
    if outlook.target is None:
        return text
    text += f" · target {milli(outlook.target)}"
    if outlook.exponent is None:
        return text
    needed = outlook.calculations
    if outlook.force_error <= outlook.target:
        is_sure = (outlook.force_error_high or outlook.force_error) <= outlook.target
        return f"{text} met" if is_sure else f"{text} met, but not yet with that confidence"
    if needed.low is None:
        return f"{text} is not met with any number of calculations"
    about = "" if needed.expected is None else f"about {_rounded(needed.expected)} "
    most = f" to {_rounded(needed.high)}" if needed.high is not None else " or more"
    return f"{text} takes {about}({_rounded(needed.low)}{most}) of {outlook.budget:,} calculations"


def _rounded(count: float) -> str:
    """A number that is not known any better than to two digits."""
    return f"{float(f'{count:.2g}'):,.0f}"


def energies_of(isolated_atoms: Mapping[str, float]) -> str:
    """Energies of isolated atoms in eV."""
    return " · ".join(f"{printable(element)} {signed(energy, '.6g')} eV" for element, energy in isolated_atoms.items())


def milli(value: float | None) -> str:
    """A value in eV or eV/Å as meV or meV/Å."""
    if value is None:
        return NOTHING
    return f"{1000 * value:.3g}" if value < 0.9995 else f"{1000 * value:,.0f}"


def bound_of(bound: Bound) -> str:
    """How a bound on force errors follows from the members' deviation σ, in meV/Å."""
    return f"{bound.slope:.2f} × (σ + {milli(bound.floor)} meV/Å)" if bound.floor else f"{bound.slope:.2f} σ"


def promise_of(bound: Bound) -> str:
    """What a bound on force errors says, and where it comes from."""
    kind = "audit label" if bound.is_audited else "label"
    origin = f"learned from {plural(bound.n_frames, kind)}" + (
        "" if bound.is_audited else " that its predecessor chose"
    )
    if not bound.n_frames:
        origin = "assumed: there are too few audit labels to learn it"
    return f"at most {bound_of(bound)} with {100 * bound.confidence:.0f} % confidence, {origin}"


def held_of(coverage: Coverage) -> str:
    """How often bounds held."""
    of = f"{plural(coverage.atoms, 'atom')} in {plural(coverage.frames, 'audit label')} that came later"
    return f"{100 * coverage.share:.0f} % of {of}"


def picoseconds(time_ps: float) -> str:
    """Simulated time in ps or ns."""
    return f"{time_ps:.1f} ps" if time_ps < 1000 else f"{time_ps / 1000:.2f} ns"


def counted(counts: Mapping[str, int], separator: str = " · ") -> str:
    """How many of what, the most frequent first; empty where there is nothing."""
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return separator.join(f"{count:,} {printable(reason).replace('_', ' ')}" for reason, count in ordered if count)


def plural(count: int, noun: str) -> str:
    """A count with its noun."""
    return f"{count:,} {noun}" + ("" if count == 1 else "s")


def generation_of(status: Status) -> str:
    """The generation that a campaign explores with."""
    return "no generation yet" if status.promoted is None else f"generation {status.promoted}"


def value_of(row: PropertyRow) -> str:
    """The potential's value ± the ensemble's standard deviation."""
    if row.value is None:
        return NOTHING
    if not row.std:
        return signed(row.value, ".5g")
    decimals = _decimals(row.std, 2)
    return f"{signed(row.value, f'.{decimals}f')} ± {row.std:.{decimals}f}"


def reference_of(row: PropertyRow) -> str:
    """The reference's value, to as many decimals as the potential's, or more where these would be too few for it."""
    if row.reference is None:
        return NOTHING
    if not row.std or not row.reference:
        return signed(row.reference, ".5g")
    decimals = max(_decimals(row.std, 2), _decimals(row.reference, _REFERENCE_DIGITS))
    return signed(row.reference, f".{decimals}f")


def difference_of(row: PropertyRow) -> str:
    """Value − reference, in the terms of the tolerance: in % where that is one."""
    if row.difference is None:
        return NOTHING
    if row.reference and row.tolerance and row.tolerance.endswith("%"):
        return f"{signed(100 * row.difference / abs(row.reference), '+.2f')} %"
    return signed(row.difference, "+.3g")


def published_of(row: PropertyRow) -> str:
    """What others have found, where it compares best: the experiment and the calculation at the lowest temperature."""
    best: dict[str, PublishedNumber] = {}
    for found in sorted(row.published, key=lambda found: found.temperature):
        best.setdefault(found.kind, found)
    return " · ".join(_short_published(found) for found in list(best.values())[:_PUBLISHED])


def _short_published(found: PublishedNumber) -> str:
    is_measured = found.kind == "experiment"
    how = "exp." if is_measured else printable(found.method or found.kind.upper())
    temperature = f" {found.temperature:g} K" if is_measured or found.temperature else ""
    return f"{signed(found.value, '.5g')} {how}{temperature}"


def mark_of(ok: bool | None) -> str:
    """Whether a value is within tolerance."""
    return "" if ok is None else "✓" if ok else "✗"


def signed(value: float, form: str) -> str:
    """A number with the minus sign of typography, which is as wide as a plus; ``form`` is as for ``format``."""
    return f"{value:{form}}".replace("-", _MINUS)


def _decimals(value: float, digits: int) -> int:
    """Decimals that show so many significant digits of a value; few enough to be read."""
    return min(max(0, digits - 1 - math.floor(math.log10(abs(value)))), _MOST_DECIMALS)
