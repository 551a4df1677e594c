import json
import os
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts"))

import simulate_campaign
from simulation.alf_rules import run_alf
from simulation.alpot_rules import run_alpot
from simulation.cluster import Cluster, End, Job, PoolSettings
from simulation.ledger_check import check_ledger, measure_replay
from simulation.plan import Plan
from simulation.synchronous_rules import run_synchronous
from simulation.workload import HOUR, Workload
from simulation.world import World

from alpot.store.ledger import Ledger

SMALL = Plan(workers=20, labels=250, seed=3)


@pytest.fixture(autouse=True, scope="module")
def without_waiting_for_the_disk():
    prepare = Ledger._prepare

    def prepare_fast(self):
        prepare(self)
        self._connection.execute("PRAGMA synchronous = OFF")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Ledger, "_prepare", prepare_fast)
        patch.setattr(os, "fsync", lambda _: None)
        yield


def pool(**changes):
    settings = {"slots": 2, "node_slots": 2, "queue_median": 100.0, "queue_spread": 0.0, "node_mtbf": float("inf")}
    return Cluster({"label": PoolSettings(**(settings | changes))}, seed=1)


def submit(cluster, seconds, ends, **more):
    cluster.pools["label"].submit(
        Job(seconds, lambda end, ran: ends.append((end, round(ran), round(cluster.now))), **more)
    )


def advance_to(cluster, time):
    reached = []
    cluster.at(time, lambda: reached.append(True))
    while not reached:
        cluster.advance()


def test_jobs_wait_for_a_node_then_for_a_slot():
    cluster, ends = pool(), []
    for seconds in (50, 60, 70):
        submit(cluster, seconds, ends)
    advance_to(cluster, 1000)
    assert ends == [(End.DONE, 50, 150), (End.DONE, 60, 160), (End.DONE, 70, 220)]
    cluster.pools["label"].settle()
    assert cluster.pools["label"].busy_time == 180
    assert cluster.pools["label"].accepting_time == 2 * 900


def test_at_the_walltime_work_is_lost_or_interrupted_and_a_draining_node_takes_none():
    cluster, ends = pool(walltime=1000.0, drain=200.0), []
    submit(cluster, 5000, ends)
    submit(cluster, 5000, ends, saves_itself=True)
    advance_to(cluster, 950)
    submit(cluster, 10, ends)
    advance_to(cluster, 1500)
    # The node was there from 100 to 1100; the next one comes at 1200. The loss is noticed by its silence.
    assert ends == [(End.INTERRUPTED, 1000, 1100), (End.WALLTIME, 1000, 1130), (End.DONE, 10, 1210)]
    assert cluster.pools["label"].lost_time == 1000


def test_nodes_fail_as_often_as_told():
    cluster = pool(slots=400, node_slots=4, node_mtbf=100 * HOUR, walltime=1000 * HOUR)
    advance_to(cluster, 100 * HOUR)
    assert 70 < cluster.pools["label"].nodes_lost < 130


def test_when_the_controller_dies_only_what_is_nearly_done_comes_to_its_end():
    cluster, ends = pool(), []
    submit(cluster, 50, ends)
    submit(cluster, 500, ends)
    advance_to(cluster, 120)
    finished = cluster.pools["label"].vanish(60.0)
    advance_to(cluster, 2000)
    assert [job.duration for job in finished] == [50]
    assert ends == []
    assert cluster.pools["label"].running == 0


def test_discoveries_thin_out_and_what_one_model_finds_the_next_may_know():
    world = World(Workload(seed=1))
    draw = np.random.default_rng(1)
    young = [len(world.explore(0, draw)) for _ in range(200)]
    found = [one for _ in range(200) for one in world.explore(0, draw) if not one.audit]
    old = [len(world.explore(100_000, draw)) for _ in range(200)]
    assert sum(old) < 0.4 * sum(young)
    still = np.mean([world.is_uncertain(one.structure, 100_000) for one in found])
    expected = world.workload.novelty(100_000) / world.workload.novelty(0)
    assert still == pytest.approx(expected, abs=0.02)


def test_labels_are_as_dear_as_stated():
    workload = Workload()
    times = np.log([workload.label_time(number) for number in range(20_000)])
    sizes = workload.label_exponent * np.log(np.arange(55, 251) / 108)
    assert np.std(times) == pytest.approx(np.hypot(workload.label_spread, np.std(sizes)), rel=0.02)
    assert workload.train_time(20_000) == pytest.approx(2 * workload.train_time(10_000), rel=0.1)


@pytest.fixture(scope="module")
def alpot(tmp_path_factory):
    folder = tmp_path_factory.mktemp("simulated") / "campaign"
    return run_alpot(Plan(workers=20, labels=250, seed=3, kill_at=0.5), folder), folder


def test_alpot_loses_nothing_though_its_controller_is_killed(alpot):
    run, _ = alpot
    assert (run.lost, run.recorded_twice, run.computed_twice, run.more["unknown_labels"]) == (0, 0, 0, 0)
    assert run.labels > 0.9 * SMALL.labels
    assert run.more["why it ended"] == f"the budget of {SMALL.labels} labels is spent"


def test_what_the_ledger_says_is_compared_with_the_truth(alpot):
    run, folder = alpot
    found = check_ledger(folder / "ledger.sqlite", {"a label that nobody has recorded"})
    assert (found.labels, found.unknown) == (0, run.labels)
    replay = measure_replay(folder / "ledger.sqlite")
    assert replay["labels"] == run.labels
    assert replay["events"] == run.more["events"]


def test_the_same_seed_gives_the_same_campaign(tmp_path):
    first, second = (run_alpot(SMALL, tmp_path / name) for name in ("first", "second"))
    assert (first.hours, first.labels, first.generations) == (second.hours, second.labels, second.generations)


def test_other_rules_are_slower_or_risk_more(alpot):
    run, _ = alpot
    synchronous, alf = run_synchronous(SMALL), run_alf(SMALL)
    assert run.labels_per_hour > 2 * synchronous.labels_per_hour
    assert synchronous.lost == 0
    assert alf.held > 0
    assert alf.given_up > run.given_up


def test_the_script_writes_what_it_prints(tmp_path, monkeypatch, capsys):
    file = tmp_path / "figures.json"
    arguments = ["simulate_campaign", "--workers", "10", "--labels", "60", "--rules", "alpot", "--json", str(file)]
    monkeypatch.setattr(sys, "argv", [*arguments, "--ledger-directory", str(tmp_path)])
    status = simulate_campaign.main()
    figures = json.loads(file.read_text())
    assert status == (0 if all(one["kept"] for one in figures["promises"]) else 1)
    assert "labels recorded twice" in capsys.readouterr().out
    assert figures["runs"][0]["lost"] == 0
    assert 0 < figures["runs"][0]["busy"]["label"] <= 1
