import json
import logging
import os
import signal
from collections import Counter
from concurrent.futures import Future

import pytest
from fake_campaign import InProcess, calculated, recorded
from fake_subject import FakeSubject, key_of

import alpot.campaign.controller as controller_module
from alpot.campaign.apps import _open_subject
from alpot.campaign.controller import Controller, ImportedLabels
from alpot.campaign.executor import WorkerLostError
from alpot.campaign.state import State
from alpot.errors import CampaignFailed, CampaignLockedError, ConfigError, FailureClass, StorageError
from alpot.store.json_files import publish_json
from alpot.store.ledger import LabelRow, Ledger
from alpot.store.lock import Lease

SMALL = {"initial_labels": 4, "labels_per_generation": 3, "max_labels": 9}


def assert_every_label_is_paid_for_once(controller: Controller) -> None:
    keys = calculated(controller.directory)
    assert len(set(keys)) == len(keys)
    with Ledger(controller.directory.ledger, read_only=True) as ledger:
        assert {row.key for row in ledger.label_rows()} == set(keys)
        assert controller.state == State.replay(ledger.events())  # nothing is known that is not recorded
    dataset = controller.state.dataset
    assert dataset.training.size + dataset.audit.size == len(keys)
    assert dataset.training.size == sum(
        len(json.loads((controller.directory.path / shard).read_text())) for shard in dataset.training.shards
    )


def test_a_whole_campaign(make_campaign):
    controller = make_campaign()
    outcome = controller.run()
    state = outcome.state
    assert (outcome.status, outcome.reason) == ("finished", "the budget of 40 labels is spent")
    assert_every_label_is_paid_for_once(controller)
    assert len(calculated(controller.directory)) == 40
    assert state.generations == state.promoted == state.final_assessed > 2
    assert state.candidates.dropped["duplicate"] > 0 and state.candidates.dropped["certain"] > 0
    assert state.assessment.properties == [{"property": "lattice", "value": 4.05}]
    assert not list((controller.directory.path / "tasks").glob("*/*"))  # tidied up


def test_the_ledger_knows_where_each_label_lies(make_campaign):
    controller = make_campaign(**SMALL)
    controller.run()
    with Ledger(controller.directory.ledger, read_only=True) as ledger:
        for row in ledger.label_rows():
            assert row.key in (controller.directory.path / row.path).read_text()
            assert controller.directory.label_path(row.key).exists() == row.path.startswith("labels/")
        single = {row.key for row in ledger.label_rows() if row.path.startswith("labels/")}
        state = State.replay(ledger.events())
    # All that was trained on is compacted; labels for the audit may come in after the last training.
    assert single <= set(state.dataset.audit.loose)
    assert not list((controller.directory.path / "candidates").glob("*"))


def test_same_seed_same_decisions(make_campaign):
    first, second = make_campaign("first"), make_campaign("second")
    first.run()
    second.run()
    assert recorded(first) == recorded(second)


def test_several_workers_fill_their_slots(make_campaign):
    class Late(InProcess):
        """Holds results back until every slot is taken or nothing more is submitted."""

        def submit(self, task):
            busy.append(len(controller.state.work.tasks))
            return super().submit(task)

    busy: list[int] = []
    controller = make_campaign(platform=Late(4))
    assert controller.run().status == "finished"
    assert max(busy) == 4
    assert_every_label_is_paid_for_once(controller)


class Killed(BaseException):
    """Nothing in the code may catch this."""


@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize("failures", [[], [{"kind": "label", "match": "/1", "attempts": 1, "failure": "unknown"}]])
def test_killed_at_every_event(make_campaign, monkeypatch, moment, failures):
    """A kill just before or just after any transaction loses nothing and repeats nothing."""
    append = Ledger.append
    countdown = 0

    def killing(self, event, *args, **kwargs):
        nonlocal countdown
        countdown -= 1
        if countdown == 0 and moment == "before":
            raise Killed
        seq = append(self, event, *args, **kwargs)
        if countdown == 0:
            raise Killed
        return seq

    monkeypatch.setattr(Ledger, "append", killing)
    config = {"finds": 4, "failures": failures}
    whole = make_campaign("whole", config=config, **SMALL)
    whole.run()
    for number in range(1, len(recorded(whole)) + 1):
        countdown = number
        with pytest.raises(Killed):
            make_campaign(f"killed-{number}", config=config, **SMALL).run()
        countdown = 0
        resumed = make_campaign(f"killed-{number}", config=config, **SMALL)
        assert resumed.run().status == "finished"
        assert_every_label_is_paid_for_once(resumed)


def test_resuming_a_finished_campaign_does_nothing(make_campaign):
    make_campaign(**SMALL).run()
    again = make_campaign(**SMALL)
    before = recorded(again)
    assert again.run().status == "finished"
    assert recorded(again) == [*before, ("opened", {})]


def test_a_larger_budget_continues_a_finished_campaign(make_campaign):
    make_campaign(**SMALL).run()
    again = make_campaign(**(SMALL | {"max_labels": 20}))
    assert again.run().reason == "the budget of 20 labels is spent"
    assert len(calculated(again.directory)) == 20
    assert_every_label_is_paid_for_once(again)


# ------------------------------------------------------------------------------------------------------ failures


def test_a_bad_structure_is_rejected_and_named(make_campaign):
    failures = [{"kind": "label", "match": "explore-000001/2", "attempts": 9, "failure": "not_converged"}]
    controller = make_campaign(config={"failures": failures}, **SMALL)
    assert controller.run().status == "finished"
    assert controller.state.candidates.rejected == Counter({"not_converged": 1})
    assert controller.state.work.failures == Counter({FailureClass.NOT_CONVERGED: 3})
    assert key_of("explore-000001/2") not in calculated(controller.directory)
    # Failed attempts cost as much as others, hence three of the budget of nine are gone.
    assert len(calculated(controller.directory)) == 6
    kept = controller.directory.path / "tasks" / "label"
    scratch = sorted(path.name for path in kept.glob("*/attempt-*"))
    assert scratch == ["attempt-1", "attempt-2", "attempt-3"]
    make_campaign(**SMALL).run()
    assert sorted(path.name for path in kept.glob("*/attempt-*")) == scratch  # for somebody who wants to know why


def test_an_unphysical_structure_is_not_tried_again(make_campaign):
    failures = [{"kind": "label", "match": "/2", "attempts": 9, "failure": "unphysical_geometry"}]
    controller = make_campaign(config={"failures": failures}, **SMALL, max_failures=0)
    assert controller.run().status == "finished"
    state = controller.state
    assert state.candidates.rejected["unphysical_geometry"] == state.work.failures["unphysical_geometry"] > 0


def test_a_second_attempt_may_succeed(make_campaign):
    failures = [
        {"kind": kind, "match": "", "attempts": 2, "failure": "nonsense"}
        for kind in ("explore", "score", "train", "assess", "label")
    ]
    controller = make_campaign(config={"failures": failures}, **(SMALL | {"max_labels": 30}))
    assert controller.run().status == "finished"
    assert_every_label_is_paid_for_once(controller)
    assert controller.state.work.given_up == 0


def test_scores_stay_as_they_were_when_scoring_fails(make_campaign):
    failures = [{"kind": "score", "match": "", "attempts": 9, "failure": "nonsense"}]
    controller = make_campaign(config={"failures": failures}, max_failures=9)
    assert controller.run().status == "finished"
    assert controller.state.work.given_up == controller.state.work.started["score"] > 0


def test_an_interrupted_task_goes_on_with_the_same_random_numbers(make_campaign):
    failures = [{"kind": kind, "match": "", "attempts": 2, "failure": "interrupted"} for kind in ("explore", "train")]
    interrupted, whole = make_campaign("interrupted", config={"failures": failures}), make_campaign("whole")
    assert interrupted.run().status == whole.run().status == "finished"
    work = interrupted.state.work
    assert work.interruptions > 2 and work.given_up == work.failures.total() == 0
    assert calculated(interrupted.directory) == calculated(whole.directory)


def test_losses_of_workers_are_named_and_cost_no_attempt(make_campaign):
    class Losing(InProcess):
        """Each task loses its worker twice, after it has published its result the second time."""

        def submit(self, task):
            if task["attempt"] > 2:
                return super().submit(task)
            future: Future = Future()
            if task["attempt"] == 2 and task["kind"] == "label":
                super().submit(task)
            evidence = "slurmstepd: error: *** JOB 7 CANCELLED ***"
            future.set_exception(
                WorkerLostError("job 7", failure=FailureClass.WALLTIME, evidence=evidence, is_suspect=False)
            )
            return future

    controller = make_campaign(platform=Losing(), attempts=1, **SMALL)
    assert controller.run().status == "finished"
    assert_every_label_is_paid_for_once(controller)
    assert controller.state.work.losses[FailureClass.WALLTIME] > 9 and controller.state.work.given_up == 0
    with Ledger(controller.directory.ledger, read_only=True) as ledger:
        losses = [event.payload for event in ledger.events() if event.kind == "task_lost"]
    assert all(loss["message"] == "job 7" and "CANCELLED" in loss["evidence"] for loss in losses)


def test_wrong_labels_are_set_apart_and_never_given_to_a_training(make_campaign):
    controller = make_campaign(config={"refuse": list("01234567"), "shard": 999}, max_failures=5)
    with pytest.raises(CampaignFailed, match=r"labels were refused as wrong, .* because: as told"):
        controller.run()
    controller = make_campaign("few", config={"refuse": ["0"], "shard": 999}, max_failures=5)
    assert controller.run().status == "finished"
    dataset = controller.state.dataset
    assert dataset.refused and all(key.startswith("0") for key in dataset.refused)
    known = dataset.training.size + dataset.audit.size + len(dataset.refused)
    assert known == controller.state.calculations == 40


def test_reads_its_settings_again(make_campaign):
    controller = make_campaign(**SMALL)
    larger = make_campaign(**(SMALL | {"max_labels": 20})).settings
    controller.reload = lambda: (larger, ["stopping.max_labels: 9 -> 20"])
    asked: list[int] = []

    def ask_once(state):
        if state.calculations == 3 and not asked:
            asked.append(1)
            controller.directory.request_reload()
            os.kill(os.getpid(), signal.SIGHUP)

    controller.on_change = ask_once
    assert controller.run().reason == "the budget of 20 labels is spent"
    changes = [payload["changes"] for kind, payload in recorded(controller) if kind == "settings_changed"]
    assert changes == [["stopping.max_labels: 9 -> 20"]] and not controller.directory.reload_requested()


def test_settings_that_cannot_be_used_change_nothing(make_campaign, caplog):
    controller = make_campaign(**SMALL)

    def reload():
        raise ConfigError("stopping.max_labels is -1")

    controller.reload = reload
    controller.on_change = lambda state: controller.directory.request_reload() if state.calculations == 3 else None
    assert controller.run().reason == "the budget of 9 labels is spent"
    assert "stopping.max_labels is -1" in caplog.text


def test_ends_when_its_lock_is_lost(make_campaign):
    controller = make_campaign(**SMALL)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Lease, "is_lost", property(lambda self: controller.state.calculations >= 3))
        patch.setattr(Lease, "why_lost", "another controller has taken over")
        with pytest.raises(StorageError, match="another controller has taken over; this controller ends"):
            controller.run()
    assert controller.state.calculations == 3
    for path in controller.directory.path.glob("controller*.json"):  # the other one has ended
        path.unlink()
    again = make_campaign(**SMALL)
    assert again.run().status == "finished"
    assert_every_label_is_paid_for_once(again)


def test_sweeps_what_a_killed_controller_left(make_campaign):
    controller = make_campaign(**SMALL)
    copies = {}

    def copy(state):
        for path in (controller.directory.path / "labels").glob("*/*.h5"):
            copies[path] = path.read_bytes()

    controller.on_change = copy
    controller.run()
    # The last labels of the audit come in after the last training, and stay in files of their own.
    kept = controller.state.dataset.audit.loose
    copies = {path: content for path, content in copies.items() if path.stem not in kept}
    assert copies and not any(path.exists() for path in copies)
    for path, content in copies.items():
        path.write_bytes(content)
    candidates = controller.directory.candidates_path("explore-000001")
    candidates.write_bytes(b"")
    done = controller.directory.task_path("label", "label-000001")
    publish_json(done / "result.json", {"status": "finished"})
    make_campaign(**(SMALL | {"max_labels": 10})).run()
    assert not any(path.exists() for path in copies) and not candidates.exists() and not done.exists()


def test_a_shard_that_is_not_whole_supersedes_nothing(make_campaign):
    controller = make_campaign(**SMALL)
    original = controller_module.remove_superseded

    def remove(directory, moved):
        for row in moved[:1]:
            (directory.path / row.path).write_bytes(b"damaged")
        original(directory, moved)
        for row in moved:
            assert directory.label_path(row.key).exists() != (row.path != moved[0].path)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(controller_module, "remove_superseded", remove)
        patch.setattr(FakeSubject, "assess", lambda *_: {"generation": 1, "promote": False})
        with pytest.raises(CampaignFailed):
            controller.run()


@pytest.mark.parametrize("failure", ["missing_program", "wrong_input"])
def test_what_only_the_user_can_mend_stops_at_once(make_campaign, failure):
    failures = [{"kind": "label", "match": "", "attempts": 1, "failure": failure}]
    controller = make_campaign(config={"failures": failures})
    with pytest.raises(CampaignFailed, match="no label can be computed"):
        controller.run()
    assert controller.state.work.started["label"] == 1
    again = make_campaign()  # meanwhile the user has installed it: the second attempt succeeds
    again.settings = make_campaign(**SMALL).settings
    with pytest.raises(CampaignFailed):
        again.run()
    assert again.state.work.started["label"] == 2


def test_a_training_that_always_fails_ends_the_campaign(make_campaign):
    failures = [{"kind": "train", "match": "", "attempts": 3, "failure": "out_of_memory"}]
    controller = make_campaign(config={"failures": failures}, **SMALL)
    with pytest.raises(CampaignFailed, match="training was given up: train-000001: as told"):
        controller.run()
    controller.directory.replace_config(b"{}", controller.directory.config)
    _open_subject.cache_clear()  # a new process would read the campaign file anew
    again = make_campaign(**SMALL)
    assert again.run().status == "finished"
    assert again.state.dataset.training.size > 4


def test_the_failure_budget(make_campaign):
    failures = [{"kind": "explore", "match": "explore-00000", "attempts": 9, "failure": "walltime"}]
    controller = make_campaign(config={"failures": failures}, max_failures=1)
    with pytest.raises(
        CampaignFailed,
        match=r"2 tasks failed for good, 1 may \(failed attempts: 6 × walltime\); the last: explore-000002",
    ):
        controller.run()


def test_no_promoted_generation_is_a_failure(make_campaign):
    controller = make_campaign(config={"worse": list(range(99))}, **SMALL)
    with pytest.raises(CampaignFailed, match="no generation"):
        controller.run()


# ------------------------------------------------------------------------------------------------ stopping rules


@pytest.mark.parametrize(
    ("rule", "reason"),
    [
        ({"force_error": 0.34, "audit_labels": 2}, "force error on audit labels is at most 0.34"),
        ({"max_generations": 2}, "2 generations were trained"),
    ],
)
def test_stop_rules(make_campaign, rule, reason):
    controller = make_campaign(**(SMALL | {"max_labels": 1000} | rule))
    assert reason in controller.run().reason
    assert controller.state.promoted == controller.state.final_assessed
    assert controller.state.generations <= rule.get("max_generations", 99)


def test_stops_when_nothing_uncertain_is_found(make_campaign):
    controller = make_campaign(config={"finds": 0}, quiet_time=7.0, **SMALL)
    assert "found nothing uncertain in 7.5 simulated ps" in controller.run().reason


# ------------------------------------------------------------------------------------------------------ stopping


def test_a_request_to_stop_drains_and_resumes(make_campaign):
    controller = make_campaign(**SMALL)

    def ask(state):
        if state.calculations == 3:
            controller.directory.request_stop()

    controller.on_change = ask
    assert controller.run().status == "stopped"
    assert controller.state.calculations == 3 and not controller.state.work.tasks
    again = make_campaign(**SMALL)
    assert again.run().status == "finished"
    assert not again.directory.stop_requested()
    assert_every_label_is_paid_for_once(again)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_gently(make_campaign, number):
    controller = make_campaign(**SMALL)
    controller.on_change = lambda state: os.kill(os.getpid(), number) if state.calculations == 3 else None
    before = signal.getsignal(number)
    with pytest.raises(KeyboardInterrupt):  # the observer asks after each event, hence twice
        controller.run()
    controller = make_campaign(**SMALL)
    asked: list[int] = []

    def ask_once(state):
        if not asked:
            asked.append(1)
            os.kill(os.getpid(), number)

    controller.on_change = ask_once
    assert controller.run().status == "stopped"
    assert signal.getsignal(number) == before
    assert make_campaign(**SMALL).run().status == "finished"


def test_two_controllers(make_campaign):
    controller = make_campaign(**SMALL)
    with controller.directory.lock(), pytest.raises(CampaignLockedError, match=str(os.getpid())):
        make_campaign(**SMALL).run()


def test_an_observer_that_fails_is_switched_off(make_campaign, caplog):
    controller = make_campaign(**SMALL)
    controller.on_change = lambda state: 1 / 0
    with caplog.at_level(logging.ERROR):
        assert controller.run().status == "finished"
    assert caplog.text.count("display of progress failed") == 1


def test_imported_labels_replace_the_initial_ones(make_campaign):
    def bring(controller):
        rows = []
        for number in range(12):
            key = key_of(f"mine/{number}")
            path = controller.directory.label_path(key)
            path.parent.mkdir(exist_ok=True)
            path.write_text("{}")
            rows.append(LabelRow(key=key, path=controller.directory.relative(path), checksum="0"))
        controller.imported = ImportedLabels(rows=rows, audit=frozenset({rows[3].key, rows[7].key}))

    controller = make_campaign()
    bring(controller)
    controller.on_change = lambda state: controller.directory.request_stop() if state.generations else None
    controller.run()
    assert controller.state.work.started["explore"] == controller.state.calculations == 0
    assert controller.state.dataset.training.size == 10 and controller.state.dataset.audit.size == 2
    again = make_campaign()
    bring(again)
    assert again.run().status == "finished"
    assert again.state.calculations == 40
    assert [kind for kind, _ in recorded(again)].count("labels_imported") == 1


def test_a_disk_that_was_full_is_no_reason_to_stop_again(make_campaign):
    """The result that nobody listened to says that the disk was full; the next run tries again."""
    full = [{"kind": "label", "match": "", "attempts": 1, "failure": "disk_full"}]
    take_in = Controller._take_in

    def die_first(self, task, result):
        if result.get("failure") == "disk_full":
            raise Killed
        take_in(self, task, result)

    with pytest.MonkeyPatch.context() as patch, pytest.raises(Killed):
        patch.setattr(Controller, "_take_in", die_first)
        make_campaign(config={"failures": full}, **SMALL).run()
    resumed = make_campaign(**SMALL)
    with pytest.raises(CampaignFailed, match="nothing more can be stored: as told"):
        resumed.run()  # another label's first attempt
    assert resumed.state.work.failures.total() == 1 and resumed.state.work.in_flight["label"] == 0
