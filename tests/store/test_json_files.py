"""A JSON file comes back as it was, or its damage is noticed."""

import json

import pytest

from alpot.errors import StorageError
from alpot.store.json_files import publish_json, read_json

CONTENT = {"b": [1, 2.5e-300, None, True], "a": {"Å": {}, "x": 0.1 + 0.2}, "text": 'with "quotes" \n'}


@pytest.mark.parametrize("content", [CONTENT, {}])
def test_round_trip(tmp_path, content):
    publish_json(tmp_path / "f.json", content)
    back = read_json(tmp_path / "f.json")
    assert back == content and list(back) == list(content)
    plain = json.loads((tmp_path / "f.json").read_bytes())
    assert len(plain.pop("sha256")) == 64 and plain == content


def test_every_flipped_or_missing_byte_is_noticed(tmp_path):
    path = tmp_path / "f.json"
    publish_json(path, CONTENT)
    data = path.read_bytes()
    for position in range(len(data)):
        for bit in (1, 8, 128):
            damaged = bytearray(data)
            damaged[position] ^= bit
            path.write_bytes(damaged)
            with pytest.raises(StorageError, match=r"f\.json is damaged"):
                read_json(path)
        path.write_bytes(data[:position])
        with pytest.raises(StorageError, match=r"f\.json is damaged"):
            read_json(path)


@pytest.mark.parametrize("data", [b"[]", b"null", b"{}", b'{"sha256": 3}', b'{"sha256": null, "a": 1}', b"[" * 100_000])
def test_other_files(tmp_path, data):
    (tmp_path / "f.json").write_bytes(data)
    with pytest.raises(StorageError, match=r"f\.json is damaged"):
        read_json(tmp_path / "f.json")
    with pytest.raises(StorageError, match="cannot read"):
        read_json(tmp_path / "missing.json")


@pytest.mark.parametrize("content", [{"x": float("nan")}, {"x": {1}}, {"sha256": "mine"}, {1: "a", "1": "b"}])
def test_what_cannot_be_stored(tmp_path, content):
    with pytest.raises(StorageError, match=r"cannot write .*f\.json"):
        publish_json(tmp_path / "f.json", content)
    assert not (tmp_path / "f.json").exists()
