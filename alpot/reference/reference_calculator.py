"""A reference as an ASE calculator, for validation: it relaxes and strains crystals as it would with any other."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ase import Atoms
from ase.calculators.calculator import Calculator, all_changes

from alpot.reference.protocol import ReferenceCalculator


class ReferenceAsCalculator(Calculator):
    """Computes with a reference, every calculation in a folder of its own below ``folder``."""

    implemented_properties = [  # noqa: RUF012 - as ASE has it
        "energy",
        "free_energy",
        "forces",
        "stress",
    ]

    def __init__(self, reference: ReferenceCalculator, folder: Path) -> None:
        super().__init__()
        self.reference = reference
        self.folder = folder
        self._count = 0

    @property
    def _frame(self) -> Atoms:
        assert isinstance(self.atoms, Atoms)
        return self.atoms

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: Sequence[str] = ("energy",),
        system_changes: Sequence[str] = tuple(all_changes),
    ) -> None:
        """See ``ase.calculators.calculator.Calculator.calculate``; raises ``ReferenceError``."""
        super().calculate(atoms, list(properties), list(system_changes))
        self._count += 1
        directory = self.folder / f"calculation-{self._count:04d}"
        directory.mkdir(parents=True)
        result = self.reference.compute(self._frame, directory)
        results: dict[str, Any] = {"energy": result.energy, "free_energy": result.energy, "forces": result.forces}
        if result.stress is not None:
            results["stress"] = result.stress
        self.results = results
