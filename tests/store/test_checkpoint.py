"""An unfinished task goes on from where it was saved, bit by bit, or begins anew."""

import math

import numpy as np
import pytest

from alpot.errors import Interrupted, StorageError
from alpot.store.checkpoint import Checkpoint, Saved


class Clock:
    """A clock that is set by hand."""

    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def path(tmp_path):
    return tmp_path / "tasks" / "explore-000001" / "checkpoint-1.h5"


class Work:
    """Counts how often its state was asked for."""

    def __init__(self):
        self.saved = 0

    def state(self):
        self.saved += 1
        return Saved({"step": np.array([self.saved])}, {"saved": self.saved})


def test_it_is_saved_when_due(path, clock):
    checkpoint, work = Checkpoint(path, interval=100.0, clock=clock), Work()
    due = []
    for _ in range(35):
        clock.now += 10.0
        before = work.saved
        checkpoint.offer("w", clock.now, work.state)
        if work.saved > before:
            due.append(clock.now)
    assert due == [1100.0, 1200.0, 1300.0]
    assert Checkpoint(path).load("w").facts == {"saved": 3}


def test_the_time_that_saving_takes_does_not_count(path, clock):
    checkpoint, work = Checkpoint(path, interval=100.0, clock=clock), Work()

    def slow():
        clock.now += 1000.0
        return work.state()

    clock.now += 100.0
    checkpoint.offer("w", 1.0, slow)
    clock.now += 99.0
    checkpoint.offer("w", 2.0, slow)
    assert work.saved == 1


def test_the_end_of_the_job_interrupts(path, clock):
    left = math.inf
    checkpoint, work = Checkpoint(path, time_left=lambda: left, clock=clock), Work()
    checkpoint.offer("w", 1.0, work.state)
    left = 61.0
    checkpoint.offer("w", 1.0, work.state)
    assert work.saved == 0
    left = 60.0
    with pytest.raises(Interrupted, match="about to end; saved in") as caught:
        checkpoint.offer("w", 7.5, work.state)
    assert caught.value.progress == 7.5
    assert Checkpoint(path).load("w").facts == {"saved": 1}


@pytest.mark.parametrize("left", [0.0, -5.0, math.nan])
def test_told_to_end_it_ends_at_once(path, clock, left):
    checkpoint = Checkpoint(path, time_left=lambda: left, clock=clock)
    with pytest.raises(Interrupted):
        checkpoint.offer("w", 0.0, Work().state)


def test_rare_opportunities_are_taken_earlier(path, clock):
    """The next one may be as far away as the longest so far, and there must be time for it and to save."""
    left = 1000.0
    checkpoint, work = Checkpoint(path, interval=math.inf, time_left=lambda: left, clock=clock), Work()
    clock.now += 200.0
    checkpoint.offer("w", 1.0, work.state)
    left = 461.0
    clock.now += 10.0
    checkpoint.offer("w", 2.0, work.state)
    left = 460.0
    with pytest.raises(Interrupted):
        checkpoint.offer("w", 3.0, work.state)


ARRAYS = {
    "specials": np.array([np.nan, -np.nan, np.inf, -np.inf, -0.0, 5e-324, 0.1 + 0.2]),
    "signalling": np.array([0x7FF0000000000001, 0xFFF8000000000123], dtype=np.uint64).view(np.float64),
    "single": np.array([[1.1, np.nan]], dtype=np.float32),
    "int64": np.array([-(2**63), 2**63 - 1]),
    "uint8": np.arange(256, dtype=np.uint8),
    "bool": np.array([[True, False], [False, False]]),
    "empty": np.empty((0, 3)),
    "empty ints": np.empty((2, 0, 3), dtype=np.int64),
    "scalar": np.array(2.5),
    "not contiguous": np.arange(12.0).reshape(3, 4).T,
    "group/name": np.arange(2),
}


def test_arrays_come_back_bitwise(path):
    Checkpoint(path, interval=-1.0).offer("w", 0.0, lambda: Saved(ARRAYS, {}))
    back = Checkpoint(path).load("w").arrays
    for name, array in ARRAYS.items():
        assert (back[name].dtype, back[name].shape) == (array.dtype, array.shape), name
        assert back[name].tobytes() == array.tobytes(), name
    assert set(back) == set(ARRAYS)


def test_facts_come_back_bitwise(path):
    rng = np.random.default_rng(3)
    rng.normal(size=5)
    facts = {
        "rng": rng.bit_generator.state,
        "floats": [0.1 + 0.2, 5e-324, math.inf, -math.inf, -0.0],
        "big": 2**200,
        "text": 'Å "\n\\',
        "none": None,
        "deep": {"a": [{}, [], True]},
    }
    Checkpoint(path, interval=-1.0).offer("w", 0.0, lambda: Saved({}, {**facts, "nan": math.nan}))
    back = dict(Checkpoint(path).load("w").facts)
    assert math.isnan(back.pop("nan")) and back == facts
    assert math.copysign(1.0, back["floats"][4]) == -1.0
    again = np.random.default_rng()
    again.bit_generator.state = back["rng"]
    assert again.normal() == rng.normal()


def test_that_of_other_work_is_ignored(path):
    assert Checkpoint(path).load("w") is None
    Checkpoint(path, interval=-1.0).offer("w", 0.0, Work().state)
    assert Checkpoint(path).load("other") is None
    assert Checkpoint(path).load("w") is not None


def test_a_damaged_one_is_ignored(path, caplog):
    Checkpoint(path, interval=-1.0).offer("w", 0.0, Work().state)
    data = path.read_bytes()
    rng = np.random.default_rng(0)
    for position in [0, 10, 60, 511, *rng.integers(512, len(data), 20).tolist()]:
        damaged = bytearray(data)
        damaged[position] ^= 4
        path.write_bytes(damaged)
        caplog.clear()
        assert Checkpoint(path).load("w") is None
        assert "begins anew" in caplog.text
    for content in (b"", data[:-1], b"another file altogether"):
        path.write_bytes(content)
        assert Checkpoint(path).load("w") is None


def test_one_that_cannot_be_saved_is_an_error_and_the_former_stays(small_disk):
    path = small_disk / "checkpoint-1.h5"
    checkpoint = Checkpoint(path, interval=-1.0)
    checkpoint.offer("w", 0.0, Work().state)
    with pytest.raises(StorageError, match="No space left"):
        checkpoint.offer("w", 1.0, lambda: Saved({"x": np.zeros(10**6)}, {}))
    assert Checkpoint(path).load("w").facts == {"saved": 1}
    assert [entry.name for entry in small_disk.iterdir()] == ["checkpoint-1.h5"]
