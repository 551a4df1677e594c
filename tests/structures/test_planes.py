import numpy as np
import pytest
from ase import Atoms
from ase.calculators.emt import EMT
from ase.neighborlist import neighbor_list

from alpot.config import CrystalStarts, Material
from alpot.structures.contacts import closest_approach
from alpot.structures.crystals import build_crystal, slipped_crystal
from alpot.structures.density import density_of
from alpot.structures.planes import SLIP_PLANES, plane_cell, slip, stack
from alpot.structures.prototypes import primitive_cell

NAMES = ("fcc", "bcc", "hcp", "sc", "diamond", "a15")
MILLERS = ((0, 0, 1), (1, 1, 0), (1, 1, 1), (2, 1, 0), (2, 1, 1), (1, -1, 0), (3, 2, 1), (3, -3, 2))
#: Of fcc with lattice constant 1 Å.
NEAREST = 0.5**0.5


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("miller", MILLERS)
def test_every_stack_is_the_crystal(name: str, miller: tuple[int, int, int]) -> None:
    cell, primitive = plane_cell(name, miller), primitive_cell(name)
    assert cell.get_volume() == pytest.approx(primitive.get_volume())
    assert np.linalg.det(cell.cell.array) > 0
    assert cell.cell.array[:2, 2] == pytest.approx([0.0, 0.0], abs=1e-9)
    shells = [np.sort(neighbor_list("d", some, 1.45)) for some in (cell, primitive)]
    assert shells[0] == pytest.approx(shells[1], abs=1e-9)


@pytest.mark.parametrize(
    ("name", "miller", "spacing", "area"),
    [
        ("fcc", (1, 1, 1), 1 / 3**0.5, 3**0.5 / 4),
        ("fcc", (0, 0, 1), 1 / 2, 1 / 2),
        ("fcc", (1, 1, 0), 1 / 8**0.5, 1 / 2**0.5),
        ("bcc", (1, 1, 0), 1 / 2**0.5, 1 / 2**0.5),
        ("bcc", (0, 0, 1), 1 / 2, 1.0),
        ("bcc", (2, 1, 1), 1 / 6**0.5, 1.5**0.5),
        ("sc", (2, 1, 0), 1 / 5**0.5, 5**0.5),
        ("hcp", (0, 0, 1), (8 / 3) ** 0.5, 3**0.5 / 2),
        ("hcp", (1, 0, 0), 3**0.5 / 2, (8 / 3) ** 0.5),
        ("diamond", (1, 1, 1), 1 / 3**0.5, 3**0.5 / 4),
    ],
)
def test_spacings_and_areas(name: str, miller: tuple[int, int, int], spacing: float, area: float) -> None:
    """Those of textbooks, in units of the lattice constant; of hcp and diamond per pair of planes."""
    cell = plane_cell(name, miller).cell.array
    assert cell[2, 2] == pytest.approx(spacing)
    assert np.linalg.norm(np.cross(cell[0], cell[1])) == pytest.approx(area)


def sheared(fraction: float, planes: int = 6) -> Atoms:
    """fcc aluminum for EMT; a (111) plane slipped by a fraction of the partial dislocation's Burgers vector."""
    cell = plane_cell("fcc", (1, 1, 1))
    atoms = cell.repeat((1, 1, planes))
    # The third vector of the cell leads to a hollow: away from it by its own part in the plane is a partial more.
    third = atoms.cell.array.copy()
    third[2, :2] += fraction * cell.cell.array[2, :2]
    atoms.set_cell(third)
    atoms.set_cell(atoms.cell.array * 4.0, scale_atoms=True)
    atoms.numbers[:] = 13
    return atoms


def test_a_slip_by_a_partial_is_the_stacking_fault() -> None:
    """Then each atom still has 12 neighbors. EMT's fault costs 30 mJ/m², the barrier before it 100 mJ/m²."""
    energies = []
    for fraction in (0.0, 0.5, 1.0):
        atoms = sheared(fraction)
        atoms.calc = EMT()
        energies.append(atoms.get_potential_energy())
    assert set(np.bincount(neighbor_list("i", sheared(1.0), 1.01 * 4.0 * NEAREST))) == {12}
    # eV per cell of 6.9 Å²
    assert energies[0] + 0.005 < energies[2] < energies[1] - 0.02


def test_a_slip_changes_one_plane_only() -> None:
    rng = np.random.default_rng(3)
    for _ in range(20):
        atoms = slipped_crystal("fcc", 60, (30, 120), rng)
        assert 30 <= len(atoms) <= 120
        assert atoms.get_volume() / len(atoms) == pytest.approx(1 / 4)
        # On top of each other, atoms of two planes are one spacing apart.
        assert neighbor_list("d", atoms, 1.0).min() > 1 / 3**0.5 - 1e-9
        heights = np.unique(atoms.positions[:, 2].round(6))
        coordination = np.bincount(neighbor_list("i", atoms, 1.001 * NEAREST), minlength=len(atoms))
        inside = np.isin(atoms.positions[:, 2].round(6), heights[1:-1])
        assert (coordination[inside] == 12).all()
        # Least tilted: the third vector ends above the cell around the origin.
        tilt = np.linalg.solve(atoms.cell.array[:2, :2].T, atoms.cell.array[2, :2])
        assert (np.abs(tilt) <= 0.5 + 1e-9).all()


def test_slips_cover_the_plane() -> None:
    """Uniform in the unit cell of the plane: each quarter of it gets its share of 400 (± five standard deviations)."""
    rng = np.random.default_rng(0)
    perfect = stack("fcc", SLIP_PLANES["fcc"], 40, (30, 60), rng)
    edges = plane_cell("fcc", SLIP_PLANES["fcc"]).cell.array[:2, :2]
    shifts = []
    for _ in range(400):
        atoms = perfect.copy()
        slip(atoms, "fcc", rng)
        shifts.append(np.linalg.solve(edges.T, (atoms.cell.array - perfect.cell.array)[2, :2]) % 1.0)
    counts, _, _ = np.histogram2d(*np.transpose(shifts), bins=2, range=[[0, 1], [0, 1]])
    assert counts == pytest.approx(np.full((2, 2), 100), abs=43)


@pytest.mark.parametrize("name", SLIP_PLANES)
def test_slipped_crystals_are_dense_and_apart(name: str) -> None:
    starts = CrystalStarts(prototypes=(name,), density=(2.7, 2.7), slip_chance=1.0)
    for seed in range(5):
        atoms, text = build_crystal(Material(elements=("Al",)), starts, np.random.default_rng(seed))
        assert text == f"{name} slipped" and atoms.pbc.all()
        assert closest_approach(atoms) > 0.5
    still = starts.model_copy(update={"strain": 0.0, "vacancy_chance": 0.0, "interstitial_chance": 0.0})
    atoms, _ = build_crystal(Material(elements=("Al",)), still, np.random.default_rng(0))
    assert density_of(atoms.numbers, atoms.get_volume()) == pytest.approx(2.7)
