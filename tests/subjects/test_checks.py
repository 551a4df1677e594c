"""The estimate of `alpot check`: no dear calculation is made for it, and large cells are not taken for small ones."""

import re
from dataclasses import replace
from pathlib import Path

import pytest
from ase.build import bulk
from ase.calculators.emt import EMT
from tiny_campaign import changed

from alpot.config_file import parse_campaign
from alpot.reference import CheapLevel
from alpot.reference.ase_reference import AseReference
from alpot.report.costs import SizeSums
from alpot.subjects.checks import Checks

SIZES: list[int] = []
SLURM = 'platform = "slurm"\ninterface = "lo"\n\n[resources.label]\n'


class Cubic(AseReference):
    """A code whose cost grows with the third power of the number of atoms."""

    def compute(self, atoms, directory):
        SIZES.append(len(atoms))
        result = super().compute(atoms, directory)
        return replace(result, details={"core_seconds": 36.0 * (len(atoms) / 10) ** 3})


@pytest.mark.parametrize("is_cheap", [True, False])
def test_the_cost_is_that_of_the_starts(monkeypatch, is_cheap):
    SIZES.clear()
    reference = Cubic(name="cubic", make=EMT, is_cheap=is_cheap)
    monkeypatch.setattr("alpot.subjects.checks.open_reference", lambda *_, **__: reference)
    checks = Checks(parse_campaign(changed(("atoms = [4, 8]", "atoms = [4, 64]")), "tiny"), Path())
    assert all(result.ok for result in checks.run())
    sizes = sorted(len(atoms) for atoms in checks._starts)
    assert max(SIZES) == sizes[-1] if is_cheap else max(SIZES) <= 2 * sizes[0]
    said = checks.estimate()[0]
    assert f"at most 20 of {sizes[0]} to {sizes[-1]} atoms" in said
    low, high = (float(number) for number in re.search(r"range ([\d.]+) core-\w+ to ([\d.]+) core", said).groups())
    truth = 20 * sum(36.0 * (size / 10) ** 3 for size in sizes) / len(sizes) / 3600
    # Four small frames cannot tell b = 3 for certain, all sizes can; 68 % is what a range is worth.
    assert low / 2 < truth < 2 * high


def test_a_dear_code_gets_no_large_cell_where_small_ones_are_rare(monkeypatch):
    SIZES.clear()
    reference = Cubic(name="cubic", make=EMT, is_cheap=False)
    monkeypatch.setattr("alpot.subjects.checks.open_reference", lambda *_, **__: reference)
    lengths = iter([8, 2, 1, *[8] * 17])

    def draw(*_, **__):
        atoms = bulk("Al", cubic=True) * (1, 1, next(lengths))
        atoms.info["start"] = "crystal"
        return atoms

    monkeypatch.setattr("alpot.subjects.checks.draw_start", draw)
    checks = Checks(parse_campaign(changed(), "tiny"), Path())
    assert all(result.ok for result in checks.run())
    assert SIZES == [4, 4, 8, 8] and len({label.key for label in checks._labels}) == 4


def test_the_cost_is_that_of_both_levels(monkeypatch):
    screened = []

    def screen(self, atoms, directory):
        screened.append(len(atoms))
        return {"screen_core_seconds": 3600.0, "screen_wall_s": 1.0}

    def first_sentence(*changes):
        checks = Checks(parse_campaign(changed(*changes), "tiny"), Path())
        assert all(result.ok for result in checks.run())
        return checks.estimate()[0]

    monkeypatch.setattr(CheapLevel, "screen", screen)
    assert "core-s " in first_sentence()
    cheap = '\n[reference.cheap]\ncode = "ase.calculators.emt:EMT"\n'
    assert "core-hours " in first_sentence(('code = "emt"\n', f'code = "emt"\n{cheap}'), ("[4, 8]", "[4, 64]"))
    assert len(screened) == 4 and max(screened) <= 2 * min(screened)  # nobody has said that the screen is cheap


@pytest.mark.parametrize(
    ("resources", "where", "cores"),
    [
        ("workers = 4", "4 workers", 4),
        ("workers = 4\nranks = 8", "4 workers of 8 cores, if the code scales", 32),
        (f"{SLURM}blocks = [0, 2]\nranks = 6", "2 workers of 6 cores, if the code scales", 12),
    ],
)
def test_the_wall_time_is_that_of_all_cores(resources, where, cores):
    text = changed().partition("[resources]")[0]
    checks = Checks(parse_campaign(f"{text}[resources]\n{resources}\n", "tiny"), Path())
    checks._starts = [bulk("Al", cubic=True)]
    for _ in range(4):
        checks._costs.setdefault(4, SizeSums()).add(36000.0)
    said = checks._label_cost(100)
    hours = float(re.search(rf", ([\d.]+) h on {where}", said)[1])
    assert hours == pytest.approx(100 * 10 / cores, rel=0.05)


def test_the_screens_program_and_pseudopotentials_are_looked_for(tmp_path):
    cheap = """
[reference.cheap]
code = "espresso"
[reference.cheap.dft]
cutoff = 150.0
pseudopotentials = {Al = "./none.UPF"}
"""
    config = parse_campaign(changed(('code = "emt"\n', f'code = "emt"\n{cheap}')), "tiny")
    (result,) = Checks(config, tmp_path).run()
    assert (result.stage, result.ok) == ("reference", False)
    assert "table [reference.cheap]: " in result.detail and "none.UPF" in result.detail


def test_a_pseudopotential_for_another_functional_is_refused_before_anything_runs(tmp_path):
    (tmp_path / "Al.UPF").write_text('<PP_HEADER element="Al" functional="SLA PZ NOGX NOGC" z_valence="3.0"/>\n')
    dft = """
[reference.dft]
cutoff = 150.0
pseudopotentials = {Al = "./Al.UPF"}
"""
    config = parse_campaign(changed(('code = "emt"\n', f'code = "espresso"\n{dft}')), "tiny")
    (result,) = Checks(config, tmp_path).run()
    assert (result.stage, result.ok) == ("reference", False)
    assert "Al.UPF was made for another functional (SLA PZ NOGX NOGC: LDA)" in result.detail
    assert "reference.dft.functional = 'PBE'" in result.detail
