"""Cases that only pw.x has."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path

from alpot.errors import FailureClass
from dft_corpus.case import Case
from dft_corpus.common import BAD_OUTPUT, KILLED, MISSING, NOT_CONVERGED, UNKNOWN, WRONG_INPUT
from tests.reference.dft_codes import rattled

_UNPHYSICAL = FailureClass.UNPHYSICAL_GEOMETRY
_TWO_RANKS = ("mpirun", "--allow-run-as-root", "--oversubscribe", "-n", "2")


def _edit_input(old: str, new: str) -> Callable[[Path], None]:
    def edit(directory: Path) -> None:
        (path,) = directory.glob("*.pwi")
        text = path.read_text()
        if old not in text:
            raise ValueError(f"{old!r} is not in {path}")
        path.write_text(text.replace(old, new))

    return edit


def _pseudopotential(content: bytes | None) -> Callable[[Path], None]:
    def put(directory: Path) -> None:
        (link,) = directory.glob("*.UPF")
        link.unlink()
        if content is not None:
            link.write_bytes(content)

    return put


def espresso_cases() -> list[Case]:
    """What only pw.x can be brought into."""
    close, silicon = rattled(2), Path("/usr/share/espresso/pseudo/Si.pz-vbc.UPF").read_bytes()
    close.positions[1] = close.positions[0]
    return [
        Case(name="pbe0", verdict=None, frame=rattled(2), dft={"functional": "PBE0", "kpoint_density": 0.1}),
        Case(
            name="few-bands", verdict=NOT_CONVERGED, symptom="too_few_bands", ran_arguments={"system": {"nbnd": 2}},
        ),
        Case(name="no-pseudopotential", verdict=MISSING, symptom="pseudopotential", tamper=_pseudopotential(None)),
        Case(
            name="garbage-pseudopotential", verdict=MISSING, symptom="pseudopotential",
            tamper=_pseudopotential(b"<!DOCTYPE html><html>404 not found</html>\n"),
        ),
        Case(name="silicon-for-aluminum", verdict=BAD_OUTPUT, tamper=_pseudopotential(silicon)),
        Case(name="atoms-at-one-place", verdict=_UNPHYSICAL, symptom="atoms_too_close", frame=close),
        Case(
            name="more-bands-than-waves", verdict=UNKNOWN, ran_arguments={"system": {"nbnd": 400}},
        ),
        Case(name="two-ranks", verdict=None, prefix=_TWO_RANKS),
        Case(name="rank-killed", verdict=KILLED, prefix=_TWO_RANKS, kill=(0.6, signal.SIGKILL)),
        Case(name="rank-aborted", verdict=UNKNOWN, prefix=_TWO_RANKS, kill=(0.6, signal.SIGABRT)),
        Case(name="relaxation", verdict=BAD_OUTPUT, tamper=_edit_input("'scf'", "'relax'")),
        Case(name="not-self-consistent", verdict=BAD_OUTPUT, tamper=_edit_input("'scf'", "'md'\n   nstep = 2")),
        Case(name="no-forces", verdict=BAD_OUTPUT, tamper=_edit_input(".true.", ".false.")),
        Case(name="unknown-keyword", verdict=WRONG_INPUT, symptom="input",
             tamper=_edit_input("&SYSTEM", "&SYSTEM\n   nonsense = 1")),
    ]  # fmt: skip
