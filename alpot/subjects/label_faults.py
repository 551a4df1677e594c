"""What may be wrong with a label, and how one sees it by comparing the label with what is expected of its frame.

A label is refused for one of two reasons. Either it does not fit, and would fit far better if a *known* mistake were
undone (a unit, a sign, an order): that is told by name. Or it is so far off that no calibrated error explains it; that
limit is generous, because frames are labelled just where the potential errs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from ase import units
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from alpot.potential.frame_cache import LabelledFrame

#: What a number that was given in a wrong unit has to be multiplied by. Inverses are converted twice or backwards.
_ENERGY_UNITS = {
    "Hartree": units.Hartree,
    "Rydberg": units.Rydberg,
    "kcal/mol": units.kcal / units.mol,
    "kJ/mol": units.kJ / units.mol,
}
_FORCE_UNITS = {
    **{f"{name}/Å": factor for name, factor in _ENERGY_UNITS.items()},
    "Hartree/Bohr": units.Hartree / units.Bohr,
    "Rydberg/Bohr": units.Rydberg / units.Bohr,
    "eV/Bohr": 1.0 / units.Bohr,
}
_STRESS_UNITS = {
    "GPa": units.GPa,
    "kbar": 0.1 * units.GPa,
    "Hartree/Bohr³": units.Hartree / units.Bohr**3,
    "Rydberg/Bohr³": units.Rydberg / units.Bohr**3,
}

#: A label is only tested for known mistakes when it is this many times its expected error off: its forces; its energy.
_SUSPICIOUS, _SUSPICIOUS_TOTAL = 4.0, 6.0
#: How many times better it must fit when the mistake is undone.
_FAR_BETTER = 3.0
#: A corrected label must agree with the expectation to this share of its size: small numbers fit anything.
_AGREES = 0.5
#: One number fits a factor by chance more easily than many do: what a corrected energy's error must fall to.
_ENERGY_FITS = 0.2
#: Multiples of the expected error beyond which nothing is believed: of half of a frame's atoms, of one atom whose
#: neighbours fit, and of the energy and the stress of a frame.
_FRAME_LIMIT, _ATOM_LIMIT, _TOTAL_LIMIT = 10.0, 20.0, 12.0
#: Atoms that are looked at for an exchange, and that at least must tell of a factor; that must tell of no relation.
_FEW_ATOMS, _MANY_ATOMS = 4, 8
#: Cosine between given and expected forces below which they have nothing to do with each other.
_ALIKE = 0.3
#: Atoms for which another order is looked for: it takes their number squared in memory.
_MOST_ORDERED = 2000


@dataclass(frozen=True, kw_only=True)
class Expectation:
    """What a frame's label should be, and how wrong that may be (about one standard deviation, never zero).

    Attributes:
        energy: eV.
        forces: (n_atoms, 3) eV/Å.
        stress: (6,) eV/Å³, or None where nothing is expected.
        energy_error: eV/atom.
        force_error: (n_atoms,) eV/Å, of the norm.
        stress_error: eV/Å³, of the norm.
        by: who expects it, for the reader of a reason.
        is_rough: only known mistakes and gross energies are told then: what is unusual is not wrong.
    """

    energy: float
    forces: NDArray[np.float64]
    stress: NDArray[np.float64] | None
    energy_error: float
    force_error: NDArray[np.float64]
    stress_error: float = np.inf
    by: str
    is_rough: bool = False


def find_fault(label: LabelledFrame, expected: Expectation, leniency: float = 1.0) -> str | None:
    """Why a label cannot be right, in words; None where nothing speaks against it.

    Args:
        label: finite, and with one force for each atom.
        expected: of the label's frame.
        leniency: multiplies the limits beyond which a label is refused without a known mistake.
    """
    return (
        _fault_of_forces(np.asarray(label.forces), expected, leniency)
        or _fault_of_energy(label.energy, len(label.atoms), expected, leniency)
        or _fault_of_stress(label.stress, expected, leniency)
    )


def is_suspicious(label: LabelledFrame, expected: Expectation) -> bool:
    """Whether a label's forces or energy are farther off than expected, for whatever reason."""
    energy = abs(label.energy - expected.energy) / len(label.atoms)
    return not (
        misfit(np.asarray(label.forces), expected) <= _SUSPICIOUS
        and energy <= _SUSPICIOUS_TOTAL * expected.energy_error
    )


def misfit(forces: NDArray[np.float64], expected: Expectation) -> float:
    """How far off the forces on a frame's typical atom are, in expected errors (the median over atoms)."""
    return float(np.median(_misfits(forces, expected)))


def total_misfit(label: LabelledFrame, expected: Expectation) -> float:
    """How far off forces and energy are, in expected errors."""
    energy = abs(label.energy - expected.energy) / len(label.atoms) / expected.energy_error
    return float(np.hypot(misfit(np.asarray(label.forces), expected), energy))


def _misfit_of(forces: NDArray[np.float64], expected: Expectation, atoms: NDArray[np.int64]) -> float:
    return float(np.median(_misfits(forces, expected)[atoms]))


def _misfits(forces: NDArray[np.float64], expected: Expectation) -> NDArray[np.float64]:
    return np.linalg.norm(forces - expected.forces, axis=1) / expected.force_error


# ------------------------------------------------------------------------------------------------------ forces


def _fault_of_forces(forces: NDArray[np.float64], expected: Expectation, leniency: float) -> str | None:
    misfits = _misfits(forces, expected)
    typical = float(np.median(misfits))
    told = _telling(forces, expected)
    if (given := float(np.median(misfits[told]))) > _SUSPICIOUS:
        scale = _wrong_scale(lambda factor: _misfit_of(factor * forces, expected, told), given, _FORCE_UNITS, "forces")
        size = float(np.median(np.linalg.norm(expected.forces[told], axis=1) / expected.force_error[told]))
        if scale is not None and scale.misfit <= _AGREES * size:
            return scale.reason
        if (order := _wrong_order(forces, expected, typical)) is not None:
            return order
        is_clear = given > (2.0 if expected.is_rough else 1.0) * _SUSPICIOUS and len(told) >= _MANY_ATOMS
        if is_clear and not _likeness(forces, expected, told) >= _ALIKE:
            return (
                f"forces bear no relation to those expected by {expected.by}, from which they are {given:.0f} times the"
                " expected error away: they seem to belong to another frame, or to other atoms"
            )
    is_large = len(forces) >= 2 * _MANY_ATOMS
    if (is_large or not expected.is_rough) and (rows := _exchanged_rows(forces, expected, misfits)) is not None:
        return rows
    if expected.is_rough:
        return None
    if not typical <= leniency * _FRAME_LIMIT:
        return (
            f"forces are off by {typical:.0f} times the error that is expected by {expected.by}, on half of the atoms"
        )
    atom = int(misfits.argmax())
    if not misfits[atom] <= leniency * _ATOM_LIMIT * max(1.0, typical):
        off = np.linalg.norm(forces[atom] - expected.forces[atom])
        return (
            f"the force on atom {atom} is off by {off:.2g} eV/Å, {misfits[atom]:.0f} times the error that is expected"
            f" by {expected.by}, while the forces on the other atoms fit"
        )
    return None


def _telling(forces: NDArray[np.float64], expected: Expectation) -> NDArray[np.int64]:
    """Atoms whose force is large against its expected error; all where those are too few to tell anything."""
    size = np.maximum(np.linalg.norm(forces, axis=1), np.linalg.norm(expected.forces, axis=1))
    told = np.flatnonzero(size >= _SUSPICIOUS * expected.force_error)
    return told if len(told) >= _FEW_ATOMS else np.arange(len(forces))


def _likeness(forces: NDArray[np.float64], expected: Expectation, atoms: NDArray[np.int64]) -> float:
    """Cosine between given and expected forces on some atoms, each in units of its expected error."""
    given, wanted = ((part / expected.force_error[:, None])[atoms] for part in (forces, expected.forces))
    return float((given * wanted).sum() / (np.linalg.norm(given) * np.linalg.norm(wanted) + 1e-12))


@dataclass(frozen=True)
class _Scale:
    misfit: float
    reason: str


def _wrong_scale(misfit_of: Callable[[float], float], given: float, unit: dict[str, float], what: str) -> _Scale | None:
    """The factor that makes a quantity fit best, if that is far better than as given."""
    mistakes = {-1.0: "their sign seems to be wrong"}
    for name, factor in unit.items():
        mistakes[factor] = f"they seem to be in {name}"
        mistakes[1.0 / factor] = f"they seem to have been converted from {name} once too often"
    best = min(mistakes, key=misfit_of)
    improvement = given / max(misfit_of(best), 1e-9)
    if not improvement >= _FAR_BETTER:
        return None
    times = f"{improvement:.0f}" if improvement < 1000 else "over 1000"
    reason = f"{what} fit {times} times better when multiplied by {best:.4g}: {mistakes[best]}"
    return _Scale(given / improvement, reason)


def _wrong_order(forces: NDArray[np.float64], expected: Expectation, given: float) -> str | None:
    """Forces that fit when their rows are put into another order."""
    if not _MANY_ATOMS <= len(forces) <= _MOST_ORDERED:
        return None
    difference = np.linalg.norm(forces[:, None] - expected.forces[None], axis=2)
    rows, atoms = linear_sum_assignment(difference)
    ordered = np.empty_like(forces)
    ordered[atoms] = forces[rows]
    best = misfit(ordered, expected)
    # Any order can be improved, by chance to about a third of the forces' size; so the fit itself must be good.
    if best <= _SUSPICIOUS and given >= _FAR_BETTER * max(best, 1.0):
        times = given / max(best, 1e-9)
        return f"forces fit {times:.0f} times better in another order of the atoms: rows and positions do not match"
    return None


def _exchanged_rows(forces: NDArray[np.float64], expected: Expectation, misfits: NDArray[np.float64]) -> str | None:
    """Two atoms that have each other's force."""
    worst = np.argsort(misfits)[::-1][:_FEW_ATOMS]
    typical = max(1.0, float(np.median(misfits)))
    for number, first in enumerate(worst):
        for second in worst[number + 1 :]:
            pair = np.array([first, second])
            given = float(np.linalg.norm(misfits[pair]))
            off = np.linalg.norm(forces[pair[::-1]] - expected.forces[pair], axis=1) / expected.force_error[pair]
            exchanged = max(typical, float(np.linalg.norm(off)))
            if misfits[pair].min() > _SUSPICIOUS * typical / 2 and given > max(_SUSPICIOUS, _FAR_BETTER * exchanged):
                return (
                    f"the forces on atoms {first} and {second} fit {given / exchanged:.0f} times better when exchanged:"
                    " the two atoms seem to be swapped"
                )
    return None


# ------------------------------------------------------------------------------------------- energy and stress


def _fault_of_energy(energy: float, n_atoms: int, expected: Expectation, leniency: float) -> str | None:
    def off(value: float) -> float:
        return abs(value - expected.energy) / n_atoms / expected.energy_error

    given = off(energy)
    if given <= _SUSPICIOUS_TOTAL:
        return None
    scale = _wrong_scale(lambda factor: off(factor * energy), given, _ENERGY_UNITS, "the energy")
    if scale is not None and scale.misfit <= min(_SUSPICIOUS, _ENERGY_FITS * given):
        return scale.reason.replace("fit", "fits", 1).replace("they seem", "it seems").replace("their", "its")
    if not given <= leniency * _TOTAL_LIMIT:
        return (
            f"the energy is off by {abs(energy - expected.energy) / n_atoms:.3g} eV/atom, {given:.0f} times the error"
            f" that is expected by {expected.by}"
        )
    return None


def _fault_of_stress(stress: NDArray[np.float64] | None, expected: Expectation, leniency: float) -> str | None:
    if stress is None or expected.stress is None:
        return None
    wanted = expected.stress

    def off(value: NDArray[np.float64]) -> float:
        return float(np.linalg.norm(value - wanted)) / expected.stress_error

    given = off(stress)
    if given <= _SUSPICIOUS:
        return None
    scale = _wrong_scale(lambda factor: off(factor * stress), given, _STRESS_UNITS, "the stress")
    if scale is not None and scale.misfit <= _AGREES * np.linalg.norm(wanted) / expected.stress_error:
        return scale.reason.replace("fit", "fits", 1).replace("they seem", "it seems").replace("their", "its")
    if not expected.is_rough and not given <= leniency * _TOTAL_LIMIT:
        return (
            f"the stress is off by {np.linalg.norm(stress - wanted):.3g} eV/Å³, {given:.0f} times the error that is"
            f" expected by {expected.by}"
        )
    return None
