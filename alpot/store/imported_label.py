"""A label out of what a file of the user says: checked, named, and with a note of where it is from."""

from __future__ import annotations

from typing import Any

import numpy as np
from ase import Atoms
from ase.stress import full_3x3_to_voigt_6_stress

from alpot.errors import LevelOfTheoryError, StorageError, StructureError
from alpot.store.labels import Label, label_key


def check_level(place: str, stated: str, wanted: str) -> None:
    """Refuses labels of another level of theory than the campaign's.

    Args:
        place: file, and frame if it is one of many, for the message.
        stated: hash of the level of theory that the file states.
        wanted: hash of the campaign's.

    Raises:
        LevelOfTheoryError: they differ.
    """
    if stated != wanted:
        raise LevelOfTheoryError(
            f"{place} states the level of theory {stated}, but this campaign's reference is {wanted};"
            " a dataset must not mix them"
        )


def imported_label(
    place: str,
    source: dict[str, Any],
    atoms: Atoms,
    energy: Any,
    forces: Any,
    stress: Any,
    level_of_theory: str,
) -> Label:
    """A label from what a file holds, in whatever types and shapes it came.

    Args:
        place: file and frame, for the message.
        source: where the frame lies, for the label's provenance.
        atoms: the structure; only numbers, positions, cell and pbc count.
        energy: total energy in eV.
        forces: (n_atoms, 3) eV/Å.
        stress: (6,) in Voigt order, (3, 3), (9,) or None, eV/Å³.
        level_of_theory: hash of the reference that computed it.

    Raises:
        StructureError: a number is missing, not finite, or not a number; or a shape is another one.
    """
    try:
        if stress is not None and np.size(stress) == 9:
            stress = full_3x3_to_voigt_6_stress(np.reshape(stress, (3, 3)))
        bare = Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=atoms.pbc)
        return Label(
            key=label_key(bare, level_of_theory),
            atoms=bare,
            energy=energy,
            forces=forces,
            stress=stress,
            level_of_theory=level_of_theory,
            provenance={"imported": source},
        )
    except (StorageError, ValueError, TypeError) as error:
        raise StructureError(f"{place}: {error}") from error
