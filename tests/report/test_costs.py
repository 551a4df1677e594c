"""What labels cost: learned from synthetic costs whose law is known."""

import numpy as np
import pytest

from alpot.campaign import events
from alpot.campaign.events import Task
from alpot.campaign.subject import Kind, LabelSummary
from alpot.errors import FailureClass
from alpot.report.costs import CostModel, Costs, SizeSums
from alpot.report.status import campaign_status
from alpot.report.wording import core_time, spent_on, to_come
from alpot.store.ledger import Ledger


def draw(rng, sizes, exponent, spread):
    """Core-seconds of labels: 100 for 50 atoms, on the median."""
    return 100.0 * (sizes / 50.0) ** exponent * np.exp(spread * rng.normal(size=len(sizes)))


def sums_of(sizes, costs):
    sums = {}
    for atoms, cost in zip(sizes, costs, strict=True):
        sums.setdefault(int(atoms), SizeSums()).add(float(cost))
    return sums


def summary(atoms=50, **more):
    made = {"candidate": "c", "key": "k", "outcome": "labelled", "path": "p", "checksum": "0", "atoms": atoms}
    return LabelSummary.model_validate(made | more)


@pytest.mark.parametrize("exponent", [1.0, 2.3, 3.0])
def test_many_labels_tell_the_law(exponent):
    rng = np.random.default_rng(1)
    sizes = rng.integers(30, 250, size=5000)
    model = CostModel.fit(sums_of(sizes, draw(rng, sizes, exponent, 0.4)))
    # Four standard errors of a least-squares fit: 0.4 / sqrt(5000 · var(log n)), var(log n) = 0.3.
    assert model.exponent == pytest.approx(exponent, abs=0.04)
    assert model.spread == pytest.approx(0.4, abs=0.02)  # its own is 0.4 / sqrt(2 · 5000)


def test_without_a_difference_in_size_the_exponent_is_what_was_believed():
    model = CostModel.fit(sums_of([64] * 8, [10.0] * 8))
    assert model.exponent == pytest.approx(2.0) and 0.1 < model.spread < 0.3
    one = CostModel.fit(sums_of([64], [10.0])).total({64: 1}, 100)
    assert one.low < 1000.0 < one.high


@pytest.mark.parametrize(("n_seen", "largest_seen"), [(4, 60), (20, 250), (300, 250)])
def test_the_range_covers_the_truth_as_often_as_it_says(n_seen, largest_seen):
    """Also where few small frames must tell what large ones cost, as in `alpot check`."""
    covered, n_trials = 0, 400
    for trial in range(n_trials):
        rng = np.random.default_rng([trial, n_seen])
        exponent = rng.normal(2.0, 0.5)
        seen, rest = rng.integers(30, largest_seen, size=n_seen), rng.integers(30, 250, size=500)
        truth = draw(rng, rest, exponent, 0.3).sum()
        sums = sums_of(seen, draw(rng, seen, exponent, 0.3))
        sizes = {int(atoms): 1 for atoms in rng.integers(30, 250, size=40)}
        if n_seen >= 20:
            sizes = {atoms: entry.count for atoms, entry in sums.items()}
        found = CostModel.fit(sums).total(sizes, len(rest))
        assert found.low < found.expected < found.high
        covered += found.low <= truth <= found.high
    assert covered / n_trials == pytest.approx(0.68, abs=0.1)  # four standard errors of 400 trials


def test_the_expected_cost_is_a_mean_and_not_a_median():
    rng = np.random.default_rng(3)
    costs = np.exp(1.2 * rng.normal(size=20000))
    found = CostModel.fit(sums_of([50] * len(costs), costs)).total({50: 1}, 1)
    assert found.expected == pytest.approx(np.exp(1.2**2 / 2), rel=0.05)  # four standard errors
    # Of one label, 68 % lie within one spread.
    assert np.log([found.low, found.high]) == pytest.approx([-1.2, 1.2], abs=0.05)


def test_a_label_takes_constant_memory():
    costs = Costs()
    for number in range(3000):
        costs.add_label(summary(50 + number % 7, core_seconds=1.0, seconds=0.5), apart=False)
    assert len(costs.by_atoms) == 7 and costs.labels == 3000 and costs.core_seconds == 3000.0


def test_failures_are_part_of_what_is_to_come():
    costs = Costs()
    for _ in range(30):
        costs.add_label(summary(core_seconds=100.0, seconds=25.0), apart=False)
    smooth = costs.predict(100, workers=2)
    # What a label costs on average; that all were alike still leaves some doubt about the spread.
    assert smooth.core_hours.expected == pytest.approx(100 * 100 / 3600, rel=0.01) and smooth.labels == 100
    # Four cores per worker, two workers.
    assert smooth.wall_hours.expected == pytest.approx(smooth.core_hours.expected / 4 / 2)
    for _ in range(10):
        costs.add_failure("not_converged", 300.0, apart=False)
    costs.add_failure("node_lost", None, apart=False)  # it uses up no budget
    rough = costs.predict(100, workers=None)
    assert rough.labels == 75 and rough.overhead == pytest.approx(1.0) and rough.wall_hours is None
    assert rough.core_hours.expected == pytest.approx(0.75 * 2 * smooth.core_hours.expected)
    assert (costs.failures, costs.failed_core_seconds) == (10, 3000.0)


def test_retries_of_a_label_are_part_of_its_cost_and_take_no_other_labels_place():
    costs = Costs()
    for _ in range(50):
        costs.add_failure("not_converged", 100.0, apart=False)
        costs.add_label(summary(core_seconds=100.0), apart=False)
    found = costs.predict_labels(50, workers=None)
    assert found.labels == 50 and found.core_hours.expected == pytest.approx(50 * 200 / 3600, rel=0.01)


def test_labels_of_known_sizes():
    """Nothing is left to chance but the spread of each: as many atoms as 10 small and 10 large frames have."""
    costs = Costs()
    for atoms, price in [(10, 10.0), (100, 1000.0)] * 50:
        costs.add_label(summary(atoms, core_seconds=price), apart=False)
    few = costs.predict_labels(20, None, sizes={10: 20})
    assert few.core_hours.expected == pytest.approx(20 * 10 / 3600, rel=0.01)
    known = costs.predict_labels(20, None, sizes={10: 10, 100: 10})
    alike = costs.predict_labels(20, None)
    assert known.core_hours.expected == alike.core_hours.expected == pytest.approx(10 * 1010 / 3600, rel=0.01)
    # Of twenty frames, half a dozen to fourteen are large: ±22 % of the cost.
    width = np.log(alike.core_hours.high / alike.core_hours.low)
    assert 0.2 < width / 2 < 0.3 and np.log(known.core_hours.high / known.core_hours.low) < 0.2 * width


def test_isolated_atoms_cost_but_foretell_nothing():
    costs = Costs()
    costs.add_label(summary(1, core_seconds=5000.0), apart=True)
    costs.add_failure("walltime", 7000.0, apart=True)
    assert costs.predict(10, workers=1) is None and not costs.by_atoms
    costs.add_label(summary(50, core_seconds=10.0), apart=False)
    assert costs.core_seconds == 5010.0 and costs.failed_core_seconds == 7000.0
    found = costs.predict(10, workers=1)
    assert found.overhead == 0.0 and found.labels == 10 and found.core_hours.expected < 0.1


def test_labels_of_an_older_alpot_are_no_labels_for_nothing():
    costs = Costs()
    old = {"candidate": "c", "key": "k", "outcome": "labelled", "path": "p", "checksum": "0", "seconds": 3.0}
    costs.add_label(LabelSummary.model_validate(old), apart=False)
    assert costs.labels == 0 and costs.predict(10, workers=1) is None


EXPLORE = Task("explore-000001", Kind.EXPLORE, {"generation": None, "starts": 3, "apart": True})


def found(*names):
    return {
        "candidates": [
            {"id": f"explore-000001/{name}", "key": name, "score": 1.0, "reason": "initial", "apart": name == "Al"}
            for name in names
        ]
    }


def label(number, name):
    return Task(f"label-{number:06d}", Kind.LABEL, {"candidate": f"explore-000001/{name}"})


def test_the_status_adds_up_what_the_ledger_says(create):
    directory = create()
    made = {"outcome": "labelled", "path": "p", "checksum": "0"}
    first = made | {"candidate": "explore-000001/a", "key": "a", "seconds": 1800.0, "atoms": 40}
    first |= {"core_seconds": 7200.0, "scf_steps": 21, "peak_memory_MB": 812.5}
    alone = made | {"candidate": "explore-000001/Al", "key": "Al", "seconds": 900.0, "atoms": 1}
    alone |= {"core_seconds": 3600.0, "scf_steps": 31, "peak_memory_MB": 90.0, "isolated_atoms": {"Al": -53.1}}
    failed = events.task_failed(label(3, "b"), FailureClass.NOT_CONVERGED, "no", "", 1800.0)
    with Ledger(directory.ledger) as ledger:
        for event in (
            events.opened(config="c0ffee", host="here", pid=1, version="0", label_workers=4),
            events.task_started(EXPLORE),
            events.task_finished(EXPLORE, found("a", "b", "Al"), 1.0),
            events.task_started(label(1, "Al")),
            events.task_finished(label(1, "Al"), alone, 901.0),
            events.task_started(label(2, "a")),
            events.task_finished(label(2, "a"), first, 1801.0),
            events.task_started(label(3, "b")),
            failed,
        ):
            ledger.append(event)
    status = campaign_status(directory)
    assert status.isolated_atoms == {"Al": -53.1} and status.labels.training == 1
    costs = status.costs
    assert (costs.label_core_hours, costs.failure_core_hours) == (3.0, 0.5)
    assert (costs.core_seconds_per_label, costs.scf_steps_per_label, costs.peak_memory_MB) == (5400.0, 26.0, 812.5)
    assert costs.prediction.workers == 4 and costs.prediction.overhead == 0.25
    assert costs.prediction.labels == (40 - 2) // 2  # of 40 calculations two are spent, and every second one failed
    said = spent_on(costs)
    assert said == "3 core-hours on labels · 0.5 core-hours on failures · 1.5 core-hours per label" + (
        " · 26 SCF steps per label · at most 812 MB"
    )
    assert to_come(costs.prediction).startswith("about 49") and "for 19 labels" in to_come(costs.prediction)
    assert "on 4 workers" in to_come(costs.prediction)


def test_little_is_said_in_core_seconds():
    assert [core_time(hours) for hours in (0.001, 0.25, 12345.6)] == [
        "3.6 core-s",
        "0.25 core-hours",
        "12,346 core-hours",
    ]
