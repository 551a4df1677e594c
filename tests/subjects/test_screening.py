"""Poisoned labels are refused with a reason that tells what is wrong; good ones are kept.

How many of each, on more data, is measured by ``scripts/screening_study.py``.
"""

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms, units
from ase.calculators.emt import EMT

from alpot.config import Descriptor, Material, Potential, Training
from alpot.potential.cross_validation import member_roles
from alpot.potential.ensemble import Ensemble
from alpot.potential.training import train
from alpot.structures import draw_start
from alpot.subjects.judges import EnsembleJudge
from alpot.subjects.screening import screen, screen_after

POTENTIAL = Potential(
    members=4,
    hidden=(24, 16),
    descriptor=Descriptor(radial_shifts=12, angular_shifts=3, angle_sections=4, angular_zeta=14.0, radial_cutoff=6.0),
)
TRAINING = Training(max_epochs=40, learning_rate=5e-3, blocks=8, validation_blocks=1, test_blocks=1)
BAD = 13


@dataclass(frozen=True)
class Frame:
    """A label that may hold what no store would take."""

    key: str
    atoms: Atoms
    energy: float
    forces: np.ndarray
    stress: np.ndarray | None


@pytest.fixture(scope="module")
def frames() -> list[Frame]:
    """Packings of aluminum, with EMT: large forces, so that all faults matter."""
    material = Material.model_validate({"elements": ["Al"], "starts": [{"kind": "packing", "atoms": [20, 30]}]})
    rng = np.random.default_rng(5)
    made: list[Frame] = []
    while len(made) < 60:
        atoms = draw_start(material, rng, base_directory=Path())
        atoms.calc = EMT(asap_cutoff=False)
        if np.abs(atoms.get_forces()).max() < 10.0:
            energy = float(atoms.get_potential_energy())
            made.append(Frame(f"{len(made):064x}", Atoms(atoms), energy, atoms.get_forces(), atoms.get_stress()))
    return made


@pytest.fixture(scope="module")
def judge(frames: list[Frame]) -> Ensemble:
    """Knows the last 40 frames."""
    return train(frames[20:], ["Al"], POTENTIAL, TRAINING, seed=1).ensemble


def with_fault(frames: list[Frame], **changes: Any) -> list[Frame]:
    return [replace(frame, **changes) if index == BAD else frame for index, frame in enumerate(frames)]


def swapped(forces: np.ndarray) -> np.ndarray:
    """The two most different forces exchanged."""
    first, second = np.unravel_index(
        np.linalg.norm(forces[:, None] - forces[None], axis=2).argmax(), (len(forces), len(forces))
    )
    rows = np.arange(len(forces))
    rows[[first, second]] = rows[[second, first]]
    return forces[rows]


def one_wrong(forces: np.ndarray) -> np.ndarray:
    changed = forces.copy()
    changed[3, 1] += 8.0
    return changed


def scaled(atoms: Atoms, factor: float) -> Atoms:
    atoms = atoms.copy()
    atoms.set_cell(atoms.cell.array * factor, scale_atoms=True)
    return atoms


#: What is done to a frame, and what the reason must say.
FAULTS = [
    (lambda f: {"energy": f.energy * units.Hartree}, "converted from Hartree once too often"),
    (lambda f: {"energy": f.energy + 5.0 * len(f.atoms)}, "the energy is off by .* eV/atom"),
    (lambda f: {"forces": f.forces / units.Hartree}, r"multiplied by 27\.21: they seem to be in Hartree/Å"),
    (lambda f: {"forces": f.forces * units.Hartree}, "converted from Hartree/Å once too often"),
    (lambda f: {"forces": f.forces * units.Bohr}, "in eV/Bohr"),
    (lambda f: {"forces": f.forces * 23.06}, "multiplied by 0.043"),
    (lambda f: {"forces": -f.forces}, "sign seems to be wrong"),
    (lambda f: {"forces": f.forces[::-1]}, "another order of the atoms"),
    (lambda f: {"forces": one_wrong(f.forces)}, "add up to"),
    (lambda f: {"stress": -f.stress}, "sign seems to be wrong"),
    (lambda f: {"stress": f.stress / units.GPa}, "in GPa"),
    (lambda f: {"atoms": scaled(f.atoms, 1.0 / units.Bohr)}, "multiplied by 0.5292: they seem to be in Bohr"),
    (lambda f: {"forces": np.full_like(f.forces, np.nan)}, "not finite"),
    (lambda f: {"energy": np.inf}, "not finite"),
    (lambda f: {"forces": f.forces[1:]}, "atoms, but forces of shape"),
]


@pytest.mark.parametrize(("fault", "words"), FAULTS)
def test_new_labels_are_judged_by_the_ensemble(fault, words, frames, judge):
    bad = with_fault(frames[:20], **fault(frames[BAD]))
    refused = screen(bad, known=frames[20:], judge=judge, calibration=1.5)
    assert set(refused) == {frames[BAD].key}
    assert_says(refused[frames[BAD].key], words)


@pytest.mark.parametrize(("fault", "words"), FAULTS)
def test_before_there_is_an_ensemble_labels_judge_one_another(fault, words, frames):
    refused = screen(with_fault(frames, **fault(frames[BAD])))
    assert set(refused) == {frames[BAD].key}
    assert_says(refused[frames[BAD].key], words)


def assert_says(reason: str, words: str) -> None:
    assert re.search(words, reason), reason


def test_two_swapped_atoms_are_named(frames, judge):
    bad = with_fault(frames[:20], forces=swapped(frames[BAD].forces))
    refused = screen(bad, known=frames[20:], judge=judge, calibration=1.5)
    assert set(refused) == {frames[BAD].key}
    assert "swapped" in refused[frames[BAD].key]


def test_good_labels_are_kept(frames, judge):
    assert screen(frames) == {}
    assert screen(frames[:20], known=frames[20:], judge=judge, calibration=1.5) == {}


def test_many_bad_labels_do_not_outvote_the_good_ones(frames):
    bad = {frames[index].key for index in (3, 20, 41)}
    mixed = [replace(f, energy=f.energy * 27.2, forces=f.forces * 27.2) if f.key in bad else f for f in frames]
    assert set(screen(mixed)) == bad


def test_a_new_campaign_in_wrong_units_is_seen_by_the_old_ensemble_only(frames, judge):
    wrong = [replace(frame, forces=frame.forces / units.Hartree) for frame in frames[:20]]
    assert len(screen(wrong, known=frames[20:], judge=judge)) == 20
    assert screen(wrong) == {}  # among themselves they agree


def test_an_ensemble_that_does_not_know_a_frame_does_not_refuse_it(frames, judge):
    """Far outside of what was trained on, the error is large, and so is the doubt."""
    rng = np.random.default_rng(1)
    strange = []
    for number in range(12):
        atoms = scaled(frames[number].atoms, rng.uniform(0.9, 1.1))
        atoms.calc = EMT(asap_cutoff=False)
        energy, forces, stress = atoms.get_potential_energy(), atoms.get_forces(), atoms.get_stress()
        strange.append(Frame(f"strange-{number}", Atoms(atoms), energy, forces, stress))
    assert screen(strange, known=frames[20:], judge=judge, calibration=2.0) == {}


def test_a_structure_that_is_labelled_already(frames, judge):
    """Moved, and its atoms in another order."""
    original = frames[30]
    order = np.random.default_rng(0).permutation(len(original.atoms))
    atoms = original.atoms[order]
    atoms.positions += (0.3, 0.2, -1.0)
    copy = replace(original, key="copy", atoms=atoms, forces=original.forces[order])
    for refused in (
        screen([*frames[:20], copy], known=frames[20:], judge=judge),
        screen([*frames, copy]),
    ):
        assert list(refused) == ["copy"]
        assert "labelled twice" in refused["copy"]


def test_of_two_that_contradict_each_other_the_better_one_stays(frames):
    original = frames[30]
    wrong = replace(original, key="0-first-in-order", energy=original.energy + 0.15 * len(original.atoms))
    refused = screen([wrong, *frames])
    assert list(refused) == ["0-first-in-order"]


def test_numbers_of_another_label(frames):
    alike = next(f for f in frames[BAD + 1 :] if len(f.atoms) == len(frames[BAD].atoms))
    refused = screen(with_fault(frames, energy=alike.energy, forces=alike.forces, stress=alike.stress))
    assert set(refused) == {frames[BAD].key}


def test_forces_that_never_add_up_to_zero_are_no_fault(frames):
    """As with atoms that the reference holds in place."""
    pulled = [replace(frame, forces=frame.forces + np.array([0.01, 0.0, 0.02])) for frame in frames]
    assert screen(pulled) == {}


def test_few_labels_are_only_checked_for_what_cannot_be(frames):
    few = [replace(frames[0], energy=np.nan), replace(frames[1], forces=-frames[1].forces), frames[2]]
    assert list(screen(few)) == [frames[0].key]
    assert screen([]) == {}


def test_the_second_look_sees_what_a_member_did_not_train_on(frames):
    bad = with_fault(frames, forces=-frames[BAD].forces)
    roles = member_roles([frame.key for frame in bad], POTENTIAL.members, TRAINING)
    ensemble = train(bad, ["Al"], POTENTIAL, TRAINING, seed=2).ensemble
    refused = screen_after(ensemble, bad, roles)
    assert set(refused) == {frames[BAD].key}
    assert "sign" in refused[frames[BAD].key]


def test_a_calibration_that_is_not_finite_is_no_licence(frames, judge):
    """Infinite means that an error was not finite: then the members' deviation, generously, must do."""
    bad = with_fault(frames[:20], forces=-frames[BAD].forces)
    refused = screen(bad, known=frames[20:], judge=judge, calibration=float("inf"))
    assert set(refused) == {frames[BAD].key}


def test_coinciding_atoms_are_judged_apart(frames, judge):
    """What the ensemble cannot evaluate does not keep the others of its batch from being judged."""
    atoms = frames[0].atoms.copy()
    atoms.positions[1] = atoms.positions[0]
    expected = EnsembleJudge(judge, 1.0, frames[20:]).expect([("0", atoms), ("1", frames[1].atoms)])
    assert expected[0] is None
    assert expected[1] is not None
    assert expected[1].energy == pytest.approx(frames[1].energy, abs=2.0)
