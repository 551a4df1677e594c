from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
from ase.calculators.emt import EMT
from ase.calculators.lj import LennardJones

from alpot.errors import UsageError
from alpot.validation import PropertyRow, validate
from alpot.validation.tolerances import Tolerance

_STATIC = ("lattice", "elastic", "phases", "vacancy")


def _by_name(rows: list[PropertyRow]) -> dict[str, PropertyRow]:
    return {row.name: row for row in rows}


def test_emt_against_itself_is_perfect_and_frugal(counting_emt: EMT) -> None:
    rows = validate(counting_emt, ["Al"], _STATIC, reference_calculator=EMT())
    assert [row.name for row in rows] == [
        "lattice constant", "bulk modulus", "energy per atom", "C11", "C12", "C44",
        "E(hcp) − E(fcc)", "E(bcc) − E(fcc)", "vacancy formation energy",
    ]  # fmt: skip
    for row in rows:
        assert (row.difference, row.error, row.system) == (0.0, None, "fcc Al")
        assert row.ok is (None if row.tolerance is None else True)
    # One crystal serves all properties: some sixty calls of one or two atoms and few of a hundred.
    sizes = np.array(counting_emt.calls)
    assert (sizes <= 2).sum() <= 65
    assert (sizes > 32).sum() <= 30
    json.dumps([dataclasses.asdict(row) for row in rows], allow_nan=False)


def test_every_member_counts(ensemble_emt: EMT) -> None:
    rows = _by_name(validate(ensemble_emt, ["Al"], _STATIC))
    with_spread = {name for name, row in rows.items() if row.std is not None}
    assert with_spread == set(rows) - {"C11", "C12", "C44"}
    vacancy = rows["vacancy formation energy"]
    assert vacancy.std is not None and vacancy.value is not None
    # Members are EMT times 0.97, 1.01, 1.02, their standard deviation is 0.0265.
    assert vacancy.std == pytest.approx(0.0264575 * vacancy.value, rel=1e-4)


def test_a_bad_potential_is_seen() -> None:
    # Lennard-Jones with aluminum's lattice constant and cohesive energy is a poor aluminum.
    poor = LennardJones(sigma=4.05 / 1.542, epsilon=3.3 / 8.61, rc=3 * 4.05 / 1.542)
    rows = _by_name(validate(poor, ["Al"], _STATIC, reference_calculator=EMT()))
    assert rows["C12"].ok is False
    assert rows["bulk modulus"].ok is False
    row = rows["vacancy formation energy"]
    assert row.value is not None and row.reference is not None
    assert row.difference == pytest.approx(row.value - row.reference)
    assert row.ok is False


def test_failures_become_rows() -> None:
    properties = ("lattice", "elastic", "phases", "vacancy", "nve", "langevin", "fresh_frames")
    rows = validate(EMT(), ["W"], properties, reference_calculator=EMT())  # EMT has no tungsten
    assert [row.name for row in rows if row.property == "phases"] == ["E(fcc) − E(bcc)", "E(hcp) − E(bcc)"]
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

    rows = validate(NoStress(), ["Al"], ("elastic", "lattice"))
    assert [row.ok for row in rows] == [False] * 3 + [None] * 3
    assert all("NotImplemented" in str(row.error) for row in rows[:3])
    assert all(row.error is None and row.value is not None for row in rows[3:])


def test_without_a_reference_nothing_is_judged_against_it() -> None:
    rows = validate(EMT(), ["Cu"], ("lattice",))
    assert {row.ok for row in rows} == {None}
    assert {row.reference for row in rows} == {None}


def test_a_failing_reference_does_not_hide_the_potential() -> None:
    pair = LennardJones(sigma=2.45, epsilon=0.4, rc=10.0)
    rows = validate(pair, ["W"], ("lattice",), reference_calculator=EMT())
    assert all(row.value is not None and row.reference is None for row in rows)
    assert all(str(row.error).startswith("the reference failed: ") for row in rows)


def test_fresh_frames_need_a_reference() -> None:
    rows = validate(EMT(), ["Al"], ("fresh_frames",))
    assert all("a reference calculator is needed" in str(row.error) for row in rows)


def test_wrong_requests_are_refused() -> None:
    with pytest.raises(UsageError, match=r"unknown properties \['latice'\]; known are lattice"):
        validate(EMT(), ["Al"], ("latice",))  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="needs an element"):
        validate(EMT(), [], ("lattice",))


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

    rows = _by_name(validate(EMT(), ["Al"], ("nve", "langevin")))
    assert rows["NVE energy drift"].ok
    assert rows["Langevin run survived"].ok
    temperature = rows["Langevin mean temperature"].value
    # 324 momenta that forget themselves every 0.1 ps, over 10 ps: a standard error of 1 %.
    assert temperature == pytest.approx(1200.0, rel=0.03)
    rows = _by_name(validate(Disturbed(), ["Al"], ("fresh_frames",), reference_calculator=EMT()))
    assert rows["rank correlation of mean σ_F and error"].ok
    # 3 % of forces of about 0.5 eV/Å.
    fresh, far = rows["force RMSE, fresh frames"], rows["force RMSE, far frames"]
    assert fresh.value is not None and far.value is not None
    assert 5 < fresh.value < 40
    assert far.value > fresh.value
