"""How far labels of one setting are from those of a more accurate one, and which setting is good enough."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import takewhile

import numpy as np

from alpot.store.labels import Label
from alpot.store.study import Point


def compared(value: float, labels: Sequence[Label], exact: Sequence[Label]) -> Point:
    """One point of a ladder.

    Args:
        value: of the setting that is varied.
        labels: of the structures at that setting.
        exact: of the same structures in the same order at the most accurate setting.
    """
    pairs = list(zip(labels, exact, strict=True))
    forces = np.concatenate([np.linalg.norm(label.forces - true.forces, axis=1) for label, true in pairs])
    energies = np.array([(label.energy - true.energy) / len(label.atoms) for label, true in pairs])
    stresses = [
        np.abs(label.stress - true.stress).max()
        for label, true in pairs
        if label.stress is not None and true.stress is not None
    ]
    seconds = [label.provenance["details"]["wall_s"] for label in labels]
    return Point(
        value=value,
        force_max=float(forces.max()),
        force_rms=float(np.sqrt(np.mean(forces**2))),
        energy_spread=float(np.abs(energies - energies.mean()).max()) if len(energies) > 1 else None,
        energy_offset=float(energies.mean()),
        stress_max=float(max(stresses)) if stresses else None,
        seconds=float(np.mean(seconds)),
    )


def good_enough(points: Sequence[Point], tolerance: float) -> Point | None:
    """The least accurate setting within tolerance from which on all others are, too.

    One alone may be there by chance. The most accurate one is compared with nothing but itself and proves nothing.

    Args:
        points: from the least to the most accurate.
        tolerance: of the largest force difference in eV/Å.

    Returns:
        None if the ladder does not go far enough to tell, or is not computed as far as it goes.
    """
    if any(point.missing for point in points):
        return None
    tried = [point for point in points if point.is_known][:-1]
    within = list(takewhile(lambda point: (point.force_max or 0.0) < tolerance, reversed(tried)))
    return within[-1] if within else None
