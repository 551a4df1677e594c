"""The contract of a reference as a test that anyone can run: our own references pass it, and so must each plug-in.

In the tests of a plug-in::

    def test_contract():
        check_reference_contract(lambda: MyReference(cutoff=400), bulk("Al", cubic=True))
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from ase import Atoms

from alpot.errors import UsageError
from alpot.reference.protocol import ReferenceCalculator, ReferenceResult, level_of_theory

#: Strain of the finite differences for the stress (no unit).
_STRAIN = 1e-3
#: Components of the stress that are checked, as ASE's Voigt index and the two axes: one of each kind.
_STRESS_COMPONENTS = ((0, 0, 0), (5, 0, 1))


class ContractError(AssertionError):
    """A reference does not keep the contract; the message says which part."""


def check_reference_contract(
    make_reference: Callable[[], ReferenceCalculator],
    atoms: Atoms,
    *,
    force_tolerance: float = 1e-3,
    stress_tolerance: float = 1e-4,
    repeat_tolerance: float = 1e-8,
    displacement: float = 1e-3,
    refused_element: str | None = "Og",
) -> None:
    """Checks everything that alpot relies on, with about a dozen calculations of the frame.

    Args:
        make_reference: makes a new reference, always of the same settings.
        atoms: a frame that the reference can compute; it should have no symmetry (rattle it) and few atoms.
        force_tolerance: largest difference between a force and the derivative of the energy in eV/Å.
        stress_tolerance: largest difference between stress and derivative of the energy in eV/Å³.
        repeat_tolerance: largest difference in eV and eV/Å between two calculations of the same frame; codes with an
            iterative solution or a grid need more.
        displacement: step of the finite differences in Å.
        refused_element: an element that ``check`` must refuse; None for a reference that takes all of them.

    Raises:
        ContractError: the reference does not do what alpot relies on.
    """
    with tempfile.TemporaryDirectory(prefix="alpot-contract-") as root:
        bench = _Bench(make_reference(), Path(root))
        _check_settings(bench.reference, make_reference())
        _check_elements(bench.reference, atoms, refused_element)
        result = _check_result(bench, atoms)
        _check_repeats(bench, atoms, result, repeat_tolerance, make_reference())
        _check_translation(bench, atoms, result, max(repeat_tolerance, force_tolerance))
        _check_forces(bench, atoms, result, displacement, force_tolerance)
        _check_stress(bench, atoms, result, stress_tolerance)


class _Bench:
    """Runs a reference, every calculation in a new directory as in a campaign."""

    def __init__(self, reference: ReferenceCalculator, root: Path) -> None:
        self.reference = reference
        self.root = root
        self.count = 0

    def compute(self, atoms: Atoms, reference: ReferenceCalculator | None = None) -> ReferenceResult:
        self.count += 1
        directory = self.root / f"{self.count:03d}"
        directory.mkdir()
        return (reference or self.reference).compute(atoms, directory)


def _require(condition: bool | np.bool_, message: str) -> None:
    if not condition:
        raise ContractError(message)


def _check_settings(reference: ReferenceCalculator, other: ReferenceCalculator) -> None:
    _require(isinstance(reference.name, str) and bool(reference.name), f"name is {reference.name!r}, not a text")
    _require(isinstance(reference.is_cheap, bool), f"is_cheap is {reference.is_cheap!r}, neither True nor False")
    settings = reference.settings()
    try:
        copy = json.loads(json.dumps(settings, allow_nan=False))
    except (TypeError, ValueError) as error:
        raise ContractError(f"settings() cannot be written as JSON ({error}): {settings!r}") from error
    _require(copy == json.loads(json.dumps(reference.settings())), "settings() differ from one call to the next")
    _require(
        level_of_theory(reference) == level_of_theory(other),
        f"two references of the same settings differ in settings(): {settings!r} and {other.settings()!r}",
    )


def _check_elements(reference: ReferenceCalculator, atoms: Atoms, refused_element: str | None) -> None:
    reference.check(sorted(set(atoms.symbols)))
    if refused_element is None:
        return
    try:
        reference.check([refused_element])
    except UsageError as error:
        _require(refused_element in str(error), f"check() refuses {refused_element} without naming it: {error}")
        return
    raise ContractError(
        f"check() accepts {refused_element}; it must raise UsageError for an element that the reference cannot compute"
    )


def _check_result(bench: _Bench, atoms: Atoms) -> ReferenceResult:
    given = atoms.copy()
    result = bench.compute(given)
    _require(given == atoms, "compute() changes the atoms that it is given")
    _require(np.isfinite(result.energy), f"the energy is {result.energy}")
    forces = np.asarray(result.forces)
    _require(forces.shape == (len(atoms), 3), f"forces have the shape {forces.shape}, not ({len(atoms)}, 3)")
    _require(np.isfinite(forces).all(), "forces are not finite")
    if result.stress is not None:
        stress = np.asarray(result.stress)
        _require(stress.shape == (6,), f"stress has the shape {stress.shape}, not (6,)")
        _require(np.isfinite(stress).all(), "stress is not finite")
        _require(atoms.pbc.all(), "there is a stress, but the frame is not periodic in all directions")
    _require(json.loads(json.dumps(result.details)) == result.details, f"details are not JSON-able: {result.details!r}")
    return result


def _check_repeats(
    bench: _Bench, atoms: Atoms, first: ReferenceResult, tolerance: float, other: ReferenceCalculator
) -> None:
    """The result must not depend on what was computed before, nor on which object computed it."""
    between = atoms.copy()
    between.positions[0] += 0.05
    bench.compute(between)
    for again, what in (
        (bench.compute(atoms), "after another frame"),
        (bench.compute(atoms, other), "by a new object"),
    ):
        energy, force = _differences(first, again)
        _require(
            max(energy, force) <= tolerance,
            f"the same frame computed {what} differs by {energy:.3g} eV and {force:.3g} eV/Å, above {tolerance:g}",
        )


def _check_translation(bench: _Bench, atoms: Atoms, first: ReferenceResult, tolerance: float) -> None:
    moved = atoms.copy()
    moved.positions += (0.31, -0.47, 0.22)
    energy, force = _differences(first, bench.compute(moved))
    _require(
        max(energy, force) <= tolerance,
        f"a translation of all atoms changes the result by {energy:.3g} eV and {force:.3g} eV/Å, above {tolerance:g}",
    )


def _check_forces(bench: _Bench, atoms: Atoms, result: ReferenceResult, displacement: float, tolerance: float) -> None:
    """Forces are −dE/dx: along one random direction of all atoms, and for one coordinate of the first one."""
    single = np.zeros((len(atoms), 3))
    single[0, 0] = 1.0
    everywhere = np.random.default_rng(0).normal(size=(len(atoms), 3))
    everywhere /= np.linalg.norm(everywhere)
    for direction, what in ((single, "on atom 0 along x"), (everywhere, "along a random direction")):
        energies = []
        for sign in (1.0, -1.0):
            moved = atoms.copy()
            moved.positions += sign * displacement * direction
            energies.append(bench.compute(moved).energy)
        expected = -(energies[0] - energies[1]) / (2.0 * displacement)
        seen = float(np.sum(np.asarray(result.forces) * direction))
        _require(
            abs(seen - expected) <= tolerance,
            f"the force {what} is {seen:.6g} eV/Å, but −dE/dx is {expected:.6g}; is it the sign, the unit, or an energy"
            " that the forces are not derivatives of (energy extrapolated to zero smearing)?",
        )


def _check_stress(bench: _Bench, atoms: Atoms, result: ReferenceResult, tolerance: float) -> None:
    """Stress is dE/dε divided by the volume, positive under tension, in ASE's order of components."""
    if result.stress is None:
        return
    for index, row, column in _STRESS_COMPONENTS:
        energies = []
        for sign in (1.0, -1.0):
            strain = np.eye(3)
            strain[row, column] += 0.5 * sign * _STRAIN
            strain[column, row] += 0.5 * sign * _STRAIN
            strained = atoms.copy()
            strained.set_cell(atoms.cell.array @ strain, scale_atoms=True)
            energies.append(bench.compute(strained).energy)
        expected = (energies[0] - energies[1]) / (2.0 * _STRAIN * atoms.get_volume())
        seen = float(result.stress[index])
        _require(
            abs(seen - expected) <= tolerance,
            f"component {index} of the stress is {seen:.6g} eV/Å³, but the derivative of the energy is {expected:.6g};"
            " is it the sign (tension is positive), the unit (not GPa), or the order (xx, yy, zz, yz, xz, xy)?",
        )


def _differences(first: ReferenceResult, second: ReferenceResult) -> tuple[float, float]:
    forces = np.abs(np.asarray(first.forces) - np.asarray(second.forces)).max()
    return abs(first.energy - second.energy), float(forces)
