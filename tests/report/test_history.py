"""The second fold: what it keeps of assessments, of this alpot and of others."""

from datetime import UTC, datetime

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
