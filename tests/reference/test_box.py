"""The box of what is not periodic."""

from itertools import product

import numpy as np
import pytest
from ase import Atoms
from ase.constraints import FixAtoms

from alpot.reference.box import with_box


@pytest.mark.parametrize("pbc", list(product([True, False], repeat=3)))
def test_a_box_is_right_handed_and_has_vacuum(pbc: tuple[bool, bool, bool]) -> None:
    lengths = [4.0 if periodic else 0.0 for periodic in pbc]
    atoms = Atoms("Al2", positions=[(0, 0, 0), (1, 1, 1)], cell=lengths, pbc=pbc)
    boxed = with_box(atoms)
    assert np.linalg.det(boxed.cell.array) > 0 and boxed.pbc.tolist() == list(pbc)
    assert boxed.cell.lengths().tolist() == pytest.approx([4.0 if periodic else 13.0 for periodic in pbc])


@pytest.mark.parametrize(("given", "expected"), [(14.1, 14.1), (13.6, 15.0), (40.0, 40.0)])
def test_a_cell_that_has_vacuum_is_kept(given: float, expected: float) -> None:
    atoms = Atoms("Al2", positions=[(0, 0, 0), (0, 0, 2.05)], cell=[4.0, 4.0, given], pbc=[True, True, False])
    assert with_box(atoms).cell.lengths().tolist() == pytest.approx([4.0, 4.0, expected])


def test_constraints_stay_outside() -> None:
    atoms = Atoms("Al2", positions=[(0, 0, 0), (0, 0, 2.05)], constraint=FixAtoms([0]))
    assert not with_box(atoms).constraints and atoms.constraints
