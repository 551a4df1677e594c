"""Finds pseudopotential files, which are part of the level of theory by their content."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from alpot.config import Dft
from alpot.errors import ConfigError
from alpot.reference.inputs import content_hash


def named_pseudopotential(element: str, dft: Dft, hint: str) -> str:
    """The name or file that the campaign file gives for an element; ``hint``: what to write otherwise.

    Raises:
        ConfigError: it gives none.
    """
    name = dft.pseudopotentials.get(element)
    if name is None:
        given = ", ".join(dft.pseudopotentials) or "none"
        raise ConfigError(
            f"reference.dft.pseudopotentials has no entry for {element} (it has {given}); add {element} = {hint}"
        )
    return name


def pseudopotential_file(
    element: str, dft: Dft, base_directory: Path, *, folders: Sequence[Path], hint: str, install: str
) -> tuple[str, str]:
    """Path and hash of the file that holds the pseudopotential of an element.

    Args:
        element: chemical symbol.
        dft: the settings.
        base_directory: folder of the campaign file.
        folders: where else to look: the code's own folders.
        hint: an example of what to write.
        install: how to come by pseudopotentials.

    Raises:
        ConfigError: it is not named or not there.
    """
    name = named_pseudopotential(element, dft, hint)
    places = [base_directory]
    if dft.pseudopotential_folder is not None:
        places.insert(0, base_directory / Path(dft.pseudopotential_folder).expanduser())
    places += folders
    for place in places:
        path = place / Path(name).expanduser()
        if path.is_file():
            return str(path.resolve()), content_hash(path)
    raise ConfigError(
        f"reference.dft.pseudopotentials.{element} = {name!r}: there is no such file in"
        f" {', '.join(str(place) for place in places)}; {install}"
    )


def folders_of(variable: str, *usual: str) -> list[Path]:
    """The folders in an environment variable (separated by ``:``), and the usual ones."""
    named = [part for part in os.environ.get(variable, "").split(os.pathsep) if part]
    return [Path(folder) for folder in (*named, *usual)]
