"""ASE's EMT of one element, compiled: the same numbers, fifty times sooner, for tests that need long runs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator, all_changes
from ase.calculators.emt import EMT, beta
from ase.stress import full_3x3_to_voigt_6_stress
from numba import njit

from tests.validation.fast_lennard_jones import KeptPairs


@njit(error_model="numpy", fastmath=True)
def _total(positions, cell, first, second, shift, p):  # type: ignore[no-untyped-def]
    """Energy, forces and virial; ``p`` holds the parameters in the order of :class:`FastEMT`."""
    cohesive, s0, v0, eta, kappa, decay, inverse_gamma1, pair_factor, steepness, middle, reach = p
    n = len(positions)
    vectors = np.empty((len(first), 3))
    radii = np.empty(len(first))
    density = np.zeros(n)  # σ1 of Jacobsen, Stoltze and Nørskov, Surf. Sci. 366, 394 (1996)
    for k in range(len(first)):
        square = 0.0
        for a in range(3):
            d = positions[second[k], a] - positions[first[k], a]
            for b in range(3):
                d += shift[k, b] * cell[b, a]
            vectors[k, a] = d
            square += d * d
        r = np.sqrt(square)
        radii[k] = r
        if r < reach:
            smooth = 1 / (1 + np.exp(steepness * (r - middle)))
            term = np.exp(-eta * (r - beta * s0)) * smooth
            density[first[k]] += term
            density[second[k]] += term
    energy = 0.0
    slopes = np.empty(n)  # of the embedding energy with σ1
    for i in range(n):
        s = -np.log(density[i] * inverse_gamma1) / (beta * eta)
        binding, repulsion = np.exp(-decay * s), 6 * v0 * np.exp(-kappa * s)
        energy += cohesive * ((1 + decay * s) * binding - 1) + repulsion
        slopes[i] = (cohesive * decay * decay * s * binding + kappa * repulsion) / (beta * eta * density[i])
    forces = np.zeros((n, 3))
    virial = np.zeros((3, 3))
    for k in range(len(first)):
        i, j, r = first[k], second[k], radii[k]
        if r >= reach:
            continue
        smooth = 1 / (1 + np.exp(steepness * (r - middle)))
        steep = steepness * (smooth - 1)
        pair = 2 * pair_factor * np.exp(-kappa * (r / beta - s0)) * smooth
        energy += pair
        slope = pair * (steep - kappa / beta)
        slope += (slopes[i] + slopes[j]) * np.exp(-eta * (r - beta * s0)) * smooth * (steep - eta)
        for a in range(3):
            f = slope * vectors[k, a] / r
            forces[i, a] += f
            forces[j, a] -= f
            for b in range(3):
                virial[a, b] += f * vectors[k, b]
    return energy, forces, virial


class FastEMT(Calculator):
    """Energy, forces and stress of one element."""

    implemented_properties: list[str] = ["energy", "forces", "stress"]  # noqa: RUF012

    def __init__(self, element: str = "Al") -> None:
        super().__init__()
        original = EMT()
        original.initialize(Atoms(element))
        names = ("E0", "s0", "V0", "eta2", "kappa", "lambda", "inv12gamma1", "neghalfv0overgamma2")
        self._p = (*(float(original.par[name][0]) for name in names), original.acut, original.rc, original.rc_list)
        self._pairs = KeptPairs(original.rc_list)

    def calculate(
        self, atoms: Atoms | None = None, properties: Sequence[str] = ("energy",), changes: Sequence[str] = all_changes
    ) -> None:
        super().calculate(atoms, list(properties), list(changes))
        assert atoms is not None
        energy, forces, virial = _total(atoms.positions, atoms.cell.array, *self._pairs.of(atoms), self._p)
        self.results = {"energy": energy, "forces": forces}
        if atoms.cell.rank == 3:
            self.results["stress"] = full_3x3_to_voigt_6_stress(virial / atoms.cell.volume)
