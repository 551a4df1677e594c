import json
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest

from alpot.campaign import events
from alpot.campaign.events import Task
from alpot.campaign.subject import Kind
from alpot.errors import CampaignFailed, FailureClass
from alpot.report.status import Phase, Status, campaign_status
from alpot.store.ledger import Event, Ledger


def test_a_campaign_just_created(create):
    status = campaign_status(create())
    assert status.phase == Phase.NEW and "alpot run" in status.message
    assert status.controller is None and status.generations == () and status.potential is None
    assert status.labels.done == 0 and status.labels.budget == 40
    assert status.elapsed_s == 0.0 and status.began is None


def test_a_finished_campaign(make):
    controller = make()
    state = controller.run().state
    status = campaign_status(controller.directory)
    assert status.phase == Phase.FINISHED and status.message == "the budget of 40 labels is spent"
    assert status.controller is None and status.tasks == {}
    labels = status.labels
    assert (labels.training, labels.audit) == (state.dataset.training.size, state.dataset.audit.size)
    assert labels.calculations == 40 == labels.done + 1  # one was found to be unphysical
    assert labels.rejected == labels.failed_attempts == {"unphysical_geometry": 1}
    assert labels.seconds == 39.0
    assert status.exploration.simulated_ps == state.simulated > 0
    assert status.exploration.walkers == 4 * state.explorations
    assert status.exploration.endings == dict(state.walker_endings)
    packings, crystals = status.exploration.starts
    assert (packings.kind, packings.found, crystals.kind, crystals.found) == (
        *("packing", 3 * state.explorations),
        *("crystal", 0),
    )
    assert packings.walkers + crystals.walkers == status.exploration.walkers
    assert packings.share > packings.configured_share == crystals.configured_share == 0.5 > crystals.share
    found = sum(status.exploration.candidates.values())
    still_waiting = labels.queued + sum(status.exploration.dropped.values())
    assert found == labels.done + sum(labels.rejected.values()) + still_waiting
    assert status.potential == str(controller.directory.model_path(state.promoted))
    assert [row.name for row in status.properties] == ["lattice constant", "C11", "vacancy"]
    assert status.properties_of == state.promoted
    assert status.recent_failures[0].message == "two atoms are 0.9 Å apart"


def test_every_generation_is_remembered(make):
    controller = make()
    generations = campaign_status(make_run(controller)).generations
    assert [g.number for g in generations] == list(range(1, controller.state.generations + 1))
    assert [g.number for g in generations if not g.promoted] == [3]
    assert all(a.labels < b.labels for a, b in pairwise(generations))
    assert generations[-1].labels == controller.state.dataset.training.size
    third = generations[2]
    assert third.audit_force == pytest.approx(0.2 / 3) and third.audit_energy == pytest.approx(0.01 / 3)
    assert third.calibration == 1.4 and third.epochs == 40 and third.audit_labels > 0
    assert third.errors["validate_force"] == pytest.approx(0.04)


def make_run(controller):
    controller.run()
    return controller.directory


def test_it_is_json(make):
    directory = make_run(make())
    status = campaign_status(directory)
    text = status.model_dump_json()
    assert Status.model_validate_json(text) == status
    assert json.loads(text)["phase"] == "finished"


def test_read_while_the_controller_writes(make):
    """At every event another process may look; here the observer does, with a ledger of its own."""
    controller = make()
    phases, done = [], []

    def look(state):
        status = campaign_status(controller.directory)
        assert status.labels.training == state.dataset.training.size
        assert status.labels.running == state.work.in_flight[Kind.LABEL]
        assert sum(tasks.count for tasks in status.tasks.values()) == len(state.work.tasks)
        assert state.finished or status.controller is not None
        phases.append(status.phase)
        done.append(status.labels.done)

    controller.on_change = look
    controller.run()
    assert list(dict.fromkeys(phases)) == [Phase.RUNNING, Phase.ENDING, Phase.FINISHED]
    assert done == sorted(done) and done[-1] == 39
    assert controller.on_change is not None  # it never failed


def test_stopping_stopped_and_continued(make):
    controller = make()
    phases = []

    def look(state):
        if state.dataset.training.size == 3:
            controller.directory.request_stop()
        phases.append(campaign_status(controller.directory).phase)

    controller.on_change = look
    assert controller.run().status == "stopped"
    assert Phase.STOPPING in phases
    status = campaign_status(controller.directory)
    assert status.phase == Phase.STOPPED and "continues" in status.message
    controller.on_change = None
    controller.run()
    assert campaign_status(controller.directory).phase == Phase.FINISHED


def test_a_killed_controller(make):
    class Killed(BaseException):
        pass

    controller = make()

    def kill(state):
        if state.dataset.training.size == 3:
            raise Killed

    controller.on_change = kill
    with pytest.raises(Killed):
        controller.run()
    status = campaign_status(controller.directory)
    assert status.phase == Phase.INTERRUPTED and status.labels.training == 3


def test_a_failed_campaign(make):
    controller = make("Fragile")
    with pytest.raises(CampaignFailed):
        controller.run()
    status = campaign_status(controller.directory)
    assert status.phase == Phase.FAILED and "the loss is not finite" in status.message
    assert status.failures == {"train": {"bug": 3}}
    assert "the loss is not finite" in status.recent_failures[-1].message
    assert status.potential is None and status.generations == ()


def write(directory, *timed_events):
    """Events at so many seconds after a moment in the past."""
    start = datetime(2026, 1, 1, tzinfo=UTC)
    with Ledger(directory.ledger) as ledger:
        for second, event in timed_events:
            time = (start + timedelta(seconds=second)).isoformat()
            ledger.append(Event(kind=event.kind, payload=event.payload, time=time))


EXPLORE = Task("explore-000001", Kind.EXPLORE, {"generation": None, "starts": 1})
FOUND = {"candidates": [{"id": "explore-000001/0", "key": "k", "score": 1.0, "reason": "initial"}]}
LABEL = Task("label-000001", Kind.LABEL, {"candidate": "explore-000001/0"})


def test_time_passes_only_while_a_controller_runs(create):
    directory = create()
    opened = events.opened(config="c0ffee", host="here", pid=1, version="0")
    write(
        directory,
        (0, opened),
        (1, events.task_started(EXPLORE)),
        (10, events.task_finished(EXPLORE, FOUND, 9.0)),
        (11, events.task_started(LABEL)),
        (86400, opened),  # it was killed, and continued the day after
        (86401, events.task_started(LABEL.again())),
        (86405, events.task_failed(LABEL.again(), FailureClass.NOT_CONVERGED, "no", "line")),
    )
    status = campaign_status(directory)
    assert status.elapsed_s == 16.0
    assert status.labels.queued == 1 and status.tasks == {}  # it waits for another attempt
    with directory.lock():
        running = campaign_status(directory)
    assert running.elapsed_s > 1e5 and running.phase == Phase.RUNNING  # its clock runs since the last event


def test_tasks_in_flight_have_an_age(create):
    directory = create()
    write(directory, (0, events.task_started(EXPLORE)), (7, events.stop_requested()))
    tasks = campaign_status(directory).tasks
    assert tasks["explore"].count == 1 and tasks["explore"].oldest_s == 7.0


def test_labels_that_the_user_brought_along(create):
    directory = create()
    write(directory, (0, events.labels_imported(["a", "b", "c"], ["d"], [], [])))
    labels = campaign_status(directory).labels
    assert (labels.imported, labels.training, labels.audit, labels.calculations) == (4, 3, 1, 0)
    train = Task("train-000001", Kind.TRAIN, {"generation": 1, "parent": None})
    made = {"generation": 1, "path": "models/gen-0001", "checksum": "0"}
    write(directory, (1, events.task_started(train)), (2, events.task_finished(train, made, 1.0)))
    generation = campaign_status(directory).generations[0]
    assert generation.labels == 3 and generation.promoted is None and generation.errors == {}


def test_a_training_repeated_counts_the_labels_it_was_given(create):
    directory = create()
    train = Task("train-000001", Kind.TRAIN, {"generation": 1, "parent": None})
    made = {"generation": 1, "path": "models/gen-0001", "checksum": "0"}
    write(
        directory,
        (0, events.labels_imported(["a", "b"], [], [], [])),
        (1, events.task_started(train)),
        (2, events.task_failed(train, FailureClass.UNKNOWN, "no")),
        (3, events.labels_imported(["c"], [], [], [])),
        (4, events.task_started(train.again())),
        (5, events.task_finished(train, made, 1.0)),
    )
    assert campaign_status(directory).generations[0].labels == 2


def test_status_needs_neither_matplotlib_nor_torch():
    code = "import sys, alpot, alpot.report.status, alpot.report.live, alpot.report.tables, alpot.report.page;"
    code += "heavy = {'matplotlib', 'torch', 'parsl', 'h5py'} & set(sys.modules); sys.exit(repr(heavy) if heavy else 0)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stderr == ""
