"""Shards are immutable and of one level of theory."""

import numpy as np
import pytest

from alpot.errors import LevelOfTheoryError, StorageError
from alpot.store.dataset import read_labels, read_shard, write_shard
from alpot.store.files import sha256
from alpot.store.labels import read_label, write_label


def test_round_trip(tmp_path, make_label):
    labels = [make_label(seed, stress=seed != 1) for seed in range(4)]
    path = tmp_path / "dataset" / "shard-00001.h5"
    assert write_shard(path, labels) == sha256(path)
    back = read_shard(path)
    assert [label.key for label in back] == [label.key for label in labels]
    for label, original in zip(back, labels, strict=True):
        assert label.energy == original.energy
        assert label.provenance == original.provenance
        assert np.array_equal(label.forces, original.forces)
        assert np.array_equal(label.atoms.positions, original.atoms.positions)
    assert back[1].stress is None
    assert np.array_equal(back[2].stress, labels[2].stress)


def test_a_shard_is_never_overwritten(tmp_path, make_label):
    path = tmp_path / "shard.h5"
    checksum = write_shard(path, [make_label(0), make_label(1)])
    assert write_shard(path, [make_label(1), make_label(0)]) == checksum
    with pytest.raises(StorageError, match="holds 2 other labels already"):
        write_shard(path, [make_label(2)])
    assert len(read_shard(path)) == 2


def test_a_damaged_shard_is_noticed_and_set_aside(tmp_path, make_label):
    path = tmp_path / "shard.h5"
    write_shard(path, [make_label(0)])
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(StorageError, match="damaged"):
        read_labels([path])
    assert write_shard(path, [make_label(0)]) == sha256(path)
    assert len(list(tmp_path.glob("*.damaged-*"))) == 1


def test_shards_refuse_doubles_mixtures_and_nothing(tmp_path, make_label):
    with pytest.raises(StorageError, match="1 labels are given twice"):
        write_shard(tmp_path / "s.h5", [make_label(0), make_label(0)])
    with pytest.raises(LevelOfTheoryError, match=r"s\.h5 would hold labels of 2 levels of theory"):
        write_shard(tmp_path / "s.h5", [make_label(0), make_label(1, level="b")])
    with pytest.raises(LevelOfTheoryError, match="no labels"):
        write_shard(tmp_path / "s.h5", [])
    assert list(tmp_path.iterdir()) == []


def test_a_dataset_of_shards_and_single_labels(tmp_path, make_label):
    write_shard(tmp_path / "s.h5", [make_label(0), make_label(1)])
    for seed in (1, 2):
        write_label(tmp_path / f"l{seed}.h5", make_label(seed))
    labels = read_labels([tmp_path / "s.h5", tmp_path / "l1.h5", tmp_path / "l2.h5"])
    assert [label.provenance["seed"] for label in labels] == [0, 1, 2]
    with pytest.raises(StorageError, match="holds 2 labels, where one was expected"):
        read_label(tmp_path / "s.h5")


def test_mixing_levels_must_be_asked_for(tmp_path, make_label):
    write_label(tmp_path / "a.h5", make_label(0))
    write_label(tmp_path / "b.h5", make_label(1, level="level-b"))
    paths = [tmp_path / "a.h5", tmp_path / "b.h5"]
    with pytest.raises(LevelOfTheoryError, match=r"level-a in .*a\.h5; level-b in .*b\.h5"):
        read_labels(paths)
    assert len(read_labels(paths, allow_mixed=True)) == 2
