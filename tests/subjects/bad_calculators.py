"""ASE calculators that fail, each in its own way; named by import path in campaign files."""

import os
import time
from pathlib import Path

import numpy as np
from ase.calculators.calculator import CalculationFailed, Calculator, all_changes
from ase.calculators.emt import EMT


class Confused(Calculator):
    """Gives forces that are not numbers."""

    implemented_properties = ("energy", "forces")

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        self.results = {"energy": 1.0, "forces": np.full((len(atoms), 3), np.nan)}


class Crashing(EMT):
    """Raises an exception that nobody expects."""

    def calculate(self, *_args, **_more):
        raise ZeroDivisionError("in the eigenvalue solver")


class Slow(EMT):
    """Takes longer than anybody waits."""

    def calculate(self, *args, **more):
        time.sleep(30)
        super().calculate(*args, **more)


class Picky(EMT):
    """Fails for a structure whose first atom does not lie at the origin; a book counts the attempts."""

    def calculate(self, *args, **more):
        super().calculate(*args, **more)
        with Path(os.environ["PICKY_BOOK"]).open("a") as book:
            book.write("x\n")
        if abs(self.atoms.positions[0]).max() > 0:
            raise CalculationFailed("the first atom is not where it should be")


class Absent(EMT):
    """A code whose program is not there."""

    def calculate(self, *_args, **_more):
        raise FileNotFoundError(2, "No such file or directory", "pw.x")


class Converging(Calculator):
    """Springs to the origin, with an error of 10^-accuracy of the forces and an offset of the energy; 3.0 fails."""

    implemented_properties = ("energy", "forces")

    def __init__(self, *, accuracy, offset=0.0):
        super().__init__()
        self.accuracy, self.offset = accuracy, offset

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        if self.accuracy == 3:
            raise CalculationFailed("SCF did not converge")
        share = 1 + 10.0**-self.accuracy
        energy = 0.5 * share * (atoms.positions**2).sum() + len(atoms) * 7.0 / self.accuracy
        self.results = {"energy": energy + self.offset, "forces": -share * atoms.positions}
