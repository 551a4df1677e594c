"""Where a campaign stands, read from its ledger without disturbing it: what ``alpot status`` prints.

Everything here is JSON-able (``Status.model_dump_json``). Energies are in eV, forces in eV/Å, times in s or ps, as
the names say.
"""

from __future__ import annotations

import socket
from collections import Counter
from datetime import UTC, datetime
from enum import StrEnum

from pydantic import BaseModel, ConfigDict

from alpot.campaign.events import replay
from alpot.campaign.samplers import Sampler, shares
from alpot.campaign.state import State
from alpot.campaign.subject import Kind
from alpot.config import Campaign
from alpot.config_file import read_campaign
from alpot.report.costs import Prediction
from alpot.report.history import Failure, Generation, History
from alpot.report.outlook import Outlook, outlook_of
from alpot.report.spending import Spending
from alpot.store.directory import CampaignDirectory, Holder
from alpot.store.ledger import Ledger
from alpot.store.property_file import PropertyRow


class Phase(StrEnum):
    """What a campaign is doing."""

    NEW = "new"
    RUNNING = "running"
    ENDING = "ending"
    STOPPING = "stopping"
    STOPPED = "stopped"
    INTERRUPTED = "interrupted"
    FINISHED = "finished"
    FAILED = "failed"


class Part(BaseModel):
    """Base of a status and its parts: values that do not change."""

    model_config = ConfigDict(frozen=True)


class Controller(Part):
    """Who runs the campaign."""

    host: str
    pid: int
    since: str


class Labels(Part):
    """Reference calculations.

    Attributes:
        training: labels to train on.
        audit: labels that measure the error and are never trained on.
        imported: how many of these the user brought along.
        queued: candidates that wait to be labelled, or to be judged by the promoted generation before.
        running: being computed.
        calculations: calculations that count against the budget, failed attempts included.
        settled: structures that were labelled or rejected, where each that was given is to be; None in a campaign.
        budget: of calculations; where ``settled`` is known, of structures.
        rejected: candidates that got no label, by reason.
        refused: labels that are not used because they are wrong or damaged, by reason.
        failed_attempts: by class; an attempt that failed may be followed by one that does not.
        seconds: wall time of finished calculations in s, added up.
    """

    training: int
    audit: int
    imported: int
    queued: int
    running: int
    calculations: int
    settled: int | None
    budget: int
    rejected: dict[str, int]
    refused: dict[str, int]
    failed_attempts: dict[str, int]
    seconds: float

    @property
    def done(self) -> int:
        """Labels of both sorts."""
        return self.training + self.audit


class Spent(Part):
    """What label calculations have cost, as far as it is on record, and what is still to come.

    Attributes:
        label_core_hours: of labels.
        failure_core_hours: of attempts that failed.
        core_seconds_per_label: mean; None if there is no label.
        scf_steps_per_label: mean; None if no label says so.
        peak_memory_MB: the most that a label needed; None if no label says so.
        prediction: for the rest of the budget; None if nothing is left or nothing is known.
    """

    label_core_hours: float
    failure_core_hours: float
    core_seconds_per_label: float | None
    scf_steps_per_label: float | None
    peak_memory_MB: float | None  # noqa: N815 - the unit is part of the name
    prediction: Prediction | None


class Starts(Part):
    """What walkers from one table of starts did.

    Attributes:
        kind: of the table.
        share: of the walkers that begin from it now.
        configured_share: the same by its weight.
        walkers: number that ended.
        found: those of them that found a frame worth a label.
        simulated_ps: time simulated, added up.
    """

    kind: str
    share: float
    configured_share: float
    walkers: int
    found: int
    simulated_ps: float


class Exploration(Part):
    """What walkers did.

    Attributes:
        walkers: number that ended.
        simulated_ps: time simulated, added up.
        quiet_ps: time that the promoted generation simulated since it last found something uncertain.
        endings: how many walkers ended for which reason.
        candidates: structures found, by reason.
        dropped: those that will not be labelled, by reason.
        starts: by table of starts, in the order of the campaign file.
    """

    walkers: int
    simulated_ps: float
    quiet_ps: float
    endings: dict[str, int]
    candidates: dict[str, int]
    dropped: dict[str, int]
    starts: tuple[Starts, ...]


class Tasks(Part):
    """Tasks of one kind in flight; ``oldest_s``: for how long the first of them has been."""

    count: int
    oldest_s: float


class Status(Part):
    """Where a campaign stands.

    Attributes:
        name: of the campaign, which is that of its folder.
        directory: the folder.
        elements: chemical symbols.
        phase: what it is doing.
        message: the same as a sentence, with the reason and what to do.
        controller: who runs it; None if nobody does.
        began: when it was first run, ISO 8601 in UTC.
        last_event: when something last happened.
        elapsed_s: time in which a controller ran.
        generations: in order.
        promoted: the generation to use.
        potential: its folder.
        outlook: how the force error falls with the number of labels; None as long as that is not known.
        labels: the reference calculations.
        costs: what they have cost, and will cost.
        spending: what they have cost by the reason of their candidates.
        isolated_atoms: energy of the isolated atom by the reference in eV, by element, as far as known.
        exploration: the walkers.
        tasks: in flight, by kind.
        failures: failed attempts at tasks that are not labels, by kind and class.
        given_up: tasks that failed for good since the campaign was last opened.
        max_failures: the campaign stops if there are more.
        recent_failures: the last attempts that failed, of any kind.
        ending: why the campaign comes to its end, once it does.
        finished: why it has ended.
        properties: of the generation to use where it was measured, or else of the last one that was.
        properties_of: the generation that they belong to.
        properties_by_generation: the same rows of each generation that was measured.
    """

    name: str
    directory: str
    elements: tuple[str, ...]
    phase: Phase
    message: str
    controller: Controller | None
    began: str | None
    last_event: str | None
    elapsed_s: float
    generations: tuple[Generation, ...]
    promoted: int | None
    potential: str | None
    outlook: Outlook | None
    labels: Labels
    costs: Spent
    spending: dict[str, Spending]
    isolated_atoms: dict[str, float]
    exploration: Exploration
    tasks: dict[str, Tasks]
    failures: dict[str, dict[str, int]]
    given_up: int
    max_failures: int
    recent_failures: tuple[Failure, ...]
    ending: str | None
    finished: str | None
    properties: tuple[PropertyRow, ...]
    properties_of: int | None
    properties_by_generation: dict[int, tuple[PropertyRow, ...]]


def campaign_status(directory: CampaignDirectory) -> Status:
    """Reads the status of a campaign, whether or not a controller is at work.

    Raises:
        AlpotError: the campaign file or the ledger cannot be read.
    """
    status, _ = status_and_history(directory)
    return status


def status_and_history(directory: CampaignDirectory) -> tuple[Status, History]:
    """The status, and the history that it was made from."""
    # The controller first: one that ends meanwhile is shown as running, not a finished campaign as interrupted.
    holder = directory.holder()
    state, history = State(), History()
    with Ledger(directory.ledger, read_only=True) as ledger:
        replay(ledger.events(), state.apply, history.apply)
    return describe(directory, read_campaign(directory.config), state, history, holder), history


def describe(
    directory: CampaignDirectory, config: Campaign, state: State, history: History, holder: Holder | None
) -> Status:
    """Puts together what is known; ``state`` and ``history`` are of the same events."""
    now = datetime.now(UTC)
    elapsed_s = history.elapsed_until(now) if holder is not None and state.finished is None else history.elapsed_s
    phase = _phase(state, holder is not None, directory.stop_requested())
    potential = None if state.promoted is None else str(directory.model_path(state.promoted))
    only_labels = directory.purpose.exists()
    properties_of = state.promoted if state.promoted in history.measured else history.properties_of
    return Status(
        name=directory.path.name,
        directory=str(directory.path),
        elements=config.material.elements,
        phase=phase,
        message=_message(phase, state, holder, directory),
        controller=None if holder is None else Controller(host=holder.host, pid=holder.pid, since=holder.since),
        began=history.first.isoformat() if history.first else None,
        last_event=history.last.isoformat() if history.last else None,
        elapsed_s=elapsed_s,
        generations=tuple(history.generations.values()),
        promoted=state.promoted,
        potential=potential,
        outlook=outlook_of(config.stopping, state),
        labels=_labels(config, state, history, only_labels),
        costs=_costs(config, state, history, only_labels),
        spending={reason: spent.model_copy() for reason, spent in history.spending.items()},
        isolated_atoms=dict(history.isolated_atoms),
        exploration=_exploration(config, state, history),
        tasks=_tasks(state, history, elapsed_s),
        failures={kind.value: dict(counts) for kind, counts in history.failures.items() if kind != Kind.LABEL},
        given_up=state.work.given_up,
        max_failures=config.stopping.max_failures,
        recent_failures=tuple(history.recent_failures),
        ending=state.ending.reason if state.ending else None,
        finished=state.finished,
        properties=history.measured.get(properties_of or 0, ()),
        properties_of=properties_of,
        properties_by_generation=dict(history.measured),
    )


def _labels(config: Campaign, state: State, history: History, only_labels: bool) -> Labels:
    candidates, dataset = state.candidates, state.dataset
    structures = len(candidates.keys)
    return Labels(
        training=dataset.training.size,
        audit=dataset.audit.size,
        imported=history.imported,
        queued=len(candidates.waiting) + len(candidates.stale) + len(state.work.failed[Kind.LABEL]),
        running=state.work.in_flight[Kind.LABEL],
        calculations=state.calculations,
        settled=structures - _unsettled(state) if only_labels else None,
        budget=structures if only_labels else config.stopping.max_labels,
        rejected=dict(candidates.rejected),
        refused=dict(Counter(dataset.refused.values())),
        failed_attempts=dict(history.failures.get(Kind.LABEL, {})),
        seconds=state.label_seconds,
    )


def _unsettled(state: State) -> int:
    """Structures that were given to be labelled and have neither a label nor a reason why there is none."""
    return len(state.candidates.waiting) + len(state.candidates.labelling)


def _costs(config: Campaign, state: State, history: History, only_labels: bool) -> Spent:
    costs = history.costs
    workers = history.sessions[-1].label_workers if history.sessions else None
    if state.finished or state.ending:
        prediction = None
    elif only_labels:
        prediction = costs.predict_labels(_unsettled(state), workers)
    else:
        prediction = costs.predict(config.stopping.max_labels - state.calculations, workers)
    return Spent(
        label_core_hours=costs.core_seconds / 3600,
        failure_core_hours=costs.failed_core_seconds / 3600,
        core_seconds_per_label=costs.core_seconds / costs.labels if costs.labels else None,
        scf_steps_per_label=costs.scf_steps / costs.scf_labels if costs.scf_labels else None,
        peak_memory_MB=costs.peak_memory_MB,
        prediction=prediction,
    )


def _exploration(config: Campaign, state: State, history: History) -> Exploration:
    return Exploration(
        walkers=history.walkers,
        simulated_ps=state.simulated,
        quiet_ps=state.quiet,
        endings=dict(state.walker_endings),
        candidates=dict(history.found),
        dropped=dict(state.candidates.dropped),
        starts=_starts(config, state),
    )


def _starts(config: Campaign, state: State) -> tuple[Starts, ...]:
    tables = config.material.starts
    weights = [table.weight for table in tables]
    configured = [weight / sum(weights) for weight in weights]
    samplers = [state.samplers.get(number, Sampler()) for number in range(len(tables))]
    return tuple(
        Starts(
            kind=table.kind,
            share=share,
            configured_share=as_configured,
            walkers=sampler.walkers,
            found=sampler.found,
            simulated_ps=sampler.simulated,
        )
        for table, share, as_configured, sampler in zip(
            tables, shares(weights, state.samplers) or configured, configured, samplers, strict=True
        )
    )


def _tasks(state: State, history: History, elapsed_s: float) -> dict[str, Tasks]:
    oldest: dict[Kind, float] = {}
    for running in history.running.values():
        oldest.setdefault(running.kind, running.since)
    return {
        kind.value: Tasks(count=state.work.in_flight[kind], oldest_s=elapsed_s - oldest[kind])
        for kind in Kind
        if kind in oldest
    }


def _phase(state: State, is_running: bool, stop_requested: bool) -> Phase:
    if state.finished is not None:
        return Phase.FAILED if state.has_failed else Phase.FINISHED
    if is_running:
        if state.stop_requested or stop_requested:
            return Phase.STOPPING
        return Phase.RUNNING if state.ending is None else Phase.ENDING
    if state.seq == 0:
        return Phase.NEW
    return Phase.STOPPED if state.stop_requested and not state.work.tasks else Phase.INTERRUPTED


def _message(phase: Phase, state: State, holder: Holder | None, directory: CampaignDirectory) -> str:
    again = f"`{directory.command}`"
    match phase:
        case Phase.NEW:
            return f"created, nothing has run yet; {again} starts it"
        case Phase.RUNNING:
            where = "" if holder is None or holder.host == socket.gethostname() else f" on {holder.host}"
            if directory.purpose.exists():
                return "labelling what was given" + where
            return "getting the first labels" + where if state.promoted is None else "exploring and learning" + where
        case Phase.ENDING:
            return f"{state.ending.reason if state.ending else ''}; what runs finishes, then the last assessment"
        case Phase.STOPPING:
            return "stopping as asked: what runs finishes, nothing new starts"
        case Phase.STOPPED:
            return f"stopped as asked; {again} continues it"
        case Phase.INTERRUPTED:
            return f"the controller ended before the campaign did; {again} continues it and no label is lost"
        case Phase.FINISHED | Phase.FAILED:
            return state.finished or ""
