"""Damage is found wherever it is, put out of the way, and mended where there is a twin."""

import json
import os
import time

import numpy as np
import pytest

from alpot.errors import PotentialError
from alpot.store.checkpoint import Checkpoint, Saved
from alpot.store.dataset import copy_of, read_shard, write_shard
from alpot.store.directory import CampaignDirectory
from alpot.store.files import publish, set_aside, sha256
from alpot.store.frames import write_frames
from alpot.store.json_files import publish_json, read_json
from alpot.store.labels import read_label, write_label
from alpot.store.ledger import Event, LabelRow, Ledger
from alpot.store.repair import inspect, repair


@pytest.fixture
def directory(tmp_path):
    return CampaignDirectory.create(tmp_path / "run", b"seed = 1\n", tmp_path / "al.toml")


@pytest.fixture
def store(directory, make_label):
    """Stores labels in single files, or in a shard, and records them; returns their keys."""

    def store(seeds, path=None):
        labels = [make_label(seed) for seed in seeds]
        paths = [path or directory.label_path(label.key) for label in labels]
        for single, label in zip(paths, labels, strict=True):
            if path is None:
                write_label(single, label)
        if path is not None:
            write_shard(path, labels)
        rows = [
            LabelRow(key=label.key, path=directory.relative(place), checksum=sha256(place))
            for label, place in zip(labels, paths, strict=True)
        ]
        with Ledger(directory.ledger) as ledger:
            ledger.append(Event(kind="labelled", payload={}), rows)
        return [label.key for label in labels]

    return store


def flip(path, position=-1):
    """Flips one bit of a byte."""
    data = bytearray(path.read_bytes())
    data[position] ^= 16
    path.write_bytes(data)


def test_five_hundred_files_each_with_one_flipped_byte(directory, store, make_label):
    """All are found, all are in quarantine, none was deleted, and what has a twin is whole again."""
    rng = np.random.default_rng(7)
    store(range(300))
    singles = sorted((directory.path / "labels").glob("*/*.h5"))
    recorded = {}
    for number in range(20):
        store(range(1000 + 3 * number, 1003 + 3 * number), directory.shard_path(number))
        store(range(2000 + 2 * number, 2002 + 2 * number), directory.audit_shard_path(number))
    shards = sorted((directory.path / "dataset").glob("*.h5"))
    others = []
    for number in range(40):
        task = f"explore-{number:06d}"
        write_frames(directory.candidates_path(task), [make_label(number).atoms], [{"x": number}])
        weights = directory.model_path(number) / "weights.safetensors"
        publish(weights, rng.bytes(1000))
        recorded[directory.relative(weights)] = sha256(weights)
        publish_json(weights.with_name("card.json"), {"n_labels": number, "level": "ab" * 32})
        publish_json(directory.task_path("label", f"label-{number:06d}") / "result.json", {"status": "finished"})
        saved = Checkpoint(directory.checkpoint_path("explore", task, 1), interval=-1.0)
        saved.offer("x", 1.0, lambda: Saved({"x": np.arange(3)}, {}))
        others += [directory.candidates_path(task), weights, weights.with_name("card.json")]
        others += [directory.task_path("label", f"label-{number:06d}") / "result.json", saved.path]
    files = [*singles[:259], *shards, *others, directory.origin]
    assert len(files) == 500
    assert inspect(directory, recorded).is_sound
    before = {path: path.read_bytes() for path in files}
    for path in files:
        flip(path, int(rng.integers(len(before[path]))))
    damaged = {path: path.read_bytes() for path in files}

    seen = inspect(directory, recorded)
    assert sorted(item.path for item in seen.damaged) == sorted(map(directory.relative, files))
    assert all(path.read_bytes() == damaged[path] for path in files)  # looking changes nothing

    report = repair(directory, recorded)
    assert sorted(item.path for item in report.damaged) == sorted(map(directory.relative, files))
    for item in report.damaged:
        assert item.moved_to.startswith(f"quarantine/{item.path}.")
        assert (directory.path / item.moved_to).read_bytes() == damaged[directory.path / item.path]
    assert {item.path for item in report.damaged if item.restored} == {
        directory.relative(path) for path in (*shards, directory.origin)
    }
    for path in (*shards, directory.origin):
        assert path.read_bytes() == before[path]
    assert set(report.lost) == {path.stem for path in singles[:259]} and not report.found and not report.ledger

    with Ledger(directory.ledger) as ledger:
        ledger.append(Event(kind="labels_lost", payload={}), removed=list(report.lost))
    assert inspect(directory, {}).is_sound


@pytest.mark.parametrize("place", ["shard", "twin"])
@pytest.mark.parametrize("how", ["header", "content", "gone", "empty", "another file"])
def test_a_shard_is_restored_from_its_twin_and_the_other_way_round(directory, store, make_label, place, how, tmp_path):
    shard = directory.shard_path(3)
    keys = store(range(4), shard)
    whole = shard.read_bytes()
    path = {"shard": shard, "twin": copy_of(shard)}[place]
    write_shard(tmp_path / "other.h5", [make_label(99)])
    match how:
        case "header" | "content":
            flip(path, 20 if how == "header" else 3000)
        case "gone":
            path.unlink()
        case "empty":
            path.write_bytes(b"")
        case "another file":
            path.write_bytes((tmp_path / "other.h5").read_bytes())
    report = repair(directory, {})
    assert not report.lost and not report.found
    if how != "gone":
        assert [item.path for item in report.damaged] == [directory.relative(path)] and report.damaged[0].restored
    assert shard.read_bytes() == copy_of(shard).read_bytes() == whole
    assert [label.key for label in read_shard(shard)] == keys
    assert repair(directory, {}).is_sound


def test_both_twins_are_damaged(directory, store):
    shard = directory.shard_path(3)
    keys = store(range(4), shard)
    flip(shard)
    flip(copy_of(shard), 700)
    report = repair(directory, {})
    assert len(report.damaged) == 2 and not any(item.restored for item in report.damaged)
    assert report.lost == dict.fromkeys(keys, "dataset/shard-00003.h5")
    assert not shard.exists() and not copy_of(shard).exists()
    assert len(list((directory.quarantine / "dataset").rglob("shard*"))) == 2


def test_labels_of_a_damaged_file_that_lie_elsewhere_too(directory, store, make_label):
    """A controller was killed before it removed the single files, or before it recorded a shard."""
    shard = directory.shard_path(3)
    keys = store(range(3), shard)
    write_label(directory.label_path(keys[0]), make_label(0))
    unrecorded = directory.shard_path(4)
    write_shard(unrecorded, [make_label(1)])
    flip(unrecorded)
    flip(shard)
    flip(copy_of(shard))
    for examine in (inspect, repair):
        report = examine(directory, {})
        found = {row.key: row for row in report.found}
        assert set(found) == set(keys[:2]) and set(report.lost) == {keys[2]}
        assert found[keys[0]].path == directory.relative(directory.label_path(keys[0]))
        assert found[keys[1]].path == "dataset/shard-00004.h5"
    assert all(row.checksum == sha256(directory.path / row.path) for row in found.values())
    with Ledger(directory.ledger) as ledger:
        ledger.append(Event(kind="repaired", payload={}), moved=report.found, removed=list(report.lost))
    assert repair(directory, {}).is_sound


def test_a_label_that_was_exchanged_or_vanished(directory, store, make_label):
    keys = store(range(3))
    other = make_label(77)
    directory.label_path(keys[0]).unlink()
    write_label(directory.label_path(keys[0]), other)  # a whole file, but not the one on record
    directory.label_path(keys[1]).unlink()
    report = repair(directory, {})
    reasons = {item.path: item.reason for item in report.damaged}
    assert "the ledger says" in reasons[directory.relative(directory.label_path(keys[0]))]
    assert reasons[directory.relative(directory.label_path(keys[1]))] == "it is missing"
    assert set(report.lost) == set(keys[:2])
    assert read_label(directory.label_path(keys[2])).key == keys[2]


def test_the_campaign_file(directory):
    directory.config.write_bytes(b"seed = 2\n")  # may be the user's edit
    report = repair(directory, {})
    assert report.is_sound and "campaign.toml is not as it was last taken over" in report.notes[0]
    assert directory.config.read_bytes() == b"seed = 2\n"
    for content in (b"seed = = 2", b"\xff"):
        directory.config.write_bytes(content)
        report = repair(directory, {})
        assert [item.path for item in report.damaged] == ["campaign.toml"]
        assert directory.config.read_bytes() == b"seed = 1\n"
    directory.config.unlink()
    assert repair(directory, {}).damaged[0].restored and directory.config.read_bytes() == b"seed = 1\n"


def test_where_the_campaign_file_came_from(directory, tmp_path):
    for path in (directory.origin, directory.origin_copy):
        flip(path, 30)
        report = repair(directory, {})
        assert [(item.path, item.restored) for item in report.damaged] == [(path.name, True)]
        assert directory.source == tmp_path / "al.toml" and repair(directory, {}).is_sound
    flip(directory.origin)
    flip(directory.origin_copy)
    report = repair(directory, {})
    assert len(report.damaged) == 2 and "give it again" in report.notes[0]
    directory.replace_config(b"seed = 1\n", tmp_path / "al.toml")
    assert repair(directory, {}).is_sound


def test_a_controller_was_killed_while_it_took_over_a_campaign_file(directory, tmp_path):
    old = directory.origin.read_bytes()
    directory.replace_config(b"seed = 3\n", tmp_path / "al.toml")
    directory.origin_copy.write_bytes(old)
    assert repair(directory, {}).is_sound
    assert directory.origin_copy.read_bytes() == directory.origin.read_bytes()


def test_every_flipped_byte_of_a_small_file_is_noticed(directory):
    path = directory.model_path(1) / "card.json"
    publish_json(path, {"n_labels": 3, "errors": {"force": 0.125}})
    data = path.read_bytes()
    for position in range(len(data)):
        for bit in (1, 32):
            damaged = bytearray(data)
            damaged[position] ^= bit
            path.write_bytes(damaged)
            assert [item.path for item in inspect(directory, {}).damaged] == ["models/gen-0001/card.json"], damaged
    path.write_bytes(data)
    assert inspect(directory, {}).is_sound and read_json(path)["n_labels"] == 3


def test_json_of_others_must_only_be_json(directory):
    path = directory.model_path(1) / "learning_curve.json"
    publish(path, b"[1, 2]")
    assert inspect(directory, {}).is_sound
    publish(path, b"[1, 2")
    assert len(inspect(directory, {}).damaged) == 1


def test_files_of_others_that_have_a_checksum_of_their_own(directory):
    path = directory.model_path(1) / "card.json"
    publish(path, json.dumps({"x": 1, "provenance_hash": "ab" * 32}).encode())

    def verify_card(card):
        if json.loads(card.read_bytes())["x"] != 1:
            raise PotentialError("edited")

    verifiers = {"models/*/card.json": verify_card}
    assert inspect(directory, {}).is_sound and inspect(directory, {}, verifiers).is_sound
    publish(path, path.read_bytes().replace(b"1", b"2", 1))
    assert inspect(directory, {}).is_sound
    report = repair(directory, {}, verifiers)
    assert [(item.path, item.reason) for item in report.damaged] == [("models/gen-0001/card.json", "edited")]
    assert not path.exists()


def test_litter_and_what_was_set_aside(directory, store):
    (key,) = store([1])
    old, young = directory.path / "labels" / ".x.1-ab.tmp.h5", directory.path / "labels" / ".y.1-ab.tmp.h5"
    for path in (old, young):
        path.write_bytes(b"half")
    os.utime(old, (time.time() - 2 * 86400,) * 2)
    set_aside(directory.label_path(key))
    report = inspect(directory, {})
    assert report.litter == 1 and old.exists()
    report = repair(directory, {})
    assert report.litter == 1 and not old.exists() and young.exists()
    (aside,) = [item for item in report.damaged if "set aside" in item.reason]
    assert (directory.path / aside.moved_to).exists() and set(report.lost) == {key}


def test_a_damaged_ledger_is_named_and_left(directory, store):
    store(range(3))
    data = bytearray(directory.ledger.read_bytes())
    data[data.index(b"labelled")] ^= 1
    directory.ledger.write_bytes(data)
    report = repair(directory, {})
    assert "event 1 is not what was recorded" in report.ledger and not report.is_sound
    assert not report.damaged and directory.ledger.read_bytes() == data


def test_the_folders_are_counted(directory, store):
    store(range(3))
    store(range(10, 12), directory.shard_path(1))
    assert inspect(directory, {}).checked == {"labels": 3, "dataset": 2, ".": 3}
