"""What a terminal shows of the examination of a campaign directory."""

from __future__ import annotations

from collections.abc import Iterator

from rich.table import Column, Table

from alpot.report.wording import printable
from alpot.store.repair import Damage, Report

_COLUMNS = ("verified", "damaged", "restored", "quarantined")
_LABELS_SHOWN = 10


def repair_table(report: Report) -> Table:
    """How many files of each folder were looked at, and how many of them were damaged, restored, quarantined."""
    table = Table("folder", *(Column(name, justify="right") for name in _COLUMNS))
    damaged: dict[str, list[Damage]] = {}
    for damage in report.damaged:
        damaged.setdefault(damage.path.split("/")[0] if "/" in damage.path else ".", []).append(damage)
    for folder in sorted(report.checked.keys() | damaged.keys()):
        here = damaged.get(folder, [])
        counts = (report.checked[folder], len(here), sum(d.restored for d in here), sum(bool(d.moved_to) for d in here))
        table.add_row(folder, *map(str, counts))
    return table


def repair_sentences(report: Report) -> Iterator[str]:
    """What was wrong, one sentence for each file, and which labels are lost."""
    for damage in report.damaged:
        fate = "restored" if damage.restored else "not restored"
        kept = f"; the damaged file is now {damage.moved_to}" if damage.moved_to else ""
        yield printable(f"{damage.path}: {damage.reason}; {fate}{kept}")
    if report.ledger:
        yield printable(report.ledger)
    for key, path in list(report.lost.items())[:_LABELS_SHOWN]:
        yield printable(f"lost: label {key}, which was in {path}")
    if len(report.lost) > _LABELS_SHOWN:
        yield f"lost: {len(report.lost) - _LABELS_SHOWN} more labels"
    yield from map(printable, report.notes)
    if report.litter:
        yield f"removed {report.litter} temporary files that killed writers have left behind"
