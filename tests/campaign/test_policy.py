from dataclasses import replace

import pytest
from fake_campaign import InProcess, policy

from alpot.campaign import events
from alpot.campaign.dataset import Dataset, LabelSet
from alpot.campaign.events import Ending, Task
from alpot.campaign.forecast import LearningPoint, fit_learning_curve
from alpot.campaign.policy import PolicySettings, decide, is_lifted, verdict
from alpot.campaign.state import State
from alpot.campaign.subject import AssessSummary, Candidate, Kind, ScoreSummary
from alpot.campaign.work import Work
from alpot.errors import FOR_THE_USER, FailureClass


def settings(workers: int = 1, **changes) -> PolicySettings:
    return policy(InProcess(workers), **changes)


def running(*, labels: int = 10, unseen: int = 0, **changes) -> State:
    """A campaign that explores with its first generation."""
    state = State(**{"initial_found": True, "generations": 1, "promoted": 1} | changes)
    state.dataset.training = LabelSet(labels, unseen)
    return state


def waiting(state: State, count: int, *, stale: bool = False) -> State:
    names = range(count)
    found = [Candidate(id=f"c{n}", key=f"k{n}", score=float(n), reason="uncertain") for n in names]
    state.candidates.add(found, state.promoted)
    if not stale:
        scores = {candidate.id: candidate.score for candidate in found}
        summary = ScoreSummary(generation=state.promoted, scores=scores)
        state.candidates.judge(list(state.candidates.stale), summary, state.promoted)
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
    task = Task(state.work.next_id(kind), kind, spec)
    for failure in failures:
        state.apply(events.task_started(task))
        state.apply(events.task_failed(task, failure, "message"))
        task = task.again()
    return task


def lost(state: State, task: Task, times: int, *, is_suspect: bool) -> Task:
    for _ in range(times):
        state.apply(events.task_started(task))
        state.apply(events.task_lost(task, FailureClass.NODE_LOST, "message", is_suspect=is_suspect))
        task = task.again()
    return task


def test_begins_with_starts():
    assert started(decide(State(), settings(initial_labels=7))) == (
        "explore",
        {"generation": None, "starts": 7, "apart": False},
    )
    assert all_decisions(State(), settings(workers=4)) == ["explore"]


def test_brought_labels_count_towards_the_first_training():
    some, enough = State(), State()
    some.apply(events.labels_imported([f"k{n}" for n in range(4)], [], [], []))
    assert started(decide(some, settings(initial_labels=7)))[1]["starts"] == 3
    enough.apply(events.labels_imported([f"k{n}" for n in range(8)], ["a"], ["dataset/shard-00000.h5"], []))
    decision = decide(enough, settings(initial_labels=7))
    kind, spec = started(decision)
    assert (kind, spec["generation"], spec["parent"], spec["labels"], spec["shards"]) == ("train", 1, None, 0, 1)
    worker = enough.dataset.expand(Task.load(decision.payload)).spec
    assert worker["shards"] == ["dataset/shard-00000.h5"]
    assert (worker["labels"], worker["audit_labels"], worker["refused"], worker["generation"]) == ([], ["a"], [], 1)


def test_the_first_training_does_not_wait_for_the_last_few_labels():
    state, few = State(), settings(workers=40, initial_labels=20)
    explore = Task.load(decide(state, few).payload)
    state.apply(events.task_started(explore))
    found = [{"id": f"e/{n}", "key": f"k{n}", "score": 1.0, "reason": "initial"} for n in range(20)]
    state.apply(events.task_finished(explore, {"candidates": found}, 1.0))
    assert all_decisions(state, few) == ["label"] * 20
    for task in list(state.work.tasks.values())[:17]:
        assert decide(state, few) is None
        summary = {"candidate": task.spec["candidate"], "key": f"key of {task.id}", "outcome": "labelled"}
        state.apply(events.task_finished(task, summary | {"path": "labels/x.h5", "checksum": "0"}, 1.0))
    assert decide(state, few) is None  # three of twenty are still computed
    task = next(iter(state.work.tasks.values()))
    state.apply(events.task_failed(task, FailureClass.UNPHYSICAL_GEOMETRY, "message"))
    assert decide(state, few).kind == "task_abandoned"
    state.apply(decide(state, few))
    assert started(decide(state, few))[0] == "train"


def test_trains_when_enough_is_new():
    assert started(decide(running(unseen=6), settings()))[0] == "train"
    assert started(decide(running(unseen=5), settings()))[0] == "explore"


def test_lost_models_are_replaced():
    state = running(promoted=2, promotions=[1, 2], generations=3, labels=5, unassessed=3)
    state.apply(events.models_lost([2, 3]))
    assert (state.promoted, state.unassessed) == (1, None)
    kind, spec = started(decide(state, settings()))
    assert kind == "train" and (spec["generation"], spec["parent"]) == (4, 1)
    state = running(promotions=[1], labels=5)
    state.apply(events.models_lost([1]))
    kind, spec = started(decide(state, settings()))
    assert kind == "train" and (spec["generation"], spec["parent"]) == (2, None)


def test_training_is_not_starved_by_labels():
    assert all_decisions(waiting(running(unseen=6), 5), settings(workers=3)) == ["train", "label", "label"]


def test_assesses_before_it_trains_again():
    state = running(generations=2, unassessed=2, unseen=9)
    kind, spec = started(decide(state, settings()))
    counts = dict.fromkeys(("audit_shards", "audit_labels", "refused", "unseen", "apart_labels"), 0)
    counts |= {"shards": 0, "labels": len(state.dataset.training.loose)}
    assert (
        kind == "assess" and spec == {"generation": 2, "incumbent": 1, "final": False, "within_tolerance": []} | counts
    )
    assert all_decisions(state, settings(workers=2)) == ["assess"]


def test_exploration_is_at_most_one_generation_ahead_of_training():
    # While a generation is assessed (or trained), labels for the next one are gathered, but not for two.
    busy = settings(workers=2, labels_per_generation=6)
    assert all_decisions(running(generations=2, unassessed=2, unseen=5), busy) == ["assess", "explore"]
    assert all_decisions(running(generations=2, unassessed=2, unseen=6), busy) == ["assess"]
    # The more a model has seen, the less it is outdated by as many labels.
    grown = running(generations=2, unassessed=2, unseen=6, labels=100)
    assert all_decisions(grown, busy) == ["assess", "explore"]
    # What waits is better chosen by the next model, too, but for one label for each worker.
    assert all_decisions(waiting(running(generations=2, unassessed=2, unseen=8), 1), busy) == ["assess"]
    assert all_decisions(waiting(running(generations=2, unassessed=2, unseen=7), 2), busy) == ["assess", "label"]


def test_one_model_asks_for_a_generation_of_labels_and_for_little_more():
    some = settings(workers=9, labels_per_generation=4)
    pools = dict.fromkeys(Kind, "gpu") | {Kind.LABEL: "cpu"}
    split = replace(some, slots={"cpu": 3, "gpu": 1}, pool_of=pools)
    state = waiting(running(generations=2, unassessed=2, unseen=5), 8)
    assert all_decisions(state, split).count("label") == 2  # 4 and one for each of 3 workers
    # Audit labels are no choice of a model.
    state.candidates.add(
        [Candidate(id=f"a{n}", key=f"a{n}", score=0.0, reason="audit", audit=True) for n in range(2)], 1
    )
    assert all_decisions(state, split) == ["label"]
    many = replace(some, slots={"cpu": 6, "gpu": 1}, pool_of=pools)
    assert all_decisions(waiting(running(), 8), many).count("label") == 6


def test_what_was_found_is_ranked_among_all_that_waits():
    state = waiting(running(unseen=1), 3)
    state.dataset.added = 1  # and learned by no model
    state.apply(decide(state, settings()))
    state.candidates.add([Candidate(id="new", key="new", score=9.0, reason="uncertain")], 1)
    spec = {"generation": 1, "candidates": ["new"], "waiting": ["c0", "c1"], "labelling": ["c2"]}
    decision = decide(state, settings(workers=2))
    assert started(decision) == ("score", spec | {"labels": 0, "unseen": 1})
    state.apply(decision)
    scores = {"new": 0.5, "c0": 2.0, "c1": 0.1}  # c2, which is being labelled, was like c1
    state.apply(events.task_finished(Task.load(decision.payload), {"generation": 1, "scores": scores}, 1.0))
    order = []
    while state.candidates.next is not None:
        order.append(state.candidates.next.id)
        state.candidates.begin(order[-1])
    assert order == ["c0", "new", "c1"]


def test_stale_candidates_are_scored_in_one_task():
    state = waiting(running(), 3, stale=True)
    kind, spec = started(decide(state, settings()))
    assert kind == "score" and spec["candidates"] == ["c0", "c1", "c2"] and spec["waiting"] == []
    assert all_decisions(state, settings(workers=2)) == ["score", "explore"]


def test_labels_that_the_promoted_model_does_not_know_are_told():
    """Those since its training, and those of a later generation that was not promoted."""
    state = running(generations=1, labels=0)
    labels = iter(range(99))

    def label(count: int) -> None:
        for _ in range(count):
            name = f"x{next(labels)}"
            state.candidates.give([Candidate(id=name, key=name, score=1.0, reason="given")], "")
            task = Task(state.work.next_id(Kind.LABEL), Kind.LABEL, {"candidate": name})
            state.apply(events.task_started(task))
            made = {"candidate": name, "key": name, "outcome": "labelled", "path": "labels/x.h5", "checksum": "0"}
            state.apply(events.task_finished(task, made, 1.0))

    def generation(number: int, *, promote: bool) -> None:
        task = Task(state.work.next_id(Kind.TRAIN), Kind.TRAIN, {"generation": number})
        state.apply(events.task_started(task))
        label(1)  # meanwhile
        state.apply(events.task_finished(task, {"generation": number, "path": "p", "checksum": "0"}, 1.0))
        spec = {"generation": number, "final": False, "unseen": 0}
        task = Task(state.work.next_id(Kind.ASSESS), Kind.ASSESS, spec)
        state.apply(events.task_started(task))
        state.apply(events.task_finished(task, {"generation": number, "promote": promote}, 1.0))

    label(5)
    generation(2, promote=True)
    assert state.dataset.unlearned == 1
    label(3)
    generation(3, promote=False)
    assert state.dataset.unlearned == 5
    generation(4, promote=True)
    assert state.dataset.unlearned == 1
    assert list(state.dataset.training.loose)[-state.dataset.unlearned :] == ["x10"]


def test_candidates_whose_frames_were_lost_while_they_were_judged_do_no_harm():
    state = waiting(running(), 2, stale=True)
    decision = decide(state, settings())
    state.apply(decision)
    state.candidates.lose_frames({""})
    summary = {"generation": 1, "scores": {"c0": 1.0, "c1": 2.0}}
    state.apply(events.task_finished(Task.load(decision.payload), summary, 1.0))
    assert state.candidates.next is None


def test_without_a_model_nothing_is_ranked():
    state = waiting(running(promotions=[1]), 2, stale=True)
    state.apply(events.models_lost([1]))
    assert "score" not in all_decisions(state, settings(workers=3))


def test_a_ledger_whose_finds_were_labelled_as_they_came_is_understood():
    state = waiting(running(), 1, stale=True)
    task = Task(state.work.next_id(Kind.LABEL), Kind.LABEL, {"candidate": "c0"})
    state.apply(events.task_started(task))
    assert list(state.candidates.labelling) == ["c0"] and not state.candidates.stale


def test_the_queue_keeps_its_order_and_its_size_over_many_promotions():
    state = waiting(running(), 5)
    for generation in range(2, 50):
        spec = {"generation": generation, "final": False, "unseen": 0}
        assess = Task(state.work.next_id(Kind.ASSESS), Kind.ASSESS, spec)
        state.apply(events.task_started(assess))
        state.apply(events.task_finished(assess, {"generation": generation, "promote": True}, 1.0))
        score = Task.load(decide(state, settings()).payload)
        state.apply(events.task_started(score))
        scores = {f"c{n}": float((n + generation) % 5) for n in range(5)}
        state.apply(events.task_finished(score, {"generation": generation, "scores": scores}, 1.0))
        assert state.candidates.next.id == max(scores, key=scores.__getitem__)
    assert len(state.candidates._queue) == 5


def test_the_best_is_labelled_first_and_exploration_fills_the_rest():
    assert started(decide(waiting(running(), 3), settings())) == ("label", {"candidate": "c2"})
    assert all_decisions(waiting(running(), 2), settings(workers=4)) == ["label", "label", "explore", "explore"]


def test_exploration_pauses_when_enough_waits():
    split = replace(settings(), slots={"cpu": 1, "gpu": 9}, pool_of=dict.fromkeys(Kind, "gpu") | {Kind.LABEL: "cpu"})
    state = waiting(running(), 12)
    assert all_decisions(state, split) == ["label"]  # 11 wait, 10 may
    # Each exploration finds four of late: three in flight fill the queue.
    assert all_decisions(running(discoveries=4.0), split) == ["explore"] * 3


def test_exploration_makes_up_for_the_labels_that_end_meanwhile():
    split = replace(settings(), slots={"cpu": 9, "gpu": 9}, pool_of=dict.fromkeys(Kind, "gpu") | {Kind.LABEL: "cpu"})
    # Of the 28 candidates that seven explorations find, 16 are labelled by the time that they are there: 12 wait.
    assert all_decisions(running(discoveries=4.0, turnover=16.0), split) == ["explore"] * 7


def test_what_explorations_find_of_late_counts():
    state = running()
    for number in range(200):
        task = Task(state.work.next_id(Kind.EXPLORE), Kind.EXPLORE, {"generation": 1})
        state.apply(events.task_started(task))
        state.calculations += 3
        found = [
            {"id": f"{task.id}/{n}", "key": f"{number} {n}", "score": 1.0, "reason": "uncertain"}
            for n in range(8 if number < 100 else 2)
        ]
        state.apply(events.task_finished(task, {"candidates": found, "generation": 1}, 1.0))
    assert state.explorations == 200
    assert state.discoveries == pytest.approx(2.0, abs=0.05) and state.turnover == pytest.approx(3.0)


def test_as_many_candidates_wait_as_there_are_label_workers():
    pools = dict.fromkeys(Kind, "gpu") | {Kind.LABEL: "cpu"}
    split = replace(settings(waiting_candidates=2, max_labels=1000), slots={"cpu": 40, "gpu": 99}, pool_of=pools)
    assert all_decisions(running(discoveries=10.0), split) == ["explore"] * 5


def test_exploration_pauses_when_the_label_budget_is_spoken_for():
    state = waiting(running(calculations=38), 3)
    assert all_decisions(state, settings(workers=9)) == ["label", "label"]


def test_pools_are_filled_separately():
    pools = dict.fromkeys(Kind, "gpu") | {Kind.LABEL: "cpu"}
    split = replace(settings(), slots={"cpu": 3, "gpu": 1}, pool_of=pools)
    assert all_decisions(waiting(running(unseen=6), 5), split) == ["train", "label", "label", "label"]


# ------------------------------------------------------------------------------------------------------- failures


@pytest.mark.parametrize(
    ("failures", "expected"),
    [
        ([FailureClass.NOT_CONVERGED] * 2, "task_started"),
        ([FailureClass.NOT_CONVERGED] * 3, "not_converged"),
        ([FailureClass.UNKNOWN, FailureClass.WALLTIME, FailureClass.WALLTIME], "walltime"),
        ([FailureClass.UNPHYSICAL_GEOMETRY], "unphysical_geometry"),
    ],
)
def test_verdicts_on_labels(failures, expected):
    state = waiting(running(), 1)
    failed(state, Kind.LABEL, {"candidate": "c0"}, *failures)
    event = decide(state, settings())
    if expected == "task_started":
        assert event.kind == expected
        assert event.payload["id"] == "label-000001" and event.payload["attempt"] == len(failures) + 1
    else:
        assert event.kind == "task_abandoned" and event.payload["reason"] == expected
        assert event.payload["counts"] == (expected != "unphysical_geometry")
        state.apply(event)
        assert state.candidates.rejected == {expected: 1} and not state.candidates.labelling


@pytest.mark.parametrize("failure", [FailureClass.NOT_CONVERGED, *sorted(FOR_THE_USER)])
def test_a_label_for_which_all_has_been_tried_is_not_tried_again(failure):
    state = waiting(running(), 1)
    task = Task("label-000001", Kind.LABEL, {"candidate": "c0"})
    state.apply(events.task_started(task))
    state.apply(events.task_failed(task, failure, "message", is_final=True))
    event = verdict(state, settings(), task)
    assert event.kind == "task_abandoned" and event.payload["reason"] == failure and event.payload["counts"]


def test_what_kills_its_worker_three_times_is_quarantined():
    state = waiting(running(), 1)
    task = Task("label-000001", Kind.LABEL, {"candidate": "c0"})
    task = lost(state, task, 2, is_suspect=True)
    again = decide(state, settings())
    assert again.kind == "task_started" and again.payload["attempt"] == 3
    lost(state, task, 1, is_suspect=True)
    event = decide(state, settings())
    assert event.kind == "task_abandoned" and event.payload["reason"] == "kills its worker" and event.payload["counts"]
    state.apply(event)
    assert state.candidates.rejected == {"kills its worker": 1} and state.work.given_up == 1


def test_infrastructure_uses_up_neither_attempts_nor_budget():
    state = waiting(running(), 1)
    task = lost(state, Task("label-000001", Kind.LABEL, {"candidate": "c0"}), 50, is_suspect=False)
    event = decide(state, settings(attempts=1))
    assert event.kind == "task_started" and event.payload["attempt"] == task.attempt == 51
    assert state.calculations == state.work.given_up == 0 and state.work.losses == {FailureClass.NODE_LOST: 50}


def test_a_full_disk_stops_the_campaign_and_costs_nothing():
    state = waiting(running(), 1)
    failed(state, Kind.LABEL, {"candidate": "c0"}, FailureClass.DISK_FULL)
    assert ends_by(state, settings(attempts=1)) == "disk_full"
    state.apply(events.opened(config="0"))
    again = decide(state, settings(attempts=1))
    assert again.kind == "task_started" and (again.payload["attempt"], again.payload["draw"]) == (2, 1)
    assert state.calculations == state.work.given_up == 0


def test_a_disk_that_fails_costs_attempts_but_no_budget():
    state = waiting(running(), 1)
    failed(state, Kind.LABEL, {"candidate": "c0"}, FailureClass.NODE_LOST, FailureClass.UNKNOWN)
    assert state.calculations == 1 and decide(state, settings(attempts=3)).kind == "task_started"
    assert decide(state, settings(attempts=2)).kind == "task_abandoned"


def test_random_numbers_change_only_when_the_task_may_be_at_fault():
    def next_draw(*course) -> int:
        state = running()
        task = Task("explore-000001", Kind.EXPLORE, {"generation": 1})
        for happened in course:
            state.apply(events.task_started(task))
            state.apply(happened(task))
            task = Task.load(decide(state, settings()).payload)
        return task.draw

    def fail(task):
        return events.task_failed(task, FailureClass.BUG, "message")

    def lose(task):
        return events.task_lost(task, FailureClass.NODE_LOST, "message", is_suspect=False)

    def suspect(task):
        return events.task_lost(task, FailureClass.NODE_LOST, "message", is_suspect=True)

    def interrupt(task):
        return events.task_interrupted(task, progress=float(task.attempt))

    assert next_draw(lose, interrupt, suspect, lose) == 1
    assert next_draw(suspect, suspect) == 2
    assert next_draw(fail) == 2
    assert next_draw(fail, interrupt) == 2


def test_an_interrupted_task_goes_on_as_long_as_it_gets_anywhere():
    state = running()
    task = Task("train-000001", Kind.TRAIN, {"generation": 2})
    for progress in [1.0, 2.0, 3.0, 3.0, 3.0, 4.0]:
        state.apply(events.task_started(task))
        state.apply(events.task_interrupted(task, progress))
        task = Task.load(decide(state, settings()).payload)
    assert task.attempt == 7 and not state.work.failures
    for _ in range(9):  # a job too short for any progress: three interruptions count as one failure
        state.apply(events.task_started(task))
        state.apply(events.task_interrupted(task, 4.0))
        event = decide(state, settings())
        if event.kind == "task_started":
            task = Task.load(event.payload)
    assert event.kind == "task_abandoned" and event.payload["reason"] == "walltime"


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
    assert ends_by(running(good_generations=3), settings(good_generations=3)) == "good_generations"
    assert ends_by(running(assessment=good), settings(force_error=0.1, audit_labels=20)) == "force_error"
    assert ends_by(running(work=Work(given_up=6)), settings(max_failures=5)) == "max_failures"

    def refusing(calculations: int) -> State:
        wrong = {f"k{number}": "in Hartree" for number in range(9)}
        return running(dataset=Dataset(refused=wrong), calculations=calculations)

    assert ends_by(refusing(30), settings(max_failures=5)) == "refused"
    assert started(decide(refusing(39), settings(max_failures=6)))[0] == "explore"
    again = refusing(30)
    again.apply(events.opened(config="0"))  # the user has seen the reason
    assert started(decide(again, settings(max_failures=5)))[0] == "explore"


@pytest.mark.parametrize(("error", "labels"), [(0.11, 20), (0.1, 19), (None, 20)])
def test_the_target_needs_a_small_error_on_enough_labels(error, labels):
    found = AssessSummary(generation=1, promote=True, force_error=error, audit_labels=labels)
    state = running(assessment=found)
    assert started(decide(state, settings(force_error=0.1, audit_labels=20)))[0] == "explore"


@pytest.mark.parametrize(("high", "is_met"), [(0.1, True), (0.101, False), (None, True)])
def test_the_target_is_met_by_the_upper_limit_where_it_is_known(high, is_met):
    found = AssessSummary(generation=1, promote=True, force_error=0.08, force_error_high=high, audit_labels=20)
    event = decide(running(assessment=found), settings(force_error=0.1, audit_labels=20, confidence=0.95))
    assert (event.kind == "ending_began") == is_met
    if is_met:
        words = "the force error on audit labels is at most 0.1 eV/Å"  # older ledgers tell no confidence
        assert event.payload["reason"] == words + ("" if high is None else " with 95 % confidence")


def test_a_target_on_errors_and_properties_means_both():
    good = AssessSummary(generation=1, promote=True, force_error=0.08, force_error_high=0.09, audit_labels=20)
    both = settings(force_error=0.1, audit_labels=20, good_generations=2)
    assert started(decide(running(assessment=good, good_generations=1), both))[0] == "explore"
    assert started(decide(running(good_generations=2), both))[0] == "explore"
    event = decide(running(assessment=good, good_generations=2), both)
    assert event.payload["rule"] == "force_error"
    assert "0.1 eV/Å with 90 % confidence and all properties were within" in event.payload["reason"]
    ending = Ending(**event.payload)
    assert not is_lifted(ending, both)
    assert is_lifted(ending, replace(both, good_generations=3)) and is_lifted(ending, replace(both, confidence=0.99))


def learning(exponent: float, *, labels=(40, 60, 90, 120, 160), scatter: float = 0.03) -> dict:
    """What is known of generations whose errors are 0.1 eV/Å at 160 labels, give or take, half of it audit."""
    signs = (1, -1, -1, 1, 0)
    points = [
        LearningPoint(
            labels=n,
            calculations=n * 3 // 2,
            force_error=0.1 * (n / 160) ** -exponent * (1 + scatter * sign),
            audit_labels=n // 2,
        )
        for n, sign in zip(labels, signs, strict=True)
    ]
    found = AssessSummary(generation=5, promote=True, force_error=0.1, force_error_high=0.105, audit_labels=80)
    return {"assessment": found, "learning_points": points, "learning_curve": fit_learning_curve(points)}


FAR = {"force_error": 0.01, "audit_labels": 20, "max_labels": 1000, "out_of_reach": 10.0}


def test_a_target_far_out_of_reach_ends_the_campaign_and_says_why():
    event = decide(running(**learning(0.25)), settings(**FAR))
    assert event.payload["rule"] == "out_of_reach" and not event.payload["failed"]
    reason = event.payload["reason"]
    assert "0.1 eV/Å with 160 labels to train on, falls as their number to the power −0.2" in reason
    assert "0.01 eV/Å would take about" in reason and reason.endswith("and the budget is 1,000")
    ending = Ending(**event.payload)
    assert not is_lifted(ending, settings(**FAR))
    for change in ({"max_labels": 5000}, {"force_error": 0.05}, {"out_of_reach": 0.0}):
        assert is_lifted(ending, settings(**(FAR | change)))


def test_an_error_that_does_not_fall_is_told_as_such():
    event = decide(running(**learning(0.0, scatter=0.0)), settings(**FAR))
    reason = event.payload["reason"]
    assert "does not fall with their number; 0.01 eV/Å would take more than any number of calculations" in reason


@pytest.mark.parametrize(
    ("known", "changes"),
    [
        (learning(0.25), {"out_of_reach": 0.0}),
        (learning(0.25), {"force_error": None}),
        (learning(0.25), {"max_labels": 200_000}),  # ten times that is within the interval
        (learning(0.25, scatter=0.3), {}),  # anything is possible
        (learning(0.25, labels=(60, 80, 100, 130, 160)), {}),  # less than threefold
        (learning(0.25), {"audit_labels": 81}),
        ({**learning(0.25), "learning_curve": None}, {}),
        ({**learning(0.25), "assessment": None}, {}),  # the models were lost
    ],
)
def test_a_campaign_is_not_given_up_lightly(known, changes):
    assert started(decide(running(**known), settings(**(FAR | changes))))[0] == "explore"


def test_an_ending_drains_trains_and_assesses():
    state = running(unseen=1, calculations=40)
    state.apply(events.task_started(Task(state.work.next_id(Kind.EXPLORE), Kind.EXPLORE, {"generation": 1})))
    state.apply(decide(state, settings(workers=2)))
    assert decide(state, settings(workers=2)) is None  # the exploration still runs
    explored = {"candidates": [], "generation": 1}
    state.apply(events.task_finished(state.work.tasks["explore-000001"], explored, 0.0))
    assert started(decide(state, settings()))[0] == "train"
    state.dataset.training.unseen = 0
    kind, spec = started(decide(state, settings()))
    assert kind == "assess" and spec["final"]
    state.final_assessed = 1
    assert decide(state, settings()).payload == {"reason": "the budget of 40 labels is spent", "failed": False}


def test_an_ending_lasts_until_its_limit_is_changed():
    ending = Ending("max_labels", 40, "the budget is spent")
    assert not is_lifted(ending, settings(max_failures=99))
    assert is_lifted(ending, settings(max_labels=41))
    old = Ending("force_error", 0.1, "of an older ledger, which knows no other settings of the rule")
    assert not is_lifted(old, settings(force_error=0.1, confidence=0.95))
    assert is_lifted(old, settings(force_error=0.2))


def test_no_decision_after_a_request_to_stop_or_the_end():
    assert decide(running(stop_requested=True), settings()) is None
    assert decide(running(finished="all done"), settings()) is None


def test_says_so_when_nothing_can_be_done():
    event = decide(running(promoted=None), settings())
    assert event.payload["failed"] and "no generation was good enough" in event.payload["reason"]


# ------------------------------------------------------------------------------------------------ kept apart


def emitted(state: State, task: Task, *found: tuple[str, bool]) -> None:
    """An initial exploration that found candidates: (name, kept apart)."""
    candidates = [
        {"id": f"{task.id}/{name}", "key": name, "score": 1.0, "reason": "as told", "apart": apart}
        for name, apart in found
    ]
    state.apply(events.task_started(task))
    state.apply(events.task_finished(task, {"generation": None, "candidates": candidates}, 1.0))


def label_of(candidate: str) -> dict:
    key = candidate.rpartition("/")[2]
    return {"candidate": candidate, "key": key, "outcome": "labelled", "path": f"labels/{key}.h5", "checksum": "0"}


def finish(state: State, decision) -> None:
    state.apply(decision)
    task = Task.load(decision.payload)
    state.apply(events.task_finished(task, label_of(task.spec["candidate"]), 1.0))


def test_what_is_kept_apart_comes_first_and_counts_nowhere():
    state, chosen = State(), settings(initial_labels=2, max_labels=2, isolated_atoms=True)
    kind, spec = started(decide(state, chosen))
    assert (kind, spec) == ("explore", {"generation": None, "starts": 2, "apart": True})
    emitted(state, Task("explore-000001", Kind.EXPLORE, spec), ("a", False), ("b", False), ("Al", True))
    decision = decide(state, chosen)
    assert started(decision) == ("label", {"candidate": "explore-000001/Al"})
    finish(state, decision)
    assert state.calculations == 0 and state.dataset.training == state.dataset.audit == LabelSet()
    assert list(state.dataset.apart) == ["Al"] and not state.candidates.apart_open
    for _ in range(2):
        finish(state, decide(state, chosen))
    assert state.calculations == 2 == chosen.max_labels and list(state.dataset.training.loose) == ["a", "b"]
    state.apply(decide(state, chosen))  # the ending
    decision = decide(state, chosen)
    kind, spec = started(decision)
    assert kind == "train" and spec["labels"] == 2 and spec["apart_labels"] == 1
    assert state.dataset.expand(Task.load(decision.payload)).spec["apart_labels"] == ["Al"]


def test_what_is_kept_apart_holds_up_no_training_and_uses_up_no_budget_when_it_fails():
    state, chosen = State(), settings(workers=3, initial_labels=2, max_labels=9, attempts=2, isolated_atoms=True)
    spec = {"generation": None, "starts": 2, "apart": True}
    emitted(state, Task("explore-000001", Kind.EXPLORE, spec), ("a", False), ("Al", True))
    apart, one = decide(state, chosen), None
    state.apply(apart)
    one = decide(state, chosen)
    finish(state, one)  # one of the two starts has no label, and none is to come
    assert started(decide(state, chosen))[0] == "train"  # though Al is being computed still
    state.apply(events.task_failed(Task.load(apart.payload), FailureClass.NOT_CONVERGED, "no", core_seconds=2.0))
    again = decide(state, chosen)
    assert again.kind == "task_started" and again.payload["id"] == apart.payload["id"]
    state.apply(again)
    state.apply(events.task_failed(Task.load(again.payload), FailureClass.NOT_CONVERGED, "no"))
    assert decide(state, chosen).kind == "task_abandoned"
    state.apply(decide(state, chosen))
    assert state.calculations == 1
    assert state.candidates.rejected == {"not_converged": 1} and not state.candidates.apart_open


@pytest.mark.parametrize("generations", [0, 1])
def test_with_brought_labels_or_in_an_older_campaign_they_are_emitted_alone(generations):
    chosen = settings(initial_labels=2, isolated_atoms=True)
    state = running()
    if generations == 0:
        state = State()
        state.apply(events.labels_imported(["k1", "k2", "k3"], [], [], []))
        assert all_decisions(state, settings(workers=2, initial_labels=2, isolated_atoms=True)) == ["train", "explore"]
        return
    task = decide(state, chosen)
    assert started(task) == ("explore", {"generation": None, "starts": 0, "apart": True})
    emitted(state, Task.load(task.payload), ("Al", True))
    finish(state, decide(state, chosen))
    assert started(decide(state, chosen)) == ("explore", {"generation": 1})  # never again


def test_they_survive_a_promotion_and_may_be_lost():
    state, chosen = State(), settings(initial_labels=2, isolated_atoms=True)
    emitted(state, Task("explore-000001", Kind.EXPLORE, {"generation": None, "starts": 2, "apart": True}), ("Al", True))
    state.promoted = 3
    assert not state.candidates.waiting["explore-000001/Al"].is_outdated(state.promoted)
    finish(state, decide(state, chosen))
    state.apply(events.labels_lost({"Al": "its file is gone"}))
    dataset = state.dataset
    assert (dataset.training.size, dataset.audit.size, dataset.refused) == (0, 0, {"Al": "its file is gone"})


def explored(state: State, **tables: tuple[int, int]) -> None:
    """An exploration ends whose walkers found something so often, by table ``t0``, ``t1``, ...: finds, walkers."""
    task = Task(state.work.next_id(Kind.EXPLORE), Kind.EXPLORE, {"generation": state.promoted})
    samplers = [
        {"table": int(name[1:]), "walkers": walkers, "found": found, "simulated_time": 10.0}
        for name, (found, walkers) in tables.items()
    ]
    summary = {"candidates": [], "generation": state.promoted, "samplers": samplers} if tables else {"candidates": []}
    state.apply(events.task_started(task))
    state.apply(events.task_finished(task, summary, 1.0))


def test_explorations_draw_from_the_tables_that_find_errors():
    asked = settings(start_weights=(1.0, 1.0))
    state = running()
    assert started(decide(state, asked)) == ("explore", {"generation": 1})
    explored(state)  # as in the ledgers of an older alpot
    assert started(decide(state, asked)) == ("explore", {"generation": 1})
    explored(state, t0=(90, 100), t1=(4, 100))
    _, spec = started(decide(state, asked))
    assert spec["shares"] == started(decide(state, asked))[1]["shares"]
    assert spec["shares"][0] > 0.8 and sum(spec["shares"]) == pytest.approx(1.0)
    assert "shares" not in started(decide(state, settings()))[1]  # one table
    assert (state.samplers[0].found, state.samplers[0].walkers) == (90, 100)


def test_a_promotion_makes_what_was_found_before_count_less():
    state = running(unassessed=2, generations=2)
    explored(state, t0=(90, 100), t1=(4, 100))
    assess = Task("assess-000001", Kind.ASSESS, {"generation": 2, "final": False, "unseen": 0})
    state.apply(events.task_started(assess))
    state.apply(events.task_finished(assess, {"generation": 2, "promote": True}, 1.0))
    assert (state.samplers[0].recent_found, state.samplers[0].recent_walkers) == (45.0, 50.0)
    assert (state.samplers[0].found, state.samplers[0].walkers) == (90, 100)
