"""Every exception that alpot raises on purpose, in one tree, so that callers can catch what they mean.

    AlpotError                       anything below
    ├── UsageError                   the user can mend it; the command line exits with code 2
    │   ├── ConfigError              the campaign file is wrong
    │   ├── StructureError           a structure file or a request for a structure is wrong
    │   └── CampaignDirectoryError   a directory is missing, foreign, damaged, or in use
    │       └── CampaignLockedError  another controller runs in this directory
    ├── StorageError                 a file could not be written or is not what it should be
    │   └── LevelOfTheoryError       labels of different methods would be mixed
    ├── ReferenceError               a reference calculation failed; carries a FailureClass
    ├── PotentialError               a potential cannot be evaluated, trained or loaded
    │   └── NonFiniteError           energies or forces are NaN or infinite
    ├── Interrupted                  a task's job is about to end; its state is saved, and it goes on later
    └── CampaignFailed               the campaign stopped because its failure budget is exhausted

This module imports nothing of alpot and nothing heavy.
"""

from enum import StrEnum


class AlpotError(Exception):
    """Base of all exceptions raised by alpot."""


class UsageError(AlpotError):
    """The user can mend this: a wrong argument, file or environment."""


class ConfigError(UsageError):
    """The campaign file is not valid; the message names file, table, key, value and what would be right."""


class StructureError(UsageError):
    """A structure cannot be read or built as asked."""


class CampaignDirectoryError(UsageError):
    """A campaign directory is missing, not one of ours, or cannot be used."""


class CampaignLockedError(CampaignDirectoryError):
    """Another controller holds this campaign directory."""


class StorageError(AlpotError):
    """A file of the campaign could not be written, or its content is not what its checksum says."""


class LevelOfTheoryError(StorageError):
    """Labels of different levels of theory would be mixed in one dataset."""


class FailureClass(StrEnum):
    """Why a task failed; each class has a policy (see ``alpot.campaign.policy``)."""

    WALLTIME = "walltime"
    OUT_OF_MEMORY = "out_of_memory"
    NODE_LOST = "node_lost"
    NOT_CONVERGED = "not_converged"
    UNPHYSICAL_GEOMETRY = "unphysical_geometry"
    BAD_OUTPUT = "bad_output"
    MISSING_PROGRAM = "missing_program"
    WRONG_INPUT = "wrong_input"
    DISK_FULL = "disk_full"
    BUG = "bug"
    UNKNOWN = "unknown"


#: What only the user can mend: no other structure would fare better.
FOR_THE_USER = frozenset({FailureClass.MISSING_PROGRAM, FailureClass.WRONG_INPUT})


class ReferenceError(AlpotError):
    """A reference calculation did not give a valid label.

    Attributes:
        failure: the class of the failure.
        evidence: the last lines of output, or whatever the decision was taken from.
        is_final: whether another attempt would end alike, because all that may help has been tried.
        core_seconds: what the failed calculation cost, where that is known.
    """

    def __init__(
        self,
        message: str,
        *,
        failure: FailureClass,
        evidence: str = "",
        is_final: bool = False,
        core_seconds: float | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.failure = failure
        self.evidence = evidence
        self.is_final = is_final
        self.core_seconds = core_seconds

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuilt, (self.message, self.failure, self.evidence, self.is_final, self.core_seconds)


def _rebuilt(
    message: str, failure: FailureClass, evidence: str, is_final: bool, core_seconds: float | None
) -> ReferenceError:
    return ReferenceError(message, failure=failure, evidence=evidence, is_final=is_final, core_seconds=core_seconds)


class PotentialError(AlpotError):
    """A potential cannot be evaluated, trained, converted or loaded."""


class NonFiniteError(PotentialError):
    """Energies or forces are NaN or infinite; nothing may go on with them."""


class Interrupted(AlpotError):
    """The job that runs a task is about to end; the state of the task is saved, and another job continues it.

    Attributes:
        progress: how far the task is, in any unit that grows.
    """

    def __init__(self, message: str, *, progress: float) -> None:
        super().__init__(message)
        self.progress = progress


class CampaignFailed(AlpotError):
    """The campaign stopped because its failure budget is exhausted."""
