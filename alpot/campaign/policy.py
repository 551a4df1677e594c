"""Decides what is done next: a pure function of what is durably known.

A decision is the event that records it. The queue of work lives in the state, not in the executor: something is
started only when a slot is free for it, so that with one worker and one seed the decisions are always the same.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any

from alpot.campaign import events
from alpot.campaign.events import Ending, Task
from alpot.campaign.forecast import Forecast, audit_noise
from alpot.campaign.samplers import shares
from alpot.campaign.state import State
from alpot.campaign.subject import Kind
from alpot.errors import FOR_THE_USER, FailureClass
from alpot.store.ledger import Event

#: Attempts at an explore, score, train or assess task.
_ATTEMPTS = 3
#: A task that may have brought down so many workers is taken to be the cause.
_SUSPICIONS = 3
#: Initial structures, as a share of all, for whose labels the first training does not wait: they may take hours.
_STRAGGLERS = 0.1
#: How much the labels may grow beyond those of the last training before exploration waits for the next. A model that
#: has seen most of the labels is hardly outdated: errors fall with a power of their number.
_GROWTH = 0.2
#: Refused labels that are too many, as a share of all calculations: then the reference or the screening is at fault.
_REFUSED_SHARE = 0.1
#: What a forecast must rest on before a campaign is given up for it: so many generations, ...
_FORECAST_POINTS = 5
#: ... whose labels have grown by this factor from the first to the last.
_FORECAST_SPAN = 3.0
#: Settings that decide on a rule besides the one that it is named after: an ending is lifted by any of them.
_DECIDED_BY = {
    "force_error": ("good_generations", "confidence"),
    "good_generations": ("force_error",),
    "out_of_reach": ("max_labels", "force_error"),
}


@dataclass(frozen=True, kw_only=True)
class PolicySettings:
    """What the user asked for, as far as decisions depend on it; the fields are those of the campaign file.

    Attributes:
        slots: tasks that run at the same time, by pool of workers.
        pool_of: the pool that runs a kind of task.
        start_weights: of the tables of starts.
    """

    slots: Mapping[str, int]
    pool_of: Mapping[Kind, str]
    initial_labels: int
    labels_per_generation: int
    waiting_candidates: int
    attempts: int
    max_labels: int
    max_failures: int
    max_generations: int | None = None
    force_error: float | None = None
    audit_labels: int = 2
    confidence: float = 0.9
    out_of_reach: float = 0.0
    quiet_time: float | None = None
    good_generations: int | None = None
    isolated_atoms: bool = False
    start_weights: tuple[float, ...] = ()

    def limit(self, rule: str) -> float | None:
        """The limit of a rule to stop, None if it has none."""
        return getattr(self, rule, None)


def decide(state: State, settings: PolicySettings) -> Event | None:
    """The next decision; None if there is nothing to decide before something else happens."""
    if state.stop_requested or state.finished is not None:
        return None
    if state.ending is not None:
        return _conclude(state, settings, state.ending)
    ending = _ending(state, settings)
    if ending is not None:
        return events.ending_began(ending)
    # Training, assessment and scoring come before labels: there is at most one of each, so they cannot starve the
    # labels, whereas a long queue of labels, chosen by an outdated model, could put off training for days.
    for rule in (_retry, _assess, _train, _score, _label, _explore):
        event = rule(state, settings)
        if event is not None:
            return event
    if not state.work.tasks:
        reason = "nothing is left to do: no generation was good enough to explore with"
        if state.generations == 0:
            reason = f"nothing is left to do: no initial structure got a label ({_counted(state.candidates.rejected)})"
        return events.ending_began(Ending("stuck", None, reason, failed=True))
    return None


def is_lifted(ending: Ending, settings: PolicySettings) -> bool:
    """Whether the user has changed the limit that brought about an ending."""
    known = ending.limit if isinstance(ending.limit, list) else [ending.limit]  # older ledgers have the rule's own
    return _limits(settings, ending.rule)[: len(known)] != known


def _limits(settings: PolicySettings, rule: str) -> list[float | None]:
    return [settings.limit(name) for name in (rule, *_DECIDED_BY.get(rule, ()))]


# ----------------------------------------------------------------------------------------------------- the loop


def _retry(state: State, settings: PolicySettings) -> Event | None:
    for tasks in state.work.failed.values():
        for task in islice(tasks.values(), 1):  # those behind it wait for the same slot
            event = verdict(state, settings, task)
            if event.kind == "task_abandoned":
                return event
            is_affordable = task.kind != Kind.LABEL or not state.candidates.counts(task.spec["candidate"])
            is_affordable |= state.calculations + state.work.in_flight[Kind.LABEL] < settings.max_labels
            if is_affordable and free_slots(state, settings, task.kind):
                return event
    return None


def _assess(state: State, settings: PolicySettings) -> Event | None:
    if state.unassessed is None or state.work.pending(Kind.ASSESS) or not free_slots(state, settings, Kind.ASSESS):
        return None
    return _start_assessment(state, state.unassessed, final=False)


def _train(state: State, settings: PolicySettings) -> Event | None:
    if state.unassessed is not None or state.work.pending(Kind.TRAIN) or not free_slots(state, settings, Kind.TRAIN):
        return None
    labels = state.dataset.training
    if state.generations > 0:
        # All are new when the models were lost.
        due = labels.unseen > 0 and labels.unseen >= min(settings.labels_per_generation, labels.size)
    else:
        due = labels.unseen > 0 and (labels.size >= settings.initial_labels or _initial_is_done(state, settings))
    return _start_training(state) if due else None


def _score(state: State, settings: PolicySettings) -> Event | None:
    if state.promoted is None or not state.candidates.stale or state.work.pending(Kind.SCORE):
        return None
    if not free_slots(state, settings, Kind.SCORE):
        return None
    candidates, dataset = state.candidates, state.dataset
    spec = {
        "generation": state.promoted,
        "candidates": list(candidates.stale),
        "waiting": candidates.ranked(candidates.waiting),
        "labelling": candidates.ranked(candidates.labelling),
        "labels": len(dataset.training.loose),
        "unseen": dataset.unlearned,
    }
    return _start(state, Kind.SCORE, spec)


def _label(state: State, settings: PolicySettings) -> Event | None:
    candidate = state.candidates.next
    if candidate is None or not free_slots(state, settings, Kind.LABEL):
        return None
    if not candidate.apart and _labels_left(state, settings) <= 0:
        return None
    if not (candidate.apart or candidate.audit) and _has_chosen(state, settings):
        return None
    return _start(state, Kind.LABEL, {"candidate": candidate.id})


def _explore(state: State, settings: PolicySettings) -> Event | None:
    if not free_slots(state, settings, Kind.EXPLORE):
        return None
    labels, candidates = state.dataset.training, state.candidates
    wanted = settings.initial_labels - labels.size
    starts = max(wanted, 0) if state.generations == 0 and not state.initial_found else 0
    # With labels that the user brought, or in a campaign of an older alpot, there may be no starts to emit them with.
    apart = settings.isolated_atoms and not state.apart_found
    if (starts or apart) and not state.work.pending(Kind.EXPLORE):
        return _start(state, Kind.EXPLORE, {"generation": None, "starts": starts, "apart": apart})
    if state.generations == 0:
        return None
    if state.promoted is None:
        return None
    # A whole generation's labels are in: wait for the model that learns from them, rather than spend the budget on
    # what an outdated one does not know.
    if labels.unseen >= _generation(state, settings):
        return None
    # What the explorations in flight will find counts too, or a thousand free workers would explore all at once; and
    # so do the labels that end before an exploration does, or the label workers would be idle by then.
    expected = state.work.in_flight[Kind.EXPLORE] * max(1.0, state.discoveries)
    backlog = len(candidates.waiting) + len(candidates.stale) + expected
    if backlog - state.turnover > _stock(settings) or backlog >= _labels_left(state, settings):
        return None
    spec: dict[str, Any] = {"generation": state.promoted}
    if found := shares(settings.start_weights, state.samplers):
        spec["shares"] = found
    return _start(state, Kind.EXPLORE, spec)


def _generation(state: State, settings: PolicySettings) -> float:
    """Labels that one model may ask for, before the next one judges what waits."""
    return max(settings.labels_per_generation, _GROWTH * state.dataset.training.size)


def _has_chosen(state: State, settings: PolicySettings) -> bool:
    """Whether the promoted model has asked for its share: what waits is better chosen by the next one.

    That is a generation, and one label for each worker beside it, so that none is idle when a training begins, which
    takes the labels that it is given off the count. Where it takes longer than they do, workers wait for it rather than
    spend more on what it may make needless.
    """
    if state.promoted is None:
        return False
    asked = state.dataset.training.unseen + len(state.candidates.ranked(state.candidates.labelling))
    return asked >= _generation(state, settings) + settings.slots[settings.pool_of[Kind.LABEL]]


def _stock(settings: PolicySettings) -> int:
    """Candidates that should wait: what was asked for, and one for each label worker at least."""
    return max(settings.waiting_candidates, settings.slots[settings.pool_of[Kind.LABEL]])


def _initial_is_done(state: State, settings: PolicySettings) -> bool:
    stragglers = int(_STRAGGLERS * settings.initial_labels)
    candidates = state.candidates
    return (
        state.initial_found
        and candidates.undecided(candidates.waiting) == 0
        and candidates.undecided(candidates.labelling) <= stragglers
    )


def _labels_left(state: State, settings: PolicySettings) -> int:
    return settings.max_labels - state.calculations - state.candidates.undecided(state.candidates.labelling)


# -------------------------------------------------------------------------------------------------- the failures


def verdict(state: State, settings: PolicySettings, task: Task) -> Event:
    """What follows a failed attempt: another one, or the end of the task."""
    course = state.work.courses[task.id]
    if course.suspicions >= _SUSPICIONS:
        return events.task_abandoned(task.id, "kills its worker", counts=True)
    failures = Counter(course.failures)
    del failures[FailureClass.DISK_FULL]  # the campaign has stopped, and the user has made space since
    if task.kind == Kind.LABEL:
        if failures[FailureClass.UNPHYSICAL_GEOMETRY]:
            # A verdict on the structure, not a failure of the code: the same structure would give it again.
            return events.task_abandoned(task.id, FailureClass.UNPHYSICAL_GEOMETRY, counts=False)
        for mended in FOR_THE_USER:
            del failures[mended]
    if course.is_final or failures.total() >= (settings.attempts if task.kind == Kind.LABEL else _ATTEMPTS):
        (reason, _), *_ = (failures or course.failures).most_common(1)
        return events.task_abandoned(task.id, reason, counts=True)
    return events.task_started(task.again(afresh=course.afresh))


# ---------------------------------------------------------------------------------------------------- the ending


def _ending(state: State, settings: PolicySettings) -> Ending | None:
    """The first rule to stop that is met."""
    if state.obstacle:
        return Ending(state.obstacle[0], None, f"no label can be computed: {state.obstacle[1]}", failed=True)
    if state.disk_full:
        return Ending("disk_full", None, f"nothing more can be stored: {state.disk_full}", failed=True)
    if state.training_failure:
        return Ending("training", None, f"training was given up: {state.training_failure}", failed=True)
    if state.work.given_up > settings.max_failures:
        reason = f"{state.work.given_up} tasks failed for good, {settings.max_failures} may"
        reason = f"{reason} (failed attempts: {_counted(state.work.failures)}); the last: {state.work.last_failure}"
        return Ending("max_failures", settings.max_failures, reason, failed=True)
    refused = state.dataset.refused
    if len(refused) - state.dataset.forgiven > settings.max_failures + _REFUSED_SHARE * state.calculations:
        why, count = Counter(refused.values()).most_common(1)[0]
        reason = f"{len(refused)} labels were refused as wrong, {count} of them because: {why}"
        return Ending("refused", None, reason, failed=True)
    if state.calculations >= settings.max_labels:
        reason = f"the budget of {settings.max_labels} labels is spent"
        return Ending("max_labels", settings.max_labels, reason)
    if settings.max_generations is not None and state.generations >= settings.max_generations:
        reason = f"{state.generations} generations were trained"
        return Ending("max_generations", settings.max_generations, reason)
    met = _target_met(state, settings)
    if met is not None:
        return met
    if settings.quiet_time is not None and state.quiet >= settings.quiet_time:
        reason = f"generation {state.promoted} found nothing uncertain in {state.quiet:g} simulated ps"
        return Ending("quiet_time", settings.quiet_time, reason)
    return _given_up(state, settings)


def _target_met(state: State, settings: PolicySettings) -> Ending | None:
    """The target is on errors, on properties, or on both together, as far as it was set."""
    reasons, rules = [], []
    if settings.force_error is not None:
        if not _is_accurate(state, settings):
            return None
        words = f"the force error on audit labels is at most {settings.force_error} eV/Å"
        if state.assessment is not None and state.assessment.force_error_high is not None:
            words += f" with {100 * settings.confidence:g} % confidence"
        rules.append("force_error")
        reasons.append(words)
    if settings.good_generations is not None:
        if state.good_generations < settings.good_generations:
            return None
        rules.append("good_generations")
        reasons.append(f"all properties were within tolerance in {state.good_generations} generations in a row")
    return Ending(rules[0], _limits(settings, rules[0]), " and ".join(reasons)) if rules else None


def _is_accurate(state: State, settings: PolicySettings) -> bool:
    found = state.assessment
    if settings.force_error is None or found is None or found.force_error is None:
        return False
    if (found.force_error_confidence or settings.confidence) < settings.confidence:
        return False  # the user wants to be surer than it was measured: the next assessment tells
    error = found.force_error if found.force_error_high is None else found.force_error_high
    return found.audit_labels >= settings.audit_labels and error <= settings.force_error


def _given_up(state: State, settings: PolicySettings) -> Ending | None:
    """The target is out of reach of the budget by far, and by enough generations to know."""
    curve, found = state.learning_curve, state.assessment
    if not settings.out_of_reach or settings.force_error is None or _is_accurate(state, settings):
        return None
    if curve is None or found is None or found.force_error is None or found.audit_labels < settings.audit_labels:
        return None
    if curve.points < _FORECAST_POINTS or curve.last < _FORECAST_SPAN * curve.first:
        return None
    noise = audit_noise(found.force_error, found.force_error_high, found.force_error_confidence or settings.confidence)
    needed = curve.in_calculations(curve.forecast(settings.force_error, settings.confidence, noise))
    if needed.low is not None and needed.low <= settings.out_of_reach * settings.max_labels:
        return None
    falls = f"falls as their number to the power −{curve.exponent:.2f}"
    reason = (
        f"the target is out of reach: the force error, {found.force_error:.3g} eV/Å with {curve.last:,} labels to train"
        f" on, {falls if curve.exponent >= 0.005 else 'does not fall with their number'}; {settings.force_error:g} eV/Å"
        f" would take {_needed(needed, settings.confidence)} calculations, and the budget is {settings.max_labels:,}"
    )
    return Ending("out_of_reach", _limits(settings, "out_of_reach"), reason)


def _needed(needed: Forecast, confidence: float) -> str:
    if needed.low is None:
        return "more than any number of"
    expected, low, high = (None if n is None else f"{float(f'{n:.2g}'):,.0f}" for n in needed.values)
    about = "" if expected is None else f"about {expected} "
    return f"{about}({low} {'or more' if high is None else f'to {high}'}, {100 * confidence:g} % confidence)"


def _counted(reasons: Counter[Any]) -> str:
    return ", ".join(f"{count} × {reason}" for reason, count in reasons.most_common()) or "none"


def _conclude(state: State, settings: PolicySettings, ending: Ending) -> Event | None:
    """Waits for what runs, trains on what is left, assesses once more. Failed labels await a lifted ending."""
    if state.work.tasks:
        return None
    if ending.failed:
        return events.campaign_finished(ending.reason, failed=True)
    for task in (*state.work.failed[Kind.TRAIN].values(), *state.work.failed[Kind.ASSESS].values()):
        return verdict(state, settings, task)
    if state.unassessed is not None:
        return _start_assessment(state, state.unassessed, final=False)
    may_train = settings.max_generations is None or state.generations < settings.max_generations
    if state.dataset.training.unseen > 0 and may_train and not state.training_failure:
        return _start_training(state)
    if state.promoted is None:
        return events.campaign_finished(f"{ending.reason}, but no generation was promoted", failed=True)
    if state.final_assessed != state.promoted:
        return _start_assessment(state, state.promoted, final=True)
    return events.campaign_finished(ending.reason, failed=False)


# --------------------------------------------------------------------------------------------------------- tasks


def free_slots(state: State, settings: PolicySettings, kind: Kind) -> int:
    """How many more tasks of a kind could begin now."""
    pool = settings.pool_of[kind]
    busy = sum(state.work.in_flight[other] for other in Kind if settings.pool_of[other] == pool)
    return max(settings.slots[pool] - busy, 0)


def _start(state: State, kind: Kind, spec: dict[str, Any]) -> Event:
    return events.task_started(Task(state.work.next_id(kind), kind, spec))


def _start_training(state: State) -> Event:
    dataset = state.dataset
    spec = {
        "generation": state.generations + 1,
        "parent": state.promoted,
        "shards": len(dataset.training.shards),
        "labels": len(dataset.training.loose),
        "audit_labels": len(dataset.audit.loose),
        "refused": len(dataset.refused),
        "unseen": dataset.training.unseen,
        "unlearned": dataset.unlearned,
        "apart_labels": len(dataset.apart),
    }
    return _start(state, Kind.TRAIN, spec)


def _start_assessment(state: State, generation: int, *, final: bool) -> Event:
    dataset = state.dataset
    spec = {
        "generation": generation,
        "incumbent": state.promoted,
        "shards": len(dataset.training.shards),
        "labels": len(dataset.training.loose),
        "audit_shards": len(dataset.audit.shards),
        "audit_labels": len(dataset.audit.loose),
        "refused": len(dataset.refused),
        "unseen": dataset.audit.unseen,
        "apart_labels": len(dataset.apart),
        "final": final,
        "within_tolerance": [] if state.assessment is None else state.assessment.within_tolerance,
    }
    return _start(state, Kind.ASSESS, spec)
