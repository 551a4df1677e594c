"""What a page is made of, read once: sections take it from here and read nothing themselves."""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import BaseModel, TypeAdapter

from alpot.config import Campaign
from alpot.config_file import parse_campaign, read_text
from alpot.errors import StorageError
from alpot.report.history import Generation, History
from alpot.report.status import Status, status_and_history
from alpot.store.assessment_file import AssessmentFile, read_assessment_file
from alpot.store.directory import CampaignDirectory
from alpot.store.json_files import read_json
from alpot.store.property_file import PropertyFile, read_property_file


class Epoch(BaseModel):
    """One line of a learning curve, see ``alpot.potential.training.Epoch``: losses (n_members,)."""

    epoch: int
    training_loss: list[float]
    validation_loss: list[float]


@dataclass(frozen=True, kw_only=True)
class Material:
    """A campaign as it is at one moment.

    Attributes:
        config_text: the campaign file.
        config: what it says.
        status: where the campaign stands.
        history: how it came there.
        assessment: what the assessment of the promoted generation saw, if it has left a file.
        properties: of the generation whose properties the status has, if they have left a file.
        learning_curve: of the last training; empty if there is nothing that can be read.
        problems: why something that should be there is not shown, as sentences.
    """

    config_text: str
    config: Campaign
    status: Status
    history: History
    assessment: AssessmentFile | None
    properties: PropertyFile | None
    learning_curve: tuple[Epoch, ...]
    problems: tuple[str, ...]

    @property
    def promoted(self) -> Generation | None:
        """The generation to use."""
        return self.history.generations.get(self.status.promoted or 0)


def gather(directory: CampaignDirectory) -> Material:
    """Reads a campaign, whatever its state.

    Raises:
        AlpotError: the campaign file or the ledger cannot be read; other files may be damaged.
    """
    config_text = read_text(directory.config)
    status, history = status_and_history(directory)
    problems: list[str] = []
    assessment, properties = _assessment(directory, status, problems), _properties(directory, status, problems)
    return Material(
        config_text=config_text,
        config=parse_campaign(config_text, str(directory.config)),
        status=status,
        history=history,
        assessment=assessment,
        properties=properties,
        learning_curve=_learning_curve(directory, status),
        problems=tuple(problems),
    )


def _assessment(directory: CampaignDirectory, status: Status, problems: list[str]) -> AssessmentFile | None:
    if status.promoted is None:
        return None
    try:
        return read_assessment_file(directory, status.promoted)
    except StorageError as error:
        problems.append(f"Some figures are missing: {error}.")
        return None


def _properties(directory: CampaignDirectory, status: Status, problems: list[str]) -> PropertyFile | None:
    if status.properties_of is None or not directory.properties_path(status.properties_of).is_file():
        return None
    try:
        return read_property_file(directory.properties_path(status.properties_of))
    except StorageError as error:
        problems.append(f"Curves of properties are missing: {error}.")
        return None


def _learning_curve(directory: CampaignDirectory, status: Status) -> tuple[Epoch, ...]:
    if not status.generations:
        return ()
    path = directory.model_path(status.generations[-1].number) / "learning_curve.json"
    try:
        return TypeAdapter(tuple[Epoch, ...]).validate_python(read_json(path)["epochs"])
    except (StorageError, KeyError, ValueError):
        return ()
