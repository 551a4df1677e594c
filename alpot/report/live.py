"""Shows a campaign while it runs: a display that is redrawn in place on a terminal, plain lines in a log.

It is told of every event by the controller and folds along; nothing is polled. The last picture stays.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from rich.console import Console, RenderableType
from rich.live import Live
from rich.text import Text

from alpot.campaign.state import State
from alpot.config import Campaign
from alpot.config_file import read_campaign
from alpot.report.history import Generation, History
from alpot.report.status import Phase, Status, describe
from alpot.report.tables import status_panel
from alpot.report.wording import counted, duration, generation_of, milli, picoseconds, plural, printable
from alpot.store.directory import CampaignDirectory, Holder
from alpot.store.ledger import Ledger

_REDRAWS_PER_SECOND = 4
_LABELS_PER_LINE = 50


@dataclass(frozen=True)
class _Picture:
    """What is shown, and when it was true (``time.monotonic``): rich's own thread reads it, so it never changes."""

    status: Status
    taken: float

    @property
    def since_s(self) -> float:
        """Time in s that has passed since, if the campaign's clock still runs."""
        return time.monotonic() - self.taken if self.status.controller is not None else 0.0


class LiveProgress:
    """Observes a controller (``on_change``); a context manager around ``Controller.run``.

    Args:
        directory: the campaign.
        console: where to show it; standard output by default.
    """

    def __init__(self, directory: CampaignDirectory, console: Console | None = None) -> None:
        self.directory = directory
        self.console = console or Console()
        self._config: Campaign | None = None
        self._holder: Holder | None = None
        self._history = History()
        self._state: State | None = None
        self._picture: _Picture | None = None
        self._live: Live | None = None
        if self.console.is_terminal:
            self._live = Live(console=self.console, get_renderable=self._render, refresh_per_second=_REDRAWS_PER_SECOND)

    def __enter__(self) -> Self:
        if self._live is not None:
            self._live.start()
        return self

    def __call__(self, state: State) -> None:
        """Takes in what has happened since the last call."""
        if self._holder is None:
            self._holder = self.directory.holder()
        with Ledger(self.directory.ledger, read_only=True) as ledger:
            for event in ledger.events(after=self._history.seq):
                self._history.apply(event)
        self._state = state
        self._show(self._holder)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            self._show(None)  # the controller has gone
        finally:
            if self._live is not None:
                self._live.stop()

    def _show(self, holder: Holder | None) -> None:
        """Takes a new picture; on a terminal rich draws it soon, elsewhere what is notable in it is told now."""
        if self._state is None:
            return
        if self._config is None:
            self._config = read_campaign(self.directory.config)
        before = self._picture.status if self._picture else None
        status = describe(self.directory, self._config, self._state, self._history, holder)
        self._picture = _Picture(status, time.monotonic())
        if self._live is None:
            for line in notable(before, status):
                self.console.out(f"[{duration(status.elapsed_s)}] {printable(line)}", highlight=False)

    def _render(self) -> RenderableType:
        if self._picture is None:
            return Text("opening the campaign ...", style="dim")
        return status_panel(self._picture.status, self._picture.since_s)


# ----------------------------------------------------------------------------------------------------- in a log


def notable(before: Status | None, after: Status) -> list[str]:
    """What has happened between two pictures that a log should tell, one line each."""
    if before is None:
        known = f"continues with {plural(after.labels.done, 'label')}, {generation_of(after)}"
        begun = f"begins; the budget is {plural(after.labels.budget, 'calculation')}"
        return [f"{after.name}: {known if after.labels.done or after.generations else begun}"]
    lines = []
    if after.labels.done // _LABELS_PER_LINE > before.labels.done // _LABELS_PER_LINE:
        lines.append(_labels_line(after))
    known_generations = {generation.number: generation for generation in before.generations}
    for generation in after.generations:
        lines += _generation_lines(known_generations.get(generation.number), generation)
    lines += _failure_lines(before, after)
    if after.phase != before.phase:
        if after.phase in (Phase.FINISHED, Phase.FAILED, Phase.STOPPED, Phase.INTERRUPTED):
            lines.append(_labels_line(after))
        lines.append(f"{after.phase}: {after.message}")
    return lines


def _labels_line(status: Status) -> str:
    labels, exploration = status.labels, status.exploration
    parts = [
        f"{plural(labels.done, 'label')} ({labels.calculations:,} of {labels.budget:,} calculations)",
        f"{labels.queued:,} queued",
        f"rejected: {counted(labels.rejected)}" if labels.rejected else "",
        f"{plural(exploration.walkers, 'walker')}, {picoseconds(exploration.simulated_ps)}",
    ]
    return ", ".join(filter(None, parts))


def _generation_lines(before: Generation | None, after: Generation) -> list[str]:
    lines = []
    if before is None:
        test = after.errors.get("test_force")
        errors = f", test force error {milli(test)} meV/Å" if test is not None else ""
        lines.append(f"generation {after.number} trained on {plural(after.labels, 'label')}{errors}")
    if after.promoted is not None and (before is None or before.promoted is None):
        errors = f"audit errors {milli(after.audit_force)} meV/Å, {milli(after.audit_energy)} meV/atom"
        verdict = "promoted" if after.promoted else "not promoted: worse than the one before"
        lines.append(f"generation {after.number} {verdict}; {errors} on {plural(after.audit_labels or 0, 'label')}")
    return lines


def _failure_lines(before: Status, after: Status) -> list[str]:
    """The first failure of each class, with its message; the others are counted in the status."""
    seen = {failure for counts in _counts(before) for failure in counts}
    lines = []
    for failure in after.recent_failures:
        if failure.failure not in seen:
            seen.add(failure.failure)
            lines.append(f"{failure.task} failed ({failure.failure}): {failure.message}")
    return lines


def _counts(status: Status) -> list[dict[str, int]]:
    return [status.labels.failed_attempts, *status.failures.values()]
