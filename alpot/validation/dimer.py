"""Whether a potential has a wall: two atoms alone, and two neighbors pressed together within a crystal.

Training data rarely hold atoms at half of their distance; what a potential extrapolates there decides whether atoms
that collide in hot or shocked matter part again.
"""

from __future__ import annotations

import numpy as np
from ase import Atoms
from ase.calculators.calculator import BaseCalculator
from numpy.typing import NDArray

from alpot.potential.pair_repulsion import zbl_energy
from alpot.validation.crystals import build_supercell, preferred_structure, start_volume
from alpot.validation.lattice import Equilibrium
from alpot.validation.point_defects import MINIMUM_ATOMS, shells
from alpot.validation.properties import Curve, Measured, PropertyValue, attached, energy_of

#: Å: nuclei that come closer have energies of keV, beyond classical dynamics of matter.
_CLOSEST = 0.3
#: Å between points: interpolation then errs by 0.1 % in the distance at which a wall is met.
_STEP = 0.05
#: eV above two atoms apart: more than any collision in a liquid or a shock of 100 GPa has.
_WALL = 10.0
#: Where the wall's height is told, and how far a neighbor is pressed, of the distance of neighbors in the crystal.
_HALF = 0.5
_PRESSED_TO = 0.4
#: In steps of a fortieth of the distance of neighbors, so that a half is one of them.
_PRESSED_POINTS = 25
#: eV: falls of the energy below this are ripples, not a hole.
_RIPPLE = 0.01


def dimer_curve(calculator: BaseCalculator, element: str, *, farthest: float = 8.0) -> Measured:
    """Energy of two atoms alone, by distance, against the universal repulsion of their nuclei (ZBL).

    Only the repulsive part means anything for a potential that was not trained on molecules.

    Args:
        calculator: any ASE calculator.
        element: chemical symbol.
        farthest: Å; there the atoms count as apart. It should be beyond the calculator's cutoff.

    Raises:
        NonFiniteError: an energy is NaN or infinite.
    """
    dimer = attached(calculator, Atoms([element] * 2, cell=[2 * farthest] * 3, pbc=False))

    def energy(distance: float) -> float:
        dimer.positions = farthest + np.array([[-0.5, 0.0, 0.0], [0.5, 0.0, 0.0]]) * distance
        return energy_of(dimer)

    apart = energy(farthest)
    distances = np.arange(_CLOSEST, farthest, _STEP)
    energies = np.array([energy(distance) for distance in distances]) - apart
    zbl = zbl_energy(dimer.numbers[0], dimer.numbers[1], distances)
    half = _HALF * _crystal_spacing(element)
    values = [
        PropertyValue(name="dimer energy at half the nearest-neighbor distance", value=energy(half) - apart, unit="eV")
    ]
    remarks = ["The bond of the dimer means nothing for a potential that was not trained on molecules; its wall does."]
    wall = _wall(distances, energies)
    if wall is None:
        remarks.append(
            f"Two atoms of {element} alone have no wall: down to {_CLOSEST} Å their energy reaches"
            f" {energies.max():.1f} eV and never {_WALL:g} eV."
        )
    else:
        values.append(PropertyValue(name=f"dimer distance at {_WALL:g} eV", value=wall, unit="Å"))
    remarks += _hole(distances[::-1], energies[::-1], f"two atoms of {element} alone", below=wall or half)
    curve = Curve(
        name="energy of the dimer",
        x_label="distance (Å)",
        y_label="energy above two atoms apart (eV)",
        x=tuple(distances.tolist()),
        lines={"energy of the dimer": tuple(energies.tolist()), "ZBL": tuple(zbl.tolist())},
    )
    return Measured(values=tuple(values), curves=(curve,), remarks=tuple(remarks))


def pair_compression(
    calculator: BaseCalculator, crystal: Equilibrium, *, minimum_atoms: int = MINIMUM_ATOMS
) -> Measured:
    """Energy in eV of one atom of the perfect crystal that is pushed towards a neighbor, in hcp within its plane.

    Nobody else moves. It has to rise all the way: where it falls again, atoms of a hot crystal collapse onto each
    other.

    Args:
        calculator: any ASE calculator.
        crystal: at its equilibrium by the same calculator.
        minimum_atoms: the supercell has at least so many.

    Raises:
        NonFiniteError: an energy is NaN or infinite.
    """
    atoms = attached(calculator, crystal.supercell(minimum_atoms))
    vector = _neighbor(atoms, crystal)
    spacing = float(np.linalg.norm(vector))
    towards = vector / spacing
    site = atoms.positions[0].copy()
    distances = np.linspace(spacing, _PRESSED_TO * spacing, _PRESSED_POINTS)
    energies = np.empty(len(distances))
    for index, distance in enumerate(distances):
        atoms.positions[0] = site + (spacing - distance) * towards
        energies[index] = energy_of(atoms)
    energies -= energies[0]
    at_half = float(energies[np.abs(distances - _HALF * spacing).argmin()])
    name = f"{crystal.structure} {crystal.element}"
    curve = Curve(
        name="energy of a compressed pair",
        x_label="distance (Å)",
        y_label="energy above the crystal's (eV)",
        x=tuple(distances[::-1].tolist()),
        lines={"energy of a compressed pair": tuple(energies[::-1].tolist())},
    )
    return Measured(
        values=(PropertyValue(name="compressed pair at half the nearest-neighbor distance", value=at_half, unit="eV"),),
        curves=(curve,),
        remarks=_hole(distances, energies, f"two neighbors in {name}", below=spacing),
    )


def _neighbor(atoms: Atoms, crystal: Equilibrium) -> NDArray[np.float64]:
    """(3,) Å, from the first atom to a nearest neighbor; in hcp to one in its own plane.

    Of the twelve neighbors in hcp six are in the plane, and which six are nearer depends on c/a, in which potential and
    reference need not agree.
    """
    vectors = np.array(atoms.get_distances(0, np.arange(1, len(atoms)), mic=True, vector=True))
    if crystal.structure == "hcp":
        vectors = vectors[np.abs(vectors[:, 2]) < 0.1 * crystal.lattice_constant]
    return vectors[np.linalg.norm(vectors, axis=1).argmin()]


def _crystal_spacing(element: str) -> float:
    """Å between neighbors in the element's crystal, from experiment; the potential need not bind one."""
    crystal = build_supercell(element, preferred_structure(element), start_volume(element), MINIMUM_ATOMS)
    return shells(crystal)[0][0]


def _wall(distances: NDArray[np.float64], energies: NDArray[np.float64]) -> float | None:
    """Å, the largest distance at which the energy is that of the wall; None where it never is.

    Args:
        distances: (n,) Å, ascending.
        energies: (n,) eV, the last is zero.
    """
    above = np.flatnonzero(energies >= _WALL)
    if not len(above):
        return None
    last = int(above[-1])
    return float(np.interp(-_WALL, -energies[last : last + 2], distances[last : last + 2]))


def _hole(distances: NDArray[np.float64], energies: NDArray[np.float64], who: str, *, below: float) -> tuple[str, ...]:
    """A remark where the energy falls as the atoms come closer.

    Args:
        distances: (n,) Å, descending.
        energies: (n,) eV.
        who: of the remark.
        below: Å; only there the energy has to rise.
    """
    near = distances <= below + 1e-9
    highest = np.maximum.accumulate(energies[near])
    falls = highest - energies[near]
    if not (falls > _RIPPLE).any():
        return ()
    start = distances[near][int((falls > _RIPPLE).argmax()) - 1]
    return (
        f"The energy of {who} falls as they come closer than {start:.2f} Å, by up to {falls.max():.1f} eV: there is a"
        ' hole behind the wall, which a pair repulsion as the baseline of the potential closes (code "zbl").',
    )
