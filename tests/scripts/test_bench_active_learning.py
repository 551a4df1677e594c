"""The benchmark of active learners: its figure of merit, its frames, and two policies from end to end on EMT."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from ase.neighborlist import neighbor_list

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts"))

from active_learning.fingerprints import distances, farthest_points
from active_learning.frames import slipped
from active_learning.plan import quick, schedule_up_to
from active_learning.plot import plot
from active_learning.results import levels, median_need, merge, needed, read, with_settings, write
from active_learning.run import ABLATIONS, POLICIES, open_bench, reference_settings, run_policy
from active_learning.tables import print_results

LABELS = 12


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Two policies on a tiny bench."""
    folder = tmp_path_factory.mktemp("bench")
    plan = quick(LABELS)
    settings = reference_settings("emt")
    bench = open_bench(settings, folder, folder, plan)
    parts = [
        with_settings({"reference": "emt", **run_policy(name, 0, plan, bench, folder)}, plan.to_json())
        for name in ("paper", "alpot")
    ]
    return merge({}, parts)["runs"], parts


def test_labels_are_counted_at_each_generation(runs):
    for run in runs[0]:
        labels = [point["labels"] for point in run["curve"]]
        assert labels == list(quick(LABELS).schedule)
        for point in run["curve"]:
            # What the audit has is paid for and not trained on.
            assert point["trained_on"] + point["audit"] + point["costs"]["rejected"] == point["labels"]
            assert 0.0 < point["force"] < point["force_99"]
        assert run["duplicates"]["exact"] == 0
        assert len(run["stability"]) == len(run["curve"][-1]["groups"]) == 8


def test_only_alpot_pays_for_an_audit_and_knows_its_errors(runs):
    last = {run["policy"]: run["curve"][-1] for run in runs[0]}
    assert last["paper"]["audit"] == 0 and last["paper"]["coverage"] is None
    assert last["alpot"]["audit"] > 0 and 0.0 <= last["alpot"]["coverage"] <= 1.0


def test_results_survive_their_file_and_a_repeated_run_counts_once(runs, tmp_path, capsys):
    path = tmp_path / "active_learning.json"
    write(path, merge({}, runs[1]))
    content = read(path)
    assert content == json.loads(json.dumps(merge({}, runs[1])))
    write(path, merge(content, runs[1]))
    assert read(path) == content
    assert [run["policy"] for run in content["runs"]] == ["alpot", "paper"]
    assert set(content["settings"]) == {run["settings"] for run in content["runs"]}
    print_results(content["runs"])
    assert "what is needed for the same force error" in capsys.readouterr().out
    figures = [tmp_path / "first.svg", tmp_path / "second.svg"]
    for figure in figures:
        plot(content["runs"], "emt", figure)
    assert figures[0].read_bytes() == figures[1].read_bytes()


def test_what_is_needed_follows_a_power_law_exactly_between_measurements():
    amounts = [40, 80, 160]
    errors = [0.2 * (n / 40) ** -0.7 for n in amounts]
    # A power law is a straight line on a log-log scale: only rounding is left.
    assert needed(amounts, errors, 0.2 * (57 / 40) ** -0.7) == pytest.approx(57.0, rel=1e-12)
    assert needed(amounts, errors, 0.5) == 40.0
    assert needed(amounts, errors, 0.9 * errors[-1]) is None
    assert needed(amounts, [0.2, 0.1, 0.15], 0.12) < 80.0


def test_medians_count_runs_that_never_got_there():
    def run(policy, seed, last):
        points = [{"labels": n, "force": f, "costs": {}} for n, f in ((40, 0.2), (160, last))]
        return {"policy": policy, "seed": seed, "curve": points}

    runs = [run("random", seed, last) for seed, last in enumerate((0.05, 0.18, 0.19))]
    assert median_need(runs, 0.1) is None
    assert median_need(runs, 0.18) == pytest.approx(160.0)
    ours = [run("alpot", seed, 0.05) for seed in range(3)]
    easy, hard = levels(runs + ours)
    assert easy == pytest.approx(0.18) and 0.05 < hard < easy


def test_schedules_grow_evenly_to_the_budget():
    assert schedule_up_to(200) == (40, 60, 90, 135, 200)
    assert schedule_up_to(20) == (20,)


def test_a_whole_slip_is_the_intrinsic_fault_and_none_is_the_crystal():
    nearest = 4.05 / np.sqrt(2.0)
    for share in (0.0, 1.0):
        # Close-packed planes on each other: each atom has twelve neighbors at the same distance. Rounding only.
        center, distance = neighbor_list("id", slipped(share), 1.2 * nearest)
        assert np.bincount(center).tolist() == [12] * 54
        assert np.allclose(distance, nearest, atol=1e-9)
    # Twice as far, atoms of the two planes are on top of each other: as far apart as planes.
    assert neighbor_list("d", slipped(2.0), nearest).min() == pytest.approx(4.05 / np.sqrt(3.0))
    # The third shell of hcp, at √(8/3) of the nearest distance, tells the fault from the crystal.
    third = np.sqrt(8.0 / 3.0) * nearest
    shells = [np.isclose(neighbor_list("d", slipped(share), 1.1 * third), third).sum() for share in (0.0, 1.0)]
    assert shells[0] == 0 and shells[1] > 0


def test_farthest_points_spread_over_a_line():
    pool = np.linspace(0.0, 1.0, 11)[:, None]
    assert farthest_points(pool, pool[:1], 2) == [10, 5]
    assert sorted(farthest_points(pool, pool[:1], 20)) == list(range(11))
    # Of the order of the square root of the rounding of squares.
    assert np.allclose(distances(pool, pool), np.abs(pool - pool.T), atol=1e-7)


def test_every_part_of_alpots_rules_can_be_left_out():
    assert {"alpot-calibration", "alpot-rescoring", "alpot-novelty", "alpot-several-frames"} < set(ABLATIONS)
    assert not set(ABLATIONS) & set(POLICIES)
