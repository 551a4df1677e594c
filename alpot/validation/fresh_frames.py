"""Frames that no training ever saw: the reference's own liquid and hot crystals, and far ones to test the uncertainty.

They are driven by the *reference*, so they are where it is physical, not where the potential happens to go.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from ase import Atoms, units
from ase.build import surface
from ase.calculators.calculator import BaseCalculator
from ase.md.langevin import Langevin

from alpot.config import Material
from alpot.structures import draw_start
from alpot.validation.crystals import Structure, build_supercell, preferred_structure
from alpot.validation.dynamics import set_velocities, time_step_fs
from alpot.validation.force_errors import force_errors
from alpot.validation.lattice import equilibrium
from alpot.validation.melting import melting_temperature
from alpot.validation.properties import Measured, PropertyValue, attached

#: In units of the melting temperature.
_CRYSTAL_TEMPERATURES = (0.3, 0.6, 0.9)
_LIQUID_TEMPERATURES = (1.3, 1.2, 1.1)
_MELTING_RUN = 3.0
#: Metals grow by about 6 % in volume up to melting, and by as much when they melt.
_SOLID_EXPANSION = 0.06
_LIQUID_VOLUME = 1.12
_FRICTION = 0.02 / units.fs
_MELTING_PS, _EQUILIBRATION_PS, _SAMPLING_PS = 1.0, 0.5, 0.1

_SURFACES = ((1, 1, 1), (1, 0, 0), (1, 1, 0))
#: Ratio of the lattice constant of compressed crystals to that at equilibrium, and displacements in Å.
_COMPRESSION = (0.82, 0.92)
_RATTLE = (0.02, 0.15)


def make_fresh_frames(
    calculator: BaseCalculator,
    elements: Sequence[str],
    rng: np.random.Generator,
    *,
    frames_per_state: int = 4,
    minimum_atoms: int = 30,
) -> list[Atoms]:
    """Liquid at 1.1 to 1.3 and crystal at 0.3 to 0.9 times the melting temperature, from the reference's own dynamics.

    Args:
        calculator: the reference; some thousand calls are needed for each element.
        elements: each is treated alone and, where there are several, once more in an equal mixture.
        rng: velocities, random forces and the order of a mixture.
        frames_per_state: frames taken at each of the six temperatures.
        minimum_atoms: of each frame.

    Returns:
        Frames without calculator; ``info["REF_energy"]`` in eV, ``arrays["REF_forces"]`` (n_atoms, 3) eV/Å and
        ``info["kind"]``, "liquid" or "hot crystal".

    Raises:
        PotentialError: an element's crystal is not bound, or its melting temperature is not known.
    """
    frames: list[Atoms] = []
    for system in _systems(elements):
        melting = melting_temperature(system)
        structure, volume = _crystal_of(calculator, system)
        for share in _CRYSTAL_TEMPERATURES:
            solid_volume = volume * (1 + _SOLID_EXPANSION * share)
            crystal = attached(calculator, _decorated(system, structure, solid_volume, minimum_atoms, rng))
            set_velocities(crystal, 2 * share * melting, rng)  # half of it becomes potential energy
            frames += _sample(crystal, share * melting, "hot crystal", frames_per_state, rng)
        liquid = attached(calculator, _decorated(system, structure, volume * _LIQUID_VOLUME, minimum_atoms, rng))
        set_velocities(liquid, 2 * _MELTING_RUN * melting, rng)
        _run(liquid, _MELTING_RUN * melting, _MELTING_PS, rng)
        for share in _LIQUID_TEMPERATURES:
            frames += _sample(liquid, share * melting, "liquid", frames_per_state, rng)
    return frames


def make_far_frames(
    calculator: BaseCalculator,
    elements: Sequence[str],
    rng: np.random.Generator,
    *,
    frames_per_kind: int = 6,
    minimum_atoms: int = 30,
) -> list[Atoms]:
    """Random packings, surfaces and strongly compressed crystals: where a potential should know that it does not know.

    Args:
        calculator: the reference.
        elements: of all frames, mixed at random where there are several.
        rng: everything random.
        frames_per_kind: frames of each of the three kinds.
        minimum_atoms: of packings and compressed crystals.

    Returns:
        Frames as from :func:`make_fresh_frames`, of kind "packing", "surface" or "compressed".
    """
    structure, volume = _crystal_of(calculator, elements)
    packings = Material.model_validate(
        {"elements": elements, "starts": [{"kind": "packing", "atoms": (minimum_atoms, minimum_atoms + 10)}]}
    )
    frames = []
    for number in range(frames_per_kind):
        packing = draw_start(packings, rng, base_directory=Path())
        slab = _slab(elements, structure, volume, _SURFACES[number % len(_SURFACES)], minimum_atoms, rng)
        dense = _decorated(elements, structure, volume * rng.uniform(*_COMPRESSION) ** 3, minimum_atoms, rng)
        for crystal in (slab, dense):
            crystal.rattle(rng.uniform(*_RATTLE), rng=rng)
        frames += [
            _labelled(attached(calculator, atoms), kind)
            for atoms, kind in ((packing, "packing"), (slab, "surface"), (dense, "compressed"))
        ]
    return frames


def _systems(elements: Sequence[str]) -> list[tuple[str, ...]]:
    """Each element alone, then all together."""
    pure: list[tuple[str, ...]] = [(element,) for element in elements]
    return pure if len(pure) == 1 else [*pure, tuple(elements)]


def _crystal_of(calculator: BaseCalculator, elements: Sequence[str]) -> tuple[Structure, float]:
    """Structure of the first element, and the mean of the elements' equilibrium volumes in Å³ (Zen's rule)."""
    crystals = [equilibrium(calculator, element, preferred_structure(element)) for element in elements]
    return crystals[0].structure, float(np.mean([crystal.volume for crystal in crystals]))


def _decorate(atoms: Atoms, elements: Sequence[str], rng: np.random.Generator) -> Atoms:
    """Give the sites to the elements at random, as equally as their number allows."""
    atoms.set_chemical_symbols(rng.permutation(np.resize(np.array(elements), len(atoms))).tolist())
    return atoms


def _decorated(
    elements: Sequence[str], structure: Structure, volume: float, minimum_atoms: int, rng: np.random.Generator
) -> Atoms:
    """Supercell of a crystal with this volume per atom (Å³)."""
    return _decorate(build_supercell(elements[0], structure, volume, minimum_atoms), elements, rng)


def _slab(
    elements: Sequence[str],
    structure: Structure,
    volume: float,
    miller: tuple[int, int, int],
    minimum_atoms: int,
    rng: np.random.Generator,
) -> Atoms:
    """A slab of four layers of cells with 12 Å of vacuum, periodic in all directions."""
    slab = surface(build_supercell(elements[0], structure, volume, 1), miller, layers=4, vacuum=6.0, periodic=True)
    while len(slab) < minimum_atoms:
        slab = slab.repeat((2, 1, 1) if slab.cell.lengths()[0] <= slab.cell.lengths()[1] else (1, 2, 1))
    return _decorate(slab, elements, rng)


def _run(atoms: Atoms, temperature: float, time_ps: float, rng: np.random.Generator) -> None:
    """Langevin dynamics, in place."""
    step_fs = time_step_fs(atoms)
    dynamics = Langevin(
        atoms, timestep=step_fs * units.fs, temperature_K=temperature, friction=_FRICTION, fixcm=False, rng=rng
    )
    dynamics.run(round(1000 * time_ps / step_fs))


def _sample(atoms: Atoms, temperature: float, kind: str, count: int, rng: np.random.Generator) -> list[Atoms]:
    """Equilibrate in place, then take frames from the run."""
    _run(atoms, temperature, _EQUILIBRATION_PS, rng)
    frames = []
    for _ in range(count):
        _run(atoms, temperature, _SAMPLING_PS, rng)
        frames.append(_labelled(atoms, kind))
    return frames


def _labelled(atoms: Atoms, kind: str) -> Atoms:
    """A copy of atoms with a calculator: with its energy and forces, and without the calculator."""
    frame = Atoms(numbers=atoms.numbers, positions=atoms.positions, cell=atoms.cell, pbc=True)
    frame.info.update(kind=kind, REF_energy=float(atoms.get_potential_energy()))
    frame.arrays["REF_forces"] = np.array(atoms.get_forces())
    return frame


def errors_on_frames(
    calculator: BaseCalculator, reference: BaseCalculator, elements: Sequence[str], rng: np.random.Generator
) -> Measured:
    """Force errors in meV/Å on fresh and on far frames, and the rank correlation of σ_F and error over all of them."""
    fresh = make_fresh_frames(reference, elements, rng)
    far = make_far_frames(reference, elements, rng)
    mixed = force_errors(calculator, [*fresh, *far])
    values = [
        PropertyValue(
            name=f"force RMSE, {kind} frames", value=1000 * force_errors(calculator, frames).rmse, unit="meV/Å"
        )
        for kind, frames in (("fresh", fresh), ("far", far))
    ]
    correlations = (("mean", mixed.rank_correlation_mean), ("largest", mixed.rank_correlation_max))
    values += [
        PropertyValue(name=f"rank correlation of {name} σ_F and error", value=correlation, unit="")
        for name, correlation in correlations
        if correlation is not None
    ]
    remarks = () if len(values) == 4 else ("The calculator gives no forces_std to rank.",)
    return Measured(values=tuple(values), remarks=remarks)
