"""Shows how properties are being measured without a campaign, and their table, on a terminal."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Self

from rich.console import Console, Group, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.text import Text

from alpot.report.tables import property_table
from alpot.report.wording import duration, printable
from alpot.store.property_file import PropertyFile

#: In a log, there is a line whenever another such share is done.
_SHARE_PER_LINE = 0.1


class PropertyProgress:
    """Counts measurements; a context manager around ``Validation.run``, which calls it.

    Args:
        console: where to show it.

    Attributes:
        kept: how many measurements there are, in words.
    """

    def __init__(self, console: Console) -> None:
        self.console = console
        self._began = time.monotonic()
        self._told = 0.0
        self.kept = "nothing was measured"
        columns = (
            TextColumn("measurements"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.description}"),
            TimeElapsedColumn(),
        )
        self._bar = Progress(*columns, console=console, disable=not console.is_terminal)
        self._row = self._bar.add_task("", total=None)

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __call__(self, done: int, total: int, name: str) -> None:
        """Takes in how many are done of how many, and which was the last."""
        self.kept = f"{done} of {total} measurements are kept"
        self._bar.update(self._row, completed=done, total=total, description=name.replace("_", " "))
        if self._bar.disable and total and (done == total or done / total >= self._told + _SHARE_PER_LINE):
            self._told = done / total
            elapsed = duration(time.monotonic() - self._began)
            self.console.out(f"[{elapsed}] {done} of {total} measurements", highlight=False)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._bar.stop()


def property_view(found: PropertyFile) -> RenderableType:
    """The table on a terminal, and below it what the numbers do not say."""
    remarks = [f" {result.system} {result.property}: {text}" for result in found.results for text in result.remarks]
    within, compared = found.coverage
    if compared:
        share = f"{within} of {compared} properties are within one error bar of the reference ({within / compared:.0%};"
        remarks.append(f" {share} 68% if the error bars are right)")
    return Group(property_table(found.rows), *(Text(printable(remark), style="dim") for remark in remarks))
