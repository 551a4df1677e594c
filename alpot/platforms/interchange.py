"""Parsl's interchange, tied to the life of the controller that started it.

Parsl's own would outlive a controller that is killed, and keep its workers waiting for ever; it would also die of the
Ctrl-C by which a user asks the controller to stop gently. Without an interchange, workers end by themselves within the
heartbeat threshold.
"""

from __future__ import annotations

import logging
import os
import runpy
import signal
import sys
import threading
import time

_PERIOD_S = 1.0


def _follow(controller: int) -> None:
    while os.getppid() == controller:
        time.sleep(_PERIOD_S)
    os._exit(1)


def main() -> None:
    """Runs the interchange until it is terminated or its controller (first argument, a pid) has gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    logging.raiseExceptions = False  # a log on a full disk is no reason for tracebacks in the controller's terminal
    threading.Thread(target=_follow, args=(int(sys.argv[1]),), daemon=True).start()
    runpy.run_module("parsl.executors.high_throughput.interchange", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
