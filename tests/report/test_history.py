"""The second fold: what it keeps of assessments, of this alpot and of others."""

from datetime import UTC, datetime

import pytest

from alpot.campaign import events
from alpot.campaign.events import Task
from alpot.campaign.subject import Kind
from alpot.report.history import History
from alpot.store.ledger import Event

LATTICE = {"property": "lattice", "system": "fcc Al", "name": "lattice constant", "unit": "Å"}
C11 = {"property": "elastic", "system": "fcc Al", "name": "C11", "unit": "GPa"}


def assessed(*summaries: dict) -> History:
    """The history of one generation that was assessed so many times."""
    train = Task("train-000001", Kind.TRAIN, {"generation": 1, "parent": None})
    made = {"generation": 1, "path": "models/gen-0001", "checksum": "0" * 64}
    story = [events.task_started(train), events.task_finished(train, made, 1.0)]
    for number, summary in enumerate(summaries, 1):
        task = Task(f"assess-{number:06d}", Kind.ASSESS, {"generation": 1, "final": number > 1, "unseen": 0})
        whole = {"generation": 1, "promote": True} | summary
        story += [events.task_started(task), events.task_finished(task, whole, 1.0)]
    now = datetime.now(UTC).isoformat()
    return History.replay(
        Event(kind=event.kind, payload=event.payload, time=now, seq=seq) for seq, event in enumerate(story, 1)
    )


def test_rows_of_another_alpot_are_read():
    (row,) = assessed({"properties": [{"name": "C11", "value": 31.0, "colour": "red"}]}).measured[1]
    assert (row.name, row.value, row.property, row.unit) == ("C11", 31.0, "", "")


def test_an_assessment_adds_to_the_one_before():
    """The last one measures other properties of the same generation; where both did, it is right."""
    first = [LATTICE | {"value": 4.0, "ok": False}, C11 | {"value": 31.0}]
    vacancy = {"property": "vacancy", "system": "fcc Al", "name": "vacancy", "unit": "eV", "value": 0.6}
    history = assessed({"properties": first}, {"properties": [vacancy, LATTICE | {"value": 4.05, "ok": True}]})
    assert [(row.name, row.value, row.ok) for row in history.measured[1]] == [
        ("lattice constant", 4.05, True),
        ("C11", 31.0, None),
        ("vacancy", 0.6, None),
    ]


def test_coverage_of_a_bound_adds_up():
    """It is tested by each assessment that has new labels, the last one included, and belongs to whose bound it is."""
    tested = {"coverage": 0.9, "coverage_of": 1, "coverage_atoms": 100, "coverage_frames": 3}
    last = tested | {"coverage": 0.6, "coverage_atoms": 50, "coverage_frames": 1}
    coverage = assessed({}, tested, last, {"coverage_of": 1}).generations[1].coverage
    assert (coverage.atoms, coverage.frames) == (150, 4) and coverage.share == pytest.approx(0.8)
    assert assessed({}, tested | {"coverage_of": 7}).generations[1].coverage is None


def test_what_an_older_alpot_said_of_its_bound():
    (old,) = assessed({"calibration": 1.4}).generations.values()
    assert old.bound is None and old.coverage is None


def test_why_a_generation_was_held_back_is_kept():
    held = assessed({"promote": False, "held_back": ["C11"]}, {"promote": False}).generations[1]
    assert held.promoted is False and held.held_back == ("C11",)
    assert assessed({}).generations[1].held_back == ()
