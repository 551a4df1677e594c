import numpy as np
import pytest
from ase.neighborlist import neighbor_list
from hypothesis import given, settings
from hypothesis import strategies as st

from alpot.config import CrystalStarts, Material
from alpot.structures.contacts import closest_approach
from alpot.structures.crystals import build_crystal, crystal_cell
from alpot.structures.density import density_of
from alpot.structures.prototypes import prototype, supercell

ALUMINUM = Material(elements=("Al",))
PERFECT = {"strain": 0.0, "rattle": (0.0, 0.0), "vacancy_chance": 0.0, "interstitial_chance": 0.0}
NAMES = ("fcc", "bcc", "hcp", "sc", "diamond", "a15")


@pytest.mark.parametrize(
    # Nearest distance in units of the side of the volume per atom, and the numbers of nearest neighbors found.
    ("name", "distance", "coordination"),
    [
        ("fcc", 4 ** (1 / 3) / 2**0.5, {12}),
        ("bcc", 2 ** (1 / 3) * 3**0.5 / 2, {8}),
        ("hcp", 2 ** (1 / 6), {12}),
        ("sc", 1.0, {6}),
        ("diamond", 2 * 3**0.5 / 4, {4}),
        ("a15", 1.0, {2, 0}),  # only the chains along the axes touch
    ],
)
def test_prototypes(name: str, distance: float, coordination: set[int]) -> None:
    cell = prototype(name)
    side = (cell.get_volume() / len(cell)) ** (1 / 3)
    first, found = neighbor_list("id", cell, 1.001 * distance * side)
    assert found.min() == pytest.approx(distance * side, rel=1e-6)
    assert set(np.bincount(first, minlength=len(cell))) == coordination


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("target", [30, 64, 120])
def test_supercells_are_near_cubes_of_the_wanted_size(name: str, target: int) -> None:
    cell = supercell(prototype(name), target, (30, 120))
    assert 30 <= len(cell) <= 120
    assert abs(len(cell) - target) <= 0.35 * target
    lengths = cell.cell.lengths()
    assert lengths.max() / lengths.min() <= 2.0


def test_a_number_that_no_supercell_has_gives_the_nearest() -> None:
    assert len(supercell(prototype("diamond"), 4, (4, 5))) == 8


@pytest.mark.parametrize(
    ("name", "target", "bounds", "n_atoms"),
    [
        ("fcc", 1, (1, 4), 1),
        ("fcc", 2, (1, 4), 1),
        ("fcc", 3, (1, 4), 4),
        ("fcc", 2, (2, 6), 4),  # a primitive cell is too small
        ("bcc", 1, (1, 1), 1),
        ("hcp", 2, (2, 6), 2),
        ("hcp", 4, (2, 6), 4),
        ("diamond", 1, (1, 4), 2),  # no cell of the conventional one is within the bounds
        ("a15", 1, (1, 4), 8),
        ("fcc", 32, (30, 120), 32),
    ],
)
def test_small_cells_are_primitive(name: str, target: int, bounds: tuple[int, int], n_atoms: int) -> None:
    """DFT of one atom costs next to nothing, and an equation of state needs no more."""
    cell = crystal_cell(name, target, bounds)
    assert len(cell) == n_atoms
    assert cell.get_volume() / n_atoms == pytest.approx(prototype(name).get_volume() / len(prototype(name)))
    near, other = (np.bincount(neighbor_list("i", some, 1.1)) for some in (cell, prototype(name)))
    assert set(near) == set(other)


@pytest.mark.parametrize("name", NAMES)
def test_perfect_crystals_have_the_density(name: str) -> None:
    starts = CrystalStarts(prototypes=(name,), density=(3.0, 3.0), **PERFECT)
    atoms, found = build_crystal(ALUMINUM, starts, np.random.default_rng(0))
    assert found == name
    assert density_of(atoms.numbers, atoms.get_volume()) == pytest.approx(3.0)
    np.testing.assert_allclose(atoms.cell.angles(), 90.0)


def test_strain_changes_the_shape_and_keeps_the_density() -> None:
    starts = CrystalStarts(density=(2.7, 2.7), **(PERFECT | {"strain": 0.05}))
    atoms, _ = build_crystal(ALUMINUM, starts, np.random.default_rng(0))
    assert density_of(atoms.numbers, atoms.get_volume()) == pytest.approx(2.7)
    angles = atoms.cell.angles()
    assert 0.1 < np.abs(angles - 90.0).max() < np.degrees(2 * 0.05) + 1.0


def test_point_defects() -> None:
    starts = CrystalStarts(prototypes=("fcc",), atoms=(108, 108), **(PERFECT | {"vacancy_chance": 1.0}))
    counts = {len(build_crystal(ALUMINUM, starts, np.random.default_rng(seed))[0]) for seed in range(30)}
    assert counts == {105, 106, 107}
    starts = CrystalStarts(prototypes=("fcc",), atoms=(108, 108), **(PERFECT | {"interstitial_chance": 1.0}))
    atoms, _ = build_crystal(ALUMINUM, starts, np.random.default_rng(0))
    assert len(atoms) == 109


def test_rattle_has_the_drawn_size() -> None:
    starts = CrystalStarts(prototypes=("fcc",), atoms=(108, 108), **(PERFECT | {"rattle": (0.1, 0.1)}))
    perfect = CrystalStarts(prototypes=("fcc",), atoms=(108, 108), **PERFECT)
    moved, _ = build_crystal(ALUMINUM, starts, np.random.default_rng(0))
    still, _ = build_crystal(ALUMINUM, perfect, np.random.default_rng(0))
    # 324 numbers: the standard error of their spread is 4 %.
    assert np.std(moved.positions - still.positions) == pytest.approx(0.1, rel=0.2)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), elements=st.sampled_from([("Al",), ("Ni", "Al"), ("W",), ("Si", "C")]))
def test_no_crystal_begins_in_contact(seed: int, elements: tuple[str, ...]) -> None:
    starts = CrystalStarts(vacancy_chance=0.5, interstitial_chance=0.5)
    atoms, name = build_crystal(Material(elements=elements), starts, np.random.default_rng(seed))
    assert set(atoms.symbols) <= set(elements)
    # The densest W is at 0.65 in the perfect crystal already: walkers begin above the contact of 0.6, diamond apart.
    assert closest_approach(atoms) > (0.5 if name == "diamond" else 0.6)
