"""Finds labels of structures that are labelled already, and labels with the numbers of another structure."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Sequence

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from alpot.potential.batch import Batch
from alpot.potential.frame_cache import LabelledFrame
from alpot.potential.neighbors import NeighborSearch

#: Å: structures whose cells and whose interatomic distances below the range differ by less are the same.
_SAME_DISTANCE, _RANGE = 1e-3, 5.0
#: eV/atom that the energies of the same structure may differ by.
_SAME_ENERGY = 0.005
#: Forces smaller than this (eV/Å) are zero by symmetry, and equal in many frames.
_ZERO_FORCE = 1e-3

_Kept = tuple[LabelledFrame, list[NDArray[np.float64]]]


def copies(
    labels: Sequence[LabelledFrame], known: Sequence[LabelledFrame], misfits: dict[str, float]
) -> dict[str, str]:
    """Labels of a structure that is there already, and labels with the numbers of another structure."""
    refused: dict[str, str] = {}
    trusted = {label.key for label in known}
    # The better one of two comes first, and stays; the earlier one where both are as good.
    order = sorted(labels, key=lambda label: round(misfits.get(label.key, 0.0)))
    by_forces: dict[bytes, LabelledFrame] = {}
    by_shape: dict[tuple[str, int], list[_Kept]] = defaultdict(list)
    for label in [*known, *order]:
        digest = _digest(label)
        twin = by_forces.get(digest) if digest else None
        original = None if label.key in trusted else _original(label, by_shape)
        if label.key in trusted or (twin is None and original is None):
            by_forces.setdefault(digest, label)
            by_shape[_shape(label.atoms)].append((label, []))
        elif original is not None:
            refused[label.key] = _as_copy(label, original)
        elif twin is not None:
            refused[label.key] = f"its forces are those of label {twin.key[:12]}, which has another structure"
    return refused


def _digest(label: LabelledFrame) -> bytes:
    """Names forces; empty for forces that are zero."""
    if np.abs(label.forces).max(initial=0.0) <= _ZERO_FORCE:
        return b""
    return hashlib.sha256(np.round(label.forces, 7).tobytes()).digest()


def _shape(atoms: Atoms) -> tuple[str, int]:
    """Structures that may be the same have this in common, up to one in the number."""
    return atoms.get_chemical_formula(), round(atoms.cell.volume / len(atoms) / 1e-2)


def _original(label: LabelledFrame, by_shape: dict[tuple[str, int], list[_Kept]]) -> LabelledFrame | None:
    """A label of the same structure in the same cell, wherever it was moved and in whatever order its atoms are."""
    formula, volume = _shape(label.atoms)
    own: NDArray[np.float64] | None = None
    for near in (volume - 1, volume, volume + 1):
        for other, kept in by_shape.get((formula, near), ()):
            if not np.abs(label.atoms.cell.array - other.atoms.cell.array).max() < _SAME_DISTANCE:
                continue
            if own is None:
                own = _distances(label.atoms)
            if not kept:
                kept.append(_distances(other.atoms))
            # Pairs at the very end of the range may be in one list only.
            count = int(0.9 * min(len(own), len(kept[0])))
            if count and np.abs(own[:count] - kept[0][:count]).max() < _SAME_DISTANCE:
                return other
    return None


def _distances(atoms: Atoms) -> NDArray[np.float64]:
    batch = Batch.from_atoms([atoms])
    pairs = NeighborSearch(_RANGE).pairs(batch)
    return np.sort(np.linalg.norm(pairs.vectors(batch), axis=1))


def _as_copy(label: LabelledFrame, original: LabelledFrame) -> str:
    difference = abs(label.energy - original.energy) / len(label.atoms)
    if difference > _SAME_ENERGY:
        return (
            f"it contradicts label {original.key[:12]}: the same structure, but an energy that differs by"
            f" {difference:.3g} eV/atom"
        )
    return f"it repeats label {original.key[:12]}: the same structure was labelled twice"
