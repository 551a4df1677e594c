"""What a campaign learns, seen from the campaign: six kinds of task, and what each one reports.

The campaign decides *when* something is explored, labelled, scored, trained or assessed; the subject knows *how*. What
the campaign asks is the task's ``spec``; what it hears is a small summary, checked here before it becomes a fact.

=========  ==================================================================================================
kind       spec
=========  ==================================================================================================
explore    ``generation``: explore with this model; None: there is none yet, emit ``starts`` initial structures, and,
           if ``apart``, those whose labels are kept apart; ``shares``: of the walkers that begin from each table of
           starts; absent where these are as configured
label      ``candidate``: id of the candidate
score      ``generation``, ``candidates``: ids to be judged by this model; ``waiting``: ids that it has judged, among
           which they are to be ranked; ``labelling``: ids whose labels are being computed; ``labels``: keys of the
           last labels that are not in a shard, ``unseen``: how many of them the model has not learned from
train      ``generation``: the new one; ``parent``: the promoted one or None; ``shards``: files of labels to train on;
           ``labels``: keys of those that are not in a shard; ``audit_labels``: keys of labels for the audit that are
           not in a shard (to be compacted, never to be trained on); ``unseen``: how many labels are new;
           ``unlearned``: how many are new to the parent;
           ``refused``: keys not to be trained on; ``apart_labels``: keys of the labels that are kept apart
assess     ``generation``; ``incumbent``: the promoted one or None; ``shards``, ``labels``: labels to train on, for the
           report; ``audit_shards``, ``audit_labels``: the audit labels, likewise; ``unseen``; ``refused``;
           ``apart_labels``; ``final``: also evaluate properties
measure    what is measured with which calculator; of `alpot validate` alone, no campaign asks for it
=========  ==================================================================================================

Paths in summaries are relative to the campaign directory.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Protocol

from pydantic import BaseModel, ConfigDict, Field, model_validator

if TYPE_CHECKING:  # it brings h5py, which decisions do without
    from alpot.store.checkpoint import Checkpoint

NonNegative = Annotated[float, Field(ge=0)]


class Kind(StrEnum):
    """The kinds of task."""

    EXPLORE = "explore"
    LABEL = "label"
    SCORE = "score"
    TRAIN = "train"
    ASSESS = "assess"
    MEASURE = "measure"


@dataclass(frozen=True, kw_only=True)
class Assignment:
    """One attempt at a task, as a subject gets it.

    Attributes:
        kind: what to do.
        task_id: the same on every attempt.
        draw: from 1; which random numbers to use. It stays the same when an attempt was lost through no fault of the
            task, so that the repetition gives the same result.
        spec: see the table above.
        scratch: an empty folder of this attempt alone, for scratch and logs.
        checkpoint: where attempts with the same ``draw`` leave their state for the next one; the subject may set its
            ``interval``.
    """

    kind: Kind
    task_id: str
    draw: int
    spec: dict[str, Any]
    scratch: Path
    checkpoint: Checkpoint


class Subject(Protocol):
    """A class whose constructor takes the campaign directory; one instance serves many tasks of a worker process."""

    def __init__(self, directory: Path) -> None: ...

    def run(self, assignment: Assignment) -> dict[str, Any]:
        """Runs one attempt at a task.

        A worker that was given up for lost may still be running when its task is tried again. Outputs outside
        ``scratch`` must therefore bear attempts that overlap: let the first writer win
        (``alpot.store.files.publish_new``), or write what any attempt would write. Randomness is seeded from
        (campaign seed, task id, draw).

        Returns:
            What the kind's summary model takes; more entries are welcome, if JSON-able.

        Raises:
            Interrupted: the job is about to end; what was done is in the checkpoint.
            ReferenceError: carries the class of the failure. Any other exception is recorded as well.
        """
        ...


class Summary(BaseModel):
    """Base of all summaries: numbers are finite; entries unknown to the campaign are kept for the report."""

    model_config = ConfigDict(extra="allow", allow_inf_nan=False)


class Candidate(Summary):
    """A structure that may be worth a label."""

    id: str = Field(description="unique in the campaign, e.g. explore-000003/17")
    key: str = Field(description="key of the label that it would get; equal structures have equal keys")
    score: float = Field(description="what its label is expected to teach; only the order matters")
    cost: Annotated[float, Field(gt=0)] = Field(1.0, description="what its label costs, relative to the others")
    reason: str = Field(description="why it was emitted: initial, uncertain, contact, audit, ...")
    audit: bool = Field(False, description="chosen at random; measures the error, is never trained on")
    apart: bool = Field(
        False, description="neither trained on nor for the audit, e.g. an isolated atom; not counted by any limit"
    )


class SamplerFinds(Summary):
    """What the walkers of one exploration found that began from the same table of starts."""

    table: Annotated[int, Field(ge=0)] = Field(description="its number in the campaign file, from 0")
    walkers: Annotated[int, Field(ge=0)]
    found: Annotated[int, Field(ge=0)] = Field(description="walkers that found a frame, those for the audit apart")
    simulated_time: NonNegative = Field(description="ps, summed over walkers")


class ExploreSummary(Summary):
    """What an explore task found."""

    candidates: list[Candidate]
    generation: int | None = None
    walkers: int = 0
    simulated_time: NonNegative = Field(0.0, description="ps, summed over walkers")
    endings: dict[str, int] = Field(default_factory=dict, description="how many walkers ended for which reason")
    samplers: list[SamplerFinds] = Field(default_factory=list, description="the same by table of starts")


class LabelSummary(Summary):
    """How a label task ended: with a label, or with a reason why there can be none."""

    candidate: str
    key: str
    outcome: Literal["labelled", "rejected"]
    path: str = ""
    checksum: str = ""
    seconds: NonNegative = 0.0
    reason: str = ""
    atoms: Annotated[int, Field(ge=1)] | None = None
    core_seconds: NonNegative | None = Field(None, description="wall time × cores that the label took, and its screen")
    scf_steps: Annotated[int, Field(ge=0)] | None = Field(None, description="steps to self-consistency, all in all")
    peak_memory_MB: NonNegative | None = None  # noqa: N815 - the unit is part of the name
    isolated_atoms: dict[str, float] = Field(
        default_factory=dict, description="energy in eV by element, where this is the label of an isolated atom"
    )

    @model_validator(mode="after")
    def _says_where_or_why(self) -> LabelSummary:
        if self.outcome == "labelled" and not (self.path and self.checksum):
            raise ValueError("a labelled candidate needs path and checksum of its label file")
        if self.outcome == "rejected" and not self.reason:
            raise ValueError("a rejected candidate needs a reason")
        return self


class ScoreSummary(Summary):
    """What a newer model thinks of waiting candidates."""

    generation: int
    scores: dict[str, float] = Field(description="of those that were to be judged, and of those that wait beside them")
    certain: list[str] = Field(default_factory=list, description="ids that the model knows already; they are dropped")


class Compaction(Summary):
    """Single labels that were written into one file; the single files are not needed any more."""

    path: str
    checksum: str
    keys: Annotated[list[str], Field(min_length=1)]
    audit: bool = False


class TrainSummary(Summary):
    """A new generation, the shards into which labels were compacted, and labels that are too wrong to be used."""

    generation: int
    path: str
    checksum: str
    compacted: list[Compaction] = Field(default_factory=list)
    refused: dict[str, str] = Field(default_factory=dict, description="why, by key")
    metrics: dict[str, Any] = Field(default_factory=dict)


class Bound(Summary):
    """With ``confidence``, an error of a force is at most slope × (deviation of the members + floor)."""

    slope: NonNegative
    floor: NonNegative = Field(description="eV/Å")
    confidence: float
    n_frames: int = Field(description="labels that it was learned from; 0 where it is assumed")
    is_audited: bool = Field(
        True, description="whether these were audit labels, or such as were new to its predecessor"
    )


class AssessSummary(Summary):
    """Whether a generation is better than the one it would replace."""

    generation: int
    promote: bool
    force_error: float | None = Field(None, description="root-mean-square error on audit labels in eV/Å")
    force_error_high: float | None = Field(
        None, description="what it is at most with the confidence that was asked for; older ledgers do not say"
    )
    force_error_confidence: float | None = Field(None, description="with which force_error_high holds")
    energy_error: float | None = Field(None, description="root-mean-square error on audit labels in eV/atom")
    audit_labels: int = 0
    refused: dict[str, str] = Field(default_factory=dict, description="audit labels that are wrong: why, by key")
    calibration: float | None = None
    force_bound: Bound | None = None
    coverage: Annotated[float, Field(ge=0, le=1)] | None = Field(
        None, description="share of the atoms of new audit labels whose error the bound of the promoted generation held"
    )
    coverage_of: int | None = Field(None, description="that generation")
    coverage_atoms: int = Field(0, description="atoms of these labels")
    coverage_frames: int = Field(0, description="these labels")
    properties: list[dict[str, Any]] = Field(
        default_factory=list, description="rows of the table of physical properties, see ``PropertyRow``"
    )

    held_back: list[str] = Field(
        default_factory=list, description="properties for which it is not promoted: the promoted one is better in them"
    )

    @property
    def is_good(self) -> bool:
        """Whether properties have a tolerance, and all of these are known to be within it."""
        verdicts = [row.get("ok") for row in self.properties if row.get("tolerance") is not None]
        return bool(verdicts) and all(verdict is True for verdict in verdicts)

    @property
    def within_tolerance(self) -> list[list[str]]:
        """System and name of the properties that are."""
        return [[row["system"], row["name"]] for row in self.properties if row.get("ok")]


class MeasureSummary(Summary):
    """One property, measured with one calculator."""

    outcome: dict[str, Any] = Field(description="what was measured, or why nothing was: see ``Outcome``")


SUMMARIES: dict[Kind, type[Summary]] = {
    Kind.EXPLORE: ExploreSummary,
    Kind.LABEL: LabelSummary,
    Kind.SCORE: ScoreSummary,
    Kind.TRAIN: TrainSummary,
    Kind.ASSESS: AssessSummary,
    Kind.MEASURE: MeasureSummary,
}
