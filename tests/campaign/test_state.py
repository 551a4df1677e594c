import subprocess
import sys
import time

import pytest

from alpot.campaign import events
from alpot.campaign.events import Task
from alpot.campaign.state import State
from alpot.campaign.subject import Candidate, Kind
from alpot.errors import FailureClass
from alpot.store.ledger import Event


def explored(state: State, candidates, generation=None, simulated=0.0) -> None:
    task = Task(state.work.next_id(Kind.EXPLORE), Kind.EXPLORE, {"generation": generation})
    state.apply(events.task_started(task))
    summary = {"candidates": candidates, "generation": generation, "simulated_time": simulated}
    state.apply(events.task_finished(task, summary, 0.0))


def candidate(name: str, score: float, *, cost: float = 1.0, audit: bool = False) -> dict:
    return {"id": name, "key": f"key of {name}", "score": score, "cost": cost, "reason": "uncertain", "audit": audit}


def labelled(state: State) -> str:
    chosen = state.candidates.next
    task = Task(state.work.next_id(Kind.LABEL), Kind.LABEL, {"candidate": chosen.id})
    state.apply(events.task_started(task))
    summary = {"candidate": chosen.id, "key": chosen.key, "outcome": "labelled", "path": "labels/x.h5", "checksum": "0"}
    state.apply(events.task_finished(task, summary, 0.0))
    return chosen.id


def judged(verdict: bool | None) -> dict:
    return {"system": "fcc Al", "name": "C11", "ok": verdict, "tolerance": "±10 %"}


def promoted(state: State, generation: int, *, verdicts: tuple[bool | None, ...] = ()) -> None:
    task = Task(state.work.next_id(Kind.ASSESS), Kind.ASSESS, {"generation": generation, "final": False, "unseen": 0})
    state.apply(events.task_started(task))
    summary = {"generation": generation, "promote": True, "properties": [judged(verdict) for verdict in verdicts]}
    state.apply(events.task_finished(task, summary, 0.0))


def test_audit_comes_first_then_what_teaches_most_for_its_cost():
    state = State()
    names = [
        candidate("dull", 0.1), candidate("dear", 3.0, cost=10), candidate("audit", 0.0, audit=True),
        candidate("best", 2.0), candidate("early", 1.0), candidate("late", 1.0),
    ]  # fmt: skip
    explored(state, names)
    assert [labelled(state) for _ in names] == ["audit", "best", "early", "late", "dear", "dull"]
    assert state.candidates.next is None
    assert state.dataset.training.size == 5
    assert list(state.dataset.audit.loose) == ["key of audit"] and state.dataset.audit.size == 1


def test_equal_structures_wait_once():
    state = State()
    explored(state, [candidate("a", 1.0), candidate("b", 1.0) | {"key": "key of a"}])
    labelled(state)
    explored(state, [candidate("c", 1.0) | {"key": "key of a"}])
    assert state.candidates.dropped == {"duplicate": 2} and not state.candidates.waiting


def test_a_promotion_makes_scores_stale_but_not_the_audit():
    state = State()
    explored(
        state, [candidate("a", 1.0), candidate("b", 2.0), candidate("c", 3.0), candidate("audit", 0.0, audit=True)]
    )
    promoted(state, 1)
    assert set(state.candidates.stale) == {"a", "b", "c"} and state.candidates.next.id == "audit"
    task = Task("score-000001", Kind.SCORE, {"generation": 1, "candidates": ["a", "b"]})
    state.apply(events.task_started(task))
    explored(state, [candidate("late", 9.0)], generation=None)  # an exploration of before the promotion
    summary = {"generation": 1, "scores": {"a": 5.0, "b": 0.1}, "certain": ["b"]}
    state.apply(events.task_finished(task, summary, 0.0))
    assert set(state.candidates.stale) == {"c", "late"} and set(state.candidates.waiting) == {"audit", "a"}
    assert state.candidates.dropped == {"certain": 1}


def test_scores_of_an_outdated_model_stay_stale():
    state = State()
    explored(state, [candidate("a", 1.0)])
    promoted(state, 1)
    task = Task("score-000001", Kind.SCORE, {"generation": 1, "candidates": ["a"]})
    state.apply(events.task_started(task))
    promoted(state, 2)
    state.apply(events.task_finished(task, {"generation": 1, "scores": {"a": 5.0}}, 0.0))
    assert set(state.candidates.stale) == {"a"} and state.candidates.next is None


def test_quiet_time_counts_what_the_promoted_generation_simulates():
    state = State()
    promoted(state, 1)
    explored(state, [candidate("audit", 0.0, audit=True)], generation=1, simulated=3.0)
    explored(state, [], generation=None, simulated=100.0)
    assert state.quiet == 3.0
    explored(state, [candidate("a", 1.0)], generation=1, simulated=3.0)
    assert state.quiet == 0.0 and state.simulated == 106.0


def test_several_frames_of_one_walker_are_one_surprise_and_quiet_begins_anew():
    state = State()
    promoted(state, 1)
    explored(state, [candidate("a/1", 1.0), candidate("a/2", 1.0)], generation=1, simulated=5.0)
    assert state.quiet == 0.0
    for number in range(2):
        explored(state, [candidate(f"audit {number}", 0.0, audit=True)], generation=1, simulated=5.0)
    assert state.quiet == 10.0


def learned(state: State, generation: int, labels: int, error: float | None, *, promote: bool = True, **training):
    """A generation with so many more labels, trained and assessed."""
    found = [candidate(f"{generation}-{number}", 1.0) for number in range(labels)]
    explored(state, found, generation=state.promoted)
    state.candidates.keep_scores([*state.candidates.stale])
    for _ in range(labels):
        labelled(state)
    task = Task(state.work.next_id(Kind.TRAIN), Kind.TRAIN, {"generation": generation})
    state.apply(events.task_started(task))
    made = {"generation": generation, "path": "p", "checksum": "0"} | training
    state.apply(events.task_finished(task, made, 0.0))
    task = Task(state.work.next_id(Kind.ASSESS), Kind.ASSESS, {"generation": generation, "final": False, "unseen": 0})
    state.apply(events.task_started(task))
    summary = {"generation": generation, "promote": promote, "audit_labels": 20}
    state.apply(events.task_finished(task, summary | ({} if error is None else {"force_error": error}), 0.0))


def test_the_learning_curve_knows_what_labels_have_bought():
    state = State()
    learned(state, 1, 5, None)  # there is no audit yet
    learned(state, 2, 5, 0.3)
    learned(state, 3, 8, 0.9, promote=False)
    learned(state, 4, 8, 0.2, refused={"key of 4-0": "in Hartree", "key of 4-1": "in Hartree"})
    known = [(p.labels, p.calculations, p.force_error) for p in state.learning_points]
    # Generation 3 was not used: its labels have bought nothing by then.
    assert known == [(10, 10, 0.3), (18, 18, 0.3), (24, 26, 0.2)]
    assert state.learning_curve is not None and state.learning_curve.last == 24


def test_good_generations_are_counted_in_a_row():
    state = State()
    counts = []
    # One that could not be judged is not good.
    for generation, verdicts in enumerate(
        [(True,), (True, True), (True, False), (None,), (), (True, None), (True,)], 1
    ):
        promoted(state, generation, verdicts=verdicts)
        counts.append(state.good_generations)
    assert counts == [1, 2, 0, 0, 0, 0, 1]


@pytest.mark.parametrize("outcome", ["not promoted", "given up"])
def test_a_generation_that_is_not_used_is_no_good_one(outcome):
    state = State()
    promoted(state, 1, verdicts=(True,))
    task = Task(state.work.next_id(Kind.ASSESS), Kind.ASSESS, {"generation": 2, "final": False, "unseen": 0})
    state.apply(events.task_started(task))
    if outcome == "given up":
        state.apply(events.task_failed(task, FailureClass.BUG, "message"))
        state.apply(events.task_abandoned(task.id, FailureClass.BUG, counts=True))
    else:
        summary = {"generation": 2, "promote": False, "properties": [judged(True)]}
        state.apply(events.task_finished(task, summary, 0.0))
    assert state.good_generations == 0 and state.promoted == 1


def test_an_interrupted_attempt_is_in_flight_once():
    state = State()
    task = Task("explore-000001", Kind.EXPLORE, {"generation": None})
    state.apply(events.task_started(task))
    state.apply(events.task_started(task.again()))
    assert state.work.in_flight[Kind.EXPLORE] == state.work.started[Kind.EXPLORE] == 1
    state.apply(events.task_failed(task.again(), FailureClass.UNKNOWN, "message"))
    assert not state.work.tasks and state.work.in_flight[Kind.EXPLORE] == 0


def test_refused_and_lost_labels_are_not_used_any_more():
    state = State()
    explored(state, [candidate("a", 3.0), candidate("b", 2.0), candidate("c", 1.0), candidate("d", 0.0, audit=True)])
    for _ in range(4):
        labelled(state)
    task = Task("train-000001", Kind.TRAIN, {"generation": 1, "labels": 3, "refused": 0})
    state.apply(events.task_started(task))
    shard = {"path": "dataset/shard-00001.h5", "checksum": "0", "keys": ["key of a", "key of c"]}
    result = {"generation": 1, "path": "models/gen-0001", "checksum": "0", "compacted": [shard]}
    state.apply(events.task_finished(task, result | {"refused": {"key of b": "in Hartree"}}, 0.0))
    dataset = state.dataset
    assert dataset.refused == {"key of b": "in Hartree"}
    assert dataset.training.size == 2 and list(dataset.training.loose) == ["key of b"]
    reasons = dict.fromkeys(["key of a", "key of b", "key of c", "key of d"], "damaged")
    state.apply(events.labels_lost(reasons, audit=["key of d"], shards=["dataset/shard-00001.h5"]))
    assert dataset.training.size == dataset.audit.size == 0 and dataset.training.shards == []
    assert dataset.refused["key of b"] == "in Hartree" and len(dataset.refused) == 4


def test_labels_that_were_found_elsewhere():
    state = State()
    explored(state, [candidate("a", 3.0), candidate("b", 0.0, audit=True)])
    labelled(state)
    labelled(state)
    shard = {"checksum": "0"}
    state.apply(events.labels_moved([shard | {"path": "dataset/shard-00001.h5", "keys": ["key of a"]}]))
    state.apply(events.labels_moved([shard | {"path": "dataset/audit-1.h5", "keys": ["key of b"], "audit": True}]))
    training, audit = state.dataset.training, state.dataset.audit
    assert not training.loose and training.shards == ["dataset/shard-00001.h5"]
    assert not audit.loose and audit.shards == ["dataset/audit-1.h5"]
    assert training.size == audit.size == 1


def test_frames_are_spent_when_all_their_candidates_are_settled():
    state = State()
    names = [f"explore-000001/{number}" for number in range(3)]
    explored(state, [candidate(names[0], 1.0), candidate(names[1], 2.0) | {"key": "k"}, candidate(names[2], 0.0)])
    explored(state, [candidate("explore-000002/0", -1.0) | {"key": "k"}])
    assert state.candidates.spent == {"explore-000002"}  # a duplicate
    labelled(state)
    labelled(state)
    assert state.candidates.spent == {"explore-000002"}
    labelled(state)
    assert state.candidates.spent == {"explore-000001", "explore-000002"}


def test_an_unknown_event_is_refused():
    with pytest.raises(ValueError, match="unknown kind 'miracle'"):
        State().apply(Event(kind="miracle", payload={}))


def test_the_work_per_event_does_not_grow():
    """The second half of 20,000 labels takes no longer than the first (3: the machine is shared)."""
    state = State()
    times = []
    for half in range(2):
        started = time.process_time()
        for batch in range(100):
            explored(state, [candidate(f"{half}/{batch}/{number}", number % 7) for number in range(100)])
            for _ in range(100):
                labelled(state)
        times.append(time.process_time() - started)
    assert state.dataset.training.size == 20_000
    assert times[1] < 3 * times[0]


def test_deciding_needs_no_heavy_library():
    code = "import sys, alpot.campaign.policy; print(sorted({'torch', 'ase', 'parsl', 'h5py'} & sys.modules.keys()))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


@pytest.mark.parametrize("has_failed", [False, True])
def test_a_candidate_is_withdrawn_with_its_task_and_given_again(has_failed):
    state = State()
    given = [Candidate.model_validate(candidate(f"given-1/{number}", 1.0)) for number in range(2)]
    state.apply(events.candidates_given(given, "a"))
    task = Task(state.work.next_id(Kind.LABEL), Kind.LABEL, {"candidate": "given-1/0"})
    state.apply(events.task_started(task))
    if has_failed:
        state.apply(events.task_failed(task, FailureClass.UNKNOWN, "as told"))
    state.apply(events.candidates_withdrawn(["given-1/0", "given-1/1"]))
    candidates = state.candidates
    assert not (candidates.waiting or candidates.labelling or candidates.keys)
    assert not (state.work.courses or state.work.pending(Kind.LABEL))
    assert candidates.dropped == {"withdrawn": 2} and candidates.spent == {"given-1"}
    state.apply(events.candidates_given(given, "b"))
    assert {entry.reference for entry in candidates.waiting.values()} == {"b"} and not candidates.spent
    assert [labelled(state), labelled(state)] == ["given-1/0", "given-1/1"]
