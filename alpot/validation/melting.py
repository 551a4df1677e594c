"""Melting temperatures of the elements, the scale on which hot crystals and liquids are chosen."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from alpot.errors import PotentialError

#: K at normal pressure, rounded; after A. T. Dinsdale, CALPHAD 15, 317 (1991) and the CRC Handbook. Carbon is left out:
#: it does not melt at normal pressure.
_MELTING_TEMPERATURE: dict[str, int] = {
    **{"Li": 454, "Be": 1560, "B": 2349, "Na": 371, "Mg": 923, "Al": 933, "Si": 1687, "P": 317, "S": 388},
    **{"Ne": 25, "Ar": 84, "Kr": 116, "Xe": 161, "K": 336, "Ca": 1115, "Sc": 1814, "Ti": 1941, "V": 2183},
    **{"Cr": 2180, "Mn": 1519, "Fe": 1811, "Co": 1768, "Ni": 1728, "Cu": 1358, "Zn": 693, "Ga": 303, "Ge": 1211},
    **{"Se": 494, "Rb": 312, "Sr": 1050, "Y": 1795, "Zr": 2128, "Nb": 2750, "Mo": 2896, "Ru": 2607, "Rh": 2237},
    **{"Pd": 1828, "Ag": 1235, "Cd": 594, "In": 430, "Sn": 505, "Sb": 904, "Te": 723, "Cs": 302, "Ba": 1000},
    **{"La": 1193, "Ce": 1071, "Pr": 1204, "Nd": 1294, "Gd": 1586, "Hf": 2506, "Ta": 3290, "W": 3695, "Re": 3459},
    **{"Os": 3306, "Ir": 2719, "Pt": 2041, "Au": 1337, "Hg": 234, "Tl": 577, "Pb": 601, "Bi": 545},
}


def melting_temperature(elements: Sequence[str]) -> float:
    """Melting temperature in K of an element; of several, the mean: a scale for their mixture, not its liquidus.

    Raises:
        PotentialError: it is not known for one of them.
    """
    unknown = [element for element in elements if element not in _MELTING_TEMPERATURE]
    if unknown:
        raise PotentialError(
            f"no melting temperature is known for {', '.join(unknown)}, so there is no temperature for this test;"
            f" known elements: {' '.join(_MELTING_TEMPERATURE)}"
        )
    return float(np.mean([_MELTING_TEMPERATURE[element] for element in elements]))
