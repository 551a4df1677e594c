"""Functionals by the names that libxc gives them, which several codes take alike."""

from __future__ import annotations

import re

#: For messages: what is taken beside the names of a code.
LIBXC = "names of libxc joined by +, e.g. GGA_X_PBE+GGA_C_PBE"
_LIBXC = re.compile(r"(LDA|GGA|MGGA)_[A-Z0-9_]+(\+(LDA|GGA|MGGA)_[A-Z0-9_]+)*")


def libxc_parts(name: str) -> list[str]:
    """The parts of a functional that is named as in libxc, e.g. ``GGA_X_PBE+GGA_C_PBE``; none for other names."""
    return name.split("+") if _LIBXC.fullmatch(name) else []
