from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase.calculators.emt import EMT
from ase.calculators.lj import LennardJones

from alpot.errors import UsageError
from alpot.store.measurements import Measurements
from alpot.store.property_file import PropertyFile, PropertyRow, read_property_file, write_property_file
from alpot.validation import Specimen, validate
from alpot.validation.catalogue import CATALOGUE, SUITES
from alpot.validation.tolerances import Tolerance

_STATIC = ("lattice", "elastic", "vacancy")


def _rows(*args: Any, **kwargs: Any) -> list[PropertyRow]:
    return [row for result in validate(*args, **kwargs) for row in result.rows]


def _by_name(rows: list[PropertyRow]) -> dict[str, PropertyRow]:
    return {row.name: row for row in rows}


def test_emt_against_itself_is_perfect_and_frugal(counting_emt: EMT) -> None:
    rows = _rows(counting_emt, ["Al"], _STATIC, reference=EMT())
    names = [row.name for row in rows]
    assert {"lattice constant", "bulk modulus", "energy per atom", "C11", "C12", "C44"} <= set(names)
    assert names[-1] == "vacancy formation energy"
    for row in rows:
        assert (row.difference, row.error, row.system) == (0.0, None, "fcc Al")
        assert row.ok is (None if row.tolerance is None else True)
    # One crystal serves all properties: some dozens of calls of one or two atoms and few of a hundred.
    sizes = np.array(counting_emt.calls)
    assert (sizes <= 2).sum() <= 80
    assert (sizes > 32).sum() <= 30


def test_every_member_is_measured(ensemble_emt: EMT) -> None:
    rows = _by_name(_rows(ensemble_emt, ["Al"], _STATIC))
    # Members are EMT times 0.97, 1.01, 1.02, their standard deviation is 0.0265; lengths are the same for all.
    for name in ("vacancy formation energy", "bulk modulus", "C44"):
        row = rows[name]
        assert row.std is not None and row.value is not None
        # Forces left at relaxation, the same for all in eV/Å, end at slightly different places.
        assert row.std == pytest.approx(0.0264575 * row.value, rel=1e-2)
        assert row.uncertainty == row.std  # not calibrated, and exact
    assert rows["lattice constant"].std == pytest.approx(0.0, abs=1e-9)


def test_a_member_without_a_value_leaves_the_error_bar_unknown(ensemble_emt: EMT) -> None:
    ensemble_emt.scales = np.array([0.97, -1.0, 1.02])  # the second one does not bind
    rows = _by_name(_rows(ensemble_emt, ["Al"], ("lattice",)))
    assert rows["lattice constant"].value is not None
    assert rows["lattice constant"].std is None


def test_a_bad_potential_is_seen() -> None:
    # Lennard-Jones with aluminum's lattice constant and cohesive energy is a poor aluminum.
    poor = LennardJones(sigma=4.05 / 1.542, epsilon=3.3 / 8.61, rc=3 * 4.05 / 1.542)
    rows = _by_name(_rows(poor, ["Al"], _STATIC, reference=EMT()))
    assert rows["C12"].ok is False
    assert rows["bulk modulus"].ok is False
    row = rows["vacancy formation energy"]
    assert row.value is not None and row.reference is not None
    assert row.difference == pytest.approx(row.value - row.reference)
    assert row.ok is False


def test_failures_become_rows() -> None:
    properties = ("lattice", "elastic", "vacancy", "nve", "langevin", "fresh_frames")
    rows = _rows(EMT(), ["W"], properties, reference=EMT())  # EMT has no tungsten
    for row in rows:
        assert row.value is None
        assert row.ok is (None if row.tolerance is None else False)
        assert row.error is not None
    # The first failure is reported for all that rests on the same crystal, and is not repeated at its cost.
    crystal_errors = {row.error for row in rows if row.property != "fresh_frames"}
    assert len(crystal_errors) == 1
    assert "W" in str(crystal_errors.pop())


def test_one_failure_leaves_the_others(counting_emt: EMT) -> None:
    class NoStress(type(counting_emt)):
        implemented_properties: list[str] = ["energy", "forces"]  # noqa: RUF012

    elastic, lattice = validate(NoStress(), ["Al"], ("elastic", "lattice"))
    assert all(row.ok in (False, None) and "NotImplemented" in str(row.error) for row in elastic.rows)
    assert all(row.error is None and row.value is not None for row in lattice.rows)


def test_without_a_reference_nothing_is_judged_against_it() -> None:
    rows = _rows(EMT(), ["Cu"], ("lattice",))
    assert {row.ok for row in rows} == {None}
    assert {row.reference for row in rows} == {None}


def test_a_failing_reference_does_not_hide_the_potential() -> None:
    pair = LennardJones(sigma=2.45, epsilon=0.4, rc=10.0)
    rows = _rows(pair, ["W"], ("lattice",), reference=EMT())
    assert all(row.value is not None and row.reference is None for row in rows)
    assert all(str(row.error).startswith("the reference failed: ") for row in rows)


def test_fresh_frames_need_a_reference() -> None:
    rows = _rows(EMT(), ["Al"], ("fresh_frames",))
    assert all("a reference is needed" in str(row.error) for row in rows)


def test_nothing_is_measured_twice(tmp_path: Path, counting_emt: EMT) -> None:
    kept = Measurements(tmp_path)
    first = validate(Specimen(calculator=counting_emt, identity="emt"), ["Al"], _STATIC, measurements=kept)
    counting_emt.calls.clear()
    again = validate(Specimen(calculator=counting_emt, identity="emt"), ["Al"], _STATIC, measurements=kept)
    assert again == first
    assert counting_emt.calls == []
    for path in tmp_path.iterdir():  # damaged: it is measured again
        path.write_text(path.read_text().replace("lattice", "lettuce"))
    assert [result.rows for result in validate(
        Specimen(calculator=counting_emt, identity="emt"), ["Al"], _STATIC, measurements=kept
    )] == [result.rows for result in first]  # fmt: skip
    assert counting_emt.calls
    # Another potential, another seed: another question.
    counting_emt.calls.clear()
    validate(Specimen(calculator=counting_emt, identity="other"), ["Al"], _STATIC, measurements=kept)
    assert counting_emt.calls


def test_a_missing_program_is_no_finding(tmp_path: Path) -> None:
    class Broken(EMT):
        is_broken = True

        def calculate(self, *args: object, **kwargs: object) -> None:
            if self.is_broken:
                raise UsageError("pw.x is not there")
            super().calculate(*args, **kwargs)

    kept, calculator = Measurements(tmp_path), Broken()
    specimen = Specimen(calculator=calculator, identity="broken")
    assert _rows(specimen, ["Al"], ("lattice",), measurements=kept)[0].value is None
    calculator.is_broken = False
    assert _rows(specimen, ["Al"], ("lattice",), measurements=kept)[0].value == pytest.approx(3.99, abs=0.02)


def test_wrong_requests_are_refused() -> None:
    with pytest.raises(UsageError, match=r"unknown properties \['latice'\]; known are lattice"):
        validate(EMT(), ["Al"], ("latice",))  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="needs an element"):
        validate(EMT(), [], ("lattice",))


def test_suites_are_of_known_properties() -> None:
    for properties in SUITES.values():
        assert set(properties) <= set(CATALOGUE)
    assert set(SUITES["full"]) == set(CATALOGUE)


def test_results_survive_a_file(tmp_path: Path) -> None:
    found = PropertyFile(potential="EMT", results=tuple(validate(EMT(), ["Al"], ("lattice", "elastic"))))
    write_property_file(tmp_path / "properties.json", found)
    assert read_property_file(tmp_path / "properties.json") == found


@pytest.mark.parametrize(
    ("tolerance", "value", "reference", "verdict", "text"),
    [
        (Tolerance("relative", 0.1), 109.0, 100.0, True, "±10 %"),
        (Tolerance("relative", 0.1), -89.0, -100.0, False, "±10 %"),
        (Tolerance("absolute", 5.0), -3.0, 1.0, True, "±5"),
        (Tolerance("at_most", 40.0), 41.0, None, False, "≤ 40"),
        (Tolerance("at_least", 0.6), 0.7, None, True, "≥ 0.6"),
        (Tolerance("absolute", 5.0), 1.0, None, None, "±5"),
    ],
)
def test_tolerances(
    tolerance: Tolerance, value: float, reference: float | None, verdict: bool | None, text: str
) -> None:
    assert tolerance.judge(value, reference) is verdict
    assert str(tolerance) == text


@pytest.mark.slow
def test_the_long_runs_of_emt() -> None:
    """About two minutes: 10 ps of NVE, 20 ps of Langevin dynamics, and frames of EMT's own liquid."""

    class Disturbed(EMT):
        """EMT whose forces are off by 3 %, and which half knows it."""

        def calculate(self, *args: object, **kwargs: object) -> None:
            super().calculate(*args, **kwargs)
            truth = self.results["forces"]
            self.results["forces"] = 1.03 * truth
            self.results["forces_std"] = 0.01 * np.abs(truth)

    rows = _by_name(_rows(EMT(), ["Al"], ("nve", "langevin")))
    assert rows["NVE energy drift"].ok
    assert rows["Langevin run survived"].ok
    temperature = rows["Langevin mean temperature"].value
    # 324 momenta that forget themselves every 0.1 ps, over 10 ps: a standard error of 1 %.
    assert temperature == pytest.approx(1200.0, rel=0.03)
    rows = _by_name(_rows(Disturbed(), ["Al"], ("fresh_frames",), reference=EMT()))
    assert rows["rank correlation of mean σ_F and error"].ok
    # 3 % of forces of about 0.5 eV/Å.
    fresh, far = rows["force RMSE, fresh frames"], rows["force RMSE, far frames"]
    assert fresh.value is not None and far.value is not None
    assert 5 < fresh.value < 40
    assert far.value > fresh.value
