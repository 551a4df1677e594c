import numpy as np
import pytest
from ase.data import atomic_numbers
from hypothesis import given, settings
from hypothesis import strategies as st

from alpot.config import Material
from alpot.errors import StructureError
from alpot.structures.density import density_of, draw_density, draw_numbers, normal_density, volume_of


@pytest.mark.parametrize(
    # Handbook values in g/cm³ at normal conditions (CRC Handbook of Chemistry and Physics); one per kind of lattice.
    ("symbol", "density"),
    [
        ("Al", 2.7),
        ("Fe", 7.87),
        ("Mg", 1.74),
        ("Si", 2.33),
        ("Po", 9.2),
        ("In", 7.31),
        ("Sn", 7.29),
        ("Bi", 9.79),
        ("Ga", 5.91),
        ("Mn", 7.3),
        ("B", 2.34),
        ("Se", 4.81),
        ("U", 19.1),
        ("Hg", 14.2),
        ("Sm", 7.52),
        ("Np", 20.2),
    ],
)
def test_density_of_elements(symbol: str, density: float) -> None:
    # 4 %: ASE's lattice constants belong to different temperatures.
    assert normal_density(np.array([atomic_numbers[symbol]])) == pytest.approx(density, rel=0.04)


def test_alloys_lie_between() -> None:
    both = normal_density(np.array([13, 29]))
    assert normal_density(np.array([13])) < both < normal_density(np.array([29]))


def test_volume_and_density_are_inverse() -> None:
    numbers = np.array([13] * 4)
    assert volume_of(numbers, 2.6984) == pytest.approx(4.05**3, rel=1e-3)  # fcc aluminum
    assert density_of(numbers, volume_of(numbers, 3.1)) == pytest.approx(3.1)


def test_default_range_for_aluminum_is_the_papers() -> None:
    rng = np.random.default_rng(0)
    densities = [draw_density(np.array([13]), None, rng) for _ in range(500)]
    assert min(densities) == pytest.approx(1.80, abs=0.03)
    assert max(densities) == pytest.approx(4.05, abs=0.03)


@pytest.mark.parametrize("symbol", ["H", "O", "He", "Pu"])
def test_elements_without_crystal_need_a_density(symbol: str) -> None:
    numbers = np.array([atomic_numbers[symbol]])
    with pytest.raises(StructureError, match=f"density of {symbol} .*set density"):
        draw_density(numbers, None, np.random.default_rng(0))
    assert draw_density(numbers, (1.0, 1.0), np.random.default_rng(0)) == 1.0


@settings(max_examples=50, deadline=None)
@given(
    center=st.lists(st.floats(0.05, 1.0), min_size=1, max_size=5),
    width=st.floats(0.0, 0.5),
    n_atoms=st.integers(1, 300),
    seed=st.integers(0, 1000),
)
def test_compositions_keep_their_ranges(center: list[float], width: float, n_atoms: int, seed: int) -> None:
    elements = ("Al", "Cu", "Ni", "Pd", "Ag")[: len(center)]
    fractions = np.array(center) / sum(center)
    # The sums may miss 1 by rounding; the ranges are wider by as much.
    bounds = {
        symbol: (max(0.0, x - width - 1e-9), min(1.0, x + width + 1e-9))
        for symbol, x in zip(elements, fractions, strict=True)
    }
    material = Material(elements=elements, composition=bounds)
    numbers = draw_numbers(material, n_atoms, np.random.default_rng(seed))
    assert len(numbers) == n_atoms
    for symbol, (low, high) in bounds.items():
        count = np.sum(numbers == atomic_numbers[symbol])
        assert low * n_atoms - 1 < count < high * n_atoms + 1


def test_two_elements_are_uniform() -> None:
    rng = np.random.default_rng(0)
    counts = [int(np.sum(draw_numbers(Material(elements=("Al", "Cu")), 1000, rng) == 13)) for _ in range(500)]
    # Mean and spread of a uniform distribution on 0..1000; 5 standard errors.
    assert np.mean(counts) == pytest.approx(500, abs=5 * 289 / np.sqrt(500))
    assert np.std(counts) == pytest.approx(289, rel=0.1)
