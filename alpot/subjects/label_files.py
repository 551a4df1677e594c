"""Labels the frames of a file, and writes them into another: what `alpot label` does."""

from __future__ import annotations

import hashlib
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ase import Atoms

from alpot.campaign.controller import Observer, Outcome
from alpot.config_file import parse_for_labels, read_text
from alpot.errors import FailureClass, StorageError, StructureError, UsageError
from alpot.platforms.registry import open_platform
from alpot.store.ani_hdf5 import HDF5_SUFFIXES, write_ani_hdf5
from alpot.store.extxyz import XYZ_SUFFIXES, write_extxyz
from alpot.store.labels import label_key
from alpot.structures.files import read_structures
from alpot.subjects.label_task import Method
from alpot.subjects.labelling import (
    Labelling,
    Order,
    Rejection,
    Wanted,
    open_labelling,
    plan_labelling,
    refuse_foreign_output,
)
from alpot.subjects.launch import check_reference

_NOT_FINITE = Rejection(reason=FailureClass.UNPHYSICAL_GEOMETRY, message="positions or the cell are not finite")
_NOT_YET = Rejection(reason="not yet", message="run the same command again to continue")


@dataclass(frozen=True)
class FileReport:
    """What became of a file.

    Attributes:
        labelled: number of frames that were written.
        missing: why the other frames have no label, by their number, counted from 0.
    """

    labelled: int
    missing: dict[int, Rejection]


@dataclass(frozen=True)
class LabelledFile:
    """The frames of a file on their way to another one.

    Attributes:
        frames: the user's frames, in order.
        keys: the label that each is to get; None where there can be none. Equal frames have equal keys.
        labelling: where the work is done.
        output: the file to write.
    """

    frames: Sequence[Atoms]
    keys: Sequence[str | None]
    labelling: Labelling
    output: Path

    def run(self, on_change: Observer | None = None) -> Outcome:
        """Compute what is missing; raises as ``Controller.run``."""
        return self.labelling.run(on_change)

    def write(self) -> FileReport:
        """Write the frames that have a label, in their order; no file where there is none.

        Raises:
            UsageError: there is a file of that name by now that was not written here.
            StorageError: a label is damaged, or the file cannot be written.
        """
        labels = self.labelling.labels([key for key in self.keys if key is not None])
        rejections = self.labelling.rejections()
        done = [number for number, key in enumerate(self.keys) if key in labels]
        missing = {
            number: _NOT_FINITE if key is None else rejections.get(key, _NOT_YET)
            for number, key in enumerate(self.keys)
            if key not in labels
        }
        in_order = [labels[key] for key in self.keys if key is not None and key in labels]
        if not in_order:
            return FileReport(0, missing)
        self.labelling.claim_output(self.output)
        if self.output.suffix in HDF5_SUFFIXES:
            write_ani_hdf5(self.output, in_order)
        else:
            write_extxyz(self.output, in_order, frames=[self.frames[number] for number in done])
        return FileReport(len(done), missing)


def label_file(
    path: Path,
    campaign_file: Path,
    output: Path,
    directory: Path | None = None,
    *,
    trust_directory: bool = False,
) -> LabelledFile:
    """Begin to label the frames of a file, or go on with it.

    Args:
        path: the file, in any format that ASE reads.
        campaign_file: says by its tables ``[reference]`` and ``[resources]`` how and where; ``[material]`` may be
            missing.
        output: the file to write: ``*.extxyz`` or ``*.xyz`` for extended XYZ, ``*.h5`` or ``*.hdf5`` for ANI-style
            HDF5.
        directory: where labels are kept; by default beside ``output``, with the suffix ``.labelling``.
        trust_directory: accept a directory that other users may write to.

    Raises:
        UsageError: a file is wrong, or does not belong to this directory.
    """
    frames, keys, place, order = _understand(path, campaign_file, output, directory)
    return LabelledFile(frames, keys, open_labelling(place, order, trust_directory=trust_directory), output)


def plan_file(
    path: Path, campaign_file: Path, output: Path, directory: Path | None = None
) -> tuple[list[str], list[tuple[str, str]]]:
    """What ``label_file`` and ``LabelledFile.run`` would do, see ``plan_labelling``."""
    _, _, place, order = _understand(path, campaign_file, output, directory)
    return plan_labelling(place, order)


def _understand(
    path: Path, campaign_file: Path, output: Path, directory: Path | None
) -> tuple[list[Atoms], list[str | None], Path, Order]:
    """Frames, the keys of their labels, and what is to be done where; see ``label_file``."""
    if output.suffix not in XYZ_SUFFIXES + HDF5_SUFFIXES:
        raise UsageError(
            f"{output}: labels are written to files {', '.join(XYZ_SUFFIXES + HDF5_SUFFIXES)}, not to"
            f" {output.suffix or 'files without a suffix'}"
        )
    place = directory or output.with_suffix(".labelling")
    if output.exists() and path.exists() and output.samefile(path):
        raise UsageError(f"{output} is the file to be labelled; choose another name with --output")
    refuse_foreign_output(place, output)
    frames = read_structures(path)
    elements = sorted({symbol for atoms in frames for symbol in atoms.symbols})
    if not elements:
        raise StructureError(f"{path} holds no atoms")
    config = parse_for_labels(read_text(campaign_file), str(campaign_file), elements)
    check_reference(config, campaign_file.parent)
    method = Method.open(config.reference, campaign_file.parent, {})
    open_platform(config.resources)
    keys = [_key(atoms, method.level) for atoms in frames]
    first = {key: number for number, key in reversed(list(enumerate(keys))) if key is not None}
    wanted = [
        Wanted(key=key, atoms=frames[number], provenance={"file": path.name, "frame": number})
        for key, number in sorted(first.items(), key=lambda item: item[1])
    ]
    command = ["alpot", "label", path.absolute(), "--reference", campaign_file.absolute(), "-o", output.absolute()]
    if directory is not None:
        command += ["--directory", directory.absolute()]
    order = Order(
        config=config,
        source=campaign_file,
        wanted=wanted,
        same={"level of theory": method.level, "list of frames": _hash_of(keys)},
        command=shlex.join(map(str, command)),
    )
    return frames, keys, place, order


def _key(atoms: Atoms, level: str) -> str | None:
    try:
        return label_key(atoms, level)
    except StorageError:  # it cannot be stored either
        return None


def _hash_of(keys: Sequence[str | None]) -> str:
    return hashlib.sha256("\n".join(key or "" for key in keys).encode()).hexdigest()
