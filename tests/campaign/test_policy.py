from dataclasses import replace

import pytest
from fake_campaign import InProcess, policy

from alpot.campaign import events
from alpot.campaign.events import Ending, Task
from alpot.campaign.policy import PolicySettings, decide, is_lifted
from alpot.campaign.state import State, Waiting
from alpot.campaign.subject import AssessSummary, Candidate, Kind
from alpot.errors import FailureClass


def settings(workers: int = 1, **changes) -> PolicySettings:
    return policy(InProcess(workers), **changes)


def running(**changes) -> State:
    """A campaign that explores with its first generation."""
    state = State(initial_found=True, generations=1, promoted=1, train_labels=10)
    for name, value in changes.items():
        setattr(state, name, value)
    return state


def waiting(state: State, count: int, *, stale: bool = False) -> State:
    for number in range(count):
        candidate = Candidate(id=f"c{number}", key=f"k{number}", score=float(number), reason="uncertain")
        state._enqueue(Waiting(candidate, state.promoted))
    if stale:
        state.stale, state.waiting = state.waiting, {}
    return state


def started(event) -> tuple[str, dict]:
    assert event is not None and event.kind == "task_started"
    return event.payload["kind"], event.payload["spec"]


def all_decisions(state: State, settings: PolicySettings) -> list[str]:
    """What is started until no slot is free."""
    kinds = []
    while (event := decide(state, settings)) is not None:
        state.apply(event)
        kinds.append(event.payload["kind"])
    return kinds


def failed(state: State, kind: Kind, spec: dict, *failures: FailureClass) -> Task:
    task = Task(state.next_id(kind), kind, spec)
    for failure in failures:
        state.apply(events.task_started(task))
        state.apply(events.task_failed(task, failure, "message"))
        task = task.again()
    return task


def test_begins_with_starts():
    assert started(decide(State(), settings(initial_labels=7))) == ("explore", {"generation": None, "starts": 7})
    assert all_decisions(State(), settings(workers=4)) == ["explore"]


def test_brought_labels_count_towards_the_first_training():
    some, enough = State(), State()
    some.apply(events.labels_imported([f"k{n}" for n in range(4)], [], None))
    assert started(decide(some, settings(initial_labels=7)))[1]["starts"] == 3
    enough.apply(events.labels_imported([f"k{n}" for n in range(8)], ["a"], "dataset/shard-00000.h5"))
    kind, spec = started(decide(enough, settings(initial_labels=7)))
    assert (kind, spec["generation"], spec["parent"], spec["labels"]) == ("train", 1, None, [])
    assert spec["shards"] == ["dataset/shard-00000.h5"] and spec["audit"] == ["a"]


def test_trains_when_enough_is_new():
    assert started(decide(running(unseen=6), settings()))[0] == "train"
    assert started(decide(running(unseen=5), settings()))[0] == "explore"


def test_training_is_not_starved_by_labels():
    assert all_decisions(waiting(running(unseen=6), 5), settings(workers=3)) == ["train", "label", "label"]


def test_assesses_before_it_trains_again():
    state = running(generations=2, unassessed=2, unseen=9)
    kind, spec = started(decide(state, settings()))
    assert kind == "assess" and spec == {"generation": 2, "incumbent": 1, "audit": [], "final": False}
    assert all_decisions(state, settings(workers=2)) == ["assess"]


def test_exploration_is_at_most_one_generation_ahead_of_training():
    # While a generation is assessed (or trained), labels for the next one are gathered, but not for two.
    busy = settings(workers=2, labels_per_generation=6)
    assert all_decisions(running(generations=2, unassessed=2, unseen=5), busy) == ["assess", "explore"]
    assert all_decisions(running(generations=2, unassessed=2, unseen=6), busy) == ["assess"]
    # What waits already is still labelled: it was found, and the label workers are free.
    assert all_decisions(waiting(running(generations=2, unassessed=2, unseen=6), 1), busy) == ["assess", "label"]


def test_stale_candidates_are_scored_in_one_task():
    state = waiting(running(), 3, stale=True)
    assert started(decide(state, settings())) == ("score", {"generation": 1, "candidates": ["c0", "c1", "c2"]})
    assert all_decisions(state, settings(workers=2)) == ["score", "explore"]


def test_the_best_is_labelled_first_and_exploration_fills_the_rest():
    assert started(decide(waiting(running(), 3), settings())) == ("label", {"candidate": "c2"})
    assert all_decisions(waiting(running(), 2), settings(workers=4)) == ["label", "label", "explore", "explore"]


def test_exploration_pauses_when_enough_waits():
    split = replace(settings(), slots={"cpu": 1, "gpu": 9}, pool_of=dict.fromkeys(Kind, "gpu") | {Kind.LABEL: "cpu"})
    state = waiting(running(), 12)
    assert all_decisions(state, split) == ["label"]  # 11 wait, 10 may
    # Each exploration has found four so far: three in flight fill the queue.
    state = running(explorations=2, discoveries=8)
    assert all_decisions(state, split) == ["explore"] * 3


def test_exploration_pauses_when_the_label_budget_is_spoken_for():
    state = waiting(running(calculations=38), 3)
    assert all_decisions(state, settings(workers=9)) == ["label", "label"]


def test_pools_are_filled_separately():
    pools = dict.fromkeys(Kind, "gpu") | {Kind.LABEL: "cpu"}
    split = replace(settings(), slots={"cpu": 3, "gpu": 1}, pool_of=pools)
    assert all_decisions(waiting(running(unseen=6), 5), split) == ["train", "label", "label", "label"]


# ------------------------------------------------------------------------------------------------------- failures


@pytest.mark.parametrize(
    ("failures", "verdict"),
    [
        ([FailureClass.NOT_CONVERGED] * 2, "task_started"),
        ([FailureClass.NOT_CONVERGED] * 3, "not_converged"),
        ([FailureClass.UNKNOWN, FailureClass.WALLTIME, FailureClass.WALLTIME], "walltime"),
        ([FailureClass.NODE_LOST] * 2 + [FailureClass.UNKNOWN] * 2, "task_started"),
        ([FailureClass.NODE_LOST] * 3, "kills its worker"),
        ([FailureClass.UNPHYSICAL_GEOMETRY], "unphysical_geometry"),
    ],
)
def test_verdicts_on_labels(failures, verdict):
    state = waiting(running(), 1)
    failed(state, Kind.LABEL, {"candidate": "c0"}, *failures)
    event = decide(state, settings())
    if verdict == "task_started":
        assert event.kind == verdict
        assert event.payload["id"] == "label-000001" and event.payload["attempt"] == len(failures) + 1
    else:
        assert event.kind == "task_abandoned" and event.payload["reason"] == verdict
        assert event.payload["counts"] == (verdict != "unphysical_geometry")
        state.apply(event)
        assert state.rejected == {verdict: 1} and not state.labelling


def test_lost_workers_do_not_use_up_the_budget():
    state = waiting(running(), 1)
    failed(state, Kind.LABEL, {"candidate": "c0"}, FailureClass.NODE_LOST, FailureClass.UNKNOWN)
    assert state.calculations == 1


def test_a_retry_stays_within_the_label_budget():
    state = waiting(running(calculations=38), 2)
    state.apply(decide(state, settings(workers=2)))
    failed(state, Kind.LABEL, {"candidate": "c0"}, FailureClass.UNKNOWN)  # 39 spent, one in flight
    assert decide(state, settings(workers=2)) is None


def test_other_tasks_have_three_attempts():
    state = running()
    failed(state, Kind.EXPLORE, {"generation": 1}, *[FailureClass.MISSING_PROGRAM] * 3)
    event = decide(state, settings())
    assert event.kind == "task_abandoned" and event.payload["counts"]


# -------------------------------------------------------------------------------------------------------- endings


def ends_by(state: State, settings: PolicySettings) -> str:
    event = decide(state, settings)
    assert event.kind == "ending_began"
    return event.payload["rule"]


def test_rules_to_stop():
    good = AssessSummary(generation=1, promote=True, force_error=0.1, audit_labels=20)
    assert ends_by(running(calculations=40), settings()) == "max_labels"
    assert ends_by(running(), settings(max_generations=1)) == "max_generations"
    assert ends_by(running(quiet=5.0), settings(quiet_time=5.0)) == "quiet_time"
    assert ends_by(running(assessment=good), settings(force_error=0.1, audit_labels=20)) == "force_error"
    assert ends_by(running(given_up=6), settings(max_failures=5)) == "max_failures"


@pytest.mark.parametrize(("error", "labels"), [(0.11, 20), (0.1, 19), (None, 20)])
def test_the_target_needs_a_small_error_on_enough_labels(error, labels):
    found = AssessSummary(generation=1, promote=True, force_error=error, audit_labels=labels)
    state = running(assessment=found)
    assert started(decide(state, settings(force_error=0.1, audit_labels=20)))[0] == "explore"


def test_an_ending_drains_trains_and_assesses():
    state = running(unseen=1, calculations=40)
    state.apply(events.task_started(Task(state.next_id(Kind.EXPLORE), Kind.EXPLORE, {"generation": 1})))
    state.apply(decide(state, settings(workers=2)))
    assert decide(state, settings(workers=2)) is None  # the exploration still runs
    explored = {"candidates": [], "generation": 1}
    state.apply(events.task_finished(state.tasks["explore-000001"], explored, 0.0))
    assert started(decide(state, settings()))[0] == "train"
    state.unseen = 0
    kind, spec = started(decide(state, settings()))
    assert kind == "assess" and spec["final"]
    state.final_assessed = 1
    assert decide(state, settings()).payload == {"reason": "the budget of 40 labels is spent", "failed": False}


def test_an_ending_lasts_until_its_limit_is_changed():
    ending = Ending("max_labels", 40, "the budget is spent")
    assert not is_lifted(ending, settings(max_failures=99))
    assert is_lifted(ending, settings(max_labels=41))


def test_no_decision_after_a_request_to_stop_or_the_end():
    assert decide(running(stop_requested=True), settings()) is None
    assert decide(running(finished="all done"), settings()) is None


def test_says_so_when_nothing_can_be_done():
    event = decide(running(promoted=None), settings())
    assert event.payload["failed"] and "no generation was good enough" in event.payload["reason"]
