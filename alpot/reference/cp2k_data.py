"""Entries of CP2K's data files: pseudopotentials and basis sets are known by name, and by their text."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from pathlib import Path

from alpot.config import Dft
from alpot.errors import ConfigError
from alpot.reference.pseudopotential_functional import refuse_other_family
from alpot.reference.pseudopotentials import folders_of, named_pseudopotential

#: Basis set of an element for which none is named: the first that the data files have. With two sets of polarisation
#: functions forces on rattled aluminum are 7 meV/Å from those of plane waves, with one 27.
_BASES = ("TZV2P-MOLOPT-SR-GTH", "TZV2P-MOLOPT-GTH", "DZVP-MOLOPT-SR-GTH")
#: The first line of an entry: an element and its names; the lines below hold numbers only.
_HEADER = re.compile(r"\s*([A-Z][a-z]?)\s+([^\s\d].*)")


def kind_entries(element: str, dft: Dft, base_directory: Path) -> tuple[str, str]:
    """What CP2K has to know of an element: the texts of its pseudopotential and of its basis set, and their hash.

    Raises:
        ConfigError: there is no such entry, or the pseudopotential was made for another family of functionals.
    """
    name = named_pseudopotential(element, dft, '"GTH-PBE", or with the number of its electrons, "GTH-PBE-q3"')
    folders = folders_of("CP2K_DATA_DIR", "/usr/share/cp2k", "/usr/local/share/cp2k/data")
    if dft.pseudopotential_folder is not None:
        folders.insert(0, base_directory / Path(dft.pseudopotential_folder).expanduser())
    potential = _entry(element, (name,), folders, ("GTH_POTENTIALS", "*POTENTIAL*"), "pseudopotentials")
    refuse_other_family(element, name, potential, dft.functional)
    bases = (dft.basis[element],) if element in dft.basis else _BASES
    basis = _entry(element, bases, folders, ("BASIS_MOLOPT", "*BASIS*"), "basis")
    text = f"{potential}\n{basis}\n"
    return text, "sha256:" + hashlib.sha256(text.encode()).hexdigest()


def names(entries: str) -> tuple[str, str]:
    """The names of pseudopotential and basis set in a text of ``kind_entries``."""
    potential, basis = (line.split()[1] for line in entries.splitlines() if _HEADER.fullmatch(line))
    return potential, basis


def valence(entries: str) -> int:
    """Valence electrons: the second line of a pseudopotential counts them by angular momentum."""
    return sum(int(count) for count in entries.splitlines()[1].split())


def _entry(element: str, wanted: tuple[str, ...], folders: list[Path], patterns: tuple[str, ...], key: str) -> str:
    """The first of these that the data files have, in their order."""
    offered: dict[str, tuple[str, list[str]]] = {}
    for file in (file for folder in folders for pattern in patterns for file in sorted(folder.glob(pattern))):
        for seen, known_as, lines in _entries(file):
            if seen == element:
                for name in known_as:
                    offered.setdefault(name, (known_as[0], lines))
    for name in wanted:
        if name in offered:
            # Under the name that was asked for: CP2K may not look at all of an entry's other names.
            return "\n".join((f"{element} {name}", *offered[name][1]))
    raise ConfigError(
        f"reference.dft.{key}.{element} = {wanted[0]!r} is in none of CP2K's data files; for {element} they have"
        f" {', '.join(sorted({first for first, _ in offered.values()})) or 'nothing'}. They were looked for in"
        f" {', '.join(map(str, folders))}; install"
        " them with `apt-get install cp2k-data`, or say where they are in reference.dft.pseudopotential_folder"
    )


def _entries(file: Path) -> Iterator[tuple[str, list[str], list[str]]]:
    """Element, names and lines of numbers of all entries."""
    head: list[str] = []
    lines: list[str] = []
    for line in file.read_text(errors="replace").splitlines():
        text = line.partition("#")[0].partition("!")[0].rstrip()
        header = _HEADER.fullmatch(text)
        if header:
            if lines:
                yield head[0], head[1:], lines
            head, lines = [header[1], *header[2].split()], []
        elif text and head:
            lines.append(text)
    if lines:
        yield head[0], head[1:], lines
