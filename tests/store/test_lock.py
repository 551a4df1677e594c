"""One controller runs a campaign, also where the kernel's lock ends at the node."""

import errno
import fcntl
import json
import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from alpot.errors import CampaignLockedError, StorageError
from alpot.store import lock
from alpot.store.lock import current_holder, hold, living_holder

BEAT_S = 0.1

#: A controller; ``host`` other than "" makes it one on another node of a disk without ``flock``.
_CONTENDER = """
import errno, fcntl, socket, sys
from pathlib import Path
from alpot.errors import CampaignLockedError
from alpot.store import lock

folder, host, beat_s = Path(sys.argv[1]), sys.argv[2], float(sys.argv[3])
if host:
    socket.gethostname = lambda: host
    def flock(descriptor, operation):
        raise OSError(errno.ENOSYS, "Function not implemented")
    fcntl.flock = flock
print("ready", flush=True)
while sys.stdin.readline():
    try:
        with lock.hold(folder, beat_s=beat_s) as lease:
            print("locked", flush=True)
            sys.stdin.readline()
            print("lost" if lease.is_lost else "held", flush=True)
    except CampaignLockedError as error:
        print(error, flush=True)
"""


class Contender:
    """A controller in a process of its own."""

    def __init__(self, folder, host="", beat_s=BEAT_S):
        command = [sys.executable, "-c", _CONTENDER, str(folder), host, str(beat_s)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.pid = self.process.pid

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.communicate()

    def go(self):
        self.process.stdin.write("go\n")
        self.process.stdin.flush()

    def says(self):
        return self.process.stdout.readline().strip()

    def start(self):
        assert self.says() == "ready"
        self.go()
        return self.says()


@pytest.fixture
def no_flock(monkeypatch):
    """A file system that does not know ``flock``, as Lustre is without a mount option."""

    def flock(_descriptor, _operation):
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr(fcntl, "flock", flock)


def leases(folder):
    return sorted(path.name for path in folder.glob("controller-*.json"))


def test_a_lease_is_given_back(tmp_path):
    for _ in range(3):
        assert current_holder(tmp_path) is None
        with hold(tmp_path) as lease:
            assert current_holder(tmp_path).pid == os.getpid() and not lease.is_lost
    assert leases(tmp_path) == ["controller-000003.json"]  # numbers are never used again


def test_a_lease_beats(tmp_path):
    beats = threading.Semaphore(0)
    with hold(tmp_path, beats.release, beat_s=0.02):
        before = (tmp_path / "controller-000001.json").read_bytes()
        for _ in range(3):
            assert beats.acquire(timeout=10)
        after = (tmp_path / "controller-000001.json").read_bytes()
    assert json.loads(after)["beats"] > json.loads(before)["beats"] == 0


def test_what_is_done_at_a_beat_may_fail(tmp_path, caplog):
    called = threading.Semaphore(0)

    def fails():
        called.release()
        raise RuntimeError("mine")

    with hold(tmp_path, fails, beat_s=0.02) as lease:
        assert called.acquire(timeout=10) and called.acquire(timeout=10)
        assert not lease.is_lost
    assert "mine" in caplog.text


def test_without_flock_the_lease_stands_alone(tmp_path, no_flock):
    with (
        hold(tmp_path),
        pytest.raises(CampaignLockedError, match=rf"process {os.getpid()} on .*, last beat 20"),
        hold(tmp_path),
    ):
        pass
    with hold(tmp_path):
        pass


def test_a_dead_process_on_this_host_is_succeeded_at_once(tmp_path):
    with Contender(tmp_path, beat_s=60) as dead:
        assert dead.start() == "locked"
        assert current_holder(tmp_path).pid == dead.pid
        dead.process.send_signal(signal.SIGKILL)
        deadline = time.monotonic() + 20
        # Not waited for, it is a zombie, which is dead enough.
        while current_holder(tmp_path) is not None:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        with hold(tmp_path, beat_s=60):
            assert current_holder(tmp_path).pid == os.getpid()
    assert leases(tmp_path) == ["controller-000002.json"]


def test_the_number_of_a_process_that_was_given_away_again(tmp_path, no_flock):
    with hold(tmp_path):
        pass
    path = tmp_path / "controller-000001.json"
    record = json.loads(path.read_bytes())
    path.write_text(json.dumps(record | {"released": False, "started": record["started"] - 3600.0}))
    assert current_holder(tmp_path) is None
    with hold(tmp_path):
        pass


def test_a_live_controller_on_another_host_is_refused(tmp_path):
    with Contender(tmp_path, "node1", beat_s=0.1) as holder:
        assert holder.start() == "locked"
        assert current_holder(tmp_path).host == "node1"
        for _ in range(3):
            with (
                pytest.raises(CampaignLockedError, match=rf"process {holder.pid} on node1, since 20.*, last beat 20"),
                hold(tmp_path, beat_s=0.5),
            ):
                pass
        holder.go()
        assert holder.says() == "held"


def test_whether_a_controller_on_another_host_lives(tmp_path):
    assert living_holder(tmp_path) is None
    with Contender(tmp_path, "node1") as holder:
        assert holder.start() == "locked"
        assert living_holder(tmp_path, beat_s=0.5).pid == holder.pid
        holder.process.kill()
        holder.process.wait()
        assert current_holder(tmp_path).host == "node1"  # who knows
        assert living_holder(tmp_path, beat_s=0.1) is None
    with hold(tmp_path, beat_s=0.1):
        assert living_holder(tmp_path, beat_s=60).pid == os.getpid()  # no need to watch


def test_a_full_disk_does_not_make_a_holder_look_dead(small_disk):
    ballast = small_disk / "ballast"
    with hold(small_disk, beat_s=0.05) as lease:
        with ballast.open("wb", buffering=0) as file, pytest.raises(OSError, match="No space left"):
            while True:
                file.write(bytes(4096))
        before = lock._newest(small_disk)
        time.sleep(0.5)
        after = lock._newest(small_disk)
        assert not lease.is_lost
        assert after != before and after.content == before.content  # what a watcher sees
    assert current_holder(small_disk) is None
    ballast.unlink()
    with hold(small_disk):
        pass


def test_a_lease_that_cannot_be_renewed_is_lost(tmp_path, monkeypatch):
    def broken(*_args):
        raise StorageError("Input/output error")

    called = threading.Event()
    with hold(tmp_path, called.set, beat_s=0.05) as lease:
        monkeypatch.setattr(lock.Lease, "_write", broken)
        deadline = time.monotonic() + 10
        while not lease.is_lost:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        assert "could not be renewed" in lease.why_lost and "Input/output error" in lease.why_lost
    assert called.is_set()


def test_a_sleeper_is_succeeded_and_finds_out(tmp_path):
    """The holder on another host is suspended for longer than four beats, and wakes up."""
    with Contender(tmp_path, "node1") as sleeper:
        assert sleeper.start() == "locked"
        sleeper.process.send_signal(signal.SIGSTOP)
        started = time.monotonic()
        with hold(tmp_path, beat_s=BEAT_S) as lease:
            assert time.monotonic() - started >= 4 * BEAT_S
            sleeper.process.send_signal(signal.SIGCONT)
            time.sleep(5 * BEAT_S)
            assert current_holder(tmp_path).pid == os.getpid() and not lease.is_lost
            sleeper.go()
            assert sleeper.says() == "lost"
            assert current_holder(tmp_path).pid == os.getpid()
    assert leases(tmp_path) == ["controller-000002.json"]


def test_a_damaged_lease_is_watched_like_a_foreign_one(tmp_path):
    (tmp_path / "controller-000004.json").write_bytes(b"{")
    assert current_holder(tmp_path).host == "an unknown host"
    started = time.monotonic()
    with hold(tmp_path, beat_s=0.05):
        assert time.monotonic() - started >= 0.2
    assert leases(tmp_path) == ["controller-000005.json"]


def _abandon(folder, number):
    """Leaves the lease of a controller on a node that went down."""
    (folder / f"controller-{number:06d}.json").write_text(
        json.dumps(
            {"host": "node9", "pid": 1, "since": "2026-01-01T00:00:00+00:00", "last_beat": "2026-01-01T00:00:00+00:00"}
            | {"machine": "node9", "started": 0.0, "nonce": "ab" * 16, "beats": 7, "released": False}
        )
    )


_FLOCK = """
import fcntl, sys
with open(sys.argv[1], "w") as file:
    fcntl.flock(file, fcntl.LOCK_EX)
    print("locked", flush=True)
    sys.stdin.readline()
"""


def test_a_server_that_keeps_the_lock_of_a_node_that_went_down(tmp_path):
    command = [sys.executable, "-c", _FLOCK, tmp_path / "controller.lock"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout.readline() == "locked\n"
        with pytest.raises(CampaignLockedError, match="an unknown host"), hold(tmp_path, beat_s=0.05):
            pass  # without a lease there is nothing to judge it by
        _abandon(tmp_path, 1)
        with hold(tmp_path, beat_s=0.05):
            assert current_holder(tmp_path).pid == os.getpid()
        with Contender(tmp_path, "node1") as holder:
            assert holder.start() == "locked"
            with pytest.raises(CampaignLockedError, match="on node1"), hold(tmp_path, beat_s=0.5):
                pass
        server.communicate()


_PARENT = """
import os, sys
from pathlib import Path
from alpot.store.lock import hold
with hold(Path(sys.argv[1]), beat_s=60):
    if os.fork() == 0:
        sys.stdin.readline()
        os._exit(0)
    print("locked", flush=True)
    os.wait()
"""


def test_a_child_that_inherited_the_lock_of_a_dead_controller(tmp_path):
    command = [sys.executable, "-c", _PARENT, tmp_path]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout.readline() == "locked\n"
        with pytest.raises(CampaignLockedError, match=f"process {parent.pid} on"), hold(tmp_path):
            pass
        parent.kill()
        parent.wait()
        with hold(tmp_path):
            assert current_holder(tmp_path).pid == os.getpid()


def test_contenders_on_different_hosts_race_for_an_abandoned_lease(tmp_path):
    """No kernel's lock helps here; exactly one of them wins, in every round."""
    names = ["node1", "node2", "node3"]
    contenders = [Contender(tmp_path, name) for name in names]
    for contender in contenders:
        assert contender.says() == "ready"
    number = 1
    for _ in range(10):
        _abandon(tmp_path, number)
        for contender in contenders:
            contender.go()
        said = [contender.says() for contender in contenders]
        winners = [contender for contender, line in zip(contenders, said, strict=True) if line == "locked"]
        assert len(winners) == 1, said
        assert all(f"process {winners[0].pid} on" in line for line in said if line != "locked"), said
        winners[0].go()
        assert winners[0].says() == "held"
        (left,) = leases(tmp_path)
        number = int(left[11:17]) + 1
    for contender in contenders:
        contender.__exit__()


def test_a_contender_that_was_asleep_cannot_win_with_an_old_number(tmp_path, monkeypatch):
    """It judged lease 1 abandoned, slept, and meanwhile 2 came and went and 3 runs: its own 2 counts nothing."""
    _abandon(tmp_path, 1)
    real = lock.publish_new

    def slow(path, content):
        (tmp_path / "controller-000001.json").unlink()
        _abandon(tmp_path, 3)
        return real(path, content)

    monkeypatch.setattr(lock, "publish_new", slow)
    with pytest.raises(CampaignLockedError, match="process 1 on node9"), hold(tmp_path, beat_s=0.01):
        pass
    assert leases(tmp_path) == ["controller-000003.json"]


_FORKED_RACE = """
import os, sys
from pathlib import Path
from alpot.errors import CampaignLockedError
from alpot.store.lock import hold

folder = Path(sys.argv[1])
gate, opening = os.pipe()
said, saying = os.pipe()
done, ending = os.pipe()
for _ in range(50):
    if os.fork() == 0:
        os.close(opening), os.close(ending)
        os.read(gate, 1)
        try:
            with hold(folder):
                os.write(saying, b"W")
                os.read(done, 1)
        except CampaignLockedError:
            os.write(saying, b"L")
        except BaseException:
            os.write(saying, b"E")
        os._exit(0)
os.close(opening)
answers = b""
while len(answers) < 50:
    answers += os.read(said, 50)
os.close(ending)
for _ in range(50):
    os.wait()
print(answers.count(b"W"), answers.count(b"L"))
"""


def test_fifty_processes_race(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", _FORKED_RACE, tmp_path], capture_output=True, text=True, timeout=120, check=True
    )
    assert done.stdout.split() == ["1", "49"], done.stderr
    assert current_holder(tmp_path) is None
