"""EMT that keeps its own book: each finished calculation is on disk before anybody hears of the result."""

from __future__ import annotations

import os
import time
from hashlib import sha256
from typing import Any

from ase import Atoms
from ase.calculators.emt import EMT

#: The book's file, and how long a calculation takes in s; the environment, because arguments enter the level of theory.
BOOK, SECONDS = "ALPOT_CRASH_BOOK", "ALPOT_CRASH_SECONDS"


def record(name: str) -> None:
    """Adds a line to the book: from here on, this calculation is paid for."""
    descriptor = os.open(os.environ[BOOK], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    try:
        os.write(descriptor, f"{name} {time.time():.6f}\n".encode())
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def name_of(atoms: Atoms) -> str:
    """Names a structure by its exact numbers."""
    return sha256(atoms.numbers.tobytes() + atoms.positions.tobytes() + atoms.cell.array.tobytes()).hexdigest()[:16]


class LoggedEMT(EMT):
    """ASE's EMT with a book."""

    def calculate(self, atoms: Atoms | None = None, *arguments: Any, **more: Any) -> None:
        """Computes, then writes it down."""
        time.sleep(float(os.environ.get(SECONDS, "0")))
        super().calculate(atoms, *arguments, **more)
        assert self.atoms is not None
        record(name_of(self.atoms))
