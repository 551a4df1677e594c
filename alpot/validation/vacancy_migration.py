"""The barrier that a vacancy crosses to the next site, by a nudged elastic band with a climbing image."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from ase import Atoms
from ase.calculators.calculator import BaseCalculator
from ase.calculators.mixing import SumCalculator
from ase.mep import NEB
from ase.optimize import FIRE
from numpy.typing import NDArray

from alpot.errors import PotentialError
from alpot.validation.lattice import Equilibrium
from alpot.validation.point_defects import MAX_FORCE, MINIMUM_ATOMS, refuse_others, relax_vacancies
from alpot.validation.properties import Curve, Measured, PropertyValue, attached, energy_of

#: Movable images between the ends. The climbing one finds the saddle, whatever their number; five draw the path.
_IMAGES = 5
#: eV/Å: the band is brought near the path before its highest image begins to climb.
_BAND_FORCE = 0.1
_MAX_STEPS = 300
#: eV by which the two ends may differ, which symmetry makes equal: what incomplete relaxation leaves, and some more.
_SAME_ENERGY = 0.01
#: Å out of the basal plane: rounding only.
_IN_PLANE = 1e-3


def vacancy_migration_energy(
    calculator: BaseCalculator, crystal: Equilibrium, *, minimum_atoms: int = MINIMUM_ATOMS
) -> Measured:
    """Energy in eV of the saddle of a hop to the nearest site (hcp: within the basal plane) above the vacancy's.

    Climbing-image nudged elastic band: Henkelman, Uberuaga and Jónsson, J. Chem. Phys. 113, 9901 (2000), with the
    tangents of Henkelman and Jónsson, ibid. 9978; first path by the image-dependent pair potential.

    Args:
        calculator: any ASE calculator.
        crystal: fcc, bcc or hcp, at its equilibrium by the same calculator.
        minimum_atoms: the supercell has at least so many sites.

    Raises:
        PotentialError: the crystal is another one, the vacancy or the band does not relax, or there is no barrier.
    """
    refuse_others("the migration of a vacancy", crystal, ("fcc", "bcc", "hcp"))
    what = f"a vacancy that hops in {crystal.structure} {crystal.element}"
    ends = _ends(calculator, crystal, minimum_atoms)
    energies = [relax_vacancies(end, what) for end in ends]
    if abs(energies[1] - energies[0]) > _SAME_ENERGY:
        raise PotentialError(
            f"{what} ({len(ends[0])} atoms): before and after the hop its energy differs by"
            f" {abs(energies[1] - energies[0]):.3f} eV, though the sites are equivalent: the relaxed vacancy is not"
            " symmetric, or not the lowest minimum"
        )
    images = [ends[0], *(ends[0].copy() for _ in range(_IMAGES)), ends[1]]
    for image in images:  # a sum of one: it remembers the last answer for its image, which all others ask for in turn
        image.calc = SumCalculator([calculator])
    _relax_band(images, what)
    path = np.array([energy_of(image) for image in images])
    path -= path[0]
    barrier = float(path.max())
    if path.argmax() in (0, len(path) - 1):
        raise PotentialError(f"{what}: there is no barrier on the path, the vacancy is no minimum of this potential")
    curve = Curve(
        name="energy along the hop of a vacancy",
        x_label="fraction of the path",
        y_label="energy above the vacancy's (eV)",
        x=tuple(_fractions(images).tolist()),
        lines={"energy along the hop of a vacancy": tuple(path.tolist())},
    )
    value = PropertyValue(name="vacancy migration energy", value=barrier, unit="eV")
    return Measured(values=(value,), curves=(curve,), remarks=_remarks(path, what))


def _ends(calculator: BaseCalculator, crystal: Equilibrium, minimum_atoms: int) -> tuple[Atoms, Atoms]:
    """The crystal without its atom 0, and the same with a neighbor moved into the gap; atoms in the same order."""
    perfect = crystal.supercell(minimum_atoms)
    jumps = perfect.get_distances(0, np.arange(len(perfect)), mic=True, vector=True)
    lengths = np.linalg.norm(jumps, axis=1)
    lengths[0] = np.inf
    if crystal.structure == "hcp":
        lengths[np.abs(jumps[:, 2]) > _IN_PLANE] = np.inf
    # Of hops that are equal, one along the cell's first edge: the cell keeps its mirror plane.
    neighbor = int(np.lexsort((-np.abs(jumps[:, 0]), lengths.round(3)))[0])
    before, after = attached(calculator, perfect), attached(calculator, perfect)
    after.positions[neighbor] -= jumps[neighbor]
    del before[0], after[0]
    return before, after


def _relax_band(images: list[Atoms], what: str) -> None:
    NEB(images, method="improvedtangent").interpolate("idpp", mic=True)
    for climb, max_force in ((False, _BAND_FORCE), (True, MAX_FORCE)):
        band = NEB(images, climb=climb, method="improvedtangent")
        if not FIRE(band, logfile=None).run(fmax=max_force, steps=_MAX_STEPS):
            raise PotentialError(
                f"{what} ({len(images[0])} atoms): the elastic band of {_IMAGES} images did not relax to"
                f" {max_force} eV/Å within {_MAX_STEPS} steps: the path may break up into several"
            )


def _fractions(images: list[Atoms]) -> NDArray[np.float64]:
    """(n_images,) length of the path up to each image, by the whole."""
    steps = [np.linalg.norm(b.positions - a.positions) for a, b in pairwise(images)]
    lengths = np.cumsum([0.0, *steps])
    return lengths / lengths[-1]


def _remarks(path: NDArray[np.float64], what: str) -> tuple[str, ...]:
    inner = path[1:-1]
    dips = (inner < path[:-2] - MAX_FORCE) & (inner < path[2:] - MAX_FORCE)
    return (f"On its way {what} passes another minimum.",) if dips.any() else ()
