import numpy as np
import pytest

from alpot.campaign import events
from alpot.campaign.events import Task
from alpot.campaign.subject import Kind
from alpot.errors import FailureClass
from alpot.report.history import History
from alpot.report.utilisation import Utilisation
from alpot.store.ledger import Event


def test_it_equals_counting_at_every_moment():
    rng = np.random.default_rng(4)
    utilisation = Utilisation()
    begins = rng.uniform(0.0, 90.0, 300)
    ends = begins + rng.exponential(5.0, 300)
    for begin, end in zip(begins, ends, strict=True):
        utilisation.add(Kind.LABEL, begin, end)
    moments = np.linspace(0.0, 100.0, 200_001)[:-1] + 0.00025
    counted = ((begins[:, None] <= moments[::20]) & (moments[::20] < ends[:, None])).sum(axis=0)
    edges = np.linspace(0.0, 100.0, 21)
    expected = counted.reshape(20, -1).mean(axis=1)
    # 500 moments per span, each attempt wrong by less than one of them at either end.
    assert utilisation.running(Kind.LABEL, edges) == pytest.approx(expected, abs=0.05)
    assert utilisation.busy_s(Kind.LABEL) == pytest.approx((ends - begins).sum())
    assert utilisation.longest_s(Kind.LABEL) == (ends - begins).max()


def test_nothing_ran():
    utilisation = Utilisation()
    assert utilisation.running(Kind.TRAIN, np.array([0.0, 1.0, 2.0])).tolist() == [0.0, 0.0]
    assert utilisation.busy_s(Kind.TRAIN) == 0 and utilisation.longest_s(Kind.TRAIN) is None


def test_every_way_to_end_is_taken_in():
    """An attempt that finished, one that failed, one whose controller was killed and that was started again."""
    explore = Task("explore-000001", Kind.EXPLORE, {"generation": None, "starts": 2})
    found = [{"id": f"explore-000001/{n}", "key": f"k{n}", "score": 1.0, "reason": "initial"} for n in range(2)]
    label = Task("label-000001", Kind.LABEL, {"candidate": "explore-000001/0"})
    story = (
        (0, events.opened(config="c", host="h", pid=1, version="0")),
        (0, events.task_started(explore)),
        (5, events.task_finished(explore, {"candidates": found}, 5.0)),
        (6, events.task_started(label)),
        (9, events.task_failed(label, FailureClass.NOT_CONVERGED, "no", "", 12.0)),
        (10, events.task_started(label.again())),
        (17, events.stop_requested()),
        (5000, events.opened(config="c", host="h", pid=2, version="0")),  # nobody ran for long
        (5000, events.task_started(label.again().again())),
        (5001, events.stop_requested()),
    )
    history = History.replay(
        Event(
            kind=event.kind,
            payload=event.payload,
            seq=number,
            time=f"2026-01-01T{s // 3600:02}:{s // 60 % 60:02}:{s % 60:02}Z",
        )
        for number, (s, event) in enumerate(story, 1)
    )
    utilisation = history.utilisation
    assert utilisation.ends == {Kind.EXPLORE: [5.0], Kind.LABEL: [9.0, 17.0]}
    assert utilisation.begins == {Kind.EXPLORE: [0.0], Kind.LABEL: [6.0, 10.0]}
    spent = history.spending["initial"]
    assert (spent.labels, spent.failures, spent.failed_core_seconds) == (0, 1, 12.0)


def test_what_still_runs_counts_until_now():
    ended = Utilisation()
    ended.add(Kind.LABEL, 0.0, 4.0)
    now = ended.with_running([(Kind.TRAIN, 6.0), (Kind.LABEL, 8.0)], 10.0)
    edges = np.array([0.0, 5.0, 10.0])
    assert now.running(Kind.TRAIN, edges) == pytest.approx([0.0, 0.8])
    assert now.running(Kind.LABEL, edges) == pytest.approx([0.8, 0.4])
    assert ended.busy_s(Kind.LABEL) == 4.0 and Kind.TRAIN not in ended.ends
