"""A ledger of many labels, written without computing any: what a page must bear."""

from datetime import UTC, datetime, timedelta

from alpot.campaign import events
from alpot.campaign.events import Task
from alpot.campaign.subject import Kind
from alpot.errors import FailureClass
from alpot.store.ledger import Event, Ledger

PER_EXPLORATION = 500
_REASONS = ("uncertain", "uncertain", "uncertain", "contact", "blow_up", "last_good", "audit")


def write_ledger(directory, n_labels, n_generations, properties=()):
    """``n_labels`` in ``n_generations``; every fiftieth needs a second attempt."""
    with Ledger(directory.ledger) as ledger:
        for second, event in enumerate(_story(n_labels, n_generations, list(properties))):
            time = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=20 * second)
            ledger.append(Event(kind=event.kind, payload=event.payload, time=time.isoformat()))


def _story(n_labels, n_generations, properties):
    yield events.opened(config="c0ffee", host="here", pid=1, version="0", label_workers=64)
    number, exploration, per_generation = 0, 0, n_labels // n_generations
    for generation in range(n_generations):
        for begin in range(0, per_generation, PER_EXPLORATION):  # what was found before is judged again: none is left
            exploration += 1
            count = min(PER_EXPLORATION, per_generation - begin)
            yield from _explored(exploration, generation or None, count)
            for place in range(count):
                yield from _labelled(number, f"explore-{exploration:06d}/{place}")
                number += 1
        yield from _trained(generation + 1, properties)
    yield events.campaign_finished(f"the budget of {n_labels} labels is spent", failed=False)


def _explored(number, generation, n_candidates):
    task = Task(f"explore-{number:06d}", Kind.EXPLORE, {"generation": generation, "starts": n_candidates})
    yield events.task_started(task)
    found = []
    for place in range(n_candidates):
        reason = _REASONS[place % len(_REASONS)] if generation else "initial"
        found.append({"id": f"{task.id}/{place}", "key": f"{number}-{place}", "score": 1.0, "reason": reason})
        found[-1]["audit"] = reason == "audit"
    summary = {"candidates": found, "generation": generation, "walkers": 64, "simulated_time": 9.0}
    yield events.task_finished(task, summary, 20.0)


def _labelled(number, candidate):
    task = Task(f"label-{number:06d}", Kind.LABEL, {"candidate": candidate})
    yield events.task_started(task)
    if number % 50 == 7:
        yield events.task_failed(task, FailureClass.NOT_CONVERGED, "no convergence", "line", 900.0)
        task = task.again()
        yield events.task_started(task)
    key = "-".join(str(int(part)) for part in candidate.removeprefix("explore-").split("/"))
    summary = {"candidate": candidate, "key": key, "outcome": "labelled", "path": f"labels/{key}", "checksum": "0"}
    yield events.task_finished(task, summary | {"seconds": 20.0, "atoms": 64, "core_seconds": 640.0}, 20.0)


def _trained(number, properties):
    train = Task(f"train-{number:06d}", Kind.TRAIN, {"generation": number, "parent": None})
    yield events.task_started(train)
    made = {"generation": number, "path": f"models/gen-{number:04d}", "checksum": "0" * 64}
    errors = {"test_force": 0.3 / number**0.5, "test_energy": 0.01 / number**0.5}
    yield events.task_finished(train, made | {"metrics": errors}, 600.0)
    assess = Task(f"assess-{number:06d}", Kind.ASSESS, {"generation": number, "final": False, "unseen": 0})
    yield events.task_started(assess)
    summary = {"generation": number, "promote": True, "force_error": 0.32 / number**0.5, "audit_labels": 30 * number}
    summary |= {"energy_error": 0.012 / number**0.5, "calibration": 1.5, "properties": properties}
    yield events.task_finished(assess, summary, 60.0)
