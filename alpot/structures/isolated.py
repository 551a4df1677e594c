"""Isolated atoms: the zero of cohesive and formation energies, and nothing to learn forces from."""

from __future__ import annotations

from ase import Atoms

#: Edge in Å of the box around an isolated atom, for codes that need one: no atom's density reaches its faces.
_BOX = 12.0


def isolated_atom(symbol: str) -> Atoms:
    """One atom, not periodic, in the middle of a cubic box."""
    return Atoms(symbol, positions=[[_BOX / 2] * 3], cell=[_BOX] * 3, pbc=False)


def is_isolated_atom(atoms: Atoms) -> bool:
    """Whether a frame is one atom without periodic images."""
    return len(atoms) == 1 and not atoms.pbc.any()
