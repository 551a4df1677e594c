import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.data import covalent_radii
from ase.neighborlist import neighbor_list
from hypothesis import given, settings
from hypothesis import strategies as st

from alpot.structures.contacts import closest_approach, contact_distance


def by_images(atoms: Atoms) -> float:
    """The same by listing all images in a wide range: slow, and with nothing in common with a neighbor list."""
    ranges = [np.arange(-4, 5) if periodic else np.array([0]) for periodic in atoms.pbc]
    shifts = np.stack(np.meshgrid(*ranges, indexing="ij"), axis=-1).reshape(-1, 3) @ atoms.cell.array
    radii = covalent_radii[atoms.numbers]
    vectors = atoms.positions[None, :, None] - atoms.positions[:, None, None] + shifts[None, None]
    distances = np.linalg.norm(vectors, axis=-1)  # (n, n, shifts)
    distances[distances < 1e-12] = np.inf  # each atom with itself
    return float((distances / (radii[:, None] + radii[None, :])[:, :, None]).min())


@settings(max_examples=40, deadline=None)
@given(
    n_atoms=st.integers(1, 6),
    pbc=st.tuples(st.booleans(), st.booleans(), st.booleans()),
    side=st.floats(1.5, 8.0),
    seed=st.integers(0, 2**32 - 1),
)
def test_any_cell_and_boundary(n_atoms: int, pbc: tuple[bool, ...], side: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    # Skewed, but not so flat that an image more than four cells away could be nearest.
    cell = side * (np.eye(3) + rng.uniform(-0.3, 0.3, (3, 3)))
    atoms = Atoms(
        rng.choice([1, 13, 55], n_atoms), scaled_positions=rng.uniform(-1, 2, (n_atoms, 3)), cell=cell, pbc=pbc
    )
    atoms.wrap()
    assert closest_approach(atoms) == pytest.approx(by_images(atoms), rel=1e-9)


def test_known_crystal() -> None:
    atoms = bulk("Al", a=4.05)  # one atom: all neighbors are its own images
    assert closest_approach(atoms) == pytest.approx(4.05 / np.sqrt(2) / (2 * covalent_radii[13]))
    assert min(neighbor_list("d", atoms, 4.0)) == pytest.approx(4.05 / np.sqrt(2))


def test_elements_count() -> None:
    atoms = Atoms("HCs2", positions=[(0, 0, 0), (0, 0, 2.0), (0, 0, 5.0)])
    # The Cs atoms are 3 Å apart, H and Cs 2 Å, but for Cs 3 Å is nearer to contact.
    assert closest_approach(atoms) == pytest.approx(3.0 / (2 * covalent_radii[55]))


def test_far_apart_without_cell() -> None:
    assert closest_approach(Atoms("H2", positions=[(0, 0, 0), (0, 0, 100.0)])) == pytest.approx(100 / 0.62)


@pytest.mark.parametrize(("atoms", "expected"), [(Atoms(), np.inf), (Atoms("Al"), np.inf)])
def test_nothing_near(atoms: Atoms, expected: float) -> None:
    assert closest_approach(atoms) == expected


def test_positions_that_are_not_finite_never_pass() -> None:
    atoms = bulk("Al", cubic=True)
    atoms.positions[1, 0] = np.nan
    assert not closest_approach(atoms) >= 0.0


def test_contact_distance_broadcasts() -> None:
    distances = contact_distance(np.array([13, 29]), 13, 0.6)
    np.testing.assert_allclose(distances, 0.6 * (covalent_radii[[13, 29]] + covalent_radii[13]))
