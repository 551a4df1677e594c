"""ZBL's repulsion: the formula, its derivatives, and what it does to a potential."""

import itertools
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from ase import Atoms, units
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.data import covalent_radii
from ase.stress import voigt_6_to_full_3x3_stress
from torchani.neighbors import Neighbors
from torchani.potentials import RepulsionZBL

import alpot
from alpot.config import Descriptor, Potential, Training
from alpot.potential.baseline import Baseline
from alpot.potential.calculator import AlpotCalculator
from alpot.potential.pair_repulsion import PairRepulsion, zbl_energy
from alpot.potential.residuals import Residuals
from alpot.potential.saved import Card, save_potential
from alpot.potential.training import train

LEVEL = {"code": "zbl", "version": 1, "arguments": {}, "hash": "0zbl"}


def dimer(distance: float, symbols: str = "Al2") -> Atoms:
    return Atoms(symbols, positions=[[0.0, 0.0, 0.0], [0.0, 0.0, distance]])


def test_two_aluminum_nuclei_one_angstrom_apart():
    """The formula by hand: e²/(4 π ε0) = 14.39964 eV Å, a = 0.468549 Å / (2 · 13^0.23) = 0.129866 Å, x = 7.70024."""
    x = 1.0 / (0.8854 * 0.5291772 / (2 * 13**0.23))
    parts = (0.18175, 3.1998), (0.50986, 0.94229), (0.28022, 0.4029), (0.02817, 0.20162)
    expected = 14.399645 * 169 * sum(weight * math.exp(-rate * x) for weight, rate in parts)
    assert float(zbl_energy(13, 13, 1.0)) == pytest.approx(expected, rel=1e-6)
    assert expected == pytest.approx(46.04, abs=0.01)


@pytest.mark.parametrize("distance", [0.3, 0.7, 1.2, 2.0])
@pytest.mark.parametrize("pair", [(0, 0), (0, 1), (1, 1)], ids=str)
def test_torchani_has_the_same_repulsion(pair, distance):
    """Its screening length is 1.1e-4 shorter, which is 1.1e-4 · r/a · 0.4 of the energy: 1e-3 at most here."""
    zbl = RepulsionZBL(("Al", "O"), cutoff_fn="dummy")
    one = Neighbors(torch.tensor([[0], [1]]), torch.tensor([distance]), torch.tensor([[0.0, 0.0, distance]]))
    theirs = float(zbl.pair_energies(torch.tensor([pair]), one)) * units.Hartree
    numbers = np.array([13, 8])[list(pair)]
    assert float(zbl_energy(*numbers, distance)) == pytest.approx(theirs, rel=1e-3)


def derivative(function, step: float = 1e-4) -> float:
    """At zero, from five points: the error is step⁴/30 times the fifth derivative."""
    return float((8 * (function(step) - function(-step)) - (function(2 * step) - function(-2 * step))) / (12 * step))


@pytest.mark.parametrize("pbc", [True, False, (True, False, True)], ids=str)
def test_forces_and_stress_are_derivatives(make_frame, pbc):
    """Also of atoms that meet their own images."""
    atoms = make_frame(5, ("Al", "Ni"), seed=3, pbc=pbc)
    atoms.set_cell(atoms.cell * 0.6, scale_atoms=True)
    calculator = PairRepulsion()
    forces = calculator.get_property("forces", atoms)
    assert np.abs(forces).max() > 1.0
    for index, axis in np.ndindex(*forces.shape):

        def moved(step, index=index, axis=axis):
            frame = atoms.copy()
            frame.positions[index, axis] += step
            return calculator.get_property("energy", frame)

        # Energies of some 100 eV are known to 1e-13 of themselves; divided by the step.
        assert forces[index, axis] == pytest.approx(-derivative(moved), abs=1e-6 * max(1.0, np.abs(forces).max()))
    stress = voigt_6_to_full_3x3_stress(calculator.get_property("stress", atoms))
    for i, j in itertools.combinations_with_replacement(range(3), 2):

        def strained(step, i=i, j=j):
            strain = np.eye(3)
            strain[i, j] += step / 2
            strain[j, i] += step / 2
            frame = atoms.copy()
            frame.set_cell(frame.cell @ strain, scale_atoms=True)
            return calculator.get_property("energy", frame)

        expected = derivative(strained) / atoms.cell.volume
        assert stress[i, j] == pytest.approx(expected, abs=1e-6 * max(1.0, np.abs(stress).max()))
    energies = calculator.get_property("energies", atoms)
    assert energies.sum() == pytest.approx(calculator.get_property("energy", atoms), rel=1e-12)


def test_it_ends_smoothly_at_the_sum_of_the_covalent_radii():
    cutoff = covalent_radii[13] + covalent_radii[28]
    calculator = PairRepulsion()
    for beyond in (0.0, 1e-9, 0.5):
        atoms = dimer(cutoff + beyond, "AlNi")
        assert calculator.get_property("energy", atoms) == 0.0 and not calculator.get_property("forces", atoms).any()
    # Three derivatives of the envelope's polynomial vanish there but the last: the energy goes as the third power.
    near = [calculator.get_property("energy", dimer(cutoff - step, "AlNi")) for step in (2e-3, 1e-3)]
    assert near[0] / near[1] == pytest.approx(8.0, rel=0.02) and near[1] > 0


def test_it_is_zbl_at_short_distance_and_leaves_a_crystal_alone():
    """The envelope differs from one by 28 (r/r_c)⁶."""
    calculator = PairRepulsion()
    distance = 0.3
    assert calculator.get_property("energy", dimer(distance)) == pytest.approx(
        float(zbl_energy(13, 13, distance)), rel=28 * (distance / 2.42) ** 6
    )
    assert calculator.get_property("energy", bulk("Al", cubic=True)) == 0.0


def test_atoms_on_top_of_each_other_have_no_answer():
    assert Baseline(LEVEL, PairRepulsion).answer(dimer(0.0)) is None


POTENTIAL = Potential(
    members=2,
    hidden=(16,),
    descriptor=Descriptor(
        radial_cutoff=5.0, radial_shifts=8, angular_cutoff=3.5, angular_shifts=2, angle_sections=4, angular_zeta=14.0
    ),
)
SETTINGS = Training(learning_rate=1e-2, max_epochs=40, blocks=8, validation_blocks=1, test_blocks=1)


@pytest.fixture(scope="module")
def labels(make_label):
    """Rattled crystals by EMT, in which no two atoms come closer than 2.2 Å."""
    frames = []
    for seed in range(24):
        atoms = bulk("Al", cubic=True)
        atoms.set_cell(atoms.cell * (0.94 + 0.005 * seed), scale_atoms=True)
        atoms.rattle(0.12, seed=seed)
        frames.append(make_label(atoms, calculator=EMT(), seed=seed))
    return frames


def energies_of_compressed_pair(calculator: AlpotCalculator) -> np.ndarray:
    """eV, as a neighbor comes to 1, 0.95, ... 0.2 of its distance in the crystal."""
    atoms = bulk("Al", cubic=True, a=4.0).repeat(2)
    towards = atoms.get_distance(0, 1, mic=True, vector=True)
    found = []
    for fraction in np.arange(0.0, 0.81, 0.05):
        frame = atoms.copy()
        frame.positions[0] += fraction * towards
        found.append(calculator.get_property("energy", frame))
    return np.array(found) - found[0]


def test_a_potential_trained_on_it_has_a_wall(labels, tmp_path: Path):
    """End to end: the labels do not show the wall; with the baseline it is there, also after saving and loading."""
    baseline = Baseline(LEVEL, PairRepulsion)
    bare = train(labels, ["Al"], POTENTIAL, SETTINGS, seed=1).ensemble
    save_potential(
        tmp_path / "zbl",
        train(labels, ["Al"], POTENTIAL, SETTINGS, seed=1, residuals=Residuals(baseline)).ensemble,
        Card(elements=("Al",)),
    )
    walled = alpot.load(tmp_path / "zbl")
    without, with_zbl = energies_of_compressed_pair(AlpotCalculator(bare)), energies_of_compressed_pair(walled)
    # At a fifth of the distance two nuclei have 350 eV; networks with bounded weights do not rise so by themselves.
    assert with_zbl[-1] > 200.0 > without.max()
    assert (np.diff(with_zbl[10:]) > 0).all()
    # Near the crystal both are the same fit.
    truth = EMT()
    for label in labels[:4]:
        expected = truth.get_property("forces", label.atoms)
        ours = walled.get_property("forces", label.atoms)
        assert np.sqrt(np.square(ours - expected).mean()) < 0.3 * np.sqrt(np.square(expected).mean())
