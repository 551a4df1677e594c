"""The estimate of `alpot check`: no dear calculation is made for it, and large cells are not taken for small ones."""

import re
from dataclasses import replace
from pathlib import Path

import pytest
from ase.calculators.emt import EMT
from tiny_campaign import changed

from alpot.config_file import parse_campaign
from alpot.reference.ase_reference import AseReference
from alpot.subjects.checks import Checks

SIZES: list[int] = []


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
