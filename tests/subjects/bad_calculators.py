"""ASE calculators that fail, each in its own way; named by import path in campaign files."""

import time

import numpy as np
from ase.calculators.calculator import Calculator, all_changes
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
