from io import StringIO

import pytest
from rich.console import Console

from alpot.report.history import Generation
from alpot.report.tables import generation_cells, generation_table, property_cells, property_table
from alpot.report.wording import counted, duration, milli, picoseconds, printable
from alpot.store.property_file import PropertyRow


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
        ({"value": 31.42, "std": 12.3, "reference": 36.0, "difference": -4.6}, ("31 ± 12", "36", "-4.6", "–")),
        ({"value": 0.5, "std": 0.0, "tolerance": "≥ 0.6"}, ("0.5", "–", "–", "≥ 0.6")),
        ({"value": -3.5, "std": 1e-12}, ("-3.500000 ± 0.000000", "–", "–", "–")),
        ({}, ("–", "–", "–", "–")),
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


def test_a_generation_of_which_nothing_is_known_yet():
    bare = Generation(number=1, labels=1000, path="models/gen-0001", elapsed_s=1.0, seconds=62.0)
    assert generation_cells(bare) == ("1", "1,000", "–", "–", "–", "–", "–", "0:01:02", "")
    known = bare.model_copy(update={"errors": {"train_force": 0.0123}, "audit_force": 0.0456, "promoted": True})
    assert generation_cells(known)[2:5] == ("45.6", "–", "12.3/–/–")
    text = shown(generation_table([bare, known]))
    assert "12.3/–/–" in text and "✓" in text


def test_words():
    assert duration(59.9) == "0:00:59" and duration(90061) == "1 d 1:01:01"
    assert milli(None) == "–" and milli(0.0312) == "31.2" and milli(0.9999) == "1,000" and milli(12.0) == "12,000"
    assert picoseconds(12.34) == "12.3 ps" and picoseconds(1e6) == "1000.00 ns"
    assert counted({"not_converged": 2, "walltime": 12, "none": 0}) == "12 walltime · 2 not converged"
    assert printable("a\nb\x1b[2J\u202e") == "a b [2J "
