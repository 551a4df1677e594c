"""One element under one calculator: what the properties of a potential are measured on."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from ase import Atoms
from ase.calculators.calculator import BaseCalculator

from alpot.validation.crystals import Structure, preferred_structure
from alpot.validation.lattice import Equilibrium, equilibrium
from alpot.validation.melting import melting_temperature
from alpot.validation.outcome import FINDINGS


class Bench:
    """An element under a calculator.

    Crystals are brought to equilibrium once and shared by all properties; so are failures that are findings: some
    calculators, EMT among them, answer nonsense after the first one. Other failures are passed on and forgotten.

    Args:
        calculator: any ASE calculator.
        element: chemical symbol.
        entropy: seed of everything random. Each property draws from numbers of its own, so that what one draws does
            not depend on which others are measured.
        judge: the same potential with bounds on its errors, ``results["forces_bound"]``, where that makes a call
            dearer; by default the calculator itself.
    """

    def __init__(
        self,
        calculator: BaseCalculator,
        element: str,
        entropy: Sequence[int] = (0,),
        judge: BaseCalculator | None = None,
    ) -> None:
        self.calculator = calculator
        self.judge = judge or calculator
        self.element = element
        self._entropy = tuple(entropy)
        self._crystals: dict[Structure, Equilibrium | Exception] = {}

    def rng(self, number: int) -> np.random.Generator:
        """Random numbers of the property with this number; always the same ones."""
        return np.random.default_rng([*self._entropy, number])

    def crystal(self, structure: Structure | None = None) -> Equilibrium:
        """The crystal at equilibrium; by default the element's own structure.

        Raises:
            PotentialError: it has none.
        """
        own = preferred_structure(self.element)
        structure = structure or own
        if structure not in self._crystals:
            volume = None if structure == own else self.crystal().volume
            try:
                self._crystals[structure] = equilibrium(self.calculator, self.element, structure, volume=volume)
            except FINDINGS as error:  # raised below, for every property that needs this crystal
                self._crystals[structure] = error
        found = self._crystals[structure]
        if isinstance(found, Exception):
            raise found
        return found

    def supercell(self, minimum_atoms: int) -> Atoms:
        """A block of the own crystal at equilibrium with at least so many atoms."""
        return self.crystal().supercell(minimum_atoms)

    @property
    def melting_temperature(self) -> float:
        """K, of the real element."""
        return melting_temperature([self.element])
