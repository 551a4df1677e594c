"""Finds pseudopotential files, which are part of the level of theory by their content, and asks what they are for."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from alpot.config import Dft
from alpot.errors import ConfigError
from alpot.reference.inputs import content_hash
from alpot.reference.pseudopotential_functional import refuse_file_of_other_family


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
        ConfigError: it is not named or not there, or was made for another family of functionals.
    """
    name = named_pseudopotential(element, dft, hint)
    places = [base_directory]
    if dft.pseudopotential_folder is not None:
        places.insert(0, base_directory / Path(dft.pseudopotential_folder).expanduser())
    places += folders
    for place in places:
        path = place / Path(name).expanduser()
        if path.is_file():
            refuse_file_of_other_family(element, path, dft.functional)
            return str(path.resolve()), content_hash(path)
    raise ConfigError(
        f"reference.dft.pseudopotentials.{element} = {name!r}: there is no such file in"
        f" {', '.join(str(place) for place in places)}; {install}"
    )


def folders_of(variable: str, *usual: str) -> list[Path]:
    """The folders in an environment variable (separated by ``:``), and the usual ones."""
    named = [part for part in os.environ.get(variable, "").split(os.pathsep) if part]
    return [Path(folder) for folder in (*named, *usual)]


def element_of(file: str) -> str | None:
    """The element of a pseudopotential; None where its format does not tell as UPF does."""
    text = Path(file).read_text(errors="replace")
    found = re.search(r'\belement\s*=\s*"\s*([A-Z][a-z]?)\s*"|^\s*([A-Z][a-z]?)\s+Element\s*$', text, re.MULTILINE)
    return None if found is None else found[1] or found[2]


@cache
def valence_of(file: str) -> float:
    """Valence electrons of a pseudopotential, in the words of UPF 2, UPF 1, or the second line of the GTH format.

    Raises:
        ConfigError: it does not tell.
    """
    text = Path(file).read_text(errors="replace")
    for pattern in (r'z_valence\s*=\s*["\']\s*([\d.Ee+]+)', r"([\d.]+)\s+Z valence", r"\A.*\n\s*[\d.]+\s+([\d.]+)\s"):
        if found := re.search(pattern, text):
            return float(found[1])
    raise ConfigError(f"reference.dft.pseudopotentials: {file} does not say how many valence electrons it is for")
