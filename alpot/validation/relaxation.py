"""Relaxation of the configurations that properties are energies of, with an error that says what did not relax."""

from __future__ import annotations

from ase import Atoms
from ase.optimize import BFGS, FIRE
from ase.optimize.optimize import Optimizer

from alpot.errors import PotentialError
from alpot.validation.properties import energy_of

#: BFGS keeps a matrix of (3 N)²: above this many atoms its algebra costs more than the steps that it saves.
_BFGS_ATOMS = 150


def relax(atoms: Atoms, what: str, *, max_force: float = 0.01, max_steps: int = 500) -> float:
    """Relax the positions in place, at constant cell; constraints are respected.

    Args:
        atoms: with a calculator.
        what: for the error, such as "a vacancy in fcc Al".
        max_force: eV/Å, largest force that may be left on an atom.
        max_steps: of the optimizer.

    Returns:
        The energy in eV.

    Raises:
        PotentialError: the forces do not vanish within ``max_steps``.
        NonFiniteError: an energy is NaN or infinite.
    """
    optimizer: Optimizer = BFGS(atoms, logfile=None) if len(atoms) <= _BFGS_ATOMS else FIRE(atoms, logfile=None)
    return relax_by(optimizer, atoms, what, max_force=max_force, max_steps=max_steps)


def relax_by(optimizer: Optimizer, atoms: Atoms, what: str, *, max_force: float, max_steps: int) -> float:
    """Relax atoms in place by an optimizer of theirs; arguments, energy and errors as of :func:`relax`."""
    if not optimizer.run(fmax=max_force, steps=max_steps):
        raise PotentialError(
            f"{what} ({len(atoms)} atoms) did not relax to {max_force} eV/Å within {max_steps} steps: it may be no"
            " minimum of this potential"
        )
    return energy_of(atoms)
