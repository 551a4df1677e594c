from __future__ import annotations

import functools
import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.calculators.lj import LennardJones
from ase.data import atomic_masses, atomic_numbers
from ase.phonons import Phonons
from ase.units import GPa, _e, _hplanck, fs

from alpot.errors import NonFiniteError
from alpot.validation.crystals import Structure
from alpot.validation.elastic import elastic_constants
from alpot.validation.lattice import Equilibrium, equilibrium
from alpot.validation.phonons import displaced_crystal, measure_force_constants, phonon_properties
from alpot.validation.properties import Measured

#: THz of an angular frequency in ASE's units.
_THZ = 1000 * fs / (2 * np.pi)
SIGMA, EPSILON = 3.4, 0.0104


def _values(measured: Measured) -> dict[str, float]:
    return {value.name: value.value for value in measured.values}


def _nearest_neighbors() -> tuple[LennardJones, Equilibrium]:
    """Argon whose atoms see their nearest neighbors only, which then are at the minimum of the pair energy."""
    a = np.sqrt(2) * 2 ** (1 / 6) * SIGMA
    crystal = Equilibrium(
        element="Ar", structure="fcc", volume=a**3 / 4, c_over_a=1.0, lattice_constant=a, bulk_modulus=np.nan, energy=0
    )
    return LennardJones(sigma=SIGMA, epsilon=EPSILON, rc=1.4 * SIGMA), crystal


@pytest.fixture(scope="module")
def aluminum_phonons(fcc_aluminum: Equilibrium) -> Measured:
    return phonon_properties(EMT(), fcc_aluminum)


def test_springs_between_neighbors_are_the_textbook_crystal() -> None:
    # Springs k between nearest neighbors of fcc: ω² = 8 k/m for longitudinal waves at X and L, 4 k/m and 2 k/m for
    # transverse ones (Ashcroft and Mermin, chapter 22, problem 5). Lennard-Jones has k = 72/2^(1/3) ε/σ².
    unit = np.sqrt(72 / 2 ** (1 / 3) * EPSILON / SIGMA**2 / atomic_masses[atomic_numbers["Ar"]]) * _THZ
    found = _values(phonon_properties(*_nearest_neighbors()))
    expected = {"X longitudinal": 8, "X transverse": 4, "L longitudinal": 8, "L transverse": 2}
    # 5e-4: the third order of a displacement of 0.01 Å, 0.3 % of the distance.
    for mode, square in expected.items():
        assert found[f"phonon {mode}"] == pytest.approx(np.sqrt(square) * unit, rel=5e-4)
    assert found["highest phonon"] == pytest.approx(np.sqrt(8) * unit, rel=5e-4)
    assert found["imaginary phonons"] == 0


@functools.cache
def _small_aluminum(structure: Structure) -> tuple[Equilibrium, Measured]:
    crystal = equilibrium(EMT(), "Al", structure)
    return crystal, phonon_properties(EMT(), crystal, supercell_length=9)


@pytest.mark.parametrize(
    ("structure", "mode", "wave_vector", "polarization"),
    [
        ("fcc", "X longitudinal", (1, 0, 0), (1, 0, 0)),
        ("fcc", "X transverse", (0, 1, 0), (1, 0, 0)),
        ("fcc", "L longitudinal", (0.5, 0.5, -0.5), (1, 1, -1)),
        ("fcc", "L transverse", (0.5, 0.5, -0.5), (1, 0, 1)),
        ("bcc", "H", (0, 0, 1), (1, 0, 0)),
        ("bcc", "N longitudinal", (0, 0.5, 0.5), (0, 1, 1)),
        ("bcc", "N transverse [1-10]", (0, 0.5, 0.5), (0, 1, -1)),
        ("bcc", "N transverse [001]", (0, 0.5, 0.5), (1, 0, 0)),
        ("bcc", "P", (0.5, 0.5, 0.5), (0, 0, 1)),
        ("sc", "X longitudinal", (0, 0, 0.5), (0, 0, 1)),
        ("sc", "X transverse", (0, 0, 0.5), (1, 0, 0)),
        ("sc", "R", (0.5, 0.5, 0.5), (0, 1, 0)),
    ],
)
def test_special_points_are_standing_waves(
    structure: Structure, mode: str, wave_vector: Sequence[float], polarization: Sequence[float]
) -> None:
    # By another route: freeze a wave u cos(q·R) in a cubic block; the force on the atom at its crest gives ω². Some of
    # these crystals are unstable: the sign is tested too. Equivalent points and directions other than in the module.
    crystal, measured = _small_aluminum(structure)
    atoms = bulk("Al", structure, a=crystal.lattice_constant, cubic=True).repeat(4)
    amplitude = 0.01
    direction = np.array(polarization) / np.linalg.norm(polarization)
    phase = 2 * np.pi * atoms.positions @ np.array(wave_vector) / crystal.lattice_constant
    atoms.positions += amplitude * np.cos(phase)[:, None] * direction
    atoms.calc = EMT()
    square = -atoms.get_forces()[0] @ direction / amplitude / atoms.get_masses()[0]
    frequency = np.sign(square) * np.sqrt(abs(square)) * _THZ
    # 0.02 THz: many atoms move by the amplitude here, and one there; the third order differs.
    assert _values(measured)[f"phonon {mode}"] == pytest.approx(frequency, abs=0.02)


def test_hexagonal_optical_modes_are_planes_that_move_against_each_other() -> None:
    crystal, measured = _small_aluminum("hcp")
    found = _values(measured)
    amplitude = 0.005
    for mode, direction in (("in the basal plane (E2g)", [0, 1, 0]), ("along c (B1g)", [0, 0, 1])):
        forces = []
        for sign in (1, -1):  # the second order of the displacement cancels
            atoms = crystal.primitive
            atoms.positions += sign * amplitude * np.outer([1, -1], direction)
            atoms.calc = EMT()
            forces.append(atoms.get_forces()[0] @ direction)
        square = (forces[1] - forces[0]) / (2 * amplitude) / atoms.get_masses()[0]
        assert found[f"phonon Γ optical, {mode}"] == pytest.approx(np.sqrt(square) * _THZ, rel=1e-3)


def test_copper_agrees_with_ase(tmp_path: Path) -> None:
    # The same supercell by ASE's own finite displacements and eigenvalues, at wave vectors without symmetry.
    crystal = equilibrium(EMT(), "Cu", "fcc")
    phonon = displaced_crystal(crystal, 11)
    measure_force_constants(phonon, EMT())
    points = [(0.5, 0.25, 0.25), (0.25, 0.75, 0.0), (0.25, 0.5, 0.25)]  # they fit into the supercell
    phonon.run_qpoints(points)
    repeats = tuple(int(n) for n in np.diag(phonon.supercell_matrix))
    ase_phonons = Phonons(crystal.primitive, EMT(), supercell=repeats, delta=0.01, name=str(tmp_path / "phonons"))
    ase_phonons.run()
    ase_phonons.read(acoustic=True)
    expected = ase_phonons.band_structure(np.array(points), verbose=False) / (1e12 * _hplanck / _e)  # THz
    np.testing.assert_allclose(phonon.qpoints.frequencies, expected, rtol=1e-3)  # fewer symmetries are imposed there


def test_long_waves_travel_at_the_speed_of_sound(fcc_aluminum: Equilibrium) -> None:
    # v = √(C/ρ) along [100]: C11 for longitudinal, C44 for transverse waves.
    constants = _values(elastic_constants(EMT(), fcc_aluminum))
    phonon = displaced_crystal(fcc_aluminum, 16)
    measure_force_constants(phonon, EMT())
    share = 0.02  # of Γ–X
    wave_number = share * 2 * np.pi / fcc_aluminum.lattice_constant
    phonon.run_qpoints([fcc_aluminum.primitive.cell.array @ [share, 0, 0] / fcc_aluminum.lattice_constant])
    transverse, _, longitudinal = phonon.qpoints.frequencies[0]
    density = atomic_masses[13] / fcc_aluminum.volume
    # 3 %: what a supercell folds back beyond its boundary, and the pressure left by the fit of the equilibrium.
    for frequency, constant in ((longitudinal, "C11"), (transverse, "C44")):
        speed = np.sqrt(constants[constant] * GPa / density)
        assert frequency == pytest.approx(speed * wave_number / (2 * np.pi) * 1000 * fs, rel=0.03), constant


def test_acoustic_modes_begin_at_zero(fcc_aluminum: Equilibrium) -> None:
    phonon = displaced_crystal(fcc_aluminum, 11)
    measure_force_constants(phonon, EMT())
    phonon.run_qpoints([(0, 0, 0)])
    np.testing.assert_allclose(phonon.qpoints.frequencies, 0, atol=1e-3)  # THz; the square root of rounding


def test_the_supercell_is_converged(fcc_aluminum: Equilibrium, aluminum_phonons: Measured) -> None:
    # Between special points, where supercells of all sizes interpolate.
    def off_symmetry(length: float) -> np.ndarray:
        phonon = displaced_crystal(fcc_aluminum, length)
        measure_force_constants(phonon, EMT())
        phonon.run_qpoints([(0.1, 0.0, 0.1), (0.31, 0.07, 0.22), (0.42, 0.1, 0.55)])
        return phonon.qpoints.frequencies

    large = off_symmetry(16)
    errors = [np.abs(off_symmetry(length) / large - 1).max() for length in (5, 11)]
    assert errors[1] < 0.2 * errors[0]
    assert errors[1] < 0.01
    small = _values(phonon_properties(EMT(), fcc_aluminum, supercell_length=11))
    for name, value in _values(aluminum_phonons).items():
        assert small[name] == pytest.approx(value, rel=3e-3), name


def test_curves_hold_the_values(aluminum_phonons: Measured) -> None:
    values = _values(aluminum_phonons)
    dispersion, states = aluminum_phonons.curves
    x = np.array(dispersion.x)
    lines = np.array(list(dispersion.lines.values()))  # (branches, points)
    assert (1.0, "X") in [(round(position, 6), label) for position, label in dispersion.ticks]  # 2π/a
    assert {"Γ", "X", "W", "K", "L", "K|U"} <= {label for _, label in dispersion.ticks}
    at_x = lines[:, np.abs(x - 1.0).argmin()]  # the path has a point there
    expected = [values["phonon X transverse"]] * 2 + [values["phonon X longitudinal"]]
    np.testing.assert_allclose(np.sort(at_x), expected, rtol=1e-6)
    assert dispersion.name in dispersion.lines
    frequency, density = np.array(states.x), np.array(states.lines[states.name])
    # The trapezoid over a curve with kinks: 1 %.
    assert np.trapezoid(density, frequency) == pytest.approx(3, rel=0.01)
    zero_point = 0.5 * _hplanck / _e * 1e12 * 1000 * np.trapezoid(frequency * density, frequency)
    assert values["zero-point energy"] == pytest.approx(zero_point, rel=0.01)


def test_lennard_jones_bcc_is_unstable() -> None:
    argon = LennardJones(sigma=SIGMA, epsilon=EPSILON, rc=2.5 * SIGMA)
    measured = phonon_properties(argon, equilibrium(argon, "Ar", "bcc"), supercell_length=11)
    values = _values(measured)
    assert values["phonon N transverse [1-10]"] < 0  # the way to fcc and hcp
    assert 1 < values["imaginary phonons"] < 50
    assert "zero-point energy" not in values
    assert "bcc Ar is unstable" in measured.remarks[0]


def test_the_worst_mode_is_where_it_is_said_to_be() -> None:
    _, measured = _small_aluminum("sc")
    assert "i THz at q = (0.50, 0.50, 0.00) 2π/a" in measured.remarks[0]
    dispersion = measured.curves[0]
    lowest = np.array(dispersion.lines[dispersion.name])
    at_m = next(position for position, label in dispersion.ticks if "M" in label)
    assert dispersion.x[int(lowest.argmin())] == pytest.approx(at_m)
    assert f"{-lowest.min():.2f}i THz" in measured.remarks[0]


def test_a_stretched_crystal_needs_no_search_of_its_own(fcc_aluminum: Equilibrium) -> None:
    crystal = fcc_aluminum
    stretch = 1.02
    larger = Equilibrium(
        **{
            **vars(crystal),
            "volume": crystal.volume * stretch**3,
            "lattice_constant": crystal.lattice_constant * stretch,
        }
    )
    stretched, direct = displaced_crystal(crystal, 11), displaced_crystal(larger, 11)
    measure_force_constants(stretched, EMT(), stretch=stretch)
    measure_force_constants(direct, EMT())
    for phonon in (stretched, direct):
        phonon.run_qpoints(list(itertools.product((0.1, 0.37), (0.2, 0.5), (0.0, 0.45))))
    np.testing.assert_allclose(stretched.qpoints.frequencies, direct.qpoints.frequencies, rtol=1e-4)


class _Broken(EMT):
    def calculate(self, atoms: Atoms | None = None, *args: Any, **kwargs: Any) -> None:
        super().calculate(atoms, *args, **kwargs)
        self.results["forces"] = self.results["forces"] * np.nan


def test_not_a_number_is_not_a_force(fcc_aluminum: Equilibrium) -> None:
    with pytest.raises(NonFiniteError, match="forces of Al64 with a displaced atom are not finite"):
        phonon_properties(_Broken(), fcc_aluminum, supercell_length=11)
