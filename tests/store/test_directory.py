"""A campaign directory is whole, ours, and run by one controller."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from threading import Barrier, Thread

import pytest

from alpot.errors import CampaignDirectoryError, CampaignLockedError, StorageError
from alpot.store.directory import CampaignDirectory
from alpot.store.ledger import Ledger
from tests.store.crash import exits_before


@pytest.fixture
def directory(tmp_path):
    return CampaignDirectory.create(tmp_path / "run", b"seed = 1\n", tmp_path / "al.toml")


def test_create_and_open(directory, tmp_path):
    opened = CampaignDirectory.open(tmp_path / "run")
    assert opened.config.read_bytes() == b"seed = 1\n"
    assert opened.source == tmp_path / "al.toml"
    assert CampaignDirectory.is_campaign(opened.path)
    with Ledger(opened.ledger, read_only=True) as ledger:
        assert list(ledger.events()) == []


def test_paths(directory):
    assert directory.relative(directory.label_path("ab" * 32)) == f"labels/ab/{'ab' * 32}.h5"
    assert directory.relative(directory.candidates_path("explore-000003")) == "candidates/explore-000003.h5"
    assert directory.relative(directory.shard_path(12)) == "dataset/shard-00012.h5"
    assert directory.relative(directory.model_path(7)) == "models/gen-0007"
    assert directory.relative(directory.task_path("label", "label-000001")) == "tasks/label/label-000001"
    assert directory.report.is_dir() and directory.logs.is_dir()


@pytest.mark.parametrize("name", ["../../etc", "a/b", "", ".hidden", "x\0y"])
def test_names_cannot_lead_out_of_the_directory(directory, name):
    with pytest.raises(ValueError, match="cannot be a file name"):
        directory.candidates_path(name)


def test_create_refuses_what_is_not_empty(directory, tmp_path):
    with pytest.raises(CampaignDirectoryError, match="holds a campaign already; continue it with `alpot run"):
        CampaignDirectory.create(directory.path, b"", tmp_path / "al.toml")
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter1.tex").write_text("x")
    with pytest.raises(CampaignDirectoryError, match=r"not a campaign \(it holds chapter1.tex\)"):
        CampaignDirectory.create(tmp_path / "thesis", b"", tmp_path / "al.toml")
    (tmp_path / "file").write_text("x")
    with pytest.raises(CampaignDirectoryError, match="is a file"):
        CampaignDirectory.create(tmp_path / "file", b"", tmp_path / "al.toml")


def test_create_beside_the_campaign_file(tmp_path):
    source = tmp_path / "campaign.toml"
    source.write_bytes(b"seed = 2\n")
    directory = CampaignDirectory.create(tmp_path, source.read_bytes(), source)
    assert directory.config.read_bytes() == b"seed = 2\n"


def test_a_campaign_that_lost_its_ledger_is_not_made_anew(directory, tmp_path):
    directory.label_path("ab").parent.mkdir()
    directory.label_path("ab").write_text("paid for")
    directory.ledger.unlink()
    with pytest.raises(CampaignDirectoryError, match="it holds labels"):
        CampaignDirectory.create(directory.path, b"", tmp_path / "al.toml")


def test_open_explains(directory, tmp_path):
    with pytest.raises(CampaignDirectoryError, match="there is no folder"):
        CampaignDirectory.open(tmp_path / "nothing")
    with pytest.raises(CampaignDirectoryError, match=r"not a campaign directory: it has no ledger\.sqlite"):
        CampaignDirectory.open(tmp_path)
    directory.config.unlink()
    with pytest.raises(CampaignDirectoryError, match=r"lost its campaign\.toml"):
        CampaignDirectory.open(directory.path)


def test_every_crash_point_of_create_can_be_completed(tmp_path):
    points = 0
    while True:
        path = tmp_path / f"{points}" / "run"
        ended = exits_before(
            points,
            "from alpot.store.directory import CampaignDirectory",
            "CampaignDirectory.create(Path(sys.argv[2]), b'seed = 1', Path(sys.argv[3]))",
            path,
            tmp_path / "al.toml",
        )
        if not CampaignDirectory.is_campaign(path):
            assert ended
            CampaignDirectory.create(path, b"seed = 1", tmp_path / "al.toml")
        directory = CampaignDirectory.open(path)
        assert directory.config.read_bytes() == b"seed = 1"
        assert directory.source == tmp_path / "al.toml"
        assert all((path / name).is_dir() for name in ("labels", "candidates", "dataset", "models", "tasks"))
        Ledger(directory.ledger, read_only=True).close()
        if not ended:
            break
        # Enumerating all takes many processes; every third hits each kind of operation.
        points += 3
    assert points > 20


def test_full_disk(small_disk):
    (small_disk / "ballast").write_bytes(bytes(250_000))
    with pytest.raises(CampaignDirectoryError, match=r"cannot create the campaign directory .*No space left"):
        CampaignDirectory.create(small_disk / "run", b"#" * 50_000, Path("al.toml"))
    assert not CampaignDirectory.is_campaign(small_disk / "run")
    (small_disk / "ballast").unlink()
    CampaignDirectory.create(small_disk / "run", b"#" * 50_000, Path("al.toml"))


def test_lock_names_its_holder(directory):
    assert directory.holder() is None
    with directory.lock():
        holder = directory.holder()
        assert holder is not None and holder.pid == os.getpid()
        with (
            pytest.raises(CampaignLockedError, match=rf"process {os.getpid()} on .*, since 20.*alpot stop"),
            CampaignDirectory(directory.path).lock(),
        ):
            pass
    assert directory.holder() is None
    with directory.lock():
        pass


def test_an_error_under_the_lock_is_passed_on(directory):
    with pytest.raises(OSError, match="mine"), directory.lock():
        raise OSError("mine")
    assert directory.holder() is None


_RACER = """
import sys, time
from pathlib import Path
from alpot.errors import CampaignLockedError
from alpot.store.directory import CampaignDirectory
directory = CampaignDirectory.open(Path(sys.argv[1]))
print("ready", flush=True)
sys.stdin.readline()
try:
    with directory.lock():
        print("locked", flush=True)
        sys.stdin.readline()
except CampaignLockedError as error:
    print(error, flush=True)
"""


def _racer(directory: CampaignDirectory) -> subprocess.Popen:
    racer = subprocess.Popen(
        [sys.executable, "-c", _RACER, str(directory.path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert racer.stdout.readline() == "ready\n"
    return racer


def test_two_processes_race_for_the_lock(directory):
    with _racer(directory) as one, _racer(directory) as two:
        for racer in (one, two):
            racer.stdin.write("go\n")
            racer.stdin.flush()
        said = {racer.pid: racer.stdout.readline().strip() for racer in (one, two)}
        winner = next(pid for pid, line in said.items() if line == "locked")
        loser = next(line for pid, line in said.items() if pid != winner)
        assert f"process {winner} on" in loser
        assert directory.holder().pid == winner
        for racer in (one, two):
            racer.stdin.close()


def test_a_killed_controller_holds_nothing(directory):
    with _racer(directory) as racer:
        racer.stdin.write("go\n")
        racer.stdin.flush()
        assert racer.stdout.readline() == "locked\n"
        os.kill(racer.pid, signal.SIGKILL)
        racer.wait()
    assert directory.holder() is None
    with directory.lock():
        assert directory.holder().pid == os.getpid()


def test_stop_flag(directory):
    assert not directory.stop_requested()
    directory.request_stop()
    directory.request_stop()
    assert directory.stop_requested()
    directory.clear_stop()
    directory.clear_stop()
    assert not directory.stop_requested()


def test_replacing_the_config(directory, tmp_path):
    directory.replace_config(b"seed = 3\n", tmp_path / "sub" / "new.toml")
    assert directory.config.read_bytes() == b"seed = 3\n"
    assert directory.source == tmp_path / "sub" / "new.toml"
    (directory.path / "campaign.source.json").write_text("{}")
    with pytest.raises(StorageError, match="damaged"):
        _ = directory.source


def test_of_two_that_create_at_the_same_time_one_does(tmp_path):
    """The slower one must not put its empty ledger in the place of one that is in use."""
    source = tmp_path / "campaign.toml"
    begun, outcomes = Barrier(8), []

    def create(number):
        begun.wait()
        try:
            CampaignDirectory.create(tmp_path / "campaign", b"# %d" % number, source)
            outcomes.append(number)
        except CampaignDirectoryError as error:
            outcomes.append(str(error))

    threads = [Thread(target=create, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    made = [number for number in outcomes if isinstance(number, int)]
    assert len(made) == 1, outcomes
    assert CampaignDirectory.open(tmp_path / "campaign").config.read_bytes() == b"# %d" % made[0]
    others = [text for text in outcomes if isinstance(text, str)]
    assert all("holds a campaign already" in text or "another controller runs" in text for text in others), others
