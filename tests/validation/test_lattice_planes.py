from __future__ import annotations

import numpy as np
import pytest
from ase.calculators.emt import EMT

from alpot.validation.crystals import Structure
from alpot.validation.lattice import Equilibrium, equilibrium
from alpot.validation.lattice_planes import Miller, basal_planes, cubic_planes, reversed_in_plane
from alpot.validation.properties import attached, energy_of

MILLERS: list[Miller] = [(1, 0, 0), (1, 1, 0), (1, 1, 1), (2, 1, 0), (3, 1, 0), (1, 1, 2), (3, 2, 1)]


@pytest.fixture(scope="module", params=["fcc", "bcc", "sc"])
def cubic(request: pytest.FixtureRequest) -> Equilibrium:
    structure: Structure = request.param
    return equilibrium(EMT(), "Cu", structure)


def _spacing(structure: Structure, miller: Miller) -> float:
    """Of planes that hold atoms, in units of the lattice constant: by the reflections that the structure allows."""
    index_sum, odd = sum(miller), [h % 2 for h in miller]
    allowed = {"fcc": len(set(odd)) == 1, "bcc": index_sum % 2 == 0, "sc": True}[structure]
    return 1 / np.linalg.norm(miller) / (1 if allowed else 2)


@pytest.mark.parametrize("miller", MILLERS)
def test_a_stack_along_any_normal_is_the_crystal(cubic: Equilibrium, miller: Miller) -> None:
    planes = cubic_planes(cubic, miller)
    assert planes.spacing == pytest.approx(cubic.lattice_constant * _spacing(cubic.structure, miller))
    assert planes.area * planes.spacing == pytest.approx(cubic.volume)
    atoms = attached(EMT(), planes.stack(planes.sequence(10.0)))
    # The energy of the crystal comes from a fit.
    assert energy_of(atoms) / len(atoms) == pytest.approx(cubic.energy, abs=1e-4)
    # The mirror image in the plane is the same crystal.
    image = attached(EMT(), planes.stack(reversed_in_plane(planes.sequence(10.0))))
    assert energy_of(image) == pytest.approx(energy_of(atoms), abs=1e-9)


def test_basal_planes_are_hcp() -> None:
    crystal = equilibrium(EMT(), "Cu", "hcp")
    planes = basal_planes(crystal)
    atoms = attached(EMT(), planes.stack(planes.sequence(8.0)))
    assert len(atoms) % 2 == 0
    assert atoms.get_volume() / len(atoms) == pytest.approx(crystal.volume)
    assert energy_of(atoms) / len(atoms) == pytest.approx(crystal.energy, abs=1e-4)


def test_the_cell_is_the_least_tilted(fcc_aluminum: Equilibrium) -> None:
    planes = cubic_planes(fcc_aluminum, (1, 1, 1))
    for count in (22, 23, 24):
        atoms = planes.stack(np.tile(planes.steps, (count, 1)))
        in_plane = atoms.cell[2] @ np.linalg.pinv(planes.edges)
        assert np.abs(in_plane).max() <= 0.5 + 1e-9
