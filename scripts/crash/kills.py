"""The same at random: SIGKILL for the controller, for workers, and for all processes at once, with the real Parsl."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import psutil

from alpot.campaign.subject import Kind
from alpot.store.directory import CampaignDirectory
from crash.evidence import Remains
from crash.logged_reference import BOOK
from crash.place import Place
from crash.row import Row

_MARK = "ALPOT_CRASH_PLACE"
_LABEL_S = 0.15
#: s; a campaign that shows no new label by then stands still.
_PATIENCE_S = 120.0


def run(folder: Path, *, quick: bool, processes: int) -> Row:
    """The row of the table."""
    counts = (
        {"controller": 2, "worker": 4, "everything": 1}
        if quick
        else {"controller": 100, "worker": 100, "everything": 20}
    )
    row = Row(
        "the same at random",
        ", ".join(f"{count} × kill -9 of {victim}" for victim, count in counts.items()),
        "0 lost, 0 recorded twice, ≤ 1 wasted run per killed task",
    )
    lanes = [("controller", counts["controller"] - counts["controller"] // 2), ("worker", counts["worker"])]
    lanes += [("controller", counts["controller"] // 2), ("everything", counts["everything"])]
    jobs = [Lane(folder / f"{victim}-{number}", victim, kills) for number, (victim, kills) in enumerate(lanes)]
    with ThreadPoolExecutor(processes) as pool:
        list(pool.map(Lane.run, jobs))
    for job in jobs:
        row.complaints += [f"{job.victim}: {complaint}" for complaint in job.complaints]
    total = Counter[str]()
    for job in jobs:
        total.update(job.figures)
    row.figures = dict(total)
    row.seen = (
        f"{total['kills']} kills during {total['computed']} calculations: {total['lost']} lost, {total['doubled']}"
        f" recorded twice, {total['wasted']} wasted runs for {total['killed tasks']} killed tasks"
    )
    row.holds = not row.complaints
    return row


@dataclass
class Lane:
    """One campaign, one kind of victim."""

    folder: Path
    victim: str
    kills: int
    complaints: list[str] = field(default_factory=list)
    figures: dict[str, int] = field(default_factory=dict)

    @property
    def place(self) -> Place:
        """Where its campaign lives."""
        return Place(self.folder)

    @cached_property
    def rng(self) -> random.Random:
        """When and whom to kill."""
        return random.Random(self.victim)

    def run(self) -> None:
        """Kills as often as asked, lets the campaign stop gently, and counts."""
        self.place.prepare(json.dumps({"seconds": _LABEL_S}))
        try:
            CampaignDirectory.create(self.place.directory.path, self.place.file.read_bytes(), self.place.file)
            self._kill_workers() if self.victim == "worker" else self._kill_controllers()
            self._stop_gently()
            self._count()
        except Exception as error:  # noqa: BLE001 - the other lanes go on
            self.complaints.append(f"{type(error).__name__}: {error}")
        finally:
            for process in self._processes():
                with suppress(psutil.NoSuchProcess):
                    process.kill()

    def _kill_controllers(self) -> None:
        for number in range(self.kills):
            controller = self._start()
            self._wait_for_label(controller)
            time.sleep(self.rng.uniform(0.0, 3 * _LABEL_S))
            if self.victim == "everything":
                _kill_together(self._processes())
            controller.kill()
            controller.wait()
            self._say(number)

    def _kill_workers(self) -> None:
        controller = self._start()
        number = 0
        while number < self.kills:
            self._wait_for_label(controller)
            time.sleep(self.rng.uniform(0.0, 3 * _LABEL_S))
            if workers := self._at_work():
                with suppress(psutil.NoSuchProcess):  # it has just ended
                    self.rng.choice(workers).kill()
                    number += 1
                    self._say(number)
        self._running = controller

    _running: subprocess.Popen[str] | None = None

    def _stop_gently(self) -> None:
        controller = self._running or self._start()
        self._wait_for_label(controller)
        self.place.directory.request_stop()
        controller.send_signal(signal.SIGTERM)
        output, _ = controller.communicate(timeout=_PATIENCE_S)
        if controller.returncode != 0 or output != "stopped\n":
            self.complaints.append(f"the last controller ended with {controller.returncode}: {self._log()}")

    def _start(self) -> subprocess.Popen[str]:
        environment = os.environ | {
            "PYTHONPATH": str(Path(__file__).parents[1]),
            "OMP_NUM_THREADS": "1",
            BOOK: str(self.place.book),
            _MARK: str(self.place.folder),
        }
        log = (self.place.folder / "controller.log").open("a")
        command = [sys.executable, "-m", "crash.controller", str(self.place.directory.path)]
        return subprocess.Popen(
            command, env=environment, stdout=subprocess.PIPE, stderr=log, text=True, start_new_session=True
        )

    def _wait_for_label(self, controller: subprocess.Popen[str]) -> None:
        """Waits until this controller runs the campaign, and one more label is finished."""
        self._until(lambda: self._is_run_by(controller) or controller.poll() is not None)
        before = len(self.place.calculations())
        self._until(lambda: len(self.place.calculations()) > before or controller.poll() is not None)
        if controller.poll() is not None:
            raise RuntimeError(f"the controller ended by itself with {controller.returncode}: {self._log()}")

    def _is_run_by(self, controller: subprocess.Popen[str]) -> bool:
        holder = self.place.directory.holder()
        return holder is not None and holder.pid == controller.pid

    def _until(self, claim: Callable[[], bool]) -> None:
        deadline = time.monotonic() + _PATIENCE_S
        while not claim():
            if time.monotonic() > deadline:
                raise RuntimeError(f"nothing has happened in {_PATIENCE_S:g} s: {self._log()}")
            time.sleep(0.03)

    def _log(self) -> str:
        return (self.place.folder / "controller.log").read_text().strip()[-800:]

    def _processes(self) -> list[psutil.Process]:
        """Controller, interchange, managers and workers of this campaign."""
        found: dict[int, psutil.Process] = {}
        for process in psutil.process_iter():
            try:
                if process.environ().get(_MARK) == str(self.place.folder):  # Parsl's interchange hides its environment
                    found |= {one.pid: one for one in (process, *process.children(recursive=True))}
            except psutil.Error:
                continue  # it has just ended, or is none of ours
        return list(found.values())

    def _at_work(self) -> list[psutil.Process]:
        """The workers that have a task in hand."""
        found = []
        for process in self._processes():
            try:
                if any(file.path.endswith("workers.lock") for file in process.open_files()):
                    found.append(process)
            except psutil.Error:
                continue
        return found

    def _count(self) -> None:
        remains = Remains(self.place)
        computed = Counter(self.place.calculations())
        starts = Counter(
            event.payload["spec"]["candidate"]
            for event in remains.events
            if event.kind == "task_started" and event.payload["kind"] == Kind.LABEL
        )
        finished = [
            event.payload["summary"]
            for event in remains.events
            if event.kind == "task_finished" and event.payload["summary"].get("outcome") == "labelled"
        ]
        recorded = Counter(summary["key"] for summary in finished)
        candidate = {summary["key"]: summary["candidate"] for summary in finished}
        lost = computed.keys() - remains.labels.keys()
        doubled = [key for key, count in recorded.items() if count > 1]
        greedy = [key for key, count in computed.items() if key in candidate and count > starts[candidate[key]]]
        killed = sum(count - 1 for count in starts.values())
        wasted = sum(computed.values()) - len(computed)
        if lost:
            self.complaints.append(f"{len(lost)} labels are lost, e.g. {min(lost)}")
        if doubled:
            self.complaints.append(f"{len(doubled)} labels were recorded twice, e.g. {doubled[0]}")
        if greedy or wasted > killed:
            self.complaints.append(f"{wasted} wasted runs for {killed} killed label tasks")
        if computed.keys() != remains.rows.keys():
            self.complaints.append("the ledger does not list exactly the labels that were computed")
        given_up = sum(event.kind == "task_abandoned" for event in remains.events)
        self.figures = {"kills": self.kills, "computed": sum(computed.values()), "lost": len(lost), "wasted": wasted}
        self.figures |= {"doubled": len(doubled), "killed tasks": killed, "given up": given_up}

    def _say(self, number: int) -> None:
        if number % 10 == 9:
            print(f"  kills: {self.victim} {number + 1} of {self.kills}", flush=True)


def _kill_together(processes: list[psutil.Process]) -> None:
    """As when a computer goes down: nobody is left to notice that others have died."""
    for sent in (signal.SIGSTOP, signal.SIGKILL):
        for process in processes:
            try:
                process.send_signal(sent)
            except psutil.Error:
                continue
