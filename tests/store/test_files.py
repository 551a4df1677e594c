"""Files appear whole or not at all."""

import errno
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from alpot.errors import StorageError
from alpot.store.files import make_folder, publish, publish_new, publish_with, published, set_aside, sha256
from tests.store.crash import acknowledged_before_kill, exits_before, temporaries


def _names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_publish_makes_folders_and_replaces(tmp_path):
    path = tmp_path / "a" / "b" / "file.bin"
    publish(path, b"one")
    publish(path, b"two")
    assert path.read_bytes() == b"two"
    assert _names(path.parent) == ["file.bin"]


def test_publish_new_leaves_what_is_there(tmp_path):
    path = tmp_path / "file"
    assert publish_new(path, b"one")
    assert not publish_new(path, b"two")
    assert path.read_bytes() == b"one"
    assert _names(tmp_path) == ["file"]


def test_publish_new_has_one_winner(tmp_path):
    with ThreadPoolExecutor(8) as pool:
        won = list(pool.map(lambda i: publish_new(tmp_path / "file", b"%d" % i), range(8)))
    assert won.count(True) == 1
    assert (tmp_path / "file").read_bytes() == b"%d" % won.index(True)


def test_publish_with_keeps_the_suffix_and_cleans_up(tmp_path):
    seen = []

    def write(temporary: Path) -> None:
        seen.append(temporary)
        temporary.write_text("x")

    publish_with(tmp_path / "model.safetensors", write)
    assert seen[0].suffix == ".safetensors"
    assert (tmp_path / "model.safetensors").read_text() == "x"

    def fail(temporary: Path) -> None:
        temporary.write_text("half")
        raise KeyError("my own error")

    with pytest.raises(KeyError, match="my own error"):
        publish_with(tmp_path / "other", fail)
    assert _names(tmp_path) == ["model.safetensors"]


def test_sha256(tmp_path):
    publish(tmp_path / "f", b"abc")
    # FIPS 180-2, appendix B.1
    assert sha256(tmp_path / "f") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    with pytest.raises(StorageError, match="missing"):
        sha256(tmp_path / "missing")


def test_set_aside_keeps_the_content(tmp_path):
    publish(tmp_path / "f.h5", b"paid for")
    moved = set_aside(tmp_path / "f.h5")
    assert moved.read_bytes() == b"paid for"
    assert moved.name.startswith("f.h5.damaged-")
    assert not (tmp_path / "f.h5").exists()


def test_a_file_in_the_place_of_a_folder(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="file"):
        make_folder(tmp_path / "file" / "x")
    with pytest.raises(StorageError, match="file"):
        publish(tmp_path / "file" / "x", b"")


@pytest.mark.parametrize("write", [publish, publish_new])
def test_full_disk(small_disk, write):
    publish(small_disk / "old", b"old")
    with pytest.raises(StorageError, match=r"big: No space left on device; free some space"):
        write(small_disk / "big", bytes(1_000_000))
    with pytest.raises(StorageError):
        publish(small_disk / "old", bytes(1_000_000))
    assert (small_disk / "old").read_bytes() == b"old"
    assert _names(small_disk) == ["old"]
    write(small_disk / "small", b"fits")


def test_full_disk_noticed_only_by_fsync(tmp_path, monkeypatch):
    """Network file systems report a full disk when the data is flushed, not when it is written."""

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    publish(tmp_path / "old", b"old")
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageError, match="old: No space left on device"):
        publish(tmp_path / "old", b"new")
    monkeypatch.undo()
    assert (tmp_path / "old").read_bytes() == b"old"
    assert _names(tmp_path) == ["old"]


def test_file_size_limit(tmp_path):
    script = (
        "import resource, sys; from pathlib import Path; from alpot.store.files import publish\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000)); publish(Path(sys.argv[1]), bytes(5000))"
    )
    result = subprocess.run([sys.executable, "-c", script, tmp_path / "f"], capture_output=True, text=True)
    assert "StorageError: cannot write" in result.stderr
    assert "ulimit -f" in result.stderr
    assert _names(tmp_path) == []


@pytest.mark.parametrize("function", ["publish", "publish_new"])
def test_every_crash_point_leaves_old_or_new(tmp_path, function):
    points = 0
    while True:
        path = tmp_path / f"{points}" / "sub" / "f"
        if function == "publish":
            publish(path, b"old")
        ended = exits_before(
            points,
            f"from alpot.store.files import {function}",
            f"{function}(Path(sys.argv[2]), b'new' * 100_000)",
            path,
        )
        content = path.read_bytes() if path.exists() else None
        allowed = [b"old" if function == "publish" else None, b"new" * 100_000]
        assert content in allowed[0 if ended else 1 :]
        points += 1
        if not ended:
            break
    assert points > 4  # open, fsync, rename or link, open folder, fsync folder


_WRITER = """
import sys
from pathlib import Path
from alpot.store.files import publish
for i in range(10**6):
    publish(Path(sys.argv[1]) / f"{i % 7}" / str(i), str(i).encode() * 20_000)
    print(i, flush=True)
"""


@pytest.mark.parametrize("seconds", [0.0, 0.05, 0.11, 0.2])
def test_kill_loses_no_acknowledged_file(tmp_path, seconds):
    numbers = acknowledged_before_kill(_WRITER, seconds, tmp_path)
    assert numbers
    for i in map(int, numbers):
        assert (tmp_path / f"{i % 7}" / str(i)).read_bytes() == str(i).encode() * 20_000
    assert len(temporaries(tmp_path)) <= 1


def test_temporary_files_of_killed_writers_are_not_published(tmp_path):
    for name in ("b.h5", "a.h5", ".a.17-abcd.tmp.h5", "a.json"):
        (tmp_path / name).touch()
    assert [path.name for path in published(tmp_path, "*.h5")] == ["a.h5", "b.h5"]
