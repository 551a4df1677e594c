"""Free surfaces to start from: slabs of a crystal, with strain, displacements, vacancies and adatoms."""

from __future__ import annotations

import numpy as np
from ase import Atoms

from alpot.config import Material, SurfaceStarts
from alpot.structures.contacts import closest_approach, contact_distance
from alpot.structures.crystals import contact_limit, rattle, with_vacancies
from alpot.structures.density import draw_density, draw_numbers, volume_of
from alpot.structures.packing import push_apart
from alpot.structures.planes import stack

#: Default densities, relative to that at normal conditions: no pressure, but thermal expansion.
_DENSITIES = (0.85, 1.1)
#: Å between a slab and its image, as in the box that reference codes are given for what is not periodic.
_VACUUM = 12.0
#: Images of a slab's cell to each side that an adatom may touch.
_IMAGES = (-2, -1, 0, 1, 2)


def build_surface(material: Material, starts: SurfaceStarts, rng: np.random.Generator) -> tuple[Atoms, str]:
    """Builds one slab as a table of starts asks for it.

    Returns:
        The frame, periodic in xy but not along z, the normal; and the name of its prototype and surface.
    """
    name = str(rng.choice(starts.prototypes))
    miller = starts.miller_indices[int(rng.integers(len(starts.miller_indices)))]
    target = int(rng.integers(starts.atoms[0], starts.atoms[1] + 1))
    atoms = stack(name, miller, target, starts.atoms, rng)
    atoms.numbers = draw_numbers(material, len(atoms), rng)
    density = draw_density(atoms.numbers, starts.density, rng, relative=_DENSITIES)
    _strain_in_plane(atoms, starts.strain, rng)
    scale = (volume_of(atoms.numbers, density) / atoms.get_volume()) ** (1.0 / 3.0)
    atoms.set_cell(atoms.cell.array * scale, scale_atoms=True)
    closest = closest_approach(atoms)
    _open(atoms)
    if rng.random() < starts.vacancy_chance:
        atoms = with_vacancies(atoms, rng)
    if rng.random() < starts.adatom_chance:
        atoms += _adatom(atoms, int(rng.choice(atoms.numbers)), closest, rng)
    rattle(atoms, starts.rattle, rng)
    push_apart(atoms, contact_limit(closest))
    _open(atoms)
    atoms.pbc = (True, True, False)
    return atoms, f"{name} ({''.join(map(str, miller))})"


def _strain_in_plane(atoms: Atoms, largest: float, rng: np.random.Generator) -> None:
    """Applies a symmetric strain in xy, in place, with components uniform in ± ``largest``."""
    xx, yy, xy = rng.uniform(-largest, largest, 3)
    deformation = np.array([[1.0 + xx, xy, 0.0], [xy, 1.0 + yy, 0.0], [0.0, 0.0, 1.0]])
    atoms.set_cell(atoms.cell.array @ deformation, scale_atoms=True)


def _open(atoms: Atoms) -> None:
    """Puts vacuum between the slab and its images along z, in place."""
    cell = atoms.cell.array.copy()
    cell[2] = (0.0, 0.0, np.ptp(atoms.positions[:, 2]) + _VACUUM)
    atoms.set_cell(cell)
    atoms.center(axis=2)
    atoms.wrap()


def _adatom(slab: Atoms, number: int, closest: float, rng: np.random.Generator) -> Atoms:
    """An atom of the given number that has come down at a random place until it touched the slab.

    Args:
        slab: with its surface towards larger z.
        number: atomic number.
        closest: the distance at which it touches, as a fraction of the sum of the covalent radii.
        rng: the only source of randomness.
    """
    place = rng.random(2) @ slab.cell.array[:2, :2]
    images = np.array([(i, j) for i in _IMAGES for j in _IMAGES]) @ slab.cell.array[:2, :2]  # (25, 2) Å
    aside = np.linalg.norm(slab.positions[:, None, :2] + images - place, axis=2)  # (n_atoms, 25) Å
    touching = contact_distance(number, slab.numbers, closest)[:, None]  # (n_atoms, 1) Å
    rise = np.sqrt(np.clip(touching**2 - aside**2, 0.0, None))
    heights = np.where(aside < touching, slab.positions[:, 2:] + rise, slab.positions[:, 2].min())
    return Atoms(numbers=[number], positions=[[*place, heights.max()]])
