"""Whatever happens, in whatever order: the campaign ends, and within its limits."""

import random

from fake_campaign import InProcess, policy
from hypothesis import given, settings
from hypothesis import strategies as st

from alpot.campaign import events
from alpot.campaign.events import Task
from alpot.campaign.policy import PolicySettings, decide
from alpot.campaign.state import State
from alpot.campaign.subject import Kind
from alpot.errors import FailureClass


def summary(task: Task, chance: random.Random) -> dict:
    spec = task.spec
    match task.kind:
        case Kind.EXPLORE:
            count = spec["starts"] if spec["generation"] is None else chance.randrange(6)
            found = [
                {"id": f"{task.id}/{n}", "key": f"{chance.randrange(200)}", "score": chance.random(), "reason": "any"}
                | {"audit": chance.random() < 0.3}
                for n in range(count)
            ]
            return {"candidates": found, "generation": spec["generation"], "simulated_time": 1.0}
        case Kind.LABEL:
            result = {"candidate": spec["candidate"], "key": spec["candidate"], "reason": "as told"}
            if chance.random() < 0.1:
                return result | {"outcome": "rejected"}
            return result | {"outcome": "labelled", "path": "labels/x", "checksum": "0"}
        case Kind.SCORE:
            scores = {name: chance.random() for name in spec["candidates"] if chance.random() < 0.9}
            certain = [name for name in scores if chance.random() < 0.3]
            return {"generation": spec["generation"], "scores": scores, "certain": certain}
        case Kind.TRAIN:
            assert not set(spec["labels"]) & set(spec["audit_labels"])
            result = {"generation": spec["generation"], "path": "models/x", "checksum": "0"}
            result["refused"] = {key: "as told" for key in spec["labels"] if chance.random() < 0.02}
            kinds = [("s", "labels", False), ("a", "audit_labels", True)]
            result["compacted"] = [
                {"path": f"{prefix}{task.id}", "checksum": "0", "keys": spec[name], "audit": audit}
                for prefix, name, audit in kinds
                if spec[name] and chance.random() < 0.5
            ]
            return result
        case Kind.ASSESS:
            promote = chance.random() < 0.8
            return {"generation": spec["generation"], "promote": promote, "audit_labels": len(spec["audit_labels"])}


def outcome(task: Task, chance: random.Random, failing: float):
    if chance.random() < failing:
        failure = chance.choice(list(FailureClass))
        match chance.randrange(3):
            case 0:
                return events.task_failed(task, failure, "as told")
            case 1:
                return events.task_lost(task, failure, "as told", is_suspect=chance.random() < 0.5)
            case 2:
                return events.task_interrupted(task, chance.random())
    return events.task_finished(task, summary(task, chance), 1.0)


def assert_within_limits(state: State, asked: PolicySettings) -> None:
    for pool, slots in asked.slots.items():
        assert sum(state.work.in_flight[kind] for kind in Kind if asked.pool_of[kind] == pool) <= slots
    for kind in (Kind.TRAIN, Kind.ASSESS, Kind.SCORE):
        assert state.work.in_flight[kind] <= 1
    assert state.calculations + state.work.in_flight[Kind.LABEL] <= asked.max_labels
    assert asked.max_generations is None or state.generations <= asked.max_generations


@given(
    seed=st.integers(0, 2**32),
    workers=st.integers(1, 5),
    failing=st.sampled_from([0.0, 0.1, 0.5]),
    max_generations=st.none() | st.integers(1, 4),
    quiet_time=st.none() | st.just(4.0),
)
@settings(max_examples=150, deadline=None)
def test_every_course_ends_within_its_limits(seed, workers, failing, max_generations, quiet_time):
    chance = random.Random(seed)
    asked = policy(InProcess(workers), max_generations=max_generations, quiet_time=quiet_time)
    state, ledger = State(), []

    def record(event):
        ledger.append(event)
        state.apply(event)
        assert_within_limits(state, asked)

    while state.finished is None:
        while (decision := decide(state, asked)) is not None:
            record(decision)
        if state.finished is None:
            assert state.work.tasks, "it waits for nothing"
            record(outcome(state.dataset.expand(chance.choice(list(state.work.tasks.values()))), chance, failing))
        assert len(ledger) < 10_000, "it does not end"
    assert not state.work.tasks
    assert state.has_failed or state.final_assessed == state.promoted is not None
    assert state == State.replay(ledger)
