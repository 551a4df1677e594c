"""Finds damaged files in a campaign directory, puts them out of the way, and mends what has a twin.

Nothing is deleted but litter of killed writers that is older than a day: a damaged file is moved to ``quarantine/``
under its own path and a random suffix. What a campaign regenerates (its report, logs, scratch) is not looked at.
Whoever mends must hold the campaign's lock, and no worker may be at work.
"""

from __future__ import annotations

import time
import tomllib
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from alpot.errors import AlpotError, StorageError
from alpot.store.container import verify
from alpot.store.dataset import copy_of, copy_shard
from alpot.store.directory import CampaignDirectory
from alpot.store.files import move_into, publish, published, read_bytes, sha256
from alpot.store.json_files import read_json, verify_json
from alpot.store.labels import provenances
from alpot.store.ledger import LabelRow, Ledger

#: Checks every byte of a file: raises an ``AlpotError`` if it is damaged, and may return its SHA-256.
Verifier = Callable[[Path], str | None]

_verify_labels = partial(verify, kind="labels")
#: How the files of a folder are checked; shards and the campaign file have twins and are treated apart.
_VERIFIERS: dict[str, Verifier] = {
    "labels/*/*.h5": _verify_labels,
    "candidates/*.h5": partial(verify, kind="frames"),
    "tasks/*/*/checkpoint-*.h5": partial(verify, kind="checkpoint"),
    "tasks/*/*/result.json": verify_json,
    "models/*/*.json": verify_json,
    "models/*/information.h5": partial(verify, kind="information"),
    "assessments/*.json": verify_json,
    "properties/*.json": verify_json,
    "measurements/*.json": verify_json,
    "dataset/*.json": verify_json,
    "labelling.json": verify_json,
}
#: s after which a temporary file has no writer any more.
_LITTER_AGE_S = 86400.0


@dataclass(frozen=True)
class Damage:
    """A file that is not what it was.

    Attributes:
        path: where it lay, relative to the campaign directory, as all paths here.
        reason: what is wrong with it.
        moved_to: where it lies now; empty if it was only inspected, or is missing.
        restored: a whole file is in its place again (or would be).
    """

    path: str
    reason: str
    moved_to: str = ""
    restored: bool = False


@dataclass
class Report:
    """What was found in a campaign directory.

    Attributes:
        checked: number of files looked at, for each folder (``"."`` for the directory itself).
        damaged: damaged and missing files.
        ledger: what is wrong with the ledger; empty if it is sound.
        found: labels whose file is gone, but that another sound file holds: to be recorded as moved.
        lost: labels that no sound file holds, with the path where the ledger says they lie.
        notes: what is worth knowing, but no damage.
        litter: number of temporary files of killed writers that are older than a day.
    """

    checked: Counter[str] = field(default_factory=Counter)
    damaged: list[Damage] = field(default_factory=list)
    ledger: str = ""
    found: list[LabelRow] = field(default_factory=list)
    lost: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    litter: int = 0

    @property
    def is_sound(self) -> bool:
        """Whether nothing is damaged, missing or lost."""
        return not (self.damaged or self.ledger or self.found or self.lost)


def inspect(
    directory: CampaignDirectory, recorded: Mapping[str, str], verifiers: Mapping[str, Verifier] | None = None
) -> Report:
    """Verifies every checksum and changes nothing.

    Args:
        directory: the campaign.
        recorded: SHA-256 of further files by relative path, as the events of the ledger state them (weights of models).
        verifiers: how files of other writers are checked, by glob pattern (``"models/*/card.json"``).
    """
    return _Examination(directory, recorded, verifiers or {}, mends=False).run()


def repair(
    directory: CampaignDirectory, recorded: Mapping[str, str], verifiers: Mapping[str, Verifier] | None = None
) -> Report:
    """The same, moves damaged files into quarantine, restores those that have a twin, and removes litter.

    The ledger is left as it is: the caller records ``found`` and ``lost``, or replaces a damaged ledger, see
    ``alpot.store.rebuild``. A second call finds a sound directory, once that is done.

    Raises:
        StorageError: a file could not be moved or restored; what was done before stays done.
    """
    return _Examination(directory, recorded, verifiers or {}, mends=True).run()


class _Examination:
    def __init__(
        self,
        directory: CampaignDirectory,
        recorded: Mapping[str, str],
        verifiers: Mapping[str, Verifier],
        *,
        mends: bool,
    ) -> None:
        self.directory = directory
        self.verifiers = {**_VERIFIERS, **verifiers}
        self.mends = mends
        self.report = Report()
        self.rows = self._read_ledger()
        self.expected = {row.path: row.checksum for row in self.rows} | dict(recorded)
        self.sound: set[str] = set()

    def run(self) -> Report:
        root = self.directory.path
        self._settings()
        self._shards()
        chosen = {path: verifier for pattern, verifier in self.verifiers.items() for path in published(root, pattern)}
        for path, verifier in chosen.items():
            self._check(path, verifier)
        for name in sorted(self.expected.keys() - self.sound - {damage.path for damage in self.report.damaged}):
            self._check(root / name, sha256)
        self._labels()
        self._left_behind()
        return self.report

    # ------------------------------------------------------------------------------------------ single files

    def _name(self, path: Path) -> str:
        return self.directory.relative(path)

    def _fault(self, path: Path, verifier: Verifier) -> str:
        """What is wrong with a file; empty if nothing is."""
        name = self._name(path)
        self.report.checked[name.split("/")[0] if "/" in name else "."] += 1
        if not path.exists():
            return "it is missing"
        try:
            found = verifier(path)
        except AlpotError as error:
            return str(error)
        wanted = self.expected.get(name)
        if wanted is not None and wanted != (found or sha256(path)):
            return f"its checksum is {found or sha256(path)}, the ledger says {wanted}"
        return ""

    def _check(self, path: Path, verifier: Verifier) -> None:
        if fault := self._fault(path, verifier):
            self._condemn(path, fault)
        else:
            self.sound.add(self._name(path))

    def _condemn(self, path: Path, reason: str, restore: Callable[[], object] | None = None) -> None:
        """Notes a damaged file and, if damage is to be mended, moves it away and restores it."""
        damage = Damage(self._name(path), reason, restored=restore is not None)
        if self.mends:
            if path.exists():
                moved = move_into(path, self.directory.quarantine / Path(damage.path).parent)
                damage = replace(damage, moved_to=self._name(moved))
            if restore is not None:
                restore()
        self.report.damaged.append(damage)

    # ------------------------------------------------------------------------------------------ files with a twin

    def _settings(self) -> None:
        """The campaign file, and what was recorded of it, twice."""
        directory = self.directory
        twins = (directory.origin, directory.origin_copy)
        faults = [self._fault(path, _verify_origin) for path in twins]
        if all(faults):
            for path, fault in zip(twins, faults, strict=True):
                self._condemn(path, fault)
            self.report.notes.append("where the campaign file came from is lost: give it again to `alpot run FILE`")
            return
        whole = twins[bool(faults[0])]
        for path, fault in zip(twins, faults, strict=True):
            if fault:
                self._condemn(path, fault, partial(_copy, whole, path))
            elif self.mends and read_bytes(path) != read_bytes(whole):
                _copy(whole, path)  # a controller was killed between the two
        text = read_json(whole)["text"].encode()
        if fault := self._fault(directory.config, _parse_toml):
            self._condemn(directory.config, fault, partial(publish, directory.config, text))
        elif read_bytes(directory.config) != text:
            self.report.notes.append("campaign.toml is not as it was last taken over: it was edited, or is damaged")

    def _shards(self) -> None:
        folder = self.directory.path / "dataset"
        names = {path.name for path in (*published(folder, "*.h5"), *published(folder / "copies", "*.h5"))}
        names |= {Path(path).name for path in self.expected if Path(path).parent == Path("dataset")}
        for name in sorted(names):
            self._shard(folder / name)

    def _shard(self, path: Path) -> None:
        copy = copy_of(path)
        wanted = self.expected.get(self._name(path))
        fault = self._fault(path, _verify_labels)
        if wanted is not None:
            self.expected[self._name(copy)] = wanted
        copy_fault = self._fault(copy, _verify_labels)
        if fault:
            self._condemn(path, fault, None if copy_fault else partial(_copy, copy, path))
        if not fault or not copy_fault:
            self.sound.add(self._name(path))
        if copy.exists() and not copy_fault and not fault and sha256(copy) != sha256(path):
            copy_fault = "it is not the twin of its shard"
        if copy_fault and copy.exists():
            self._condemn(copy, copy_fault, None if fault else partial(copy_shard, path))
        elif copy_fault and not fault:
            self.report.notes.append(f"{self._name(copy)}, the twin of a shard, was missing")
            if self.mends:
                copy_shard(path)
        self.expected.pop(self._name(copy), None)

    # ------------------------------------------------------------------------------------------ ledger and labels

    def _read_ledger(self) -> list[LabelRow]:
        try:
            with Ledger(self.directory.ledger, read_only=True) as ledger:
                ledger.verify()
                return list(ledger.label_rows())
        except StorageError as error:
            self.report.ledger = str(error)
            return []

    def _labels(self) -> None:
        """Looks for the labels of files that are gone in all other files."""
        missing = {row.key: row for row in self.rows if row.path not in self.sound}
        if not missing:
            return
        recorded = {row.path for row in self.rows}
        elsewhere: dict[str, str] = {}
        for name in self.sound:
            if name.startswith("labels/") and (key := Path(name).stem) in missing:
                elsewhere[key] = name
            elif name.startswith("dataset/") and name.endswith(".h5") and name not in recorded:
                elsewhere |= dict.fromkeys(self._keys(name) & missing.keys(), name)
        for key, row in missing.items():
            if key in elsewhere:
                checksum = sha256(self.directory.path / elsewhere[key])
                self.report.found.append(LabelRow(key=key, path=elsewhere[key], checksum=checksum))
            else:
                self.report.lost[key] = row.path

    def _keys(self, name: str) -> set[str]:
        path = self.directory.path / name
        for place in (path, copy_of(path)):
            with suppress(StorageError):
                return set(provenances(place))
        return set()

    # ------------------------------------------------------------------------------------------ what lies around

    def _left_behind(self) -> None:
        """Files that a reader has set aside already, and temporary files of killed writers."""
        oldest = time.time() - _LITTER_AGE_S
        kept = (self.directory.quarantine, self.directory.path / "superseded")
        for path in sorted(self.directory.path.rglob("*")):
            if any(path.is_relative_to(folder) for folder in kept) or not path.is_file():
                continue
            if ".damaged-" in path.name:
                self._condemn(path, "it was found damaged before, and set aside")
            elif path.name.startswith(".") and ".tmp" in path.name:
                with suppress(FileNotFoundError):  # the lease is being renewed
                    self._litter(path, oldest)

    def _litter(self, path: Path, oldest: float) -> None:
        if path.stat().st_mtime < oldest:
            self.report.litter += 1
            if self.mends:
                path.unlink()


def _copy(source: Path, target: Path) -> None:
    publish(target, read_bytes(source))


def _verify_origin(path: Path) -> None:
    read_json(path)


def _parse_toml(path: Path) -> None:
    try:
        tomllib.loads(read_bytes(path).decode())
    except ValueError as error:
        raise StorageError(f"{path} is damaged: {error}") from error
