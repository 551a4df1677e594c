"""Shows the work of `alpot label` and `alpot converge`: how many labels there are, and which structures got none."""

from __future__ import annotations

import time
from collections.abc import Mapping
from types import TracebackType
from typing import Self

from rich import box
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from alpot.campaign.state import State
from alpot.campaign.subject import Kind
from alpot.report.wording import duration, plural, printable

#: In a log, there is a line whenever another such share is done.
_SHARE_PER_LINE = 0.1
#: A terminal is not filled with more rows than this; `alpot status` and the ledger know the rest.
_ROWS = 50


class LabelProgress:
    """Observes a controller (``on_change``); a context manager around ``Controller.run``.

    Args:
        console: where to show it.
    """

    def __init__(self, console: Console) -> None:
        self.console = console
        self._began = time.monotonic()
        self._told = -1.0
        self._bar: Progress | None = None
        if console.is_terminal:
            self._bar = Progress(
                TextColumn("labels"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.description}"),
                TimeElapsedColumn(),
                TimeRemainingColumn(),
                console=console,
            )
            self._row = self._bar.add_task("", total=None)

    def __enter__(self) -> Self:
        if self._bar is not None:
            self._bar.start()
        return self

    def __call__(self, state: State) -> None:
        """Takes in what has happened since the last call."""
        candidates = state.candidates
        total = len(candidates.keys)
        done = total - len(candidates.waiting) - len(candidates.labelling)
        rejected = done - state.dataset.training.size
        words = f"{state.work.in_flight[Kind.LABEL]} running" + (f", {rejected} rejected" if rejected else "")
        if self._bar is not None:
            self._bar.update(self._row, total=total, completed=done, description=words)
        elif total and (done == total or done / total >= self._told + _SHARE_PER_LINE) and done / total > self._told:
            self._told = done / total
            elapsed = duration(time.monotonic() - self._began)
            self.console.out(f"[{elapsed}] {done:,} of {plural(total, 'label')}, {words}", highlight=False)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()


def missing_table(missing: Mapping[int, tuple[str, str]]) -> Table:
    """The frames that got no label: number (from 0), class of the failure, and what was said about it."""
    table = Table(box=box.SIMPLE_HEAD, title="Frames without a label", title_style="bold", title_justify="left")
    table.add_column("frame", justify="right")
    table.add_column("class", no_wrap=True)
    table.add_column("reason", overflow="fold")
    for number, (reason, message) in list(missing.items())[:_ROWS]:
        table.add_row(str(number), Text(printable(reason).replace("_", " ")), Text(printable(message)))
    if len(missing) > _ROWS:
        table.add_row("...", "", f"and {len(missing) - _ROWS:,} more")
    return table
