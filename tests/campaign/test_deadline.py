import math
import os
import signal
import threading
import time

import pytest

import alpot.campaign.deadline as module
from alpot.campaign.deadline import JOB_END, deadline


@pytest.fixture
def ended():
    """Takes the signal that would end this process."""
    received: list[int] = []
    former = signal.signal(signal.SIGTERM, lambda number, _frame: received.append(number))
    yield received
    signal.signal(signal.SIGTERM, former)


def test_without_a_limit_there_is_time_for_ever(monkeypatch):
    monkeypatch.delenv(JOB_END, raising=False)
    with deadline() as time_left:
        assert time_left() == math.inf


def test_the_clock(monkeypatch):
    monkeypatch.setenv(JOB_END, str(int(time.time()) + 100))
    with deadline() as time_left:
        assert 90.0 < time_left() <= 100.0


def test_a_process_that_is_asked_to_end_may_save_itself_first(ended):
    with deadline() as time_left:
        os.kill(os.getpid(), signal.SIGTERM)
        assert time_left() == 0.0 and ended == []
    assert ended == [signal.SIGTERM]


def test_a_job_that_ignores_the_signal_begins_nothing_more(monkeypatch):
    monkeypatch.setattr(module, "_GRACE_S", 1.0)
    monkeypatch.setattr(module, "_doomed", threading.Event())
    former = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        for least in (0.0, 1.0):
            began = time.monotonic()
            with deadline():
                os.kill(os.getpid(), signal.SIGTERM)
            assert least <= time.monotonic() - began < least + 0.8
    finally:
        signal.signal(signal.SIGTERM, former)


def test_the_former_handler_is_back_afterwards(ended):
    with deadline():
        pass
    assert ended == []
    os.kill(os.getpid(), signal.SIGTERM)
    assert ended == [signal.SIGTERM]


def test_in_another_thread_only_the_clock_counts(monkeypatch):
    monkeypatch.setenv(JOB_END, str(time.time() + 100))
    seen: list[float] = []

    def look():
        with deadline() as time_left:
            seen.append(time_left())

    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    assert 90.0 < seen[0] <= 100.0
