"""What an assessment of a generation saw that the ledger does not hold: points for the report, never for decisions.

One file per generation, ``assessments/gen-0002.json``, of bounded size however large the campaign is: its lists are
capped, and what is a random share of more says so. Units are eV, Å, K and g/cm³, energies are per atom.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer, ValidationError

from alpot.errors import StorageError
from alpot.store.directory import CampaignDirectory
from alpot.store.json_files import publish_json, read_json

#: So many force components, points of the map and hard frames say all that a page can show.
MAX_PARITY, MAX_MAP, MAX_HARD = 5000, 20_000, 20

Vector = tuple[float, float, float]


class Part(BaseModel):
    """Base of the file and its parts: finite values that do not change."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class AuditFrame(Part):
    """One audit label, and how far the potential is off.

    Attributes:
        key: of the label.
        reason: why it was a candidate.
        n_atoms: in the frame.
        energy_error: predicted − reference in eV/atom.
        energy: of the reference in eV/atom.
        energy_predicted: of the potential in eV/atom.
        force_rmse: root mean square over force components in eV/Å.
        force_max_error: largest error of the force on an atom (norm of the vector) in eV/Å.
        sigma_mean: mean over atoms of the members' deviation in eV/Å.
        sigma_max: the largest of these in eV/Å.
    """

    key: str
    reason: str
    n_atoms: int
    energy_error: float
    energy: float
    energy_predicted: float
    force_rmse: float
    force_max_error: float
    sigma_mean: float
    sigma_max: float


class ForceParity(Part):
    """Force components of audit labels in eV/Å, paired; at most ``MAX_PARITY``, a random share of ``total``."""

    reference: Annotated[list[float], Field(max_length=MAX_PARITY)] = []
    predicted: Annotated[list[float], Field(max_length=MAX_PARITY)] = []
    total: int | None = None


class SigmaBin(Part):
    """Atoms of similar uncertainty.

    Attributes:
        sigma: root mean square of the members' deviation over the atoms of the bin in eV/Å.
        error: root mean square of the actual force error of the same atoms in eV/Å.
        error_quantile: of these errors in eV/Å, at the confidence of the bound on them: where that is right, it lies
            here. None in files of an alpot that knew no bounds.
        count: of atoms.
    """

    sigma: float
    error: float
    error_quantile: float | None = None
    count: int


class MapPoint(Part):
    """A label on the map of configuration space.

    Attributes:
        x: first coordinate of the projection.
        y: second coordinate.
        generation: that the label was first trained in; 0 for labels from before the first exploration.
        reason: why it was a candidate.
        audit: whether it measures errors and is never trained on.
        density: in g/cm³; None where the frame has no volume.
        temperature: at which it was found in K; None where it has none.
        energy: of the reference in eV/atom.
        n_atoms: in the frame.
    """

    x: float
    y: float
    generation: int
    reason: str
    audit: bool = False
    density: float | None = None
    temperature: float | None = None
    energy: float
    n_atoms: int


class HardFrame(Part):
    """A frame that the potential finds hard.

    Attributes:
        key: of the label.
        why: what put it onto this list.
        force_rmse: root mean square over force components in eV/Å.
        sigma_max: largest deviation of the members on an atom in eV/Å.
        reason: why it was a candidate.
        symbols: chemical symbols (n,).
        positions: (n, 3) Å.
        cell: (3, 3) Å, rows are vectors.
        pbc: whether it is periodic along each.
        atom_errors: norm of the force error on each atom (n,) in eV/Å.
    """

    key: str
    why: Literal["worst predicted", "most uncertain"]
    force_rmse: float
    sigma_max: float
    reason: str
    symbols: list[str]
    positions: list[Vector]
    cell: tuple[Vector, Vector, Vector]
    pbc: tuple[bool, bool, bool]
    atom_errors: list[float]


def _columns(rows: Sequence[Part]) -> dict[str, list[Any]]:
    return {name: [getattr(row, name) for row in rows] for name in type(rows[0]).model_fields} if rows else {}


def _rows(value: Any) -> Any:
    """Entries from their columns; whatever else there is goes on to validation."""
    if not isinstance(value, dict):
        return value
    if not all(isinstance(column, list) for column in value.values()):
        raise ValueError("a column is not a list")
    return [dict(zip(value, cells, strict=True)) for cells in zip(*value.values(), strict=True)]


_Entry = TypeVar("_Entry", bound=Part)
#: A list of equal parts, whose names stand only once in the file: half its size.
Table = Annotated[list[_Entry], BeforeValidator(_rows), PlainSerializer(_columns, when_used="json")]


class AssessmentFile(Part):
    """What one assessment saw.

    Attributes:
        generation: that was assessed.
        audit: each audit label.
        force_parity: force components of these.
        sigma_bins: their atoms by uncertainty, in order of ``sigma``.
        map: labels on the map of configuration space; at most ``MAX_MAP``.
        map_total: how many labels the map is a random share of; None where it shows all.
        hard: the frames that it found hardest; at most ``MAX_HARD``.
    """

    generation: int
    audit: Table[AuditFrame] = []
    force_parity: ForceParity = ForceParity()
    sigma_bins: list[SigmaBin] = []
    map: Annotated[Table[MapPoint], Field(max_length=MAX_MAP)] = []
    map_total: int | None = None
    hard: Annotated[list[HardFrame], Field(max_length=MAX_HARD)] = []


def write_assessment_file(directory: CampaignDirectory, assessment: AssessmentFile) -> None:
    """Writes the file of a generation; one that is there is replaced.

    Raises:
        StorageError: it cannot be written.
    """
    publish_json(directory.assessment_path(assessment.generation), assessment.model_dump(mode="json"))


def read_assessment_file(directory: CampaignDirectory, generation: int) -> AssessmentFile | None:
    """The file of a generation; None if there is none.

    Raises:
        StorageError: it is damaged or of another alpot.
    """
    path = directory.assessment_path(generation)
    if not path.is_file():
        return None
    try:
        return AssessmentFile.model_validate(read_json(path))
    except ValidationError as error:
        raise StorageError(
            f"{path} is not what this alpot writes ({error.error_count()} entries are wrong); remove it: the next"
            " assessment of the generation writes it again"
        ) from error
