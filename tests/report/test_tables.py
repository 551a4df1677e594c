from io import StringIO

import pytest
from rich.console import Console

from alpot.campaign.subject import Bound
from alpot.report.coverage import Coverage
from alpot.report.history import Generation
from alpot.report.tables import generation_cells, generation_table, property_cells, property_table
from alpot.report.wording import counted, duration, held_of, milli, picoseconds, printable, promise_of, published_of
from alpot.store.property_file import PropertyRow, PublishedNumber


def measured(**known) -> PropertyRow:
    return PropertyRow(**dict.fromkeys(("property", "system", "name", "unit"), "") | known)


def shown(table, width=120) -> str:
    console = Console(file=StringIO(), width=width)
    console.print(table)
    return console.file.getvalue()


@pytest.mark.parametrize(
    ("row", "cells"),
    [
        (
            {"value": 4.00123, "std": 0.0021, "reference": 3.99432, "difference": 0.00691, "tolerance": "±0.3 %"},
            ("4.0012 ± 0.0021", "3.9943", "+0.17 %", "±0.3 %"),
        ),
        ({"value": 31.42, "std": 12.3, "reference": 36.0, "difference": -4.6}, ("31 ± 12", "36.0", "−4.6", "–")),
        ({"value": 0.5, "std": 0.0, "tolerance": "≥ 0.6"}, ("0.5", "–", "–", "≥ 0.6")),
        ({"value": -3.5, "std": 1e-12}, ("−3.500000 ± 0.000000", "–", "–", "–")),
        ({}, ("–", "–", "–", "–")),
        ({"value": 0.3, "std": 1.0, "reference": -0.01234, "difference": 0.3}, ("0.3 ± 1.0", "−0.0123", "+0.3", "–")),
        ({"value": -2.0, "std": 3.0, "reference": 0.0, "difference": -2.0}, ("−2.0 ± 3.0", "0", "−2", "–")),
        ({"value": 0.0, "reference": 0.0, "difference": 0.0, "tolerance": "±10 %"}, ("0", "0", "+0", "±10 %")),
    ],
)
def test_numbers_of_a_property(row, cells):
    assert property_cells(measured(name="a", unit="Å", **row))[:5] == ("a (Å)", *cells)


@pytest.mark.parametrize(("ok", "mark"), [(True, "✓"), (False, "✗"), (None, "")])
def test_the_mark(ok, mark):
    assert property_cells(measured(property="lattice", ok=ok))[-1] == mark


def test_a_property_that_failed_says_why():
    rows = [measured(system="[red]fcc[/red] Al", name="C11", error="[/] it did not [bold]converge"), measured(name="x")]
    text = shown(property_table(rows, 3))
    assert "Properties of generation 3" in text
    assert "[/] it did not [bold]converge" in text and "[red]fcc[/red] Al" in text


def published(value: float, **known) -> PublishedNumber:
    found = {"kind": "experiment", "temperature": 0.0, "doi": "10.1/x", "source": "Someone (1999)"} | known
    return PublishedNumber(value=value, **found)


HOT, COLD = published(106.9, temperature=300.0), published(114.3)
PBE, LDA = published(111.0, kind="dft", method="PBE"), published(-121.25, kind="dft", method="LDA")


@pytest.mark.parametrize(
    ("found", "words"),
    [
        ((HOT, COLD, PBE, LDA), "114.3 exp. 0 K · 111 PBE"),
        ((LDA, HOT), "−121.25 LDA · 106.9 exp. 300 K"),
        ((published(3.0, kind="dft", temperature=900.0),), "3 DFT 900 K"),
        ((), ""),
    ],
)
def test_published_numbers_that_compare_best(found, words):
    assert published_of(measured(published=found)) == words


C11 = {"system": "fcc Al", "name": "C11", "unit": "GPa", "value": 118.25, "std": 2.2, "reference": 114.31}
LONG = {"system": "fcc Al", "name": "unstable stacking fault energy of (111), relaxed", "unit": "mJ/m²", "value": 1.5}
WORDS = "114.3 exp. 0 K · 111 PBE"


@pytest.mark.parametrize("width", [80, 120])
def test_published_numbers_are_beside_the_others_or_below(width):
    rows = [measured(**C11, difference=3.94, tolerance="±10 %", ok=True, published=(COLD, PBE)), measured(**LONG)]
    lines = shown(property_table(rows), width).splitlines()
    assert all(len(line) <= width for line in lines)
    (numbers,) = [line for line in lines if "118.2 ± 2.2" in line]
    assert "114.3 " in numbers and "+3.45 %" in numbers and "±10 %" in numbers and "✓" in numbers  # nothing is cut
    assert numbers.rstrip().endswith(WORDS) == (width == 120)
    assert (f" fcc Al C11: {WORDS} GPa" in lines) == (width == 80)
    assert "published" not in shown(property_table([measured(**C11)]), width).lower()


def test_a_generation_of_which_nothing_is_known_yet():
    bare = Generation(number=1, labels=1000, path="models/gen-0001", elapsed_s=1.0, seconds=62.0)
    assert generation_cells(bare) == ("1", "1,000", "–", "–", "–", "–", "–", "–", "0:01:02", "")
    known = bare.model_copy(update={"errors": {"train_force": 0.0123}, "audit_force": 0.0456, "promoted": True})
    assert generation_cells(known)[2:5] == ("45.6", "–", "12.3/–/–")
    bound = Bound(slope=2.514, floor=0.0121, confidence=0.9, n_frames=24)
    tested = known.model_copy(update={"bound": bound, "coverage": Coverage(share=0.906, atoms=640, frames=20)})
    assert generation_cells(tested)[6:8] == ("2.51 × (σ + 12.1 meV/Å)", "91")
    text = shown(generation_table([bare, known]))
    assert "12.3/–/–" in text and "✓" in text


def test_what_a_bound_promises():
    learned = Bound(slope=2.514, floor=0.0121, confidence=0.9, n_frames=24)
    assert promise_of(learned) == ("at most 2.51 × (σ + 12.1 meV/Å) with 90 % confidence, learned from 24 audit labels")
    assumed = promise_of(Bound(slope=3.5, floor=0.0, confidence=0.95, n_frames=0))
    assert assumed == "at most 3.50 σ with 95 % confidence, assumed: there are too few audit labels to learn it"
    held = held_of(Coverage(share=0.906, atoms=1640, frames=20))
    assert held == "91 % of 1,640 atoms in 20 audit labels that came later"


def test_words():
    assert duration(59.9) == "0:00:59" and duration(90061) == "1 d 1:01:01"
    assert milli(None) == "–" and milli(0.0312) == "31.2" and milli(0.9999) == "1,000" and milli(12.0) == "12,000"
    assert picoseconds(12.34) == "12.3 ps" and picoseconds(1e6) == "1000.00 ns"
    assert counted({"not_converged": 2, "walltime": 12, "none": 0}) == "12 walltime · 2 not converged"
    assert printable("a\nb\x1b[2J\u202e") == "a b [2J "
