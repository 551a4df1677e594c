"""What a controller costs that only waits: its share of a processor core with 1,000 tasks in flight.

Runs a campaign whose reference calculations sleep, through the same Parsl set-up as any other, and looks at the
processor time of the controller (all its threads) and of Parsl's interchange while nothing happens. The target is
below 1 % of a core.

    python scripts/controller_load.py [--tasks 1000] [--seconds 60]
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import tempfile
import threading
import time
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import Any

import psutil

from alpot.campaign.controller import Controller
from alpot.campaign.policy import PolicySettings
from alpot.campaign.state import State
from alpot.campaign.subject import Assignment, Kind
from alpot.config import Resources
from alpot.platforms.laptop import Laptop
from alpot.store.directory import CampaignDirectory


class SleepingSubject:
    """Emits as many structures as are asked for; their labels take for ever."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def run(self, assignment: Assignment) -> dict[str, Any]:
        """Runs one task, see ``alpot.campaign.subject``."""
        if assignment.kind == Kind.LABEL:
            time.sleep(1e6)
        names = [f"{assignment.task_id}/{number}" for number in range(assignment.spec["starts"])]
        found = [{"id": name, "key": sha256(name.encode()).hexdigest(), "score": 1.0} for name in names]
        return {"generation": None, "candidates": [candidate | {"reason": "initial"} for candidate in found]}


class _ManySlots(Laptop):
    """Two workers that accept a thousand tasks: what is not run waits in the interchange, as in a cluster's queue."""

    def __init__(self, tasks: int) -> None:
        super().__init__(Resources(workers=2))
        self.slots = dict.fromkeys(self.slots, tasks)


def _settings(platform: Laptop, tasks: int) -> PolicySettings:
    return PolicySettings(
        slots=platform.slots,
        pool_of=platform.pool_of,
        initial_labels=tasks,
        labels_per_generation=tasks,
        waiting_candidates=tasks,
        attempts=1,
        max_labels=10 * tasks,
        max_failures=tasks,
    )


def _cpu_seconds() -> dict[str, float]:
    """Processor time of this process and of the interchange, in s; workers do not count."""
    me = psutil.Process()
    seconds = {"controller": sum(me.cpu_times()[:2])}
    for child in me.children(recursive=True):
        if any("interchange" in word for word in child.cmdline()):
            seconds["interchange"] = seconds.get("interchange", 0.0) + sum(child.cpu_times()[:2])
    return seconds


def main() -> None:
    """Runs the measurement and prints it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", type=int, default=1000, help="tasks in flight")
    parser.add_argument("--seconds", type=float, default=60.0, help="how long to look")
    arguments = parser.parse_args()
    os.environ["PYTHONPATH"] = str(Path(__file__).parent)  # workers import the subject by name
    ready = threading.Event()

    def watch(state: State) -> None:
        if state.work.in_flight[Kind.LABEL] >= arguments.tasks:
            ready.set()

    def measure() -> None:
        ready.wait()
        time.sleep(5.0)
        before, began = _cpu_seconds(), time.monotonic()
        time.sleep(arguments.seconds)
        after, elapsed = _cpu_seconds(), time.monotonic() - began
        shares = {name: 100.0 * (after[name] - before[name]) / elapsed for name in after}
        print(json.dumps({"tasks": arguments.tasks, "seconds": round(elapsed, 1), "percent_of_a_core": shares}))
        for _ in range(2):  # once to stop gently, twice to stop at once
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(1.0)

    with tempfile.TemporaryDirectory() as folder:
        directory = CampaignDirectory.create(Path(folder) / "campaign", b"", Path(folder) / "campaign.toml")
        platform = _ManySlots(arguments.tasks)
        settings = _settings(platform, arguments.tasks)
        threading.Thread(target=measure, daemon=True).start()
        with suppress(KeyboardInterrupt):
            Controller(directory, settings, platform, "controller_load:SleepingSubject", on_change=watch).run()


if __name__ == "__main__":
    main()
