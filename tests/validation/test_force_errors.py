from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.emt import EMT

from alpot.errors import NonFiniteError, UsageError
from alpot.validation.force_errors import force_errors


class _Scaled(EMT):
    """EMT with forces that are wrong by a known share, and an opinion on its own error."""

    def __init__(self, share: float, opinion: float | None = None) -> None:
        super().__init__()
        self.share, self.opinion = share, opinion

    def calculate(self, *args: object, **kwargs: object) -> None:
        super().calculate(*args, **kwargs)
        truth = self.results["forces"]
        self.results["forces"] = (1 + self.share) * truth
        if self.opinion is not None:
            self.results["forces_std"] = np.full_like(truth, np.sqrt((truth**2).mean()) ** self.opinion)


@pytest.fixture(scope="module")
def frames() -> list[Atoms]:
    found = []
    for number, rattle in enumerate((0.05, 0.1, 0.2, 0.3)):
        atoms = bulk("Al", "fcc", a=4.0, cubic=True).repeat((1, 1, 1 + number % 2))
        atoms.rattle(rattle, seed=number)
        atoms.calc = EMT()
        forces = atoms.get_forces().copy()
        atoms.calc = None
        atoms.arrays["REF_forces"] = forces
        found.append(atoms)
    return found


def test_errors_are_those_put_in(frames: list[Atoms]) -> None:
    before = [frame.copy() for frame in frames]
    errors = force_errors(_Scaled(0.1), frames)
    forces = np.concatenate([frame.arrays["REF_forces"] for frame in frames])  # frames weigh by their atoms
    assert errors.rmse == pytest.approx(0.1 * np.sqrt(np.mean(forces**2)), rel=1e-9)
    largest = [0.1 * np.linalg.norm(frame.arrays["REF_forces"], axis=1).max() for frame in frames]
    np.testing.assert_allclose(errors.worst, largest, rtol=1e-9)
    assert errors.rank_correlation_mean is None
    assert frames == before
    assert all(frame.calc is None for frame in frames)


@pytest.mark.parametrize(("opinion", "correlation"), [(1.0, 1.0), (-1.0, -1.0)])
def test_rank_correlation(frames: list[Atoms], opinion: float, correlation: float) -> None:
    # Rattles grow from frame to frame: so do errors, and σ with them or against them.
    errors = force_errors(_Scaled(0.1, opinion), frames)
    assert errors.rank_correlation_mean == pytest.approx(correlation)
    assert errors.rank_correlation_max == pytest.approx(correlation)
    # σ of an atom is the norm over its three components, here all alike.
    sigma = np.sqrt(3) * np.sqrt((frames[0].arrays["REF_forces"] ** 2).mean()) ** opinion
    assert errors.sigma_mean is not None
    assert errors.sigma_mean[0] == pytest.approx(sigma)


def test_a_sigma_that_never_changes_ranks_nothing(frames: list[Atoms]) -> None:
    assert force_errors(_Scaled(0.1, 0.0), frames).rank_correlation_mean is None


def test_wrong_input_is_named(frames: list[Atoms]) -> None:
    with pytest.raises(UsageError, match="at least one"):
        force_errors(EMT(), [])
    with pytest.raises(UsageError, match=r"frame 1 \(Al4\) has no array REF_forces"):
        force_errors(EMT(), [frames[0], bulk("Al", cubic=True)])
    with pytest.raises(NonFiniteError, match="frame 0"):
        force_errors(_Scaled(float("nan")), frames)
