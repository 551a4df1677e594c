from __future__ import annotations

from collections.abc import Callable
from itertools import product

import numpy as np
import pytest
from ase import Atoms
from ase.build import bcc100, bcc110, bcc111, bulk, fcc100, fcc110, fcc111, hcp0001
from ase.calculators.emt import EMT
from ase.calculators.lj import LennardJones
from ase.optimize import LBFGS
from ase.units import J, m

from alpot.errors import PotentialError
from alpot.validation.crystals import Structure
from alpot.validation.lattice import Equilibrium, equilibrium
from alpot.validation.properties import Measured
from alpot.validation.surfaces import surface_energies


def _values(found: Measured) -> dict[str, float]:
    assert {value.unit for value in found.values} == {"J/m²"}
    return {value.name: value.value for value in found.values}


@pytest.mark.parametrize(
    ("structure", "name", "build"),
    [
        ("fcc", "(100)", fcc100),
        ("fcc", "(110)", fcc110),
        ("fcc", "(111)", fcc111),
        ("bcc", "(100)", bcc100),
        ("bcc", "(110)", bcc110),
        ("bcc", "(111)", bcc111),
        ("hcp", "(0001)", hcp0001),
    ],
)
def test_the_slabs_of_ase_have_the_same_energy(structure: Structure, name: str, build: Callable[..., Atoms]) -> None:
    crystal = equilibrium(EMT(), "Cu", structure)
    lengths = {"a": crystal.lattice_constant}
    if structure == "hcp":
        lengths["c"] = crystal.lattice_constant * crystal.c_over_a
    slab = build("Cu", size=(1, 1, 16), vacuum=6.0, **lengths)
    slab.calc = EMT()
    LBFGS(slab, logfile=None).run(fmax=1e-3, steps=500)
    area = np.linalg.norm(np.cross(slab.cell[0], slab.cell[1]))
    expected = (slab.get_potential_energy() - len(slab) * crystal.energy) / (2 * area) / (J / m**2)
    # The energy of the crystal comes from a fit there, from the slab's own cell here: 0.02 meV per atom of 16.
    found = _values(surface_energies(EMT(), crystal))[f"surface energy {name}"]
    assert found == pytest.approx(expected, rel=5e-3)


def test_bonds_that_are_cut_cost_their_energy() -> None:
    # A plane with normal n cuts |R·n|/(2 V) bonds R per area, V per atom, and makes two surfaces: for a pair potential
    # φ, unrelaxed, γ = −Σ φ(R) |R·n| / (4 V) over all lattice vectors.
    sigma, epsilon, cutoff = 3.4, 0.5, 3 * 3.4  # bonds of a metal, or its forces would count as relaxed from the start
    pair = LennardJones(sigma=sigma, epsilon=epsilon, rc=cutoff)
    crystal = equilibrium(pair, "Ar", "fcc")
    vectors = np.array(list(product(range(-6, 7), repeat=3))) @ bulk("Ar", "fcc", a=crystal.lattice_constant).cell
    distances = np.linalg.norm(vectors, axis=1)
    vectors = vectors[(distances > 0) & (distances < cutoff)]

    def energy(r: np.ndarray) -> np.ndarray:
        return 4 * epsilon * ((sigma / r) ** 12 - (sigma / r) ** 6)

    bonds = energy(np.linalg.norm(vectors, axis=1)) - energy(np.array(cutoff))  # ASE shifts the energy to 0 there
    found = _values(surface_energies(pair, crystal))
    for miller in [(1, 0, 0), (1, 1, 0), (1, 1, 1)]:
        normal = np.array(miller) / np.linalg.norm(miller)
        unrelaxed = -(bonds * np.abs(vectors @ normal)).sum() / (4 * crystal.volume) / (J / m**2)
        # Only the outermost planes move, outwards and little, as pairs are near the minimum of their energy.
        assert 0.98 < found[f"surface energy ({''.join(map(str, miller))})"] / unrelaxed < 1


def test_the_default_slab_is_thick_and_alone_enough(fcc_aluminum: Equilibrium) -> None:
    default = _values(surface_energies(EMT(), fcc_aluminum))
    larger = _values(surface_energies(EMT(), fcc_aluminum, thickness=48.0, vacuum=24.0))
    # A tenth of the tolerance of a few percent that one asks of a potential.
    assert default == pytest.approx(larger, rel=3e-3)


def test_the_crystal_is_as_it_was(fcc_aluminum: Equilibrium) -> None:
    first = _values(surface_energies(EMT(), fcc_aluminum))
    assert _values(surface_energies(EMT(), fcc_aluminum)) == pytest.approx(first, rel=1e-9)


def test_surfaces_that_reconstruct_are_refused() -> None:
    silicon = Equilibrium(
        element="Si", structure="diamond", volume=20.0, c_over_a=1.633, lattice_constant=5.43, bulk_modulus=98, energy=0
    )
    with pytest.raises(PotentialError, match="Si is examined as diamond"):
        surface_energies(EMT(), silicon)
