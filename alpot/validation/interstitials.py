"""Formation energies of self-interstitials: dumbbells along ⟨100⟩, ⟨110⟩, ⟨111⟩, octahedral and tetrahedral sites."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from ase import Atoms
from ase.calculators.calculator import BaseCalculator
from numpy.typing import NDArray

from alpot.errors import PotentialError
from alpot.validation.lattice import Equilibrium
from alpot.validation.point_defects import MAX_FORCE, MINIMUM_ATOMS, PerfectCell, refuse_others, shells
from alpot.validation.properties import Measured, PropertyValue, attached
from alpot.validation.relaxation import relax

#: Directions of dumbbells.
_AXES = {"⟨100⟩": (1, 0, 0), "⟨110⟩": (1, 1, 0), "⟨111⟩": (1, 1, 1)}
#: Sites between atoms, from an atom, in lattice constants.
_SITES = {
    "fcc": {"octahedral": (0.5, 0.0, 0.0), "tetrahedral": (0.25, 0.25, 0.25)},
    "bcc": {"octahedral": (0.5, 0.0, 0.0), "tetrahedral": (0.5, 0.25, 0.0)},
}
#: Distance of the two atoms of a dumbbell before relaxation, of the distance of neighbors: about as in metals.
_DUMBBELL = 0.85
#: Of the distance of neighbors: an interstitial that is farther from its named geometry is another one.
_OFF = 0.1
#: Å, and a direction of no symmetry: the push by which a saddle, held by symmetry alone, is left. With the lower limit
#: of forces in eV/Å after it, downward curvatures from 0.03 eV/Å² on are noticed.
_PUSH = 0.15 * np.array([1.0, np.sqrt(2), np.sqrt(3)]) / np.sqrt(6)
_PUSHED_MAX_FORCE = 0.005
#: eV by which relaxation after the push must lower the energy to say that it was a saddle.
_LOWER = 0.01


@dataclass(frozen=True, kw_only=True)
class _Relaxed:
    """An interstitial that was relaxed from its named geometry.

    Attributes:
        name: such as "⟨100⟩ dumbbell".
        energy: of formation, eV.
        shift: Å by which it has left the geometry of its name; None where it has kept it.
        pushed: eV, of formation, relaxed again from a push; None where that does not come to rest.
    """

    name: str
    energy: float
    shift: float | None
    pushed: float | None


def interstitial_formation_energies(
    calculator: BaseCalculator, crystal: Equilibrium, *, minimum_atoms: int = MINIMUM_ATOMS
) -> Measured:
    """E(N + 1 atoms, relaxed) − (N + 1)/N E(N atoms) in eV, in the cell of the perfect crystal at equilibrium.

    That is corrected for the pressure in the cell, if the calculator has stress (:class:`PerfectCell`).

    Each interstitial is relaxed from its named geometry, whose symmetry holds it there even where it is a saddle. Then
    it is pushed and relaxed again; remarks say which are no minima, and what they become.

    Args:
        calculator: any ASE calculator.
        crystal: fcc or bcc, at its equilibrium by the same calculator.
        minimum_atoms: the supercell has at least so many sites.

    Raises:
        PotentialError: the crystal is another one, or none of the interstitials relaxes.
    """
    refuse_others("the set of interstitials ⟨100⟩, ⟨110⟩, ⟨111⟩, octahedral, tetrahedral", crystal, ("fcc", "bcc"))
    perfect = attached(calculator, crystal.supercell(minimum_atoms))
    cell = PerfectCell.of(perfect, crystal)
    spacing = shells(perfect)[0][0]
    found, remarks = [], []
    if cell.pressure is None:
        remarks.append(
            "Without stress, nothing corrects these formation energies for the size of the cell; they are some percent"
            " too high."
        )
    for name, (atoms, own, axis) in _starts(perfect, crystal, spacing).items():
        try:
            found.append(_relaxed(name, attached(calculator, atoms), own, axis, cell, spacing))
        except PotentialError as error:
            remarks.append(f"The {name} has no formation energy: {error}.")
    if not found:
        raise PotentialError(f"no interstitial of {crystal.structure} {crystal.element} relaxes: {' '.join(remarks)}")
    values = tuple(_value(each, found) for each in found)
    remarks += [remark for each in found if (remark := _instability(each, found)) is not None]
    return Measured(values=values, remarks=tuple(remarks))


def _starts(
    perfect: Atoms, crystal: Equilibrium, spacing: float
) -> dict[str, tuple[Atoms, list[int], NDArray[np.float64] | None]]:
    """By name: atoms, the indices of the interstitial's own atoms, and the axis along which two of them may part."""
    starts: dict[str, tuple[Atoms, list[int], NDArray[np.float64] | None]] = {}
    extra = Atoms(crystal.element, positions=perfect.positions[:1])
    for direction, integers in _AXES.items():
        axis = np.array(integers) / np.linalg.norm(integers)
        atoms = perfect + extra
        atoms.positions[0] -= 0.5 * _DUMBBELL * spacing * axis
        atoms.positions[-1] += 0.5 * _DUMBBELL * spacing * axis
        starts[f"{direction} dumbbell"] = (atoms, [0, len(perfect)], axis)
    for site, fractions in _SITES[crystal.structure].items():
        atoms = perfect + extra
        atoms.positions[-1] += np.array(fractions) * crystal.lattice_constant
        starts[f"{site} interstitial"] = (atoms, [len(perfect)], None)
    return starts


def _relaxed(
    name: str, atoms: Atoms, own: list[int], axis: NDArray[np.float64] | None, cell: PerfectCell, spacing: float
) -> _Relaxed:
    start = atoms.positions[own].copy()
    what = f"the {name} of {atoms.symbols[0]}"
    energy = cell.formation_energy(relax(atoms, what, max_force=MAX_FORCE), atoms, what)
    shift = _shift(atoms.positions[own] - start, axis)
    atoms.positions[own[-1]] += _PUSH
    what += ", pushed,"
    try:
        lower = relax(atoms, what, max_force=_PUSHED_MAX_FORCE)
    except PotentialError:
        pushed = None
    else:
        pushed = cell.formation_energy(lower, atoms, what)
    return _Relaxed(name=name, energy=energy, shift=shift if shift > _OFF * spacing else None, pushed=pushed)


def _shift(moved: NDArray[np.float64], axis: NDArray[np.float64] | None) -> float:
    """Å by which the interstitial's own atoms (1 or 2, 3) have moved, but for what they may: apart along their axis."""
    if axis is not None:
        moved = moved + 0.5 * (moved[1] - moved[0]) @ axis * axis * np.array([[1.0], [-1.0]])
    return float(np.linalg.norm(moved, axis=1).max())


def _value(relaxed: _Relaxed, all_relaxed: list[_Relaxed]) -> PropertyValue:
    shortfall = None
    if relaxed.shift is not None:
        other = _same(relaxed.energy, relaxed, all_relaxed)
        shortfall = f"it moved by {relaxed.shift:.2f} Å as it relaxed" + (f", and became the {other}" if other else "")
    return PropertyValue(name=f"formation energy, {relaxed.name}", value=relaxed.energy, unit="eV", shortfall=shortfall)


def _instability(relaxed: _Relaxed, all_relaxed: list[_Relaxed]) -> str | None:
    if relaxed.pushed is None:
        return f"Pushed by {np.linalg.norm(_PUSH):.2f} Å, the {relaxed.name} does not come to rest again."
    if relaxed.pushed > relaxed.energy - _LOWER:
        return None
    other = _same(relaxed.pushed, relaxed, all_relaxed)
    return (
        f"The {relaxed.name} is no minimum: pushed by {np.linalg.norm(_PUSH):.2f} Å, it relaxes to"
        f" {relaxed.pushed:.3f} eV" + (f", as the {other}." if other else ".")
    )


def _same(energy: float, relaxed: _Relaxed, all_relaxed: list[_Relaxed]) -> str | None:
    """The interstitial, among those that kept their geometry, that has this energy; None where there is none."""
    others = [each for each in all_relaxed if each.shift is None and each is not relaxed]
    others = [each for each in others if abs(each.energy - energy) < _LOWER]
    return min(others, key=lambda each: abs(each.energy - energy)).name if others else None
