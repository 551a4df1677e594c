"""Equilibrium of a crystal: lattice constants, energy, and equation of state around it.

Only energies are needed. The energy is sampled on a grid of volumes that is moved until the minimum lies in its middle,
so a poor start costs a few more calls and nothing else. Crystals relax in volume and c/a; their atoms are at sites that
symmetry fixes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from ase import Atoms
from ase.calculators.calculator import BaseCalculator
from ase.units import GPa

from alpot.errors import PotentialError
from alpot.validation.crystals import build_crystal, build_supercell, lattice_constant, start_volume
from alpot.validation.equation_of_state import EquationOfState, birch_murnaghan
from alpot.validation.properties import Curve, Measured, PropertyValue, attached, energy_of
from alpot.validation.prototypes import PROTOTYPES, Structure

#: Ratio of neighboring volumes of the grid on which the minimum is searched, wide enough that ripples of a learned
#: potential do not stop the search; then of the grid whose equation of state gives it. That one, ±1.5 % in volume, is
#: narrow enough to find the point where the pressure vanishes in spite of ripples (ANI-Al: 2e-5 in the lattice
#: constant, 4e-4 with ±4.5 %), though the energy rises by a meV/atom, far above numerical noise.
_SEARCH_STEP, _FIT_STEP = 0.015, 0.005
_HALF_WIDTH = 3
#: The search gives up at this multiple, or fraction, of the volume at which it began: spheres in contact take 2.2 times
#: as much room in diamond as in fcc, where the search for diamond may begin.
_FURTHEST = 2.5
#: For c/a, which is searched in turns with the volume until it moves by less than its tolerance: the energy is then
#: 0.05 meV from its minimum. Most hcp metals need one or two turns.
_C_OVER_A_STEP = 0.015
_C_OVER_A_TOLERANCE = 2e-3
_MAX_TURNS = 10
#: How far c/a may be from the prototype's for a crystal still to be called by its name: 16 % in Zn and Cd, the hcp
#: metals that are farthest from close-packed spheres; β-Sn becomes diamond at 160 %.
_C_OVER_A_WINDOW = 0.20
#: Of the equation of state: its volumes lie within this fraction of equilibrium ...
_STATE_RANGE = 0.10
#: ... and energies this far from it, in eV/atom, are worth a remark: what a good potential is wrong by altogether.
_SMOOTH = 1e-3


@dataclass(frozen=True, kw_only=True)
class Equilibrium:
    """A crystal at its own equilibrium according to one calculator.

    Attributes:
        element: chemical symbol.
        structure: prototype.
        volume: per atom, Å³.
        c_over_a: relaxed; 1 for cubic crystals.
        lattice_constant: a in Å.
        bulk_modulus: GPa, at constant c/a, from energies within 1.5 % of the volume: the local curvature.
        energy: eV/atom.
    """

    element: str
    structure: Structure
    volume: float
    c_over_a: float
    lattice_constant: float
    bulk_modulus: float
    energy: float

    @property
    def primitive(self) -> Atoms:
        """Primitive cell at equilibrium."""
        return build_crystal(self.element, self.structure, self.volume, self.c_over_a)

    def supercell(self, minimum_atoms: int) -> Atoms:
        """The most compact block of right-angled cells at equilibrium with at least so many atoms."""
        return build_supercell(self.element, self.structure, self.volume, minimum_atoms, self.c_over_a)


def equilibrium(
    calculator: BaseCalculator,
    element: str,
    structure: Structure,
    *,
    volume: float | None = None,
    relax_shape: bool = True,
) -> Equilibrium:
    """Find the equilibrium volume of a crystal, and the minimum in c/a that is downhill from the prototype's.

    Args:
        calculator: any ASE calculator.
        element: chemical symbol.
        structure: prototype.
        volume: per atom in Å³, where the search begins; by default the experimental one.
        relax_shape: whether c/a is searched, or kept at the prototype's.

    Raises:
        PotentialError: there is no minimum within a factor of 2.5 of the first volume, or for c/a near the prototype's.
        NonFiniteError: an energy is NaN or infinite.
    """
    start = volume or start_volume(element)
    c_over_a = PROTOTYPES[structure].c_over_a
    middle = _find_volume(calculator, element, structure, start, c_over_a, _SEARCH_STEP).volume
    if relax_shape and PROTOTYPES[structure].family != "cubic":
        middle, c_over_a = _relax_shape(calculator, element, structure, middle)
    fit = _find_volume(calculator, element, structure, middle, c_over_a, _FIT_STEP)
    return Equilibrium(
        element=element,
        structure=structure,
        volume=fit.volume,
        c_over_a=c_over_a,
        lattice_constant=lattice_constant(structure, fit.volume, c_over_a),
        bulk_modulus=fit.bulk_modulus / GPa,
        energy=fit.energy,
    )


def lattice_properties(calculator: BaseCalculator, crystal: Equilibrium, *, points: int = 11) -> Measured:
    """Lattice constants and energy of a crystal, and its equation of state within 10 % of the equilibrium volume.

    That range is the usual one, and wide because dB/dP is a third derivative, which the ripples of a learned potential
    hide in a narrow one.

    Args:
        calculator: any ASE calculator.
        crystal: from :func:`equilibrium` with the same calculator; c/a is kept.
        points: volumes at which the energy is computed.

    Raises:
        PotentialError: the energies have no minimum.
        NonFiniteError: an energy is NaN or infinite.
    """
    volumes = crystal.volume * np.linspace(1 - _STATE_RANGE, 1 + _STATE_RANGE, points)
    energies = np.array(
        [_energy(calculator, crystal.element, crystal.structure, volume, crystal.c_over_a) for volume in volumes]
    )
    state = birch_murnaghan(volumes, energies)
    values = [PropertyValue(name="lattice constant", value=crystal.lattice_constant, unit="Å")]
    if PROTOTYPES[crystal.structure].family != "cubic":
        values.append(PropertyValue(name="c/a", value=crystal.c_over_a, unit=""))
    values += [
        PropertyValue(name="bulk modulus", value=state.bulk_modulus / GPa, unit="GPa"),
        PropertyValue(name="bulk modulus pressure derivative", value=state.derivative, unit=""),
        PropertyValue(name="energy per atom", value=crystal.energy, unit="eV"),
    ]
    curve = Curve(
        name="equation of state",
        x_label="volume (Å³/atom)",
        y_label="energy above equilibrium (meV/atom)",
        x=tuple(volumes.tolist()),
        lines={"equation of state": tuple((1000 * (energies - crystal.energy)).tolist())},
    )
    return Measured(values=tuple(values), curves=(curve,), remarks=_remarks_on(state))


def _remarks_on(state: EquationOfState) -> tuple[str, ...]:
    if state.misfit < _SMOOTH:
        return ()
    return (
        f"The energies deviate from the equation of state of Birch and Murnaghan by up to {1000 * state.misfit:.1f}"
        " meV/atom: they are not smooth, and the bulk modulus depends on the range of volumes.",
    )


def _energy(calculator: BaseCalculator, element: str, structure: Structure, volume: float, c_over_a: float) -> float:
    """eV/atom of a crystal with this volume per atom (Å³)."""
    atoms = attached(calculator, build_crystal(element, structure, volume, c_over_a))
    return energy_of(atoms) / len(atoms)


def _relax_shape(calculator: BaseCalculator, element: str, structure: Structure, volume: float) -> tuple[float, float]:
    """Volume per atom in Å³ and c/a of a crystal at equilibrium, from the volume at the prototype's c/a."""
    c_over_a = PROTOTYPES[structure].c_over_a
    for _ in range(_MAX_TURNS):
        last, c_over_a = c_over_a, _best_c_over_a(calculator, element, structure, volume, c_over_a)
        if abs(c_over_a / last - 1) < _C_OVER_A_TOLERANCE:
            return volume, c_over_a
        volume = _find_volume(calculator, element, structure, volume, c_over_a, _SEARCH_STEP).volume
    raise PotentialError(
        f"c/a of {PROTOTYPES[structure].label} {element} did not settle in {_MAX_TURNS} turns of volume and c/a; it"
        f" was {c_over_a:.3f}"
    )


def _find_volume(
    calculator: BaseCalculator, element: str, structure: Structure, start: float, c_over_a: float, step: float
) -> EquationOfState:
    """The equation of state of energies on a grid of volumes, the lowest of them in the middle."""

    def energy(index: int) -> float:
        return _energy(calculator, element, structure, start * np.exp(step * index), c_over_a)

    known: dict[int, float] = {}
    middle = 0
    while abs(middle) * step <= np.log(_FURTHEST):
        window = range(middle - _HALF_WIDTH, middle + _HALF_WIDTH + 1)
        for index in window:
            if index not in known:
                known[index] = energy(index)
        lowest = min(window, key=known.__getitem__)
        if lowest == middle:
            volumes = start * np.exp(step * np.array(window))
            return birch_murnaghan(volumes, np.array([known[index] for index in window]))
        middle = lowest
    raise PotentialError(
        f"{PROTOTYPES[structure].label} {element} has no minimum of the energy between {start / _FURTHEST:.1f}"
        f" and {start * _FURTHEST:.1f} Å³ per atom (the search began at {start:.1f}): this calculator does not bind the"
        " crystal"
    )


def _best_c_over_a(
    calculator: BaseCalculator, element: str, structure: Structure, volume: float, start: float
) -> float:
    """c/a with the lowest energy at this volume per atom (Å³), downhill from a start: of a parabola through three."""

    def energy(step: int) -> float:
        return _energy(calculator, element, structure, volume, start * (1 + _C_OVER_A_STEP * step))

    ideal = PROTOTYPES[structure].c_over_a
    known: dict[int, float] = {}
    middle = 0
    while abs(start * (1 + _C_OVER_A_STEP * middle) / ideal - 1) <= _C_OVER_A_WINDOW:
        window = (middle - 1, middle, middle + 1)
        for step in window:
            if step not in known:
                known[step] = energy(step)
        below, lowest, above = (known[step] for step in window)
        if lowest <= min(below, above):
            curvature = below - 2 * lowest + above
            offset = 0.5 * (below - above) / curvature if curvature > 0 else 0.0
            return start * (1 + _C_OVER_A_STEP * (middle + offset))
        middle += 1 if above < below else -1
    raise PotentialError(
        f"{PROTOTYPES[structure].label} {element} at {volume:.1f} Å³ per atom has no minimum of the energy for c/a"
        f" within {100 * _C_OVER_A_WINDOW:.0f} % of {ideal:.3f}: the structure is not stable in this potential"
    )
