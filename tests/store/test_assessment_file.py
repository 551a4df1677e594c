import pytest
from pydantic import ValidationError

from alpot.errors import StorageError
from alpot.store.assessment_file import (
    MAX_HARD,
    AssessmentFile,
    AuditFrame,
    ForceParity,
    HardFrame,
    MapPoint,
    SigmaBin,
    read_assessment_file,
    write_assessment_file,
)
from alpot.store.directory import CampaignDirectory
from alpot.store.json_files import publish_json, read_json

FRAME = HardFrame(
    key="k",
    why="worst predicted",
    force_rmse=0.3,
    sigma_max=0.2,
    reason="uncertain",
    symbols=["Al", "Al"],
    positions=[(0.0, 0.0, 0.0), (2.0, 2.0, 0.0)],
    cell=((4.05, 0.0, 0.0), (0.0, 4.05, 0.0), (0.0, 0.0, 4.05)),
    pbc=(True, True, False),
    atom_errors=[0.1, 0.5],
)
AUDIT = {"n_atoms": 2, "energy_error": 1e-3, "energy": -3.5, "energy_predicted": -3.499}
AUDIT |= {"force_rmse": 0.1, "force_max_error": 0.3, "sigma_mean": 0.05, "sigma_max": 0.2}
ASSESSMENT = AssessmentFile(
    generation=2,
    audit=[AuditFrame(key="k", reason="audit", **AUDIT)],
    force_parity=ForceParity(reference=[0.1, -2.0], predicted=[0.2, -2.1], total=6),
    sigma_bins=[SigmaBin(sigma=0.05, error=0.08, count=40)],
    map=[MapPoint(x=0.1, y=-1.0, generation=0, reason="initial", density=2.7, energy=-3.5, n_atoms=2)],
    hard=[FRAME],
)


def test_what_was_written_is_read(tmp_path):
    directory = CampaignDirectory(tmp_path)
    assert read_assessment_file(directory, 2) is None
    write_assessment_file(directory, ASSESSMENT)
    assert directory.assessment_path(2) == tmp_path / "assessments" / "gen-0002.json"
    assert read_assessment_file(directory, 2) == ASSESSMENT
    write_assessment_file(directory, ASSESSMENT.model_copy(update={"hard": []}))
    assert read_assessment_file(directory, 2).hard == []


def test_points_of_the_map_are_stored_as_columns(tmp_path):
    directory = CampaignDirectory(tmp_path)
    points = [ASSESSMENT.map[0].model_copy(update={"x": 0.1 * number}) for number in range(3)]
    write_assessment_file(directory, ASSESSMENT.model_copy(update={"map": points}))
    stored = read_json(directory.assessment_path(2))["map"]
    assert stored["x"] == [0.0, 0.1, 0.2] and stored["temperature"] == [None] * 3
    assert read_assessment_file(directory, 2).map == points


@pytest.mark.parametrize("audit", [[{"key": 3}], {"key": 3}, {"key": ["a"]}, {"key": ["a"], "n_atoms": [1, 2]}, "none"])
def test_a_file_of_another_alpot_says_so(tmp_path, audit):
    directory = CampaignDirectory(tmp_path)
    publish_json(directory.assessment_path(1), {"generation": 1, "audit": audit})
    with pytest.raises(StorageError, match=r"gen-0001\.json is not what this alpot writes"):
        read_assessment_file(directory, 1)


def test_values_are_finite_and_lists_are_bounded():
    with pytest.raises(ValidationError):
        SigmaBin(sigma=float("nan"), error=0.1, count=1)
    with pytest.raises(ValidationError):
        AssessmentFile(generation=1, hard=[FRAME] * (MAX_HARD + 1))
