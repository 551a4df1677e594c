#!/usr/bin/env python3
"""Are poisoned labels refused, and good ones kept? Injects every known fault into sound labels, and counts.

Labels: EMT aluminum and Al-Cu from alpot's own starts; the published ANI-Al potential (``../shared/ani-al``) and DFT
data (``../shared/data/zuo2020_*.extxyz``) where they are there. Three situations: ``first``, before there is a
potential (the labels judge one another); ``with second look``, the same, then by those members of a fresh ensemble that
did not see a label; ``judge``, new labels before a training, judged by an ensemble that knows others.

A fault counts when it changes the label by more than the potential's own error: what is below cannot be told from a
good label by anyone, and does as little harm. Usage: ``scripts/screening_study.py [--quick] [--trials N] [DATA ...]``.
"""

from __future__ import annotations

import argparse
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from ase import Atoms, units
from ase.calculators.emt import EMT
from numpy.typing import NDArray

from alpot.config import Descriptor, Material, Potential, Training
from alpot.potential.cross_validation import member_roles
from alpot.potential.ensemble import Ensemble
from alpot.potential.training import train
from alpot.reference.ani import open_ani
from alpot.store.extxyz import read_extxyz
from alpot.structures import draw_start
from alpot.subjects.assessment import audit_errors
from alpot.subjects.screening import screen, screen_after

SHARED = Path(__file__).resolve().parents[2] / "shared"
POTENTIAL = Potential(
    members=4,
    hidden=(32, 24),
    descriptor=Descriptor(radial_shifts=16, angular_shifts=4, angle_sections=4, angular_zeta=14.0, radial_cutoff=6.0),
)
TRAINING = Training(max_epochs=60, learning_rate=5e-3, blocks=8, validation_blocks=1, test_blocks=1)
#: Bad labels of 100 in the trials with a second look.
_BAD_AT_FIRST = 5
#: A fault counts when it changes the forces (root mean square), one force, or the energy by so many of the potential's
#: errors.
FORCES_COUNT, ONE_FORCE_COUNTS, ENERGY_COUNTS = 3.0, 10.0, 10.0


@dataclass(frozen=True)
class Frame:
    """A label of any content, also such as no store would take."""

    key: str
    atoms: Atoms
    energy: float
    forces: NDArray[np.float64]
    stress: NDArray[np.float64] | None


Fault = Callable[[Frame, Sequence[Frame], np.random.Generator], "Frame | None"]


# ------------------------------------------------------------------------------------------------------ faults

_ENERGY = (units.Hartree, units.Rydberg, units.mol / units.kcal, units.mol / units.kJ)
_FORCE = (*_ENERGY, units.Hartree / units.Bohr, units.Rydberg / units.Bohr, 1.0 / units.Bohr)


def _factor(factors: Sequence[float], rng: np.random.Generator) -> float:
    """A number in another unit, or converted once too often."""
    return float(rng.choice(factors)) ** float(rng.choice([-1.0, 1.0]))


def _partner(frame: Frame, others: Sequence[Frame], rng: np.random.Generator) -> Frame | None:
    """Another frame with as many atoms."""
    alike = [other for other in others if len(other.atoms) == len(frame.atoms) and other.key != frame.key]
    return alike[int(rng.integers(len(alike)))] if alike else None


def _stale(frame: Frame, others: Sequence[Frame], rng: np.random.Generator, *, new: float) -> Frame | None:
    """Energy and forces of another frame; of one that is not in the set where ``new`` is not 0."""
    other = _partner(frame, others, rng)
    return None if other is None else replace(frame, energy=other.energy, forces=other.forces + new)


def _swapped(frame: Frame, rng: np.random.Generator) -> Frame:
    rows = np.arange(len(frame.atoms))
    a, b = rng.choice(rows, 2, replace=False)
    rows[[a, b]] = rows[[b, a]]
    return replace(frame, forces=frame.forces[rows])


def _permuted_atoms(frame: Frame, rng: np.random.Generator) -> Frame:
    return replace(frame, atoms=frame.atoms[rng.permutation(len(frame.atoms))])


def _corrupt(frame: Frame, rng: np.random.Generator) -> Frame:
    forces = frame.forces.copy()
    forces[int(rng.integers(len(forces))), int(rng.integers(3))] += float(rng.choice([-1.0, 1.0]) * rng.uniform(3, 30))
    return replace(frame, forces=forces)


def _moved(frame: Frame, others: Sequence[Frame], rng: np.random.Generator) -> Frame:
    """Another frame again: shifted, in another order, and with a new key."""
    other = others[int(rng.integers(len(others)))]
    order = rng.permutation(len(other.atoms))
    atoms = other.atoms[order]
    atoms.positions += rng.uniform(-2, 2, 3)
    atoms.wrap()
    return replace(frame, atoms=atoms, energy=other.energy, forces=other.forces[order], stress=other.stress)


def _in_bohr(frame: Frame, rng: np.random.Generator) -> Frame:
    factor = _factor([units.Bohr], rng)
    atoms = frame.atoms.copy()
    atoms.set_cell(atoms.cell.array * factor, scale_atoms=True)
    return replace(frame, atoms=atoms)


def _lost_atom(frame: Frame, rng: np.random.Generator) -> Frame:
    kept = rng.permutation(len(frame.atoms))[1:]
    return replace(frame, atoms=frame.atoms[np.sort(kept)], forces=frame.forces[np.sort(kept)])


def _stressed(frame: Frame, factor: float) -> Frame | None:
    return None if frame.stress is None else replace(frame, stress=frame.stress * factor)


def _not_finite(frame: Frame) -> Frame:
    forces = frame.forces.copy()
    forces[0, 1] = np.nan
    return replace(frame, forces=forces)


def _energy_of_another(frame: Frame, others: Sequence[Frame], rng: np.random.Generator) -> Frame | None:
    other = _partner(frame, others, rng)
    return None if other is None else replace(frame, energy=other.energy)


def _corrupt_energy(frame: Frame, rng: np.random.Generator) -> Frame:
    return replace(frame, energy=frame.energy + len(frame.atoms) * float(rng.choice([-1.0, 1.0]) * rng.uniform(1, 10)))


def _in_other_units(frame: Frame, rng: np.random.Generator) -> Frame:
    factor = _factor(_ENERGY, rng)
    return replace(frame, energy=frame.energy * factor, forces=frame.forces * factor)


def _contradicting(frame: Frame, others: Sequence[Frame], rng: np.random.Generator) -> Frame:
    copy = _moved(frame, others, rng)
    return replace(copy, energy=copy.energy + 0.3 * len(copy.atoms))


FAULTS: dict[str, Fault] = {
    "not finite": lambda frame, others, rng: _not_finite(frame),
    "a force too few": lambda frame, others, rng: replace(frame, forces=frame.forces[1:]),
    "an atom lost": lambda frame, others, rng: _lost_atom(frame, rng),
    "energy: unit": lambda frame, others, rng: replace(frame, energy=frame.energy * _factor(_ENERGY, rng)),
    "energy: sign": lambda frame, others, rng: replace(frame, energy=-frame.energy),
    "energy: of another frame": _energy_of_another,
    "energy: corrupt": lambda frame, others, rng: _corrupt_energy(frame, rng),
    "forces: unit": lambda frame, others, rng: replace(frame, forces=frame.forces * _factor(_FORCE, rng)),
    "forces: sign": lambda frame, others, rng: replace(frame, forces=-frame.forces),
    "forces: two swapped": lambda frame, others, rng: _swapped(frame, rng),
    "forces: rows permuted": lambda frame, others, rng: replace(frame, forces=rng.permutation(frame.forces)),
    "forces: one corrupt": lambda frame, others, rng: _corrupt(frame, rng),
    "energy and forces: unit": lambda frame, others, rng: _in_other_units(frame, rng),
    "positions permuted": lambda frame, others, rng: _permuted_atoms(frame, rng),
    "of another label": lambda frame, others, rng: _stale(frame, others, rng, new=0.0),
    "of a frame not here": lambda frame, others, rng: _stale(frame, others, rng, new=1e-5),
    "lengths in Bohr": lambda frame, others, rng: _in_bohr(frame, rng),
    "stress: unit": lambda frame, others, rng: _stressed(frame, _factor((units.GPa, 0.1 * units.GPa), rng)),
    "stress: sign": lambda frame, others, rng: _stressed(frame, -1.0),
    "structure twice": _moved,
    "structure twice, contradicting": _contradicting,
}
#: Faults that count however small they are.
ALWAYS = ("not finite", "a force too few", "an atom lost", "structure twice", "structure twice, contradicting")


def matters(fault: str, good: Frame, bad: Frame, error: tuple[float, float]) -> bool:
    """Whether a fault changes a label by more than the potential's errors of force (eV/Å) and energy (eV/atom)."""
    if fault in ALWAYS or fault == "lengths in Bohr":
        return True
    if fault.startswith("stress"):
        return good.stress is not None and float(np.linalg.norm(good.stress - np.asarray(bad.stress))) > 0.05
    order = np.zeros(0)
    if fault == "positions permuted":
        # The same rows at other positions: what matters is by how much the forces on a position change.
        distance = np.linalg.norm(bad.atoms.positions[:, None] - good.atoms.positions[None], axis=2)
        order = distance.argmin(axis=1)
    wanted = good.forces[order] if len(order) else good.forces
    change = np.linalg.norm(bad.forces - wanted, axis=1)
    return bool(
        np.sqrt(np.square(change).mean() / 3) > FORCES_COUNT * error[0]
        or change.max() > ONE_FORCE_COUNTS * error[0]
        or abs(good.energy - bad.energy) / len(good.atoms) > ENERGY_COUNTS * error[1]
    )


# ------------------------------------------------------------------------------------------------------ labels


def emt_frames(count: int, elements: Sequence[str], seed: int) -> list[Frame]:
    """Random starts with EMT, none with forces above 20 eV/Å."""
    return _of_starts(count, elements, seed, EMT(asap_cutoff=False))


def _of_starts(count: int, elements: Sequence[str], seed: int, calculator: object) -> list[Frame]:
    material = Material.model_validate(
        {
            "elements": list(elements),
            "starts": [{"kind": "packing", "atoms": [30, 60]}, {"kind": "crystal", "atoms": [20, 60]}],
        }
    )
    frames: list[Frame] = []
    rng = np.random.default_rng(seed)
    while len(frames) < count:
        atoms = draw_start(material, rng, base_directory=Path())
        atoms.calc = calculator
        forces = atoms.get_forces()
        if np.abs(forces).max() < 20:
            energy = float(atoms.get_potential_energy())
            frames.append(Frame(f"{seed}-{len(frames):04}", Atoms(atoms), energy, forces, atoms.get_stress()))
    return frames


def published_frames(name: str) -> list[Frame]:
    """DFT labels of Zuo et al., in random order."""
    labels = read_extxyz(SHARED / "data" / f"zuo2020_{name}.extxyz", "zuo2020")
    order = np.random.default_rng(0).permutation(len(labels))
    return [
        Frame(label.key, label.atoms, label.energy, label.forces, label.stress)
        for label in np.array(labels, object)[order]
    ]


def data_sets(quick: bool) -> Iterator[tuple[str, list[Frame]]]:
    """Names and labels of what is there."""
    yield "EMT Al", emt_frames(150, ["Al"], 1)
    if quick:
        return
    yield "EMT Al-Cu", emt_frames(180, ["Al", "Cu"], 2)
    if (SHARED / "ani-al").is_dir():
        oracle = open_ani(base_directory=SHARED, folder="ani-al").calculator(Path())
        yield "ANI-Al", _of_starts(150, ["Al"], 3, oracle)
    for name in ("Cu", "Ni", "Ge"):
        if (SHARED / "data" / f"zuo2020_{name}.extxyz").exists():
            yield f"DFT {name}", published_frames(name)


# ------------------------------------------------------------------------------------------------------ trials


@dataclass
class Tally:
    """What came of the trials in one situation.

    Attributes:
        injected: of each fault, those that matter.
        refused: of those.
        hidden: injected faults that change a label by less than the potential's error.
        hidden_refused: of those.
        good: labels without a fault.
        reasons: of good labels that were refused.
    """

    injected: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    hidden: Counter[str] = field(default_factory=Counter)
    hidden_refused: Counter[str] = field(default_factory=Counter)
    good: int = 0
    reasons: list[str] = field(default_factory=list)
    missed: list[str] = field(default_factory=list)

    @property
    def found(self) -> float:
        """Share of the injected faults that were refused."""
        return self.refused.total() / max(1, self.injected.total())

    @property
    def false(self) -> float:
        """Share of the good labels that were refused."""
        return len(self.reasons) / max(1, self.good)

    def __str__(self) -> str:
        return (
            f"refused {self.refused.total()}/{self.injected.total()} = {self.found:.1%} of bad,"
            f" {len(self.reasons)}/{self.good} = {self.false:.2%} of good,"
            f" {self.hidden_refused.total()}/{self.hidden.total()} of those that change little"
        )

    def merge(self, other: Tally) -> None:
        """Add what another tally counted."""
        for name in ("injected", "refused", "hidden", "hidden_refused"):
            getattr(self, name).update(getattr(other, name))
        self.good += other.good
        self.reasons += other.reasons
        self.missed += other.missed

    def add(self, poisoned: Poisoned, refused: dict[str, str]) -> None:
        """Count one trial."""
        for key, (fault, counts) in poisoned.faults.items():
            (self.injected if counts else self.hidden)[fault] += 1
            # Of two that are the same, either may go.
            if key in refused or (fault == "structure twice" and refused.keys() & poisoned.twins):
                (self.refused if counts else self.hidden_refused)[fault] += 1
            elif counts:
                self.missed.append(f"{fault}: {key[:12]}")
        good = [frame.key for frame in poisoned.frames if frame.key not in poisoned.faults]
        self.good += len(good)
        self.reasons += [f"{key[:12]}: {refused[key]}" for key in good if key in refused and key not in poisoned.twins]


@dataclass(frozen=True)
class Poisoned:
    """Labels, some with a fault: ``faults`` by key, and whether they matter; ``twins`` were copied by a fault."""

    frames: list[Frame]
    faults: dict[str, tuple[str, bool]]
    twins: frozenset[str]


def poison(
    frames: Sequence[Frame], faults: Sequence[str], error: tuple[float, float], rng: np.random.Generator
) -> Poisoned:
    """Put one fault into each of as many frames."""
    chosen = dict(zip(rng.choice(len(frames), len(faults), replace=False).tolist(), faults, strict=True))
    good = [frame for index, frame in enumerate(frames) if index not in chosen]
    result, names, twins = list(frames), {}, set()
    for index, fault in chosen.items():
        bad = FAULTS[fault](frames[index], good, rng)
        if bad is None:
            continue
        result[index] = bad
        names[bad.key] = (fault, matters(fault, frames[index], bad, error))
        if fault == "structure twice":  # either of the two may go
            twins |= {frame.key for frame in good if len(frame.atoms) == len(bad.atoms) and frame.energy == bad.energy}
    return Poisoned(result, names, frozenset(twins))


def learn(frames: Sequence[Frame], seed: int = 0) -> Ensemble:
    """A small ensemble."""
    elements = sorted({symbol for frame in frames for symbol in frame.atoms.symbols})
    return train(frames, elements, POTENTIAL, TRAINING, seed=seed).ensemble


def study(frames: list[Frame], trials: int, looks: int, per_trial: int = 3) -> dict[str, Tally]:
    """Trials on one set of labels, see the head of this file; ``per_trial`` labels of about 100 are bad."""
    rng = np.random.default_rng(7)
    known, audit, rest = frames[:60], frames[60:75], frames[75:]
    ensemble = learn(known)
    audited = audit_errors(ensemble, audit)  # type: ignore[arg-type]
    error = (float(audited.force or 0.0), float(audited.energy or 0.0))
    tallies = {name: Tally() for name in ("first", "with second look", "judge")}
    queue = _endless(rng)
    for _ in range(trials):
        poisoned = poison(_some(frames, 100, rng), [next(queue) for _ in range(per_trial)], error, rng)
        tallies["first"].add(poisoned, screen(poisoned.frames))
        poisoned = poison(rest, [next(queue) for _ in range(per_trial)], error, rng)
        refused = screen(poisoned.frames, known=known, judge=ensemble, calibration=audited.calibration)
        tallies["judge"].add(poisoned, refused)
    for number in range(looks):
        poisoned = poison(_some(frames, 100, rng), [next(queue) for _ in range(_BAD_AT_FIRST)], error, rng)
        refused = screen(poisoned.frames)
        left = [frame for frame in poisoned.frames if frame.key not in refused]
        roles = member_roles([frame.key for frame in left], POTENTIAL.members, TRAINING)
        tallies["with second look"].add(poisoned, refused | screen_after(learn(left, number), left, roles))
    return tallies


def bad_labels(trials: int = 42) -> tuple[int, int, int, int]:
    """One bad label among about 100, for the crash suite: injected, refused, good, wrongly refused.

    EMT aluminum, new labels judged by an ensemble that knows 60 others.
    """
    tally = study(emt_frames(175, ["Al"], 1), trials, 0, per_trial=1)["judge"]
    return tally.injected.total(), tally.refused.total(), tally.good, len(tally.reasons)


def _some(frames: Sequence[Frame], count: int, rng: np.random.Generator) -> list[Frame]:
    return [frames[index] for index in rng.choice(len(frames), min(count, len(frames)), replace=False)]


def _endless(rng: np.random.Generator) -> Iterator[str]:
    """All faults in random order, again and again."""
    while True:
        yield from (list(FAULTS)[index] for index in rng.permutation(len(FAULTS)))


def main() -> None:
    """Print a table for each set of labels."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("data", nargs="*", help="names of sets of labels; by default all")
    parser.add_argument("--quick", action="store_true", help="EMT aluminum only")
    parser.add_argument("--trials", type=int, default=14)
    parser.add_argument("--looks", type=int, default=2, help="trainings for the second look")
    parser.add_argument("--verbose", action="store_true", help="list what was missed and what was wrongly refused")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    total = {name: Tally() for name in ("first", "with second look", "judge")}
    for name, frames in data_sets(arguments.quick):
        if arguments.data and name not in arguments.data:
            continue
        begin = time.monotonic()
        tallies = study(frames, arguments.trials, arguments.looks)
        print(f"\n{name}: {len(frames)} labels, {time.monotonic() - begin:.0f} s")
        for situation, tally in tallies.items():
            total[situation].merge(tally)
            print(f"  {situation:16} {tally}", flush=True)
            if arguments.verbose:
                print("     missed:", *sorted(tally.missed), sep="\n       ")
                print("     wrongly refused:", *sorted(Counter(tally.reasons).items()), sep="\n       ")
    print(f"\n{'all: refused of injected':32}" + "".join(f"{name:>18}" for name in total))
    for fault in FAULTS:
        shares = (f"{tally.refused[fault]}/{tally.injected[fault]}" for tally in total.values())
        print(f"{fault:32}" + "".join(f"{share:>18}" for share in shares))
    for situation, tally in total.items():
        print(f"{situation:16} {tally}")


if __name__ == "__main__":
    main()
