"""A campaign that lost its ledger keeps its labels."""

import json

import pytest

from alpot.store.dataset import write_shard
from alpot.store.directory import CampaignDirectory
from alpot.store.files import publish, sha256
from alpot.store.labels import write_label
from alpot.store.ledger import Event, Ledger
from alpot.store.rebuild import read_index, replace_ledger
from tests.store.crash import exits_before


@pytest.fixture
def directory(tmp_path):
    return CampaignDirectory.create(tmp_path / "run", b"seed = 1\n", tmp_path / "al.toml")


@pytest.fixture
def labels(directory, make_label):
    """Labels in all places where labels can be; returns their keys by place."""
    labels = {
        "shard": [make_label(seed) for seed in (1, 2, 3)],
        "audit": [make_label(seed) for seed in (4, 5)],
        "imported-audit": [make_label(seed) for seed in (8, 9)],
        "single": [make_label(6)],
        "single audit": [make_label(7)],
    }
    labels["single audit"][0].provenance["audit"] = True
    write_shard(directory.shard_path(2), labels["shard"])
    write_shard(directory.audit_shard_path(2), labels["audit"])
    write_shard(directory.path / "dataset" / "imported-audit-00000.h5", labels["imported-audit"])
    for label in (*labels["single"], *labels["single audit"], labels["shard"][0]):
        write_label(directory.label_path(label.key), label)
    return {place: [label.key for label in group] for place, group in labels.items()}


def _fill(directory):
    def write(ledger):
        index = read_index(directory)
        ledger.append(Event(kind="labels_imported", payload={}), index.rows)

    return write


def test_the_index_from_the_files_alone(directory, labels):
    directory.ledger.unlink()
    index = read_index(directory)
    assert {row.key for row in index.rows} == {key for keys in labels.values() for key in keys}
    assert len(index.rows) == 9
    assert index.audit == {*labels["audit"], *labels["imported-audit"], *labels["single audit"]}
    assert index.shards == ["dataset/shard-00002.h5"]
    assert index.audit_shards == ["dataset/audit-00002.h5", "dataset/imported-audit-00000.h5"]
    assert not index.unreadable
    for row in index.rows:
        assert row.checksum == sha256(directory.path / row.path)
    where = {row.key: row.path for row in index.rows}
    assert where[labels["shard"][0]] == "dataset/shard-00002.h5"  # not the single file that was left over
    assert where[labels["single"][0]] == directory.relative(directory.label_path(labels["single"][0]))


def test_the_list_of_imported_labels_knows_the_audit_too(directory, labels):
    publish(directory.path / "dataset" / "imported.json", json.dumps({"audit": labels["single"]}).encode())
    assert labels["single"][0] in read_index(directory).audit


def test_what_cannot_be_read_is_named(directory, labels):
    path = directory.label_path(labels["single"][0])
    path.write_bytes(path.read_bytes()[:-1])
    index = read_index(directory)
    assert set(index.unreadable) == {directory.relative(path)} and len(index.rows) == 8


@pytest.mark.parametrize("ledger", ["damaged", "lost", "with a journal"])
def test_a_new_ledger(directory, labels, ledger):
    publish(directory.candidates_path("explore-000001"), b"old")
    publish(directory.model_path(1) / "weights.safetensors", b"old")
    journal = directory.path / "ledger.sqlite-journal"
    if ledger == "lost":
        directory.ledger.unlink()
    else:
        directory.ledger.write_bytes(b"damaged")
    if ledger == "with a journal":
        journal.write_bytes(b"\xd9\xd5\x05\xf9\x20\xa1\x63\xd7" + bytes(600))
    superseded = replace_ledger(directory, _fill(directory))
    assert (superseded / "candidates" / "explore-000001.h5").read_bytes() == b"old"
    assert (superseded / "models" / "gen-0001" / "weights.safetensors").read_bytes() == b"old"
    assert not any((directory.path / "candidates").iterdir()) and not any((directory.path / "models").iterdir())
    kept = [path.read_bytes() for path in directory.quarantine.glob("ledger.sqlite.*")]
    assert kept == ([] if ledger == "lost" else [b"damaged"])
    assert not journal.exists()
    assert len(list(directory.quarantine.glob("ledger.sqlite-journal.*"))) == (ledger == "with a journal")
    with Ledger(CampaignDirectory.open(directory.path).ledger, read_only=True) as new:
        new.verify()
        assert len(list(new.label_rows())) == 9


def test_every_crash_point_can_be_completed(tmp_path, make_label):
    points = 0
    while True:
        directory = CampaignDirectory.create(tmp_path / f"{points}", b"seed = 1\n", tmp_path / "al.toml")
        write_shard(directory.shard_path(1), [make_label(1), make_label(2)])
        publish(directory.candidates_path("explore-000001"), b"old")
        directory.ledger.write_bytes(b"damaged")
        ended = exits_before(
            points,
            "from alpot.store.directory import CampaignDirectory\n"
            "from alpot.store.rebuild import read_index, replace_ledger\n"
            "from alpot.store.ledger import Event\n"
            "directory = CampaignDirectory(Path(sys.argv[2]))\n"
            "rows = read_index(directory).rows",
            "replace_ledger(directory, lambda ledger: ledger.append(Event(kind='k', payload={}), rows))",
            directory.path,
        )
        assert CampaignDirectory.is_campaign(directory.path)
        if directory.ledger.read_bytes() == b"damaged":
            assert ended
            replace_ledger(directory, _fill(directory))
        with Ledger(directory.ledger, read_only=True) as ledger:
            assert len(list(ledger.label_rows())) == 2
        assert not directory.candidates_path("explore-000001").exists()
        assert len(list(directory.path.glob("superseded/*/candidates/explore-000001.h5"))) == 1
        assert len(list(directory.quarantine.glob("ledger.sqlite.*"))) >= 1
        if not ended:
            break
        points += 4
    assert points > 10
