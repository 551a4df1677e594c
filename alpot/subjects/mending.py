"""Checks a campaign directory and mends what can be mended: what `alpot repair` does."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from alpot.campaign import events
from alpot.campaign.presence import wait_for_orphans
from alpot.campaign.state import State
from alpot.campaign.subject import Kind
from alpot.errors import CampaignDirectoryError, StorageError
from alpot.potential.saved import CARD, WEIGHTS, verify_card
from alpot.store.directory import CampaignDirectory
from alpot.store.ledger import Event, LabelRow, Ledger
from alpot.store.permissions import refuse_writable_by_others
from alpot.store.rebuild import Index, read_index, replace_ledger
from alpot.store.repair import Report, repair


@dataclass(frozen=True)
class Mended:
    """What became of a campaign directory.

    Attributes:
        report: what was found, file by file.
        sentences: what was done about it, beyond the report.
        problem: what could not be mended; empty if all is well.
    """

    report: Report
    sentences: list[str]
    problem: str = ""


def mend(path: Path, *, rebuild: bool = False, trust_directory: bool = False) -> Mended:
    """Verify every checksum of a campaign, quarantine what is damaged, restore what has a twin, record what is lost.

    Args:
        path: the campaign directory.
        rebuild: make a new ledger from the label files, should the ledger be damaged or missing.
        trust_directory: accept a campaign directory that other users may write to.

    Raises:
        UsageError: it is not a campaign directory, or a controller runs in it.
        StorageError: a file cannot be moved or written.
    """
    directory = CampaignDirectory(path)
    if not any(part.is_file() for part in (directory.ledger, directory.origin, directory.origin_copy)):
        raise CampaignDirectoryError(f"{directory.path} is not a campaign directory: there is nothing to repair")
    if not trust_directory:
        refuse_writable_by_others(directory.path)
    with directory.lock():
        wait_for_orphans(directory)
        report = repair(directory, _checksums_of_models(directory), {f"models/*/{CARD}": verify_card})
        if not report.ledger:
            return _record(directory, report)
        if rebuild:
            return _rebuild(directory, report)
        problem = f"{report.ledger}. `alpot repair {path} --rebuild` makes a new ledger from the label files"
        return Mended(report, [], problem)


def _checksums_of_models(directory: CampaignDirectory) -> dict[str, str]:
    """SHA-256 of the weights of each generation as they were recorded, by path; none if the ledger is unreadable."""
    found: dict[str, str] = {}
    try:
        with Ledger(directory.ledger, read_only=True) as ledger:
            for event in ledger.events():
                if event.kind == "task_finished" and event.payload["id"].startswith(Kind.TRAIN):
                    summary = event.payload["summary"]
                    found[f"{summary['path']}/{WEIGHTS}"] = summary["checksum"]
    except StorageError:
        return {}
    return found


def _record(directory: CampaignDirectory, report: Report) -> Mended:
    """Tells the ledger what is lost, and which labels lie in another file now."""
    gone = [damage.path for damage in report.damaged if not damage.restored]
    models = sorted({int(Path(name).parent.name.removeprefix("gen-")) for name in gone if _makes_a_model(name)})
    explorations = [Path(name).stem for name in gone if name.startswith("candidates/")]
    sentences = []
    problem = ""
    with Ledger(directory.ledger) as ledger:
        state = State.replay(ledger.events())
        if report.lost or report.found:
            lost = _record_labels(directory, report, ledger, state)
            problem = f"{len(lost)} labels are lost; the campaign goes on without them" if lost else ""
        if report.found:
            sentences.append(f"{len(report.found)} labels of damaged files were found in others")
        if models:
            ledger.append(events.models_lost(models))
            sentences.append(f"generations {models} are lost; the best of the others explores until the next training")
        if explorations:
            ledger.append(events.frames_lost(explorations))
            sentences.append(f"frames of {len(explorations)} explorations are lost; those that waited are dropped")
    return Mended(report, sentences, problem)


def _makes_a_model(name: str) -> bool:
    return name.startswith("models/") and Path(name).name in (WEIGHTS, CARD)


def _record_labels(directory: CampaignDirectory, report: Report, ledger: Ledger, state: State) -> dict[str, str]:
    """Records which labels are lost and which lie elsewhere; returns the reasons of the former, by key."""
    lay_in = {row.key: row.path for row in ledger.label_rows()}
    dataset = state.dataset
    held_out = {key for key, name in lay_in.items() if name in dataset.audit.shards or key in dataset.audit.loose}
    shards = [*dataset.training.shards, *dataset.audit.shards]
    shards = [name for name in shards if not (directory.path / name).exists()]
    reasons = {damage.path: damage.reason for damage in report.damaged}
    lost = {key: reasons.get(name, f"{name} is gone") for key, name in report.lost.items()}
    ledger.append(events.labels_lost(lost, audit=sorted(held_out & lost.keys()), shards=shards), removed=list(lost))
    compacted: dict[tuple[str, str, bool], list[str]] = {}
    for row in report.found:
        compacted.setdefault((row.path, row.checksum, row.key in held_out), []).append(row.key)
    entries = [
        {"path": path, "checksum": checksum, "keys": keys, "audit": audit}
        for (path, checksum, audit), keys in compacted.items()
    ]
    ledger.append(events.labels_moved(entries), moved=report.found)
    return lost


def _rebuild(directory: CampaignDirectory, report: Report) -> Mended:
    """Makes a new ledger that knows all labels, and nothing else."""
    index = read_index(directory)

    def write(ledger: Ledger) -> None:
        for event, rows in _imports(index):
            ledger.append(event, rows)

    superseded = replace_ledger(directory, write)
    sentences = [
        f"made a new ledger with the {len(index.rows)} labels that the files hold, {len(index.audit)} of them for the"
        f" audit; models, candidates and tasks begin anew, the old ones are in {superseded}",
        *(f"{name} could not be read: {reason}" for name, reason in index.unreadable.items()),
    ]
    return Mended(report, sentences, "some files could not be read" if index.unreadable else "")


def _imports(index: Index) -> Iterator[tuple[Event, list[LabelRow]]]:
    """The events that bring in labels: those in shards, then those in files of their own."""
    for are_shards in (True, False):
        part = [row for row in index.rows if row.path.startswith("dataset/") == are_shards]
        if part:
            apart = [row.key for row in part if row.key in index.apart]
            training = [row for row in part if row.key not in index.audit | index.apart]
            held_out = [row for row in part if row.key in index.audit]
            shards, audit_shards = (sorted({row.path for row in some if are_shards}) for some in (training, held_out))
            keys, audit_keys = ([row.key for row in some] for some in (training, held_out))
            yield events.labels_imported(keys, audit_keys, shards, audit_shards, apart), part
