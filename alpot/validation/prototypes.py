"""The crystal structures that elements are compared in: sites given by symmetry, cells of a = 1 Å.

No site has a free coordinate, so that a crystal is fixed by its volume per atom and, where it is not cubic, by c/a.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Literal

import numpy as np
from ase import Atoms
from ase.build import make_supercell
from ase.spacegroup import crystal

Structure = Literal["fcc", "bcc", "hcp", "dhcp", "sc", "diamond", "A15", "beta_Sn", "sh"]

#: c/a of close-packed spheres.
IDEAL_C_OVER_A = float(np.sqrt(8 / 3))


@dataclass(frozen=True)
class Prototype:
    """A structure type.

    Attributes:
        label: its name in tables.
        space_group: number in the International Tables; first choice of the origin.
        sites: (n, 3) fractional coordinates of one site of each orbit, in the conventional cell.
        c_over_a: of the ideal structure; 1 for cubic ones.
    """

    label: str
    space_group: int
    sites: tuple[tuple[float, float, float], ...]
    c_over_a: float = 1.0

    @property
    def family(self) -> Literal["cubic", "tetragonal", "hexagonal"]:
        """Crystal family, from the ranges of the space groups' numbers."""
        if self.space_group >= 195:
            return "cubic"
        return "hexagonal" if self.space_group >= 168 else "tetragonal"


_ORIGIN = (0.0, 0.0, 0.0)
_CLOSE_PACKED = (1 / 3, 2 / 3, 1 / 4)

PROTOTYPES: dict[Structure, Prototype] = {
    "fcc": Prototype("fcc", 225, (_ORIGIN,)),
    "bcc": Prototype("bcc", 229, (_ORIGIN,)),
    "hcp": Prototype("hcp", 194, (_CLOSE_PACKED,), IDEAL_C_OVER_A),
    "dhcp": Prototype("dhcp", 194, (_ORIGIN, _CLOSE_PACKED), 2 * IDEAL_C_OVER_A),
    "sc": Prototype("sc", 221, (_ORIGIN,)),
    "diamond": Prototype("diamond", 227, (_ORIGIN,)),
    "A15": Prototype("A15", 223, (_ORIGIN, (1 / 4, 0.0, 1 / 2))),
    # White tin has 0.546, silicon and germanium under pressure 0.55.
    "beta_Sn": Prototype("β-Sn", 141, (_ORIGIN,), 0.55),
    # Layers of spheres in contact, one right above the other.
    "sh": Prototype("sh", 191, (_ORIGIN,), 1.0),
}


@cache
def unit_cell(structure: Structure, kind: Literal["primitive", "right_angled"]) -> Atoms:
    """A cell of hydrogen with a = c = 1 Å, c along z and the first atom at the origin; not to be changed in place.

    The smallest right-angled cell is the conventional one, or for hexagonal structures a × √3 a × c.
    """
    prototype = PROTOTYPES[structure]
    hexagonal = prototype.family == "hexagonal"
    cell = crystal(
        ["H"] * len(prototype.sites),
        prototype.sites,
        spacegroup=prototype.space_group,
        cellpar=[1, 1, 1, 90, 90, 120 if hexagonal else 90],
        primitive_cell=kind == "primitive",
    )
    cell = Atoms(cell.numbers, positions=cell.positions - cell.positions[0], cell=cell.cell, pbc=True)
    if hexagonal and kind == "right_angled":
        cell = make_supercell(cell, [[1, 0, 0], [1, 2, 0], [0, 0, 1]])
    cell.wrap(eps=1e-9)
    return cell
