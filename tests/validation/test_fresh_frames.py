from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms
from ase.calculators.emt import EMT
from ase.optimize import BFGS

from alpot.structures import closest_approach
from alpot.validation.fresh_frames import make_far_frames, make_fresh_frames
from alpot.validation.lattice import Equilibrium


@pytest.fixture(scope="module")
def fresh() -> list[Atoms]:
    return make_fresh_frames(EMT(), ["Al"], np.random.default_rng(5), frames_per_state=1)


@pytest.fixture(scope="module")
def far() -> list[Atoms]:
    return make_far_frames(EMT(), ["Al"], np.random.default_rng(5), frames_per_kind=3)


def _check_labels(frames: list[Atoms]) -> None:
    for frame in frames:
        assert frame.calc is None
        atoms = frame.copy()
        atoms.calc = EMT()
        assert frame.info["REF_energy"] == pytest.approx(atoms.get_potential_energy(), abs=1e-9)
        np.testing.assert_allclose(frame.arrays["REF_forces"], atoms.get_forces(), atol=1e-9)


@pytest.mark.slow
def test_labels_are_the_reference_of_these_very_positions(fresh: list[Atoms], far: list[Atoms]) -> None:
    _check_labels([*fresh, *far])


@pytest.mark.slow
def test_crystals_are_crystals_and_liquids_are_not(fresh: list[Atoms]) -> None:
    assert [frame.info["kind"] for frame in fresh] == ["hot crystal"] * 3 + ["liquid"] * 3
    # Quenched, a hot crystal is a perfect one again; a liquid becomes a glass, far above the crystal of its volume.
    for frame in (fresh[2], fresh[5]):
        quenched = Atoms(frame.numbers, frame.positions, cell=frame.cell, pbc=True, calculator=EMT())
        BFGS(quenched, logfile=None).run(fmax=0.05, steps=60)
        perfect = Atoms("Al", cell=0.5 * (np.ones((3, 3)) - np.eye(3)), pbc=True, calculator=EMT())
        perfect.set_cell(perfect.cell * (4 * frame.get_volume() / 32) ** (1 / 3))
        above = 1000 * (quenched.get_potential_energy() / 32 - perfect.get_potential_energy())  # meV/atom
        # A glass of EMT Al lies about 50 meV/atom above; a crystal is back to within the 0.05 eV/Å of the minimizer.
        assert above < 1 if frame.info["kind"] == "hot crystal" else above > 15


@pytest.mark.slow
def test_hotter_frames_have_larger_forces(fresh: list[Atoms]) -> None:
    forces = [np.sqrt((frame.arrays["REF_forces"] ** 2).mean()) for frame in fresh]
    assert forces[0] < forces[1] < forces[2]


def test_far_frames_are_of_three_kinds(far: list[Atoms], fcc_aluminum: Equilibrium) -> None:
    assert sorted({frame.info["kind"] for frame in far}) == ["compressed", "packing", "surface"]
    for frame in far:
        assert 30 <= len(frame) <= 60
        assert frame.pbc.all()
        assert closest_approach(frame) > 0.6
        share = frame.get_volume() / len(frame) / fcc_aluminum.volume
        if frame.info["kind"] == "compressed":
            assert 0.55 < share < 0.78
        elif frame.info["kind"] == "surface":
            heights = np.sort(frame.positions[:, 2])
            assert frame.cell.lengths()[2] - (heights[-1] - heights[0]) > 10  # Å of vacuum


def test_the_same_generator_gives_the_same_frames(far: list[Atoms]) -> None:
    again = make_far_frames(EMT(), ["Al"], np.random.default_rng(5), frames_per_kind=3)
    for frame, other in zip(far, again, strict=True):
        np.testing.assert_array_equal(frame.positions, other.positions)


def test_mixtures_are_mixed() -> None:
    frames = make_far_frames(EMT(), ["Cu", "Au"], np.random.default_rng(5), frames_per_kind=1)
    for frame in frames:
        assert set(frame.symbols) == {"Cu", "Au"}
    _check_labels(frames)
    # Four atoms, to be quick: two elements, then their mixture, three temperatures each for crystal and liquid.
    fresh = make_fresh_frames(EMT(), ["Cu", "Au"], np.random.default_rng(5), frames_per_state=1, minimum_atoms=4)
    assert [str(frame.symbols.formula.format("hill")) for frame in fresh[::6]] == ["Cu4", "Au4", "Au2Cu2"]
