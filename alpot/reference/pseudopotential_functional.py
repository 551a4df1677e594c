"""Refuses pseudopotentials that were made for another family of functionals: codes take them, most of them silently.

Only LDA is told apart from all that has gradients of the density. Within the latter to mix is common practice, for many
functionals have no pseudopotentials of their own: those of PBE serve for hybrids, meta-GGAs and van der Waals
functionals.
"""

from __future__ import annotations

import re
from pathlib import Path

from alpot.errors import ConfigError
from alpot.reference.functionals import Family, family_of

#: Characters; all formats say it before their tables of numbers.
_HEAD = 2**18
#: Attributes of the header in UPF 2, the line in UPF 1.
_UPF_2 = re.compile(r"""<PP_HEADER\s[^<]*?\bfunctional\s*=\s*["']([^"'<]*)""")
_UPF_1 = re.compile(r"^(.*\S)\s+Exchange-Correlation functional", re.MULTILINE)
#: A bare Coulomb potential in UPF 2: it is right for all functionals.
_COULOMB = re.compile(r"""<PP_HEADER\s[^<]*?\bpseudo_type\s*=\s*["']\s*1/r""")
#: The data sets of PAW in XML, as of ABINIT.
_PAW_XML = re.compile(r"<xc_functional\b([^<>]*)")
_PAW_TYPES = {"LDA": Family.LDA, **dict.fromkeys(("GGA", "MGGA", "HYB"), Family.GRADIENT)}
#: ABINIT's formats, psp8 among them: zatom, zion, pspdat in the second line, pspcod, pspxc in the third.
_ABINIT = re.compile(r"\A.*\n\s*[\d.]+\s+[\d.]+\s+\d+.*\n\s*\d+\s+(-?\d+)\s")
#: CP2K's data files: an element and the name.
_GTH = re.compile(r"\A\s*[A-Z][a-z]?\s+(GTH-(?:NLCC-)?([A-Za-z0-9]+)\S*)")
_POTCAR = re.compile(r"^\s*LEXCH\s*=\s*(\S+)", re.MULTILINE)
#: VASP has names of its own; PW is a GGA there.
_LEXCH = {"CA": Family.LDA, **dict.fromkeys(("91", "PE", "PS", "RP", "AM"), Family.GRADIENT)}


def refuse_other_family(element: str, name: str, text: str, functional: str) -> None:
    """Compares what a pseudopotential was made for with the functional of the campaign.

    Args:
        element: chemical symbol.
        name: of the pseudopotential, for the message.
        text: its content.
        functional: ``reference.dft.functional``.

    Raises:
        ConfigError: one is LDA, the other has gradients. What is not known is left alone.
    """
    told, made_for = stated_functional(text)
    asked = family_of(functional)
    if made_for is None or asked is None or made_for is asked:
        return
    other = "PBE" if made_for is Family.GRADIENT else "LDA"
    # Few functionals have pseudopotentials of their own.
    right = "LDA" if asked is Family.LDA else "PBE" if functional == "PBE" else f"{functional} or PBE"
    raise ConfigError(
        f"reference.dft.pseudopotentials.{element}: {name} was made for another functional ({told}: {made_for}) than"
        f" reference.dft.functional = {functional!r} ({asked}); the labels would be of neither. Take a pseudopotential"
        f' that was made for {right}, or set functional = "{other}"'
    )


def refuse_file_of_other_family(element: str, file: Path, functional: str) -> None:
    """The same for a file; see ``refuse_other_family``."""
    with file.open(errors="replace") as content:
        refuse_other_family(element, str(file), content.read(_HEAD), functional)


def stated_functional(text: str) -> tuple[str, Family | None]:
    """What a pseudopotential says that it was made for: its words, and the family, None where it is not known.

    Args:
        text: content of a file of UPF 1 or 2, PAW-XML, psp8 or another format of ABINIT, a POTCAR, or an entry of
            CP2K's data files.
    """
    if _COULOMB.search(text):
        return "1/r", None
    if found := _UPF_2.search(text) or _UPF_1.search(text):
        words = " ".join(found[1].split())
        return words, family_of(words)
    if found := _PAW_XML.search(text):
        kind = re.search(r"""\btype\s*=\s*["']\s*(\w+)""", found[1])
        return found[1].strip(" /"), _PAW_TYPES.get(kind[1]) if kind else None
    if found := _ABINIT.search(text):
        return f"pspxc = {found[1]}", family_of(found[1])
    if found := _GTH.search(text):
        return found[1], family_of(found[2])
    if found := _POTCAR.search(text):
        return f"LEXCH = {found[1]}", _LEXCH.get(found[1])
    return "", None
