"""Two controllers: two `alpot run` of one campaign begin at the same moment; one wins, the other says who it is."""

from __future__ import annotations

import errno
import fcntl
import os
import re
import signal
import socket
import time
from collections import Counter
from concurrent.futures import Future
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import alpot.store.lock
from crash.evidence import Remains
from crash.logged_reference import SECONDS
from crash.place import Place, in_a_process
from crash.row import Row
from crash.small_campaign import TEXT, Here, alpot_run, get_ready, new_place
from crash.tracer import Fate, Operation, watch, why_not

#: s; a loser that has not given up by then never will.
_PATIENCE_S = 60.0
#: s per label, so that the winner is still at it when the loser gives up.
_LABEL_S = 0.2


def run(folder: Path, *, quick: bool, processes: int) -> Row:
    """The row of the table; half of the races without the kernel's lock, as on some network file systems."""
    races = 8 if quick else 50
    births = races // 4
    row = Row(
        "two controllers",
        f"{races} races of two `alpot run` on one directory, {births} of them for a new one",
        "1 winner each",
    )
    get_ready()
    long = TEXT.replace("max_labels = 12", "max_labels = 10000")
    old = new_place(folder / "old", long)
    if in_a_process(lambda: _stopped_at_once(old)) != 0:
        raise RuntimeError(f"the campaign to be raced for does not start: {old.errors.read_text()}")
    row.complaints += [f"overtaken at birth: {sentence}" for sentence in _overtaken(new_place(folder / "overtaken"))]
    os.environ[SECONDS] = str(_LABEL_S)
    for number in range(races):
        place = new_place(folder / f"new-{number}", long) if number < births else old
        wrong = _race(place, has_flock=number % 2 == 0) + _contradictions(place)
        row.complaints += [f"race {number}: {sentence}" for sentence in wrong]
    winners = sum(event.kind == "opened" for event in Remains(old).events) - 1
    if winners != races - births:
        row.complaints.append(f"{winners} controllers have opened the campaign in {races - births} races")
    spoilt = {sentence.partition(":")[0] for sentence in row.complaints}
    row.figures = {"races": races, "births": births, "good": races - len(spoilt), "labels": len(Remains(old).rows)}
    row.seen = f"{races - len(spoilt)} of {races} races with 1 winner, named by the loser ({races // 2} without flock)"
    row.holds = not row.complaints
    return row


def _overtaken(place: Place) -> list[str]:
    """One `alpot run` is held just before the ledger it makes becomes visible, while another one makes a campaign."""
    if why_not():
        return []
    codes: list[int] = []

    def hold(operation: Operation) -> Fate:
        if operation.call in ("rename", "link") and operation.path == "ledger.sqlite" and not codes:
            codes.append(in_a_process(alpot_run(place)))
        return Fate.GO_ON

    slow = watch(alpot_run(place, errors=place.folder / "slow.stderr"), place.directory.path, hold)
    if 0 not in (*codes, slow):
        return [f"neither made it: {place.errors.read_text().strip()[-300:]}"]
    n_computed, n_recorded = len(place.calculations()), len(Remains(place).rows)
    if n_computed != n_recorded:
        return [f"one has put its empty ledger over the other's: {n_recorded} of {n_computed} labels known"]
    return []


def _stopped_at_once(place: Place) -> int:
    """Makes a campaign that has just begun."""
    place.directory.path.mkdir()
    return alpot_run(place, platform=_Full)()


class _Full(Here):
    """A platform that asks for a stop with its first task."""

    def submit(self, task: dict[str, Any]) -> Future[dict[str, Any]]:
        """See ``alpot.campaign.executor.Executor``."""
        self.directory.request_stop()
        return super().submit(task)


def _contradictions(place: Place) -> list[str]:
    """What the ledger does not know, or knows twice."""
    remains = Remains(place)
    recorded = Counter(
        event.payload["summary"]["key"]
        for event in remains.events
        if event.kind == "task_finished" and event.payload["summary"].get("outcome") == "labelled"
    )
    wrong = [f"{key} was recorded twice" for key, count in recorded.items() if count > 1]
    if not any(event.kind == "opened" for event in remains.events):
        wrong.append("the ledger does not know of any controller")
    return wrong


def _race(place: Place, *, has_flock: bool) -> list[str]:
    """One race; the winner is killed afterwards, so that the next race begins with a stale lock."""
    start, ready = os.pipe()
    runners = {_runner(place, lane, start, ready, has_flock): lane for lane in ("left", "right")}
    os.close(start)
    time.sleep(0.05)
    os.close(ready)  # both were waiting for this
    loser, code = _first_to_end(runners)
    if loser == 0:
        for runner in runners:
            os.kill(runner, signal.SIGKILL)
            os.waitpid(runner, 0)
        return ["both were running"]
    winner = next(runner for runner in runners if runner != loser)
    said = (place.folder / f"{runners[loser]}.stderr").read_text()
    time.sleep(_LABEL_S)  # so that the campaign gets on
    is_running = os.waitpid(winner, os.WNOHANG) == (0, 0)
    wrong = []
    if is_running:
        os.kill(winner, signal.SIGKILL)
        os.waitpid(winner, 0)
    else:
        wrong.append("there was no winner")
    if code != 2 or not re.search(rf"\b{winner}\b", said) or socket.gethostname() not in said or "Traceback" in said:
        wrong.append(f"the loser ended with {code} and said {said.strip()[-300:]!r}; the winner is {winner}")
    return wrong


def _runner(place: Place, lane: str, start: int, ready: int, has_flock: bool) -> int:
    child = os.fork()
    if child:
        return child
    code = 70
    try:
        if not has_flock:
            vars(alpot.store.lock)["fcntl"] = _WITHOUT_FLOCK
        os.close(ready)
        os.read(start, 1)
        code = alpot_run(place, errors=place.folder / f"{lane}.stderr")()
    finally:
        os._exit(code)


def _no_flock(_descriptor: int, _operation: int) -> None:
    raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))


_WITHOUT_FLOCK = SimpleNamespace(**vars(fcntl) | {"flock": _no_flock})


def _first_to_end(runners: dict[int, str]) -> tuple[int, int]:
    deadline = time.monotonic() + _PATIENCE_S
    while time.monotonic() < deadline:
        for runner in runners:
            pid, status = os.waitpid(runner, os.WNOHANG)
            if pid:
                return pid, os.waitstatus_to_exitcode(status)
        time.sleep(0.01)
    return 0, 0
