"""alpot discovers interatomic potentials on its own: explore, label, train, assess.

The public surface is small: :func:`load` opens a potential as an ASE calculator.
Importing alpot loads neither torch nor parsl.
"""

from __future__ import annotations

from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    from alpot.potential.calculator import AlpotCalculator

__version__ = version("alpot")
__all__ = ["__version__", "load"]


def load(path: str | Path, **options: Any) -> AlpotCalculator:
    """Open a potential as an ASE calculator.

    Args:
        path: a folder written by ``alpot export``, or a folder of published NeuroChem weights.
        options: passed to :class:`alpot.potential.calculator.AlpotCalculator` (``dtype``, ``device``,
            ``baseline``).

    Raises:
        PotentialError: the folder is not a potential, or is damaged, or needs a baseline that is not given.
    """
    from alpot.potential.calculator import AlpotCalculator

    return AlpotCalculator.load(path, **options)
