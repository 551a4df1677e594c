"""Calculators whose answers are known."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from ase.calculators.calculator import Calculator, all_changes
from ase.calculators.emt import EMT
from ase.calculators.lj import LennardJones
from vesin import NeighborList

from alpot.validation.lattice import Equilibrium, equilibrium

#: Argon. With its cutoff, 12 σ, the sums miss what the tests add by a continuum estimate.
SIGMA, EPSILON, CUTOFF = 3.4, 0.0104, 12.0


class CountingEMT(EMT):
    """EMT that remembers how many atoms each of its calls had."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[int] = []

    def calculate(self, atoms: Atoms | None = None, *args: Any, **kwargs: Any) -> None:
        assert atoms is not None
        self.calls.append(len(atoms))
        super().calculate(atoms, *args, **kwargs)


class ScaledEMT(EMT):
    """EMT with all energies scaled."""

    def __init__(self, scale: float) -> None:
        super().__init__()
        self.scale = scale

    def calculate(self, atoms: Atoms | None = None, *args: Any, **kwargs: Any) -> None:
        super().calculate(atoms, *args, **kwargs)
        self.results = {name: self.scale * value for name, value in self.results.items()}


class EnsembleEMT(EMT):
    """EMT whose members are EMT with all energies scaled: the spread of what is linear in the energy is known."""

    scales = np.array([0.97, 1.01, 1.02])

    def members(self) -> list[EMT]:
        return [ScaledEMT(scale) for scale in self.scales]


class Einstein(Calculator):
    """Independent harmonic oscillators at the sites of the first frame that it sees."""

    implemented_properties: list[str] = ["energy", "forces"]  # noqa: RUF012
    stiffness = 3.0  # eV/Å²

    def __init__(self) -> None:
        super().__init__()
        self.sites: np.ndarray | None = None

    def calculate(
        self, atoms: Atoms | None = None, properties: Sequence[str] = ("energy",), changes: Sequence[str] = all_changes
    ) -> None:
        super().calculate(atoms, list(properties), list(changes))
        assert atoms is not None
        if self.sites is None:
            self.sites = atoms.positions.copy()
        moved = atoms.positions - self.sites
        self.results = {"energy": 0.5 * self.stiffness * (moved**2).sum(), "forces": -self.stiffness * moved}


class Tungsten(Calculator):
    """A bcc metal, by Finnis and Sinclair, Phil. Mag. A 50, 45 (1984), table 1; a = 3.1652 Å and 8.90 eV are its data.

    E = ½ Σ V(r) − A Σ √ρ, with V = (r − c)² (c0 + c1 r + c2 r²) and ρ = Σ (r − d)²; Å and eV.
    """

    implemented_properties: list[str] = ["energy", "forces"]  # noqa: RUF012
    strength, range_of_density, range_of_pairs = 1.896373, 4.400224, 3.25
    coefficients = 47.1346499, -33.7665655, 6.2541999

    def calculate(
        self, atoms: Atoms | None = None, properties: Sequence[str] = ("energy",), changes: Sequence[str] = all_changes
    ) -> None:
        super().calculate(atoms, list(properties), list(changes))
        assert atoms is not None
        search = NeighborList(cutoff=self.range_of_density, full_list=True, n_threads=1)
        first, second, r, vectors = search.compute(atoms.positions, atoms.cell.array, atoms.pbc, quantities="ijdD")
        inside = np.minimum(r - self.range_of_pairs, 0.0)
        c0, c1, c2 = self.coefficients
        polynomial = c0 + c1 * r + c2 * r**2
        pairs, pair_slopes = inside**2 * polynomial, 2 * inside * polynomial + inside**2 * (c1 + 2 * c2 * r)
        densities = np.bincount(first, (r - self.range_of_density) ** 2, len(atoms))
        by_density = -0.5 * self.strength / np.sqrt(densities)
        slopes = 0.5 * pair_slopes + by_density[first] * 2 * (r - self.range_of_density)
        pulls = (slopes / r)[:, None] * vectors
        forces = np.zeros((len(atoms), 3))
        np.add.at(forces, first, pulls)
        np.add.at(forces, second, -pulls)
        energy = 0.5 * pairs.sum() - self.strength * np.sqrt(densities).sum()
        self.results = {"energy": float(energy), "forces": forces}


@pytest.fixture(scope="session")
def ani_al() -> Path:
    """Folder of the published potential; it has no licence, so it is not part of the project."""
    folder = Path(__file__).parents[3] / "shared" / "ani-al"
    if not folder.is_dir():
        pytest.skip("the published ANI-Al weights are not beside the project (../shared/ani-al)")
    return folder


@pytest.fixture
def counting_emt() -> CountingEMT:
    return CountingEMT()


@pytest.fixture
def ensemble_emt() -> EnsembleEMT:
    return EnsembleEMT()


@pytest.fixture
def einstein() -> Einstein:
    return Einstein()


@pytest.fixture(scope="session")
def argon() -> LennardJones:
    return LennardJones(sigma=SIGMA, epsilon=EPSILON, rc=CUTOFF * SIGMA)


@pytest.fixture(scope="session")
def fcc_argon(argon: LennardJones) -> Equilibrium:
    return equilibrium(argon, "Ar", "fcc")


@pytest.fixture(scope="session")
def fcc_aluminum() -> Equilibrium:
    return equilibrium(EMT(), "Al", "fcc")


@pytest.fixture(scope="session")
def tungsten() -> Tungsten:
    return Tungsten()


@pytest.fixture(scope="session")
def bcc_tungsten(tungsten: Tungsten) -> Equilibrium:
    crystal = equilibrium(tungsten, "W", "bcc")
    assert (crystal.lattice_constant, crystal.energy) == pytest.approx((3.1652, -8.90), rel=1e-4)
    return crystal
