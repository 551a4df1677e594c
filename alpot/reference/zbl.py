"""The universal repulsion of nuclei (ZBL): no truth, but the baseline that gives a potential its wall, and a screen."""

from __future__ import annotations

from pathlib import Path

from alpot.potential.pair_repulsion import PairRepulsion
from alpot.reference.ase_reference import AseReference


def open_zbl(*, base_directory: Path) -> AseReference:
    """ZBL for all elements, between atoms that are closer than the sum of their covalent radii.

    Args:
        base_directory: folder of the campaign file; no files are needed.
    """
    return AseReference(name="zbl", make=PairRepulsion, is_cheap=True)
