from __future__ import annotations

import numpy as np
import pytest
from ase.build import bulk
from ase.neighborlist import neighbor_list

from alpot.validation.crystals import build_crystal
from alpot.validation.prototypes import PROTOTYPES, Structure, unit_cell


@pytest.mark.parametrize("structure", ["fcc", "bcc", "hcp", "sc", "diamond"])
def test_cells_are_those_that_the_field_knows(structure: Structure) -> None:
    ours, theirs = build_crystal("Al", structure, 16.5), bulk("Al", structure, a=1.0)
    theirs.set_cell(theirs.cell.array * (ours.get_volume() / theirs.get_volume()) ** (1 / 3), scale_atoms=True)
    np.testing.assert_allclose(ours.cell.array, theirs.cell.array, atol=1e-9)
    np.testing.assert_allclose(ours.positions, theirs.positions, atol=1e-9)


@pytest.mark.parametrize("structure", PROTOTYPES)
def test_both_cells_are_the_same_crystal(structure: Structure) -> None:
    primitive, right_angled = unit_cell(structure, "primitive"), unit_cell(structure, "right_angled")
    assert right_angled.cell.orthorhombic
    shells = [
        np.sort(neighbor_list("d", cell, 2.5))[:: len(cell)]  # each distance once per atom of the cell
        for cell in (primitive, right_angled)
    ]
    np.testing.assert_allclose(*shells, atol=1e-9)


def test_a15_has_chains_and_centers() -> None:
    cell = unit_cell("A15", "primitive")
    chains = np.bincount(neighbor_list("i", cell, 0.501), minlength=8)
    twelve = np.bincount(neighbor_list("i", cell, np.sqrt(5) / 4 + 1e-6), minlength=8)
    assert sorted(chains) == [0, 0, *[2] * 6]
    assert (twelve[chains == 0] == 12).all()


def test_white_tin_with_a_long_axis_is_diamond() -> None:
    tin = build_crystal("Sn", "beta_Sn", 34.0, c_over_a=np.sqrt(2))
    diamond = build_crystal("Sn", "diamond", 34.0)
    np.testing.assert_allclose(
        np.sort(neighbor_list("d", tin, 8.0)), np.sort(neighbor_list("d", diamond, 8.0)), atol=1e-9
    )


def test_dhcp_stacks_fcc_and_hcp_layers() -> None:
    # Third neighbors at √(8/3) d, two of them, are there in hcp layers only.
    dhcp = unit_cell("dhcp", "primitive").copy()
    dhcp.set_cell(dhcp.cell.array * [1, 1, PROTOTYPES["dhcp"].c_over_a], scale_atoms=True)
    third = np.bincount(neighbor_list("i", dhcp, np.sqrt(8 / 3) + 1e-6), minlength=4) - np.bincount(
        neighbor_list("i", dhcp, np.sqrt(8 / 3) - 1e-6), minlength=4
    )
    assert sorted(third) == [0, 0, 2, 2]
