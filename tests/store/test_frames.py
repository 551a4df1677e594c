"""Candidates keep their structure and their provenance."""

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule

from alpot.errors import StorageError
from alpot.store.frames import read_frame, read_frames, write_frames

FRAMES = [bulk("Cu", cubic=True), molecule("H2O"), Atoms(), Atoms("X", pbc=(True, False, True), cell=[1, 2, 3])]
PROVENANCE = [{"walker": 1, "sigma": 0.25}, {}, {"reason": "größer"}, {"list": [1, None]}]


def test_round_trip(tmp_path):
    path = tmp_path / "candidates" / "explore-000001.h5"
    assert write_frames(path, FRAMES, PROVENANCE)
    frames, provenance = read_frames(path)
    assert provenance == PROVENANCE
    for frame, original in zip(frames, FRAMES, strict=True):
        assert np.array_equal(frame.numbers, original.numbers)
        assert np.array_equal(frame.positions, original.positions)
        assert np.array_equal(frame.cell.array, original.cell.array)
        assert np.array_equal(frame.pbc, original.pbc)
    atoms, where_from = read_frame(path, 1)
    assert str(atoms.symbols) == "OH2" and where_from == {}


def test_no_frames(tmp_path):
    write_frames(tmp_path / "f.h5", [], [])
    assert read_frames(tmp_path / "f.h5") == ([], [])
    with pytest.raises(StorageError, match="no frame 0"):
        read_frame(tmp_path / "f.h5", 0)


@pytest.mark.parametrize("index", [-1, 4])
def test_frame_out_of_range(tmp_path, index):
    write_frames(tmp_path / "f.h5", FRAMES, PROVENANCE)
    with pytest.raises(StorageError, match=rf"holds frames 0 to 3; there is no frame {index}"):
        read_frame(tmp_path / "f.h5", index)


def test_the_first_attempt_stays(tmp_path):
    assert write_frames(tmp_path / "f.h5", FRAMES, PROVENANCE)
    assert not write_frames(tmp_path / "f.h5", FRAMES[:1], PROVENANCE[:1])
    assert len(read_frames(tmp_path / "f.h5")[0]) == 4


def test_damage_is_noticed_and_set_aside(tmp_path):
    path = tmp_path / "f.h5"
    write_frames(path, FRAMES, PROVENANCE)
    data = path.read_bytes()
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(StorageError, match=r"f\.h5 is damaged"):
        read_frames(path)
    assert write_frames(path, FRAMES, PROVENANCE)
    assert len(list(tmp_path.glob("f.h5.damaged-*"))) == 1
    assert read_frame(path, 0)[1] == PROVENANCE[0]


def test_each_frame_needs_a_provenance(tmp_path):
    with pytest.raises(ValueError, match="4 frames need as many provenances, not 1"):
        write_frames(tmp_path / "f.h5", FRAMES, [{}])
