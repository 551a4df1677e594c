"""A published ANI ensemble (NeuroChem weights, such as ANI-Al) as an oracle that costs nothing."""

from __future__ import annotations

import re
from pathlib import Path

from ase.calculators.calculator import BaseCalculator

from alpot.errors import ConfigError
from alpot.reference.ase_reference import AseReference
from alpot.reference.inputs import content_hash, find_input


def open_ani(*, base_directory: Path, folder: str) -> AseReference:
    """The mean of an ensemble of ANI networks.

    Args:
        base_directory: folder of the campaign file.
        folder: folder with the NeuroChem files (``*.params``, ``sae_linfit.dat``, ``train0/`` ...), relative to the
            campaign file.

    Raises:
        ConfigError: there is no such folder, or it does not hold NeuroChem weights.
    """
    path = find_input(folder, base_directory, argument="folder")
    return AseReference(
        name="ani",
        make=_load,
        arguments={"folder": path},
        described={"folder": content_hash(path)},
        elements=_elements(path),
        is_cheap=True,
        is_reusable=True,
    )


def _load(folder: Path) -> BaseCalculator:
    # torch is heavy: it is loaded with the first calculation, not when a campaign file is checked.
    from alpot.potential.calculator import AlpotCalculator

    return AlpotCalculator.load(folder)


def _elements(folder: Path) -> frozenset[str]:
    """The elements that the one ``*.params`` file lists in its line ``Atyp = [H,C,N,O]``."""
    files = sorted(folder.glob("*.params"))
    match = re.search(r"^\s*Atyp\s*=\s*\[([^\]]+)\]", files[0].read_text(), re.MULTILINE) if len(files) == 1 else None
    if match is None:
        raise ConfigError(
            f"reference.arguments.folder: {folder} does not hold NeuroChem weights; it needs exactly one *.params file"
            f" with a line 'Atyp = [...]', and has {[file.name for file in files]}"
        )
    return frozenset(symbol.strip() for symbol in match[1].split(","))
