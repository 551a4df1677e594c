"""What a campaign learns, seen from the campaign: five kinds of task, and what each one reports.

The campaign decides *when* something is explored, labelled, scored, trained or assessed; the subject knows *how*. What
the campaign asks is the task's ``spec``; what it hears is a small summary, checked here before it becomes a fact.

=========  ==================================================================================================
kind       spec
=========  ==================================================================================================
explore    ``generation``: explore with this model; None: there is none yet, emit ``starts`` initial structures
label      ``candidate``: id of the candidate
score      ``generation``, ``candidates``: ids to be judged again by this model
train      ``generation``: the new one; ``parent``: the promoted one or None; ``shards``: files of compacted labels;
           ``labels``: keys of labels not in a shard; ``audit``: keys that must never be trained on
assess     ``generation``; ``incumbent``: the promoted one or None; ``audit``: keys of the audit labels;
           ``final``: also evaluate properties
=========  ==================================================================================================

Paths in summaries are relative to the campaign directory.
"""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal, Protocol

from pydantic import BaseModel, ConfigDict, Field, model_validator

NonNegative = Annotated[float, Field(ge=0)]


class Kind(StrEnum):
    """The kinds of task."""

    EXPLORE = "explore"
    LABEL = "label"
    SCORE = "score"
    TRAIN = "train"
    ASSESS = "assess"


class Subject(Protocol):
    """A class whose constructor takes the campaign directory; one instance serves many tasks of a worker process."""

    def __init__(self, directory: Path) -> None: ...

    def run(self, kind: str, task_id: str, attempt: int, spec: dict[str, Any], task_directory: Path) -> dict[str, Any]:
        """Runs one task.

        A worker that was given up for lost may still be running when its task is tried again. Outputs outside
        ``task_directory`` must therefore bear attempts that overlap: name them by attempt, or let the first writer
        win (``alpot.store.files.publish_new``).

        Args:
            kind: one of ``Kind``.
            task_id: the same on every attempt; randomness is seeded from (campaign seed, task id, attempt).
            attempt: from 1.
            spec: see the table above.
            task_directory: an empty folder of this attempt alone, for scratch and logs.

        Returns:
            What the kind's summary model takes; more entries are welcome, if JSON-able.

        Raises:
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


class ExploreSummary(Summary):
    """What an explore task found."""

    candidates: list[Candidate]
    generation: int | None = None
    walkers: int = 0
    simulated_time: NonNegative = Field(0.0, description="ps, summed over walkers")
    endings: dict[str, int] = Field(default_factory=dict, description="how many walkers ended for which reason")


class LabelSummary(Summary):
    """How a label task ended: with a label, or with a reason why there can be none."""

    candidate: str
    key: str
    outcome: Literal["labelled", "rejected"]
    path: str = ""
    checksum: str = ""
    seconds: NonNegative = 0.0
    reason: str = ""

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
    scores: dict[str, float]
    certain: list[str] = Field(default_factory=list, description="ids that the model knows already; they are dropped")


class TrainSummary(Summary):
    """A new generation, and the shard into which loose labels were compacted."""

    generation: int
    path: str
    checksum: str
    shard: str | None = None
    shard_keys: list[str] = Field(default_factory=list)
    shard_checksum: str | None = None
    metrics: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _shard_is_whole(self) -> TrainSummary:
        if (self.shard is None) != (self.shard_checksum is None) or (self.shard is None) != (not self.shard_keys):
            raise ValueError("shard, shard_keys and shard_checksum must be given together")
        return self


class AssessSummary(Summary):
    """Whether a generation is better than the one it would replace."""

    generation: int
    promote: bool
    force_error: float | None = Field(None, description="root-mean-square error on audit labels in eV/Å")
    energy_error: float | None = Field(None, description="root-mean-square error on audit labels in eV/atom")
    audit_labels: int = 0
    calibration: float | None = None
    properties: list[dict[str, Any]] = Field(default_factory=list)


SUMMARIES: dict[Kind, type[Summary]] = {
    Kind.EXPLORE: ExploreSummary,
    Kind.LABEL: LabelSummary,
    Kind.SCORE: ScoreSummary,
    Kind.TRAIN: TrainSummary,
    Kind.ASSESS: AssessSummary,
}
