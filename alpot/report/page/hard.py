"""What did it find hard? The worst predicted and most uncertain frames, to be turned around."""

from __future__ import annotations

from collections import Counter
from typing import Any

from alpot.report.figures import shown
from alpot.report.markup import Markup, element, json_block, note, row, section, table
from alpot.report.page.material import Material
from alpot.report.wording import NOTHING, milli, printable
from alpot.store.assessment_file import HardFrame

_KEY_SHOWN = 10


def hard(material: Material) -> Markup:
    """The viewer, and the frames as a table."""
    frames = material.assessment.hard if material.assessment else []
    if not frames:
        nothing = element("p", "Shown once a generation was promoted.", class_="soft")
        return section("What did it find hard?", nothing, id_="hard")
    columns = (
        ("frame", ""),
        ("why", ""),
        ("found as", ""),
        ("atoms", ""),
        ("force error", "meV/Å"),
        ("error bound", "meV/Å"),
        ("label", ""),
    )
    bound = material.promoted.bound if material.promoted else None
    rows = (
        row(
            (
                str(number),
                frame.why,
                frame.reason.replace("_", " "),
                _formula(frame),
                milli(frame.force_rmse),
                NOTHING if bound is None else milli(bound.slope * (frame.sigma_max + bound.floor)),
                f"{frame.key[:_KEY_SHOWN]}…",
            ),
            texts=(0, 1, 2, 3, 6),
        )
        for number, frame in enumerate(frames, 1)
    )
    remark = (
        "Atoms are coloured by the error of the force on them, and as large as their covalent radius. The bound is that"
        " of the atom on which the members disagree most."
    )
    return section(
        "What did it find hard?",
        _viewer(frames),
        note(remark),
        table("The hardest frames", columns, rows, texts=(0, 1, 2, 3, 6)),
        id_="hard",
    )


def _formula(frame: HardFrame) -> str:
    """Hill's order is not needed: elements by their name."""
    return " ".join(f"{printable(symbol)}{count}" for symbol, count in sorted(Counter(frame.symbols).items()))


def _viewer(frames: list[HardFrame]) -> Markup:
    """Controls and an empty plot; the page's script fills it."""
    options = (
        element(
            "option",
            f"{number}. {frame.why}: {milli(frame.force_rmse)} meV/Å, {_formula(frame)}",
            value=str(number - 1),
        )
        for number, frame in enumerate(frames, 1)
    )
    controls = element(
        "div",
        element("label", "Frame ", for_="frame"),
        element("select", *options, id="frame"),
        element("button", "Previous", type="button", data_step="-1"),
        element("button", "Next", type="button", data_step="1"),
        class_="controls",
    )
    scene = element("div", class_="plot scene", role="img", aria_label="The chosen frame in three dimensions.")
    said = element("p", class_="soft small said", aria_live="polite")
    data = json_block([_scene(frame) for frame in frames])
    return element("div", controls, scene, said, data, class_="viewer card")


def _scene(frame: HardFrame) -> dict[str, Any]:
    """What the page's script draws; positions to the thousandth of an Å."""
    from ase.data import atomic_numbers, covalent_radii

    radii = {
        symbol: round(float(covalent_radii[atomic_numbers.get(symbol, 0)]), 2) for symbol in sorted(set(frame.symbols))
    }
    return {
        "why": frame.why,
        "formula": _formula(frame),
        "symbols": [shown(symbol) for symbol in frame.symbols],
        "radii": [radii[symbol] for symbol in frame.symbols],
        "positions": [[round(value, 3) for value in position] for position in frame.positions],
        "cell": [[round(value, 3) for value in vector] for vector in frame.cell],
        "errors": [round(1000 * error, 1) for error in frame.atom_errors],
    }
