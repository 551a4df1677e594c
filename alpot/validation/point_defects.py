"""What point defects have in common: their sites in the crystal, and their energy against the perfect one."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from ase import Atoms
from ase.calculators.calculator import PropertyNotImplementedError
from ase.units import GPa
from numpy.typing import NDArray

from alpot.errors import PotentialError
from alpot.validation.crystals import Structure
from alpot.validation.lattice import Equilibrium
from alpot.validation.properties import energy_of
from alpot.validation.relaxation import relax

#: Smallest supercell: 108 sites in fcc, 128 in bcc. The vacancy of EMT's Al and Cu then lies within 1 % of its limit of
#: large cells.
MINIMUM_ATOMS = 100
#: Forces in eV/Å left on the atoms: the energy then is 1 meV from its minimum.
MAX_FORCE = 0.02
#: Of the distance of neighbors: an atom that has gone farther from its site has left it; around vacancies of a stable
#: metal they go a twentieth.
_LOST_SITE = 0.2


@dataclass(frozen=True, kw_only=True)
class PerfectCell:
    """The crystal without its defect, in the same cell.

    Attributes:
        per_atom: energy, eV.
        pressure: eV/Å³; None where the calculator has no stress.
        bulk_modulus: eV/Å³.
    """

    per_atom: float
    pressure: float | None
    bulk_modulus: float

    @classmethod
    def of(cls, perfect: Atoms, crystal: Equilibrium) -> PerfectCell:
        """Evaluate the perfect cell, which has a calculator."""
        energy = energy_of(perfect)
        try:
            pressure = _pressure(perfect)
        except PropertyNotImplementedError:
            pressure = None
        return cls(per_atom=energy / len(perfect), pressure=pressure, bulk_modulus=crystal.bulk_modulus * GPa)

    def formation_energy(self, energy: float, defective: Atoms, what: str) -> float:
        """Formation energy in eV of a defect in an infinite crystal, from one relaxed at constant cell.

        Each defect of the periodic array is held by the cell, which it could not strain: linear elasticity gives what
        that costs, V P²/(2 B), from the pressure P that is left. It falls off as 1/V, and for interstitials it is most
        of what a small cell is wrong by. (Varvenne et al., Phys. Rev. B 88, 134102 (2013), treat the whole stress and
        the interaction with the images; this is the isotropic part.) Nothing is taken off without stress. Vacancies are
        better left as they are: what their images add has the other sign (ANI-Al, 107 atoms: 2 meV too much, 4 meV too
        little with the correction).

        Args:
            energy: of the crystal with the defect, eV.
            defective: that crystal, relaxed, with the calculator.
            what: for the error.

        Raises:
            PotentialError: it is negative.
        """
        if self.pressure is not None:
            energy -= defective.cell.volume * (_pressure(defective) - self.pressure) ** 2 / (2 * self.bulk_modulus)
        return formation_energy(energy, len(defective), self.per_atom, what)


def _pressure(atoms: Atoms) -> float:
    return float(-atoms.get_stress()[:3].mean())


def refuse_others(what: str, crystal: Equilibrium, structures: tuple[Structure, ...]) -> None:
    """Raise ``PotentialError`` for a crystal in which a property is not defined.

    Args:
        what: the property, such as "the migration of a vacancy".
        crystal: that is examined.
        structures: in which it is defined.
    """
    if crystal.structure not in structures:
        raise PotentialError(
            f"{what} is defined for {', '.join(structures)} crystals; {crystal.element} is examined as"
            f" {crystal.structure}"
        )


def shells(atoms: Atoms, index: int = 0) -> list[tuple[float, NDArray[np.int64]]]:
    """Distances in Å of the shells of neighbors around an atom of a perfect crystal, and who is in them.

    Only whole shells within half of the shortest edge are told apart from periodic images.
    """
    distances = atoms.get_distances(index, np.arange(len(atoms)), mic=True)
    order = np.argsort(distances, kind="stable")[1:]
    # Shells of simple crystals differ by several percent; sites of one shell by rounding.
    ends = np.flatnonzero(np.diff(distances[order]) > 1e-3 * distances[order[0]]) + 1
    return [(float(distances[shell[0]]), shell) for shell in np.split(order, ends)]


def relax_vacancies(defective: Atoms, what: str) -> float:
    """Relax a crystal with vacancies in place, at constant cell; its energy in eV.

    Args:
        defective: with a calculator, atoms on the sites of the perfect crystal.
        what: for the error.

    Raises:
        PotentialError: the atoms do not relax, or one has left its site: the crystal is then another one.
    """
    sites = defective.positions.copy()
    spacing = float(np.min(defective.get_all_distances(mic=True) + np.diag(np.full(len(defective), np.inf))))
    energy = relax(defective, what, max_force=MAX_FORCE)
    farthest = float(np.linalg.norm(defective.positions - sites, axis=1).max())
    if farthest > _LOST_SITE * spacing:
        raise PotentialError(
            f"{what} ({len(defective)} atoms): an atom went {farthest:.2f} Å from its site ({spacing:.2f} Å between"
            " neighbors): the crystal around the vacancy is not stable with this potential"
        )
    return energy


def formation_energy(energy: float, n_atoms: int, per_atom: float, what: str) -> float:
    """E − n E(perfect crystal, per atom) in eV.

    Args:
        energy: of the crystal with the defect, relaxed, eV.
        n_atoms: in it.
        per_atom: energy of the perfect crystal in the same cell, eV.
        what: for the error.

    Raises:
        PotentialError: it is negative.
    """
    found = energy - n_atoms * per_atom
    if found < 0:
        raise PotentialError(
            f"{what} ({n_atoms} atoms) has less energy than the perfect crystal, by {-found:.3f} eV: with this"
            " potential the crystal itself is not stable"
        )
    return found
