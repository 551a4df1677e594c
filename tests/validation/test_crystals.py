from __future__ import annotations

import numpy as np
import pytest
from ase.data import atomic_numbers, reference_states
from ase.neighborlist import neighbor_list

from alpot.validation.crystals import (
    Structure,
    build_crystal,
    build_supercell,
    lattice_constant,
    preferred_structure,
    start_volume,
)

_COORDINATION: list[tuple[Structure, int]] = [
    ("fcc", 12),
    ("hcp", 12),
    ("bcc", 8),
    ("sc", 6),
    ("diamond", 4),
    ("dhcp", 12),
    ("beta_Sn", 4),
    ("sh", 8),
]


@pytest.mark.parametrize(("structure", "coordination"), _COORDINATION)
def test_crystals_have_the_volume_and_the_coordination_of_their_prototype(
    structure: Structure, coordination: int
) -> None:
    for atoms in (build_crystal("Al", structure, 16.5), build_supercell("Al", structure, 16.5, 20)):
        assert atoms.get_volume() / len(atoms) == pytest.approx(16.5, rel=1e-12)
        nearest = neighbor_list("d", atoms, 6.0).min()
        counts = np.bincount(neighbor_list("i", atoms, nearest * 1.01), minlength=len(atoms))
        assert (counts == coordination).all()


@pytest.mark.parametrize(
    ("structure", "count"),
    [("fcc", 108), ("bcc", 128), ("sc", 125), ("diamond", 216), ("hcp", 144), ("A15", 216), ("sh", 150)],
)
def test_supercells_are_compact(structure: Structure, count: int) -> None:
    atoms = build_supercell("Al", structure, 16.5, 100)
    lengths = atoms.cell.lengths()
    assert len(atoms) == count
    # For the cubic ones all edges are equal; those of hexagonal ones are within a third of each other.
    assert lengths.max() / lengths.min() < (1.34 if structure in ("hcp", "sh") else 1 + 1e-9)


@pytest.mark.parametrize("element", ["Al", "Fe", "Mg", "Si", "Po"])
def test_the_search_starts_at_the_experimental_lattice_constant(element: str) -> None:
    structure = preferred_structure(element)
    state = reference_states[atomic_numbers[element]]
    assert structure == state["symmetry"]
    a = lattice_constant(structure, start_volume(element), state.get("c/a"))
    assert a == pytest.approx(state["a"], rel=1e-12)


def test_elements_with_another_crystal_are_examined_as_fcc() -> None:
    assert preferred_structure("Ga") == "fcc"
    # Gallium takes 19.6 Å³ per atom; a start within a factor of 1.5 is near enough for the search.
    assert start_volume("Ga") == pytest.approx(19.6, rel=0.5)
