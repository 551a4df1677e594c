"""The repulsion of nuclei at short distance (ZBL): a baseline that gives a potential the wall its data do not show."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from ase import Atoms, units
from ase.calculators.calculator import Calculator, all_changes
from ase.data import covalent_radii
from ase.geometry import complete_cell
from ase.stress import full_3x3_to_voigt_6_stress
from numpy.typing import ArrayLike, NDArray
from vesin import NeighborList

#: e²/(4 π ε0) in eV Å.
_COULOMB = units.Hartree * units.Bohr
#: Ziegler, Biersack and Littmark, The Stopping and Range of Ions in Solids (1985), chapter 2: the universal screening
#: function Σ c exp(−b x) of x = r/a, with a (Z1^0.23 + Z2^0.23) = 0.8854 Bohr. The book rounds the coefficients; these
#: digits are those of LAMMPS, and add up to 1.
_WEIGHTS = np.array([0.18175, 0.50986, 0.28022, 0.02817])
_RATES = np.array([3.1998, 0.94229, 0.4029, 0.20162])
_LENGTH, _POWER = 0.8854 * units.Bohr, 0.23
#: Exponent of the envelope: energy, forces and their derivatives vanish at the cutoff.
_SMOOTHNESS = 6


def zbl_energy(first: ArrayLike, second: ArrayLike, distance: ArrayLike) -> NDArray[np.float64]:
    """Universal repulsive energy in eV of two nuclei, never switched off; elementwise.

    Args:
        first, second: atomic numbers.
        distance: Å, above 0.
    """
    return _zbl(np.asarray(first), np.asarray(second), np.asarray(distance, dtype=np.float64))[0]


class PairRepulsion(Calculator):
    """ZBL's repulsion of all pairs, times an envelope that ends at the sum of their covalent radii.

    Beyond, it is exactly zero, so that it leaves matter near equilibrium to whatever is added to it. The envelope is
    that of Gasteiger, Groß and Günnemann, ICLR 2020, eq. 8, with p = 6.
    """

    implemented_properties: list[str] = ["energy", "free_energy", "energies", "forces", "stress"]  # noqa: RUF012

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: Sequence[str] = ("energy",),
        system_changes: Sequence[str] = all_changes,
    ) -> None:
        """Compute all properties, whichever are asked for."""
        super().calculate(atoms, list(properties), list(system_changes))
        assert self.atoms is not None
        frame = self.atoms
        radii = covalent_radii[frame.numbers]
        search = NeighborList(cutoff=2 * float(radii.max()), full_list=False, n_threads=1)
        box = complete_cell(frame.cell.array)
        first, second, distances, vectors = search.compute(frame.positions, box, frame.pbc, quantities="ijdD")
        cutoffs = radii[first] + radii[second]
        near = distances < cutoffs
        first, second, vectors, distances = first[near], second[near], vectors[near], distances[near]
        bare, bare_slopes = _zbl(frame.numbers[first], frame.numbers[second], distances)
        envelope, envelope_slopes = _envelope(distances / cutoffs[near])
        pairs = bare * envelope
        slopes = bare_slopes * envelope + bare * envelope_slopes / cutoffs[near]
        pulls = (slopes / distances)[:, None] * vectors  # (n_pairs, 3) eV/Å, on the first atom
        energies = np.zeros(len(frame))
        forces = np.zeros((len(frame), 3))
        for atom, sign in ((first, 1.0), (second, -1.0)):
            np.add.at(energies, atom, 0.5 * pairs)
            np.add.at(forces, atom, sign * pulls)
        energy = float(pairs.sum())
        self.results = {"energy": energy, "free_energy": energy, "energies": energies, "forces": forces}
        if frame.cell.rank == 3:
            self.results["stress"] = full_3x3_to_voigt_6_stress(pulls.T @ vectors / frame.cell.volume)


def _zbl(
    first: NDArray[np.int64], second: NDArray[np.int64], distance: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Energies in eV and their derivatives by the distance in eV/Å."""
    screening = _LENGTH / (first**_POWER + second**_POWER)
    terms = _WEIGHTS * np.exp(-_RATES * (distance / screening)[..., None])  # (..., 4)
    coulomb = _COULOMB * first * second / distance
    energy = coulomb * terms.sum(axis=-1)
    return energy, -energy / distance - coulomb * (terms * _RATES).sum(axis=-1) / screening


def _envelope(x: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """1 at x = 0, 0 at x = 1 with two derivatives; and its derivative."""
    p = _SMOOTHNESS
    value = 1 - (p + 1) * (p + 2) / 2 * x**p + p * (p + 2) * x ** (p + 1) - p * (p + 1) / 2 * x ** (p + 2)
    return value, -p * (p + 1) * (p + 2) / 2 * x ** (p - 1) * (1 - x) ** 2
