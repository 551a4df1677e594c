"""A convergence study: the same few structures at many settings of the reference; what `alpot converge` does."""

from __future__ import annotations

import math
import shlex
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms

from alpot.campaign.controller import Observer, Outcome
from alpot.config import Campaign, Material, Reference
from alpot.config_file import read_campaign
from alpot.errors import ConfigError, FailureClass, StructureError, UsageError
from alpot.platforms.registry import open_platform
from alpot.reference.variation import value_of
from alpot.store.labels import Label, label_key
from alpot.store.study import Ladder, Point, Study
from alpot.structures import draw_start
from alpot.structures.files import read_structures
from alpot.subjects.label_task import Method
from alpot.subjects.labelling import Labelling, Order, Rejection, Wanted, open_labelling
from alpot.subjects.launch import check_reference
from alpot.validation.convergence import compared, good_enough


@dataclass(frozen=True)
class _Knob:
    """A setting that we know: its unit, the values to try relative to the campaign's own, the least accurate first."""

    unit: str
    factors: tuple[float, ...]

    @property
    def rises(self) -> bool:
        """Whether a larger value is more accurate."""
        return self.factors[-1] > 1


#: A narrower smearing is no better solution of the same problem, but another problem, nearer to the one that is meant.
_KNOBS: Mapping[str, _Knob] = {
    "dft.cutoff": _Knob("eV", (0.64, 0.8, 1.0, 1.25, 1.5625)),
    "dft.kpoint_density": _Knob("Å", (0.5, 0.7071, 1.0, 1.4142, 2.0)),
    "dft.smearing_width": _Knob("eV", (2.0, 1.0, 0.5, 0.25)),
}
_DIGITS = 3


@dataclass(frozen=True)
class _Own:
    """The campaign's own settings.

    Attributes:
        table: ``[reference]``.
        described: what the reference makes of it, defaults included.
    """

    table: Reference
    described: Mapping[str, Any]

    def value(self, key: str) -> float | None:
        """The number that a setting has, be it by default; None if that is not known."""
        set_by_user = value_of(self.table, key)
        if set_by_user is not None:
            return set_by_user
        by_default: Any = self.described
        for name in key.split("."):
            by_default = by_default.get(name) if isinstance(by_default, Mapping) else None
        return by_default if isinstance(by_default, int | float) and not isinstance(by_default, bool) else None


@dataclass(frozen=True)
class _Rung:
    """One setting, and the labels that it is to give: one key for each structure."""

    value: float
    keys: tuple[str, ...]


@dataclass(frozen=True)
class Convergence:
    """A study that is ready to run.

    Attributes:
        campaign: the campaign file.
        tolerance: of forces in eV/Å.
        own: the campaign's own settings.
        structures: a few words on each structure.
        rungs: by the setting that is varied, the least accurate first.
        labelling: where the work is done.
    """

    campaign: Path
    tolerance: float
    own: _Own
    structures: Sequence[str]
    rungs: Mapping[str, Sequence[_Rung]]
    labelling: Labelling

    def run(self, on_change: Observer | None = None) -> Outcome:
        """Compute what is missing; raises as ``Controller.run``."""
        return self.labelling.run(on_change)

    def study(self) -> Study:
        """What was found so far.

        Raises:
            UsageError: no structure can be used.
        """
        keys = [key for rungs in self.rungs.values() for rung in rungs for key in rung.keys]
        labels, rejections = self.labelling.labels(keys), self.labelling.rejections()
        left_out = {
            number: f"{name}: {why.message}"
            for number, name in enumerate(self.structures)
            if (why := self._verdict_on_structure(number, rejections)) is not None
        }
        used = [number for number in range(len(self.structures)) if number not in left_out]
        if not used:
            raise UsageError(f"none of the structures can be labelled: {next(iter(left_out.values()))}")
        return Study(
            campaign=str(self.campaign),
            force_tolerance=self.tolerance,
            structures=tuple(self.structures[number] for number in used),
            left_out=tuple(left_out.values()),
            ladders=tuple(self._ladder(key, used, labels, rejections) for key in self.rungs),
        )

    def _verdict_on_structure(self, number: int, rejections: Mapping[str, Rejection]) -> Rejection | None:
        """Why a structure is of no use even at a most accurate setting, which is not the setting's fault."""
        found = (rejections.get(rungs[-1].keys[number]) for rungs in self.rungs.values())
        return next((why for why in found if why and why.reason == FailureClass.UNPHYSICAL_GEOMETRY), None)

    def _ladder(
        self, key: str, used: Sequence[int], labels: Mapping[str, Label], rejections: Mapping[str, Rejection]
    ) -> Ladder:
        rungs = self.rungs[key]
        known = [[labels[rung.keys[n]] for n in used if rung.keys[n] in labels] for rung in rungs]
        exact = next((of_rung for of_rung in reversed(known) if len(of_rung) == len(used)), [])
        points = tuple(
            compared(rung.value, of_rung, exact)
            if len(of_rung) == len(used)
            else _unknown(rung.value, [rung.keys[n] for n in used], labels, rejections)
            for rung, of_rung in zip(rungs, known, strict=True)
        )
        unit = _KNOBS[key].unit if key in _KNOBS else ""
        chosen = good_enough(points, self.tolerance)
        largest = max((float(np.linalg.norm(label.forces, axis=1).max()) for label in exact), default=None)
        if largest is not None and largest < self.tolerance:  # all settings are within it, which says nothing
            chosen = None
        return Ladder(
            key=key,
            unit=unit,
            own=self.own.value(key),
            points=points,
            recommended=chosen.value if chosen else None,
            sentence=_sentence(key, unit, points, chosen, largest, self.tolerance),
            line=_line(key, chosen.value) if chosen else "",
        )


def prepare_study(
    path: Path,
    output: Path,
    *,
    count: int,
    tolerance: float,
    vary: Sequence[str] = (),
    frames_of: Path | None = None,
    trust_directory: bool = False,
) -> Convergence:
    """Begin a convergence study, or go on with it; labels of earlier ones in the same folder are used.

    Args:
        path: the campaign file.
        output: the folder of the study; labels are kept in ``labels`` below it.
        count: number of structures.
        tolerance: of forces in eV/Å.
        vary: ``KEY=v1,v2,...`` each, with the path of the key below ``[reference]``, the most accurate value last. By
            default cutoff, k point density and smearing width of ``[reference.dft]`` around the campaign's values.
        frames_of: take the structures from this file, evenly spread; by default they are drawn as starts of walkers.
        trust_directory: accept a directory that other users may write to.

    Raises:
        UsageError: a file or a setting is wrong.
    """
    config = read_campaign(path)
    open_platform(config.resources)
    named = _structures(config, path.parent, count) if frames_of is None else _frames(frames_of, count)
    elements = sorted({symbol for _, atoms in named for symbol in atoms.symbols})
    config = config.model_copy(update={"material": Material(elements=tuple(elements))})
    own = _Own(config.reference, Method.open(config.reference, path.parent, {}).reference.settings())
    ladders = dict(_parsed(text, own) for text in vary) or _ladders_around(own)
    check_reference(config, path.parent)
    rungs: dict[str, list[_Rung]] = {}
    wanted: dict[str, Wanted] = {}
    for key, values in ladders.items():
        levels = [Method.open(config.reference, path.parent, {key: value}).level for value in values]
        if len(set(levels)) < len(values):
            raise ConfigError(f"reference.{key} does not change the results of {config.reference.code!r}")
        for value, level in zip(values, levels, strict=True):
            rung = _Rung(value, tuple(label_key(atoms, level) for _, atoms in named))
            rungs.setdefault(key, []).append(rung)
            for label, (name, atoms) in zip(rung.keys, named, strict=True):
                wanted.setdefault(
                    label, Wanted(key=label, atoms=atoms, setting={key: value}, provenance={"structure": name})
                )
    order = Order(
        config=config,
        source=path,
        wanted=list(wanted.values()),
        same={"purpose": "a convergence study"},
        command=_command(path, output, count, tolerance, vary, frames_of),
    )
    labelling = open_labelling(output / "labels", order, trust_directory=trust_directory)
    return Convergence(path, tolerance, own, [name for name, _ in named], rungs, labelling)


# ------------------------------------------------------------------------------------------------- what is tried


def _structures(config: Campaign, base_directory: Path, count: int) -> list[tuple[str, Atoms]]:
    named = []
    for number in range(count):
        # Each has random numbers of its own, so that more structures are the same ones and some others.
        rng = np.random.default_rng([config.seed, zlib.crc32(b"convergence"), number])
        atoms = draw_start(config.material, rng, base_directory=base_directory)
        named.append((f"{atoms.info['start']}, {atoms.symbols}", atoms))
    return named


def _frames(path: Path, count: int) -> list[tuple[str, Atoms]]:
    frames = read_structures(path)
    chosen = sorted({round(number) for number in np.linspace(0, len(frames) - 1, min(count, len(frames)))})
    for number in chosen:
        if not (len(frames[number]) and np.isfinite(frames[number].positions).all()):
            raise StructureError(f"{path}, frame {number}: it has no atoms, or positions that are not finite")
    return [(f"{path.name}#{number}, {frames[number].symbols}", frames[number]) for number in chosen]


def _ladders_around(own: _Own) -> dict[str, list[float]]:
    found = {
        key: [_rounded(value * factor) for factor in knob.factors]
        for key, knob in _KNOBS.items()
        if (value := own.value(key))
    }
    if not found:
        raise UsageError(
            f"reference.code is {own.table.code!r}, of which alpot does not know what to vary; name it, the most"
            " accurate value last: --vary arguments.KEY=v1,v2,v3"
        )
    return found


def _parsed(text: str, own: _Own) -> tuple[str, list[float]]:
    key, _, listed = text.partition("=")
    key = key.strip().removeprefix("reference.")
    value = own.value(key)
    try:
        values = [_number(word, whole=value is None or isinstance(value, int)) for word in listed.split(",")]
    except ValueError as error:
        raise UsageError(
            f"--vary {text}: it must be KEY=v1,v2,... with numbers, e.g. dft.cutoff=300,400,500"
        ) from error
    if len(set(values)) < 3 or len(set(values)) < len(values):
        raise UsageError(f"--vary {text}: at least three values are needed, each once")
    if key in _KNOBS:
        values.sort(reverse=not _KNOBS[key].rises)
    return key, values


def _number(word: str, *, whole: bool) -> float:
    """A number as it is meant: 4 is a whole one, unless the setting is not."""
    value = float(word)
    if not math.isfinite(value):
        raise ValueError(word)
    return int(word) if whole and word.strip().lstrip("+-").isdecimal() else value


def _rounded(value: float) -> float:
    return float(f"{value:.{_DIGITS}g}")


def _command(
    path: Path, output: Path, count: int, tolerance: float, vary: Sequence[str], frames_of: Path | None
) -> str:
    words = ["alpot", "converge", path.absolute(), "--structures", count, "--force-tolerance", tolerance]
    words += [word for text in vary for word in ("--vary", text)]
    words += ["-o", output.absolute()] + (["--frames", frames_of.absolute()] if frames_of is not None else [])
    return shlex.join(map(str, words))


# ------------------------------------------------------------------------------------------------ what was found


def _unknown(
    value: float, keys: Sequence[str], labels: Mapping[str, Label], rejections: Mapping[str, Rejection]
) -> Point:
    """A setting without a label for each structure."""
    why = next((rejections[key] for key in keys if key in rejections), None)
    if why is not None:
        return Point(value=value, failure=f"{why.reason}: {why.message}")
    return Point(value=value, missing=sum(key not in labels for key in keys))


def _sentence(
    key: str, unit: str, points: Sequence[Point], chosen: Point | None, largest: float | None, tolerance: float
) -> str:
    if any(point.missing for point in points):
        return f"{key}: no recommendation before all settings are computed; the same command goes on with it"
    known = [point for point in points if point.is_known]
    if len(known) < 2:
        return f"{key}: fewer than two settings could be computed; nothing can be said"
    if largest is not None and largest < tolerance:
        return (
            f"{key}: no recommendation, for there are no forces to be compared: none reaches {tolerance:g} eV/Å, as in"
            " crystals by symmetry; take structures whose atoms are displaced, e.g. by --frames"
        )
    exact = f"{_with_unit(known[-1].value, unit)}"
    if chosen is not None:
        return (
            f"{key}: {_with_unit(chosen.value, unit)} is enough: no force differs from that at {exact} by more than"
            f" {chosen.force_max:.2g} eV/Å ({tolerance:g} may)"
        )
    return (
        f"{key}: no recommendation, the ladder must go further: at {_with_unit(known[-2].value, unit)} a force still"
        f" differs from that at {exact} by {known[-2].force_max:.2g} eV/Å ({tolerance:g} may)"
    )


def _with_unit(value: float, unit: str) -> str:
    return f"{value:g} {unit}".rstrip()


def _line(key: str, value: float) -> str:
    """What to copy, as TOML: wherever it goes astray, it says where it belongs."""
    *tables, name = ("reference", *key.split("."))
    return f"{name} = {value!r}  # in [{'.'.join(tables)}]"
