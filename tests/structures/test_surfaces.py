from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, fcc100, fcc110, fcc111
from ase.calculators.emt import EMT
from ase.neighborlist import neighbor_list
from ase.units import J, m
from hypothesis import given, settings
from hypothesis import strategies as st

from alpot.config import Material, SurfaceStarts
from alpot.structures import draw_start
from alpot.structures.contacts import closest_approach
from alpot.structures.surfaces import build_surface

ALUMINUM = Material(elements=("Al",))
PERFECT = {"strain": 0.0, "rattle": (0.0, 0.0), "vacancy_chance": 0.0, "adatom_chance": 0.0}
#: g/cm³ of fcc aluminum with EMT's lattice constant of 3.995 Å.
DENSITY = 2.8105
LATTICE_CONSTANT = 3.995


def slab(miller: tuple[int, int, int], seed: int = 0, **changes: Any) -> Atoms:
    asked: dict[str, Any] = {
        "prototypes": ("fcc",),
        "miller_indices": (miller,),
        "density": (DENSITY, DENSITY),
        "atoms": (60, 120),
    }
    starts = SurfaceStarts(**(asked | PERFECT | changes))
    return build_surface(ALUMINUM, starts, np.random.default_rng(seed))[0]


@pytest.mark.parametrize(
    # Distance of planes in units of the lattice constant, and bonds of an atom at the surface.
    ("miller", "spacing", "coordination"),
    [((1, 1, 1), 1 / 3**0.5, 9), ((0, 0, 1), 1 / 2, 8), ((1, 1, 0), 1 / 8**0.5, 7)],
)
def test_slabs_of_fcc(miller: tuple[int, int, int], spacing: float, coordination: int) -> None:
    atoms = slab(miller)
    assert atoms.pbc.tolist() == [True, True, False]
    assert 60 <= len(atoms) <= 120
    heights, counts = np.unique(atoms.positions[:, 2].round(5), return_counts=True)
    assert np.diff(heights) == pytest.approx(LATTICE_CONSTANT * spacing, rel=1e-4)
    assert len(set(counts)) == 1
    edges = atoms.cell.array
    assert edges[:2, 2] == pytest.approx([0, 0]) and edges[2] == pytest.approx([0, 0, np.ptp(heights) + 12.0])
    bonds = np.bincount(neighbor_list("i", atoms, 1.01 * LATTICE_CONSTANT / 2**0.5))
    assert (bonds[atoms.positions[:, 2] < heights[0] + 0.1] == coordination).all()
    # About as thick as wide: the near-cube that repeats of these cells allow.
    width = np.sqrt(np.linalg.norm(np.cross(edges[0], edges[1])))
    assert 0.4 < (np.ptp(heights) + LATTICE_CONSTANT * spacing) / width < 2.0


@pytest.mark.parametrize(
    ("miller", "build"), [((1, 1, 1), fcc111), ((0, 0, 1), fcc100), ((1, 1, 0), fcc110)], ids=["111", "001", "110"]
)
def test_surface_energies_are_those_of_slabs_of_ase(miller: tuple[int, int, int], build) -> None:
    """γ, unrelaxed, in J/m²: 0.71, 0.74, 0.79 for EMT. Four layers and twelve differ by less than 1 %."""
    bulk_energy = energy(bulk("Al", "fcc", a=LATTICE_CONSTANT))
    surface_energies = []
    for atoms in (slab(miller), build("Al", (1, 1, 12), a=LATTICE_CONSTANT, vacuum=6.0)):
        area = np.linalg.norm(np.cross(atoms.cell.array[0], atoms.cell.array[1]))
        surface_energies.append((energy(atoms) - len(atoms) * bulk_energy) / (2 * area) / (J / m**2))
    assert surface_energies[0] == pytest.approx(surface_energies[1], rel=0.01)
    assert 0.6 < surface_energies[0] < 0.9


def energy(atoms: Atoms) -> float:
    atoms.calc = EMT()
    return float(atoms.get_potential_energy())


def test_an_adatom_touches_the_surface() -> None:
    for seed in range(10):
        atoms = slab((1, 1, 1), seed, adatom_chance=1.0)
        top, *below = np.argsort(-atoms.positions[:, 2])
        nearest = atoms.get_distances(top, below, mic=True).min()
        assert nearest == pytest.approx(LATTICE_CONSTANT / 2**0.5, rel=1e-4)
        # Above a hollow it is lowest, on top of an atom highest.
        rise = atoms.positions[top, 2] - atoms.positions[below, 2].max()
        assert 0.99 / 3**0.5 <= rise / LATTICE_CONSTANT <= 1.01 / 2**0.5


def test_vacancies_and_strain() -> None:
    full = len(slab((0, 0, 1)))
    counts = {len(slab((0, 0, 1), seed, atoms=(full, full), vacancy_chance=1.0)) for seed in range(20)}
    assert counts == {full - 1, full - 2, full - 3}
    strained = slab((0, 0, 1), strain=0.05)
    assert strained.cell.array[:2, 2] == pytest.approx([0, 0])
    assert 0.1 < abs(strained.cell.angles()[2] - 90.0) < np.degrees(2 * 0.05) + 1.0


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000), elements=st.sampled_from([("Al",), ("Ni", "Al"), ("W",), ("Si", "C")]))
def test_no_slab_begins_in_contact(seed: int, elements: tuple[str, ...]) -> None:
    starts = SurfaceStarts(
        prototypes=("fcc", "bcc", "hcp", "sc", "diamond", "a15"), adatom_chance=0.5, vacancy_chance=0.5
    )
    atoms, name = build_surface(Material(elements=elements), starts, np.random.default_rng(seed))
    assert 37 <= len(atoms) <= 151
    assert closest_approach(atoms) > (0.5 if name.startswith("diamond") else 0.6)
    assert set(atoms.symbols) <= set(elements)


def test_slabs_are_starts() -> None:
    material = Material(elements=("Al",), starts=(SurfaceStarts(),))
    atoms = draw_start(material, np.random.default_rng(0), base_directory=Path())
    kind, prototype, miller = atoms.info["start"].split()
    assert kind == "surface" and prototype in ("fcc", "bcc", "hcp")
    assert miller in ("(001)", "(100)", "(101)", "(111)", "(210)")
