"""Aluminum as campaigns meet it, labelled by the published ANI-Al: many frames of common kinds, few of rare ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import ase.build
import numpy as np
from ase import Atoms, units
from ase.build import surface
from ase.md.velocitydistribution import MaxwellBoltzmannDistribution
from ase.md.verlet import VelocityVerlet
from numpy.typing import NDArray

from alpot.config import CrystalStarts, Material, PackingStarts
from alpot.potential.calculator import AlpotCalculator
from alpot.store.labels import Label, label_key
from alpot.structures import draw_start

_FCC_BCC_HCP = ("fcc", "bcc", "hcp")
_NO_DEFECTS = {"vacancy_chance": 0.0, "interstitial_chance": 0.0}
_HOT = {"atoms": (16, 32), "rattle": (0.0, 0.1), "strain": 0.06}
#: All kinds but slabs.
_STARTS: Mapping[str, CrystalStarts | PackingStarts] = {
    "crystal": CrystalStarts(
        prototypes=_FCC_BCC_HCP, atoms=(4, 16), density=(2.45, 3.0), strain=0.04, rattle=(0.0, 0.08), **_NO_DEFECTS
    ),
    "hot": CrystalStarts(prototypes=_FCC_BCC_HCP, density=(2.3, 3.0), **_HOT, **_NO_DEFECTS),
    "liquid": PackingStarts(atoms=(24, 40), density=(2.1, 2.9), min_distance_factor=0.85),
    "defect": CrystalStarts(
        prototypes=("fcc",), density=(2.5, 2.8), vacancy_chance=1.0, interstitial_chance=0.5, **_HOT
    ),
    "compressed": CrystalStarts(prototypes=_FCC_BCC_HCP, density=(3.4, 4.4), **_HOT, **_NO_DEFECTS),
}
_SURFACES = ((1, 1, 1), (1, 0, 0), (1, 1, 0))
#: Shares of the kinds among labels; the last three are the rare ones.
SHARES = {"crystal": 0.4, "hot": 0.31, "liquid": 0.2, "surface": 0.03, "defect": 0.03, "compressed": 0.03}
RARE = ("surface", "defect", "compressed")
_TEMPERATURE = {"crystal": (50.0, 1000.0), "liquid": (800.0, 3000.0)}
_OTHER_TEMPERATURE = (300.0, 2000.0)
#: Steps of 2 fs by the reference itself: a random start is not what a walker meets.
_STEPS, _TIME_STEP = 20, 2.0 * units.fs
_LEVEL = "published ANI-Al"


class Aluminum:
    """Draws frames and labels them.

    Args:
        folder: of ANI-Al's weights.
    """

    def __init__(self, folder: Path) -> None:
        self._truth = AlpotCalculator.load(folder)
        #: One member alone drives the dynamics: any near-DFT potential will do.
        self._driver = AlpotCalculator(self._truth.ensemble.member(0), mean_forces_only=True)

    def labels(self, count: int, rng: np.random.Generator) -> list[Label]:
        """Of frames of all kinds, each with its share by chance; the kind is in the provenance."""
        kinds, shares = list(SHARES), list(SHARES.values())
        return [self.label_of(str(rng.choice(kinds, p=shares)), rng) for _ in range(count)]

    def label_of(self, kind: str, rng: np.random.Generator) -> Label:
        """A label of one kind."""
        atoms = _slab(rng) if kind == "surface" else _start(kind, rng)
        MaxwellBoltzmannDistribution(
            atoms, temperature_K=rng.uniform(*_TEMPERATURE.get(kind, _OTHER_TEMPERATURE)), rng=rng
        )
        atoms.calc = self._driver
        VelocityVerlet(atoms, timestep=_TIME_STEP).run(_STEPS)
        frame = Atoms(numbers=atoms.numbers, positions=atoms.positions, cell=atoms.cell, pbc=True)
        return Label(
            key=label_key(frame, _LEVEL),
            atoms=frame,
            energy=float(self._truth.get_property("energy", frame)),
            forces=self._truth.get_property("forces", frame),
            stress=self._truth.get_property("stress", frame),
            level_of_theory=_LEVEL,
            provenance={"kind": kind},
        )


def _start(kind: str, rng: np.random.Generator) -> Atoms:
    return draw_start(Material(elements=("Al",), starts=(_STARTS[kind],)), rng, base_directory=Path())


def _slab(rng: np.random.Generator) -> Atoms:
    miller = _SURFACES[int(rng.integers(len(_SURFACES)))]
    cell = ase.build.bulk("Al", a=4.04 * rng.uniform(0.98, 1.03), cubic=True)
    slab = surface(cell, miller, layers=4, vacuum=6.0, periodic=True)
    slab = slab.repeat((2, 1, 1) if slab.cell.lengths()[0] <= slab.cell.lengths()[1] else (1, 2, 1))
    slab.rattle(rng.uniform(0.02, 0.1), rng=rng)
    return slab


def kinds_of(labels: Sequence[Label]) -> NDArray[np.str_]:
    """(n_labels,) kind of each."""
    return np.array([label.provenance["kind"] for label in labels])


def errors_of(calculator: AlpotCalculator, labels: Sequence[Label]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Errors on labelled frames: (n_labels,) eV/atom and (n_atoms, 3) eV/Å, the frames' atoms one after the other."""
    energies, forces = [], []
    for label in labels:
        forces.append(calculator.get_property("forces", label.atoms) - label.forces)
        energies.append((calculator.get_property("energy", label.atoms) - label.energy) / len(label.atoms))
    return np.array(energies), np.concatenate(forces)


def rmse(errors: NDArray[np.float64]) -> float:
    """Over everything."""
    return float(np.sqrt(np.square(errors).mean()))
