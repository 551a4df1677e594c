"""Functionals by the names of libxc, which several codes take alike, and the family that a functional belongs to."""

from __future__ import annotations

import re
from enum import StrEnum

#: For messages: what is taken beside the names of a code.
LIBXC = "names of libxc joined by +, e.g. GGA_X_PBE+GGA_C_PBE"
_LIBXC = re.compile(r"(LDA|GGA|MGGA)_[A-Z0-9_]+(\+(LDA|GGA|MGGA)_[A-Z0-9_]+)*")

#: The words that alpot, pw.x (XClib/qe_dft_list.f90), oncvpsp and CP2K's data files have for local functionals and
#: their parts, and for what has gradients. TB09 is in neither: it has the correlation of LDA.
_LOCAL = frozenset({
    "LDA", "PADE", "PZ", "PW", "VWN", "RPA", "WIG", "WIGNER", "HL", "GL", "OBZ", "OBW", "KZK", "SLA", "SL1", "RXC",
    "NOX", "NOC", "NOGX", "NOGC",
})  # fmt: skip
_GRADIENT = frozenset({
    "GGA", "MGGA", "HYB", "VDW", "PBE", "PBESOL", "REVPBE", "RPBE", "PBE0", "HSE", "HSE06", "SCAN", "R2SCAN",
    "RSCAN", "SCAN0", "TPSS", "M06L", "RVV10", "PW91", "PW86PBE", "B86BPBE", "B86BPBEX", "BP", "BLYP", "OLYP",
    "B3LYP", "X3LYP", "HCTH", "HCTH120", "HCTH407", "OPTBK88", "OPTB86B", "PBEQ2D", "Q2D", "SOGGA", "EV93", "WC",
    "GAUP", "GAUPBE", "B88", "GGX", "PBX", "REVX", "OPTX", "PB0X", "B3LP", "PSX", "WCX", "RW86", "C09X", "SOX",
    "Q2DX", "PW86", "B86B", "OBK8", "OB86", "EVX", "B86R", "CX13", "X3LP", "HHNX", "P86", "GGC", "PBC", "PSC",
    "Q2DC",
})  # fmt: skip
#: Numbers of ABINIT (ixc). Others are of neither: no exchange and correlation, Hartree-Fock, tests.
_LOCAL_IXC = frozenset(range(1, 10))
_GRADIENT_IXC = frozenset({11, 12, 14, 15, 16, 17, 23, 24, 26, 27, 41, 42})
#: Numbers of libxc; some of those left out are local, some are not.
_LOCAL_LIBXC = frozenset(range(1, 32))
_GRADIENT_LIBXC = frozenset(range(101, 532)) - {177, 178, 259, 287, 289, 307, 308, 317, 318}


class Family(StrEnum):
    """What a functional depends on."""

    LDA = "LDA"
    GRADIENT = "GGA or beyond"


def libxc_parts(name: str) -> list[str]:
    """The parts of a functional that is named as in libxc, e.g. ``GGA_X_PBE+GGA_C_PBE``; none for other names."""
    return name.split("+") if _LIBXC.fullmatch(name) else []


def family_of(functional: str) -> Family | None:
    """The family of a functional; None where it is not known.

    Args:
        functional: its name, its parts joined by ``+`` or spaces, or its number in ABINIT (``ixc``).
    """
    if re.fullmatch(r"-?\d+", functional):
        return _family_of_number(int(functional))
    if parts := libxc_parts(functional):
        return Family.LDA if all(part.startswith("LDA_") for part in parts) else Family.GRADIENT
    words = set(re.split(r"[\s+-]+", functional.upper().strip()))
    if words & _GRADIENT:
        return Family.GRADIENT
    return Family.LDA if words <= _LOCAL else None


def _family_of_number(ixc: int) -> Family | None:
    """Below zero it is one number of libxc, or two with three digits each: -1012 is 1 (exchange) and 12."""
    numbers = {number for number in divmod(-ixc, 1000) if number} if ixc < 0 else {ixc}
    local, gradient = (_LOCAL_LIBXC, _GRADIENT_LIBXC) if ixc < 0 else (_LOCAL_IXC, _GRADIENT_IXC)
    if numbers & gradient:
        return Family.GRADIENT
    return Family.LDA if numbers <= local else None
