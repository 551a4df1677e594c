"""Provenance: what was asked for, by which code, and hashes by which files can be recognised."""

from __future__ import annotations

import platform
from datetime import UTC, datetime
from hashlib import sha256
from importlib.metadata import PackageNotFoundError, version

from alpot.config import Assessment, Campaign
from alpot.report.markup import Markup, element, facts, join, section
from alpot.report.page.material import Material
from alpot.report.wording import milli, plural

#: Packages whose version may change a result.
_PACKAGES = ("alpot", "ase", "numpy", "scipy", "torch", "torchani", "parsl", "vesin", "phonopy")


def provenance(material: Material) -> Markup:
    """Settings, sessions, versions, hashes, and the campaign file itself."""
    history, text, best = material.history, material.config_text, material.promoted
    weights = f"generation {best.number}, weights sha256 {best.checksum}" if best and best.checksum else ""
    sessions = (
        f"{s.time} on {s.host} (process {s.pid}), alpot {s.version}, campaign file {s.config[:12]}…"
        for s in history.sessions
    )
    lines = (
        ("Campaign file", element("code", f"sha256 {sha256(text.encode()).hexdigest()}")),
        ("Potential", element("code", weights) if weights else ""),
        ("Ledger", f"{history.seq:,} events"),
        ("Run", join(*(element("div", session) for session in sessions))),
        ("This page by", versions()),
    )
    return section(
        "Provenance",
        element("div", facts(lines), class_="block"),
        element("h3", "Settings"),
        element("div", _settings(material.config), class_="block"),
        element("details", element("summary", "The campaign file"), element("pre", text, tabindex="0")),
        id_="provenance",
    )


def versions() -> Markup:
    """Of whatever may change a result."""
    installed = " · ".join(f"{name} {_version(name)}" for name in _PACKAGES)
    return join(f"Python {platform.python_version()} · {installed}")


def foot() -> Markup:
    """When the page was written."""
    return element("footer", f"Written by alpot on {datetime.now(UTC):%Y-%m-%d at %H:%M:%S} UTC.")


def _settings(config: Campaign) -> Markup:
    exploration, potential, training, stopping = config.exploration, config.potential, config.training, config.stopping
    starts = ", ".join(start.kind for start in config.material.starts)
    limits = (
        f"{stopping.max_labels:,} calculations",
        f"{stopping.max_generations} generations" if stopping.max_generations else "",
        f"a force error of {milli(stopping.force_error)} meV/Å with {100 * stopping.confidence:g} % confidence"
        if stopping.force_error
        else "",
        f"nothing uncertain in {stopping.quiet_time:g} ps" if stopping.quiet_time else "",
        f"all properties within tolerance for {plural(stopping.good_generations, 'generation')} in a row"
        if stopping.good_generations
        else "",
    )
    temperatures = (*exploration.temperature_start, *exploration.temperature_end)
    low, high = min(temperatures), max(temperatures)
    cheap = config.reference.cheap
    hidden = "–".join(str(width) for width in potential.hidden)
    return facts(
        (
            ("Starts", starts),
            ("Reference", config.reference.code),
            *([("Cheap reference", f"{cheap.code}: {', '.join(cheap.use)}")] if cheap else []),
            (
                "Potential",
                f"{potential.members} networks {hidden}, cutoff {potential.descriptor.radial_cutoff:g} Å",
            ),
            (
                "Uncertain above",
                f"a bound on force errors of {milli(exploration.mean_force_error)} meV/Å on average,"
                f" {milli(exploration.max_force_error)} meV/Å for one atom, with {100 * exploration.confidence:.0f} %"
                " confidence",
            ),
            (
                "Walkers",
                f"{exploration.max_time:g} ps of {exploration.timestep:g} fs each, {low:g} to {high:g} K"
                f" with oscillations of up to {exploration.temperature_amplitude[1]:g} K",
            ),
            ("Training", f"at {training.initial_labels} labels, then every {training.labels_per_generation}"),
            ("Ends at", " or ".join(filter(None, limits))),
            ("Assessment", _assessment(config.assessment)),
            ("Seed", str(config.seed)),
        )
    )


def _assessment(assessment: Assessment) -> str:
    each = ", ".join(assessment.each_generation)
    parts = (
        f"{', '.join(assessment.properties)} at the end" if assessment.properties else "",
        f"{each} of each generation" if each else "",
        "compared with the reference" if assessment.compare_reference else "",
        "no promotion if one falls out of tolerance" if assessment.hold_back else "",
    )
    return "; ".join(filter(None, parts)).replace("_", " ")


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"
