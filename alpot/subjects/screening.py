"""Refuses poisoned labels before anything is trained on them.

A wrong refusal wastes a paid calculation and blinds the campaign where the potential errs most, so a reason must be
strong: numbers that cannot be, copies, forces that do not add up to zero where all others do, or a clear fault in
comparison with what is expected of the frame (``label_faults``). Who expects is, in this order, the ensemble of the
last generation, or a simple model fitted robustly to the labels themselves (see ``judges``), followed by a second look
with the members that did not see a label (``screen_after``).

What cannot be seen: a mistake that *all* labels share when there is no ensemble yet (all of them in Hartree, say), and
one that changes a label by less than the error of whoever expects.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from ase import Atoms, units
from numpy.typing import NDArray

from alpot.potential.ensemble import Ensemble
from alpot.potential.frame_cache import LabelledFrame
from alpot.subjects.copies import copies
from alpot.subjects.judges import FORCE_ERROR, FRAMES_PER_BATCH, Consensus, EnsembleJudge, HeldOut, Judge, sample
from alpot.subjects.label_faults import Expectation, find_fault, is_suspicious, misfit, total_misfit

#: Labels below which there is nothing to compare with.
_FEWEST = 20
#: Looks at labels that judge one another; each may reveal what the last one's bad labels had hidden.
_ROUNDS = 4
#: A net force this many times that of the other labels, and above these values in eV/Å, alone and relative to the
#: forces' own size, is none of rounding.
_NET_FACTOR, _NET_FLOOR, _NET_SHARE = 20.0, 0.02, 0.01
#: A frame's lengths are doubted when its forces agree this well (median error over median size) after a change of
#: unit, and so many times better than before.
_LENGTHS_AGREE, _LENGTHS_BETTER = 0.3, 3.0
#: eV/atom; an energy with a larger error is in doubt, and one with a larger error still is not known at all.
_DOUBT, _BOUND = 0.05, 1.0


def screen(
    labels: Sequence[LabelledFrame],
    *,
    known: Sequence[LabelledFrame] = (),
    judge: Ensemble | None = None,
    calibration: float = 1.0,
) -> dict[str, str]:
    """Which labels must not be trained on.

    Args:
        labels: new ones.
        known: labels that were screened before; they are never refused.
        judge: the ensemble that explores at present, trained on ``known``; None before the first training.
        calibration: the factor from its members' deviation to its force error.

    Returns:
        The reason, in words, for each key that is refused.
    """
    refused = {label.key: reason for label in labels if (reason := _unsound(label)) is not None}
    sound = [label for label in labels if label.key not in refused]
    for label, net, typical in _unbalanced(sound, known):
        refused[label.key] = (
            f"its forces add up to {net:.2g} eV/Å where those of other labels add up to {typical:.1g}: the force on an"
            " atom must be wrong"
        )
    if judge is not None:
        expected = _expectations(EnsembleJudge(judge, calibration, known), sound, refused)
    else:
        expected = _agreement(known, sound, refused)
    misfits = {
        label.key: total_misfit(label, expectation) if expectation is not None else 0.0
        for label, expectation in zip(sound, expected, strict=True)
    }
    return refused | copies([label for label in sound if label.key not in refused], known, misfits)


def screen_after(ensemble: Ensemble, labels: Sequence[LabelledFrame], roles: NDArray[np.int64]) -> dict[str, str]:
    """A second look at labels on which an ensemble was just trained: do those fit that did not see them?

    Args:
        ensemble: of the training.
        labels: all of them.
        roles: (n_members, n_labels) ``Role`` of each label for each member, see ``cross_validation.member_roles``.

    Returns:
        The reason, in words, for each key that is refused; train again without them.
    """
    if len(labels) < _FEWEST:  # so few do not tell how large errors usually are
        return {}
    held_out = HeldOut(ensemble, labels, roles)
    return {
        label.key: reason
        for label, expectation in zip(labels, held_out.expectations, strict=True)
        if expectation is not None and (reason := find_fault(label, expectation)) is not None
    }


# ----------------------------------------------------------------------------------------- without comparison


def _unsound(label: LabelledFrame) -> str | None:
    """What no label may be, whatever its frame."""
    forces = np.asarray(label.forces)
    if forces.shape != (len(label.atoms), 3):
        return f"it has {len(label.atoms)} atoms, but forces of shape {forces.shape}"
    if not (np.isfinite(label.atoms.positions).all() and np.isfinite(label.atoms.cell.array).all()):
        return "its positions or its cell are not finite"
    if not (np.isfinite(label.energy) and np.isfinite(forces).all()):
        return "its energy or its forces are not finite"
    if label.stress is not None and not np.isfinite(label.stress).all():
        return "its stress is not finite"
    return None


def _unbalanced(
    labels: Sequence[LabelledFrame], known: Sequence[LabelledFrame]
) -> Iterator[tuple[LabelledFrame, float, float]]:
    """Labels whose forces do not add up to zero although those of most labels do: (label, net, typical)."""
    peers = [*sample(known), *labels]
    if len(peers) < _FEWEST:
        return
    typical = float(np.median([_net(label) / np.sqrt(len(label.atoms)) for label in peers]))
    for label in labels:
        root = np.sqrt(len(label.atoms))
        own = max(_NET_FLOOR, _NET_SHARE * float(np.linalg.norm(label.forces)) / root)
        if not _net(label) <= max(_NET_FACTOR * typical * root, own):
            yield label, _net(label), typical * root


def _net(label: LabelledFrame) -> float:
    return float(np.linalg.norm(np.asarray(label.forces).sum(axis=0)))


# -------------------------------------------------------------------------------------------- with comparison


def _agreement(
    known: Sequence[LabelledFrame], labels: Sequence[LabelledFrame], refused: dict[str, str]
) -> list[Expectation | None]:
    """What labels say of one another; a bad one that is found no longer has a say, which may reveal the next."""
    expected: list[Expectation | None] = [None] * len(labels)
    for _ in range(_ROUNDS):
        voters = [*known, *(label for label in labels if label.key not in refused)]
        if len(voters) < _FEWEST:
            break
        before = len(refused)
        expected = _expectations(Consensus(voters), labels, refused)
        if len(refused) == before:
            break
    return expected


def _expectations(
    authority: Judge, labels: Sequence[LabelledFrame], refused: dict[str, str]
) -> list[Expectation | None]:
    """What is expected of labels; those that do not fit it are added to ``refused``."""
    expected: list[Expectation | None] = []
    for begin in range(0, len(labels), FRAMES_PER_BATCH):
        expected += authority.expect([(label.key, label.atoms) for label in labels[begin : begin + FRAMES_PER_BATCH]])
    pairs = [
        (label, expectation)
        for label, expectation in zip(labels, expected, strict=True)
        if expectation is not None and label.key not in refused
    ]
    # An ensemble that is worse than it thinks on all new frames is no reason to refuse the most unusual of them.
    typical = float(np.median([misfit(label.forces, expectation) for label, expectation in pairs] or [1.0]))
    for label, expectation in pairs:
        reason = _wrong_lengths(authority, label, expectation) or find_fault(label, expectation, max(1.0, typical))
        if reason is not None:
            refused[label.key] = reason
    return expected


def _wrong_lengths(authority: Judge, label: LabelledFrame, expected: Expectation) -> str | None:
    """A frame that does not fit its label, and would if its lengths were in another unit.

    Errors are compared as they are: of a frame at an impossible density the ensemble expects nothing, with great doubt.
    """
    size = float(np.median(np.linalg.norm(label.forces, axis=1)))
    is_certain = np.median(expected.force_error) <= max(size, 4 * FORCE_ERROR)
    is_certain &= expected.energy_error <= _DOUBT
    if is_certain and not is_suspicious(label, expected):
        return None
    given = _off(label, expected)
    mistakes = {units.Bohr: "they seem to be in Bohr", 1.0 / units.Bohr: "they seem to have been converted from Å"}
    for factor, mistake in mistakes.items():
        for what, atoms in _scaled(label.atoms, factor):
            (other,) = authority.expect([(label.key, atoms)])
            if other is None:
                continue
            force, energy = _off(label, other)
            is_better = given[0] >= _LENGTHS_BETTER * max(force, FORCE_ERROR)
            is_better |= given[1] >= _LENGTHS_BETTER * max(energy, 2 * other.energy_error)
            fits = force <= max(_LENGTHS_AGREE * size, FORCE_ERROR) and energy <= 5 * other.energy_error <= _BOUND
            if is_better and fits:
                return f"energy and forces fit when its {what} are multiplied by {factor:.4g}: {mistake}"
    return None


def _off(label: LabelledFrame, expected: Expectation) -> tuple[float, float]:
    """Median error of a force in eV/Å, and error of the energy in eV/atom."""
    force = float(np.median(np.linalg.norm(label.forces - expected.forces, axis=1)))
    return force, abs(label.energy - expected.energy) / len(label.atoms)


def _scaled(atoms: Atoms, factor: float) -> Iterator[tuple[str, Atoms]]:
    both = atoms.copy()
    both.set_cell(atoms.cell.array * factor)
    both.positions *= factor
    yield "positions and cell", both
    if atoms.pbc.any():
        alone = atoms.copy()
        alone.positions *= factor
        yield "positions", alone
