"""Reads a ledger as a stranger would, and compares it with the truth; replays it in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from alpot.store.ledger import Ledger

_REPLAY = """
import json, resource, sys, time
from pathlib import Path
from alpot.campaign.state import State
from alpot.store.ledger import Ledger
wall, cpu = time.perf_counter(), time.process_time()
with Ledger(Path(sys.argv[1]), read_only=True) as ledger:
    state = State.replay(ledger.events())
figures = {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu, "events": state.seq}
figures["peak_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
figures["labels"] = state.dataset.training.size + state.dataset.audit.size
print(json.dumps(figures))
"""


@dataclass(frozen=True)
class LedgerCheck:
    """What a ledger says.

    Attributes:
        labels: rows of its index of labels that were computed indeed.
        unknown: rows of labels that nobody has computed.
        recorded_twice: labels that more than one event reports as new.
        events: their number.
    """

    labels: int
    unknown: int
    recorded_twice: int
    events: int


def check_ledger(path: Path, truth: Set[str]) -> LedgerCheck:
    """Compares a ledger with the keys of all labels that were computed."""
    reported: Counter[str] = Counter()
    events = 0
    with Ledger(path, read_only=True) as ledger:
        keys = {row.key for row in ledger.label_rows()}
        for event in ledger.events():
            events += 1
            if event.kind == "task_finished" and event.payload["summary"].get("outcome") == "labelled":
                reported[event.payload["summary"]["key"]] += 1
    twice = sum(count > 1 for count in reported.values())
    return LedgerCheck(len(keys & truth), len(keys - truth), twice, events)


def measure_replay(path: Path) -> dict[str, Any]:
    """Time in s and memory in MB that a controller needs to know everything again.

    Measured in a process of its own, three times; the fastest counts, the others may have been held up by other work.
    """
    command = [sys.executable, "-c", _REPLAY, str(path)]
    runs = [subprocess.run(command, check=True, capture_output=True, text=True) for _ in range(3)]
    return min((dict(json.loads(run.stdout)) for run in runs), key=lambda figures: float(figures["wall"]))
