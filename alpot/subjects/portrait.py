"""What an assessment keeps for the report: errors of audit frames, the hardest ones, a map of all labels.

Nothing here decides anything. All of it is a function of the labels and the potential alone, so that another attempt at
the same assessment writes the same file.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from alpot.potential.ensemble import Ensemble
from alpot.store.assessment_file import (
    MAX_HARD,
    MAX_PARITY,
    AssessmentFile,
    AuditFrame,
    ForceParity,
    HardFrame,
    SigmaBin,
)
from alpot.store.labels import Label
from alpot.subjects.assessment import AuditErrors
from alpot.subjects.configuration_map import ENERGY_DECIMALS, Known, draw_map, rounded
from alpot.subjects.discovery import discovery_of

#: Atoms in a bin of σ, at least: the root mean square of so many vectors is known to 1/√(2·3·50) = 6 %.
_ATOMS_PER_BIN = 50
#: Bins of σ, at most: what a plot can show.
_MAX_BINS = 20
#: Of positions and cells in Å: finer than anybody sees.
_LENGTH_DECIMALS = 4


def portrait(
    generation: int,
    ensemble: Ensemble,
    audited: Sequence[Label],
    errors: AuditErrors,
    known: Iterable[list[Known]],
    confidence: float,
) -> AssessmentFile:
    """What the report shows of a generation.

    Args:
        generation: its number.
        ensemble: its potential.
        audited: the audit labels.
        errors: of the ensemble on these.
        known: all labels, those of the audit included.
        confidence: of the bound on its errors.
    """
    points, total = draw_map(ensemble, known)
    frames = [_audit_frame(*row) for row in _by_frame(audited, errors)]
    return AssessmentFile(
        generation=generation,
        audit=frames,
        force_parity=_parity(audited, errors),
        sigma_bins=_sigma_bins(errors, confidence),
        map=points,
        map_total=total if total > len(points) else None,
        hard=_hard(audited, errors, frames),
    )


_Row = tuple[Label, float, NDArray[np.float64], NDArray[np.float64]]


def _by_frame(audited: Sequence[Label], errors: AuditErrors) -> Iterator[_Row]:
    """Each label with its energy error in eV/atom, and σ_F and the norm of the force error of its atoms in eV/Å."""
    ends = np.cumsum([len(label.atoms) for label in audited])[:-1]
    per_atom = (np.split(values, ends) for values in (errors.predicted, errors.actual))
    return zip(audited, errors.energy_errors.tolist(), *per_atom, strict=True) if audited else iter(())


def _audit_frame(
    label: Label, energy_error: float, sigma: NDArray[np.float64], misfit: NDArray[np.float64]
) -> AuditFrame:
    energy = label.energy / len(label.atoms)
    return AuditFrame(
        key=label.key,
        reason=discovery_of(label.provenance).reason,
        n_atoms=len(label.atoms),
        energy_error=rounded(energy_error),
        energy=round(energy, ENERGY_DECIMALS),
        energy_predicted=round(energy + energy_error, ENERGY_DECIMALS),
        force_rmse=rounded(_root_mean_square(misfit) / np.sqrt(3.0)),
        force_max_error=rounded(misfit.max()),
        sigma_mean=rounded(sigma.mean()),
        sigma_max=rounded(sigma.max()),
    )


def _parity(audited: Sequence[Label], errors: AuditErrors) -> ForceParity:
    if not audited:
        return ForceParity()
    reference = np.concatenate([label.forces for label in audited]).ravel()
    predicted = errors.forces.ravel()
    total = len(reference)
    if total > MAX_PARITY:
        chosen = np.sort(np.random.default_rng(0).choice(total, MAX_PARITY, replace=False))
        reference, predicted = reference[chosen], predicted[chosen]
    return ForceParity(
        reference=[*map(rounded, reference)],
        predicted=[*map(rounded, predicted)],
        total=total if total > MAX_PARITY else None,
    )


def _sigma_bins(errors: AuditErrors, confidence: float) -> list[SigmaBin]:
    """Error against uncertainty: atoms in order of σ, in bins of equally many, each with two root mean squares.

    The reliability diagram of Levi et al., Sensors 22, 5540 (2022): where σ is right, both are equal.
    """
    n_bins = int(np.clip(len(errors.predicted) // _ATOMS_PER_BIN, 1, _MAX_BINS))
    order = np.argsort(errors.predicted, kind="stable")
    return [
        SigmaBin(
            sigma=rounded(_root_mean_square(errors.predicted[atoms])),
            error=rounded(_root_mean_square(errors.actual[atoms])),
            error_quantile=rounded(np.quantile(errors.actual[atoms], confidence)),
            count=len(atoms),
        )
        for atoms in np.array_split(order, n_bins)
        if len(atoms)
    ]


def _hard(audited: Sequence[Label], errors: AuditErrors, frames: Sequence[AuditFrame]) -> list[HardFrame]:
    """The worst predicted frames, and as many of the others on which the members disagree most."""
    atom_errors = [misfit for *_, misfit in _by_frame(audited, errors)]
    rows = list(zip(frames, audited, atom_errors, strict=True))
    by_error = sorted(rows, key=lambda row: row[0].force_rmse, reverse=True)
    worst, others = by_error[: MAX_HARD // 2], by_error[MAX_HARD // 2 :]
    uncertain = sorted(others, key=lambda row: row[0].sigma_max, reverse=True)[: MAX_HARD - MAX_HARD // 2]
    return [_hard_frame("worst predicted", *row) for row in worst] + [
        _hard_frame("most uncertain", *row) for row in uncertain
    ]


def _hard_frame(
    why: Literal["worst predicted", "most uncertain"], frame: AuditFrame, label: Label, misfit: NDArray[np.float64]
) -> HardFrame:
    atoms = label.atoms
    return HardFrame(
        key=label.key,
        why=why,
        force_rmse=frame.force_rmse,
        sigma_max=frame.sigma_max,
        reason=frame.reason,
        symbols=list(atoms.symbols),
        positions=atoms.positions.round(_LENGTH_DECIMALS).tolist(),
        cell=atoms.cell.array.round(_LENGTH_DECIMALS).tolist(),
        pbc=atoms.pbc.tolist(),
        atom_errors=[*map(rounded, misfit)],
    )


def _root_mean_square(values: NDArray[np.float64]) -> float:
    return float(np.sqrt(np.mean(values**2)))
