"""Tells a task how long its job will last, by the clock and by the signal that schedulers send before they kill."""

from __future__ import annotations

import math
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

#: Environment variable in which a platform says when the job ends, in seconds since the epoch.
JOB_END = "ALPOT_JOB_END"
#: s that a process waits before it begins anything new when its job was asked to end, but ignores that so that tasks
#: can save themselves: by then it is killed, and what it had begun would be lost.
_GRACE_S = 120.0
_doomed = threading.Event()


@contextmanager
def deadline() -> Iterator[Callable[[], float]]:
    """Gives a function that returns the seconds until the job ends; 0 once the process was asked to end (SIGTERM).

    A process that was asked to end meanwhile goes on until the body is left, and ends then: that is what the body needs
    to save itself. Where the signal is ignored otherwise, it begins nothing more. Only the main thread can receive
    signals; elsewhere, the clock alone counts.
    """
    if _doomed.is_set():
        time.sleep(_GRACE_S)
    end = float(os.environ.get(JOB_END, "inf"))
    asked = threading.Event()

    def time_left() -> float:
        return 0.0 if asked.is_set() else end - time.time() if end < math.inf else math.inf

    if threading.current_thread() is not threading.main_thread():
        yield time_left
        return
    former = signal.signal(signal.SIGTERM, lambda _number, _frame: asked.set())
    try:
        yield time_left
    finally:
        signal.signal(signal.SIGTERM, former)
        if asked.is_set():
            if former == signal.SIG_IGN:
                _doomed.set()
            os.kill(os.getpid(), signal.SIGTERM)
