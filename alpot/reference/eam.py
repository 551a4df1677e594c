"""Embedded-atom potentials from a file (alloy, fs, adp or single-element eam), through ASE."""

from __future__ import annotations

from pathlib import Path

from ase.calculators.eam import EAM

from alpot.errors import ConfigError
from alpot.reference.ase_reference import AseReference
from alpot.reference.inputs import content_hash, find_input

#: File name endings by which ASE knows the format.
_SUFFIXES = (".eam", ".alloy", ".fs", ".adp")


def open_eam(*, base_directory: Path, potential: str) -> AseReference:
    """EAM from a file.

    Args:
        base_directory: folder of the campaign file.
        potential: the potential file, relative to the campaign file, ending in .alloy, .fs, .adp or .eam.

    Raises:
        ConfigError: the file is missing, of an unknown format, or not readable as what its name says.
    """
    path = find_input(potential, base_directory, argument="potential")
    if not path.is_file() or path.suffix not in _SUFFIXES:
        raise ConfigError(
            f"reference.arguments.potential = {potential!r} must be a file whose name ends in {', '.join(_SUFFIXES)}"
        )
    try:
        elements = frozenset(EAM(potential=str(path)).elements)
    except (ValueError, IndexError, MemoryError, RuntimeError, OSError) as error:
        raise ConfigError(
            f"reference.arguments.potential = {potential!r}: {path} cannot be read as an EAM file"
            f" ({type(error).__name__}: {error}); it should be in the {path.suffix} format of LAMMPS"
        ) from error
    return AseReference(
        name="eam",
        make=EAM,
        arguments={"potential": str(path)},
        described={"potential": content_hash(path), "form": path.suffix},
        elements=elements,
        is_cheap=True,
        is_reusable=True,
    )
