"""An exploration that is not finished as arrays and facts, and back: what a checkpoint holds of it.

Whatever decides where the walkers go is in it, so that an exploration that was interrupted finds what it would have
found: bit by bit on a CPU. Neighbor pairs are found again from where they were searched, which is smaller by far. Nor
is it said how many starts were taken: each of them is a walker in flight or a report.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from itertools import pairwise
from typing import Any, TypeVar

import numpy as np
import torch
from ase import Atoms
from numpy.typing import NDArray
from torch import Tensor

from alpot.exploration.dynamics import InFlight
from alpot.exploration.phase_space import AtomRows, WalkerRows
from alpot.exploration.schedules import Schedule
from alpot.exploration.walker import Check, Ending, Pace, Snapshot, Walker, WalkerReport
from alpot.store.checkpoint import Saved

#: Raised by hand when the names below, or what they mean, change: older checkpoints are then left alone.
LAYOUT = 2

_Rows = TypeVar("_Rows", AtomRows, WalkerRows)
_Arrays = Mapping[str, NDArray[Any]]


def to_saved(in_flight: InFlight, reports: Sequence[WalkerReport]) -> Saved:
    """An exploration between two advances.

    Args:
        in_flight: its walkers.
        reports: of those that have ended.

    Returns:
        Partly views of the walkers' memory, to be written before they go on.
    """
    snapshots: list[Atoms] = []
    facts = {
        "walkers": [_fact(walker, snapshots) for walker in in_flight.walkers],
        "reports": [_fact(report, snapshots) for report in reports],
        "start infos": [walker.start.info for walker in in_flight.walkers],
        "snapshot infos": [atoms.info for atoms in snapshots],
    }
    arrays = {
        **_rows_to_arrays("atoms", in_flight.atoms),
        **_rows_to_arrays("cells", in_flight.cells),
        "noise": in_flight.noise.numpy(),
        "searched_scales": in_flight.searched_scales,
        **_frames_to_arrays("starts", [walker.start for walker in in_flight.walkers]),
        **_frames_to_arrays("snapshots", snapshots),
    }
    return Saved(arrays=arrays, facts=facts)


def from_saved(saved: Saved, device: torch.device) -> tuple[InFlight, list[WalkerReport]]:
    """The inverse of ``to_saved``, with the walkers' tensors on a device of the kind that they were on."""
    arrays, facts = saved.arrays, saved.facts
    starts = _frames_from_arrays("starts", arrays, facts["start infos"])
    snapshots = _frames_from_arrays("snapshots", arrays, facts["snapshot infos"])
    in_flight = InFlight(
        walkers=[_walker(fact, start, snapshots) for fact, start in zip(facts["walkers"], starts, strict=True)],
        atoms=_rows_from_arrays("atoms", AtomRows, arrays, device),
        cells=_rows_from_arrays("cells", WalkerRows, arrays, device),
        noise=torch.from_numpy(arrays["noise"]),
        searched_scales=arrays["searched_scales"],
    )
    return in_flight, [_report(fact, snapshots) for fact in facts["reports"]]


# ------------------------------------------------------------------------------------------------------------- facts


def _fact(value: object, snapshots: list[Atoms]) -> Any:
    """A value as JSON; of a walker all but its start, and of a snapshot the number that its frame gets."""
    if isinstance(value, Snapshot):
        snapshots.append(value.atoms)
        return {**_fields(value, snapshots, without="atoms"), "frame": len(snapshots) - 1}
    if isinstance(value, Walker):
        return _fields(value, snapshots, without="start")
    if isinstance(value, tuple):
        return [_fact(item, snapshots) for item in value]
    return _fields(value, snapshots) if is_dataclass(value) else value


def _fields(record: Any, snapshots: list[Atoms], without: str = "") -> dict[str, Any]:
    return {
        field.name: _fact(getattr(record, field.name), snapshots) for field in fields(record) if field.name != without
    }


def _walker(fact: dict[str, Any], start: Atoms, snapshots: Sequence[Atoms]) -> Walker:
    nested = {
        "temperature": Schedule(**fact["temperature"]),
        "density": None if fact["density"] is None else Schedule(**fact["density"]),
        "compression": None if fact["compression"] is None else Schedule(**fact["compression"]),
        "usual_pace": Pace(**fact["usual_pace"]),
        "cascade_pace": None if fact["cascade_pace"] is None else Pace(**fact["cascade_pace"]),
        "last_good": None if fact["last_good"] is None else Check(**fact["last_good"]),
        "found": _snapshots(fact["found"], snapshots),
        "audit": _snapshot(fact["audit"], snapshots),
    }
    return Walker(start=start, **(fact | nested))


def _report(fact: dict[str, Any], snapshots: Sequence[Atoms]) -> WalkerReport:
    nested = {
        "ending": Ending(fact["ending"]),
        "found": _snapshots(fact["found"], snapshots),
        "rewound": _snapshot(fact["rewound"], snapshots),
        "audit": _snapshot(fact["audit"], snapshots),
    }
    return WalkerReport(**(fact | nested))


def _snapshot(fact: dict[str, Any] | None, snapshots: Sequence[Atoms]) -> Snapshot | None:
    if fact is None:
        return None
    return Snapshot(atoms=snapshots[fact["frame"]], **{name: fact[name] for name in fact if name != "frame"})


def _snapshots(facts: Sequence[dict[str, Any]], snapshots: Sequence[Atoms]) -> tuple[Snapshot, ...]:
    return tuple(found for fact in facts if (found := _snapshot(fact, snapshots)) is not None)


# ------------------------------------------------------------------------------------------------------------ arrays


def _rows_to_arrays(group: str, rows: AtomRows | WalkerRows) -> dict[str, NDArray[Any]]:
    columns: dict[str, Tensor] = {field.name: getattr(rows, field.name) for field in fields(rows)}
    return {f"{group}.{name}": column.cpu().numpy() for name, column in columns.items()}


def _rows_from_arrays(group: str, kind: type[_Rows], arrays: _Arrays, device: torch.device) -> _Rows:
    names = [field.name for field in fields(kind)]
    return kind(**{name: torch.from_numpy(arrays[f"{group}.{name}"]).to(device) for name in names})


def _frames_to_arrays(group: str, frames: Sequence[Atoms]) -> dict[str, NDArray[Any]]:
    """Frames that all have the same arrays of ASE (numbers, positions, ...), one after the other."""
    names = frames[0].arrays if frames else {}
    return {
        f"{group}.offsets": np.cumsum([0, *(len(atoms) for atoms in frames)]),
        f"{group}.cell": np.array([atoms.cell.array for atoms in frames]).reshape(-1, 3, 3),
        f"{group}.pbc": np.array([atoms.pbc for atoms in frames], dtype=bool).reshape(-1, 3),
        **{f"{group}.arrays.{name}": np.concatenate([atoms.arrays[name] for atoms in frames]) for name in names},
    }


def _frames_from_arrays(group: str, arrays: _Arrays, infos: Sequence[dict[str, Any]]) -> list[Atoms]:
    prefix = f"{group}.arrays."
    columns = {name.removeprefix(prefix): column for name, column in arrays.items() if name.startswith(prefix)}
    rows = [slice(*pair) for pair in pairwise(arrays[f"{group}.offsets"].tolist())]
    return [
        Atoms(**{name: column[row] for name, column in columns.items()}, cell=cell, pbc=pbc, info=info)
        for row, cell, pbc, info in zip(rows, arrays[f"{group}.cell"], arrays[f"{group}.pbc"], infos, strict=True)
    ]
