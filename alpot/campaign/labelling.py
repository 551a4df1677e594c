"""Decides what is done next where nothing is explored or learned: every structure that was given is labelled.

The same machinery as a campaign, by simpler rules. No failure budget ends it: one bad structure says nothing about the
others, and the user has asked for each of them.
"""

from __future__ import annotations

from itertools import islice

from alpot.campaign import events
from alpot.campaign.events import Ending, Task
from alpot.campaign.policy import PolicySettings, free_slots, verdict
from alpot.campaign.state import State
from alpot.campaign.subject import Kind
from alpot.store.ledger import Event


def decide_labels(state: State, settings: PolicySettings) -> Event | None:
    """The next decision; None if there is nothing to decide before something else happens.

    Args:
        state: what is durably known.
        settings: ``slots``, ``pool_of`` and ``attempts`` are used.
    """
    if state.stop_requested or state.finished is not None:
        return None
    if state.ending is None:
        ending = _ending(state)
        if ending is not None:
            return events.ending_began(ending)
        return _retry(state, settings) or _label(state, settings)
    return None if state.work.tasks else events.campaign_finished(state.ending.reason, failed=state.ending.failed)


def _ending(state: State) -> Ending | None:
    if state.obstacle:
        return Ending(state.obstacle[0], None, f"no label can be computed: {state.obstacle[1]}", failed=True)
    if state.disk_full:
        return Ending("disk_full", None, f"nothing more can be stored: {state.disk_full}", failed=True)
    if not (state.work.tasks or state.work.failed[Kind.LABEL] or state.candidates.next):
        return Ending("labelled", None, "every structure was labelled or rejected")
    return None


def _retry(state: State, settings: PolicySettings) -> Event | None:
    for task in islice(state.work.failed[Kind.LABEL].values(), 1):  # those behind it wait for the same slot
        event = verdict(state, settings, task)
        if event.kind == "task_abandoned" or free_slots(state, settings, Kind.LABEL):
            return event
    return None


def _label(state: State, settings: PolicySettings) -> Event | None:
    candidate = state.candidates.next
    if candidate is None or not free_slots(state, settings, Kind.LABEL):
        return None
    return events.task_started(Task(state.work.next_id(Kind.LABEL), Kind.LABEL, {"candidate": candidate.id}))
