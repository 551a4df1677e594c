"""What labels cost: what was spent, and what the rest of a budget will take, learned from what is on record.

The cost of a label is taken to be log-normal around a power of the number of atoms,
``log(core-seconds) = a + b · log(n_atoms) ± σ``, fitted by least squares with b near 2 as long as there are few labels
(plane-wave codes lie between 1 and 3). Sums by number of atoms are all that is kept: a label costs constant memory.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from pydantic import BaseModel, ConfigDict
from scipy.special import stdtrit

from alpot.campaign.subject import LabelSummary
from alpot.campaign.work import BLAMELESS
from alpot.errors import FailureClass

#: What is believed of the exponent b, and of the spread σ (worth so many labels), before anything is known.
_EXPONENT, _EXPONENT_DEVIATION = 2.0, 0.5
_SPREAD, _SPREAD_LABELS = 0.3, 2.0
#: The fit of b depends on σ and that of σ on b; they agree after a few rounds.
_ROUNDS = 5
#: Ranges are from 16 to 84 %: one standard deviation.
_UPPER = 0.8413
#: Core-seconds below which a clock says nothing.
_LEAST = 1e-6


@dataclass
class SizeSums:
    """Labels with the same number of atoms.

    Attributes:
        count: of labels.
        logs: sum of the logarithms of their core-seconds.
        squares: sum of the squares of these.
    """

    count: int = 0
    logs: float = 0.0
    squares: float = 0.0

    def add(self, core_seconds: float) -> None:
        """Takes in one label."""
        log = float(np.log(max(core_seconds, _LEAST)))
        self.count += 1
        self.logs += log
        self.squares += log * log


class Range(BaseModel):
    """An expected value, and where the true one lies with a chance of 68 % (from 16 to 84 %)."""

    model_config = ConfigDict(frozen=True)

    expected: float
    low: float
    high: float

    def __mul__(self, factor: float) -> Range:
        return Range(expected=self.expected * factor, low=self.low * factor, high=self.high * factor)


@dataclass(frozen=True, kw_only=True)
class CostModel:
    """What a label of some number of atoms costs.

    Attributes:
        level: logarithm of the core-seconds at the centre.
        centre: logarithm of a number of atoms.
        exponent: b.
        spread: σ, of single labels.
        level_variance: of the level.
        exponent_variance: of the exponent.
        freedom: how many labels the spread rests on, what was believed before included.
    """

    level: float
    centre: float
    exponent: float
    spread: float
    level_variance: float
    exponent_variance: float
    freedom: float

    @classmethod
    def fit(cls, sums: Mapping[int, SizeSums]) -> CostModel:
        """The model of labels by number of atoms; there must be at least one."""
        counts = np.array([entry.count for entry in sums.values()], dtype=float)
        logs = np.array([entry.logs for entry in sums.values()])
        squares = float(sum(entry.squares for entry in sums.values()))
        x = np.log(np.array(list(sums), dtype=float))
        n = float(counts.sum())
        centre, level = float(counts @ x / n), float(logs.sum() / n)
        x = x - centre
        s_xx, s_xy, s_yy = float(counts @ x**2), float(logs @ x), max(squares - n * level**2, 0.0)
        variance, freedom = _SPREAD**2, _SPREAD_LABELS + n - 1
        for _ in range(_ROUNDS):
            precision = s_xx / variance + _EXPONENT_DEVIATION**-2
            exponent = (s_xy / variance + _EXPONENT * _EXPONENT_DEVIATION**-2) / precision
            residual = max(s_yy - 2 * exponent * s_xy + exponent**2 * s_xx, 0.0)
            variance = (_SPREAD_LABELS * _SPREAD**2 + residual) / freedom
        return cls(
            level=level,
            centre=centre,
            exponent=exponent,
            spread=float(np.sqrt(variance)),
            level_variance=variance / n,
            exponent_variance=1.0 / precision,
            freedom=freedom,
        )

    def total(
        self, sizes: Mapping[int, int], labels: float, *, are_exact: bool = False, extra_variance: float = 0.0
    ) -> Range:
        """Core-seconds of labels that are still to be computed.

        Args:
            sizes: numbers of atoms seen so far, and how often; those to come are taken to be alike.
            labels: how many are to come, more than 0.
            are_exact: ``sizes`` are those of the labels to come.
            extra_variance: of the logarithm of the total, for what else is not certain.
        """
        x = np.log(np.array(list(sizes), dtype=float)) - self.centre
        counts = np.array(list(sizes.values()), dtype=float)
        shares = counts / counts.sum()
        # The mean of a log-normal distribution lies above its median.
        means = np.exp(self.level + self.exponent * x + self.spread**2 / 2)
        mean = float(shares @ means)
        scatter = float(shares @ means**2) / mean**2  # of the sizes alone; 1 where all are equal
        drawn = 0.0 if are_exact else scatter - 1.0
        own = (scatter * np.expm1(self.spread**2) + drawn) / labels
        weighted = float(shares @ (means * x)) / mean
        common = self.level_variance + weighted**2 * self.exponent_variance + self.spread**4 / (2 * self.freedom)
        common += drawn / counts.sum()
        variance = float(np.log1p(own)) + common + extra_variance
        width = float(stdtrit(self.freedom, _UPPER)) * np.sqrt(variance)
        total = labels * mean
        median = total * np.exp(-variance / 2)
        return Range(expected=total, low=float(median * np.exp(-width)), high=float(median * np.exp(width)))


class Prediction(BaseModel):
    """What the rest of the label budget will take.

    Attributes:
        labels: that are expected: of the calculations that are left, or of all structures that are.
        core_hours: failed calculations included.
        wall_hours: at least, for the label workers may have other work too; None if it is not known how many there are.
        workers: that compute labels at the same time.
        exponent: with which power of the number of atoms the cost of a label grows.
        overhead: what failed calculations cost, as a share of what labels do.
    """

    model_config = ConfigDict(frozen=True)

    labels: int
    core_hours: Range
    wall_hours: Range | None
    workers: int | None
    exponent: float
    overhead: float


@dataclass
class Costs:
    """What was spent so far; a fold over the ledger.

    Attributes:
        labels: labels whose cost is known, isolated atoms included.
        core_seconds: of these.
        failures: failed attempts whose cost is known.
        failed_core_seconds: of these.
        by_atoms: labels by number of atoms, without isolated atoms.
        scf_steps: all in all.
        scf_labels: labels that said how many steps they took.
        peak_memory_MB: the largest that a label needed.
    """

    labels: int = 0
    core_seconds: float = 0.0
    failures: int = 0
    failed_core_seconds: float = 0.0
    by_atoms: dict[int, SizeSums] = field(default_factory=dict)
    scf_steps: int = 0
    scf_labels: int = 0
    peak_memory_MB: float | None = None  # noqa: N815 - the unit is part of the name

    # What predictions rest on: ordinary calculations, without isolated atoms.
    _succeeded: int = field(default=0, repr=False)
    _counted_failures: int = field(default=0, repr=False)
    _priced_failures: int = field(default=0, repr=False)
    _succeeded_core_seconds: float = field(default=0.0, repr=False)
    _lost_core_seconds: float = field(default=0.0, repr=False)
    _timed: list[float] = field(default_factory=lambda: [0.0, 0.0], repr=False)  # wall time and core-seconds, in s

    def add_label(self, summary: LabelSummary, *, apart: bool) -> None:
        """Takes in a label task that finished."""
        if summary.outcome == "rejected":
            self._counted_failures += not apart
            return
        self._succeeded += not apart
        if summary.scf_steps is not None:
            self.scf_steps += summary.scf_steps
            self.scf_labels += 1
        if summary.peak_memory_MB is not None:
            self.peak_memory_MB = max(summary.peak_memory_MB, self.peak_memory_MB or 0.0)
        cost = summary.core_seconds
        if cost is None:  # a label of an older alpot
            return
        self.labels += 1
        self.core_seconds += cost
        if summary.seconds > 0:
            self._timed[0] += summary.seconds
            self._timed[1] += cost
        if summary.atoms is not None and not apart:
            self._succeeded_core_seconds += cost
            self.by_atoms.setdefault(summary.atoms, SizeSums()).add(cost)

    def add_failure(self, failure: str, core_seconds: float | None, *, apart: bool) -> None:
        """Takes in an attempt at a label that failed."""
        self._counted_failures += FailureClass(failure) not in BLAMELESS and not apart
        if core_seconds is None:
            return
        self.failures += 1
        self.failed_core_seconds += core_seconds
        if not apart:
            self._priced_failures += 1
            self._lost_core_seconds += core_seconds

    def predict(self, calculations: int, workers: int | None) -> Prediction | None:
        """What calculations that are still to come will take, of which some will fail.

        Args:
            calculations: how many the budget allows for.
            workers: that compute labels at the same time, if known.

        Returns:
            None if there are none, or if nothing is known of what they cost.
        """
        tried = self._succeeded + self._counted_failures
        return self.predict_labels(calculations * self._succeeded / tried, workers) if tried else None

    def predict_labels(
        self, labels: float, workers: int | None, *, sizes: Mapping[int, int] | None = None
    ) -> Prediction | None:
        """What labels that are still to come will take, each with as many attempts as it needs.

        Args:
            labels: how many.
            workers: that compute labels at the same time, if known.
            sizes: their numbers of atoms and how often each occurs, if known; else they are taken to be like the labels
                so far.

        Returns:
            As ``predict``.
        """
        if labels <= 0 or not self.by_atoms:
            return None
        seen = {atoms: entry.count for atoms, entry in self.by_atoms.items()}
        overhead = self._lost_core_seconds / max(self._succeeded_core_seconds, _LEAST)
        share = overhead / (1.0 + overhead)
        model = CostModel.fit(self.by_atoms)
        total = model.total(
            sizes or seen,
            labels,
            are_exact=sizes is not None,
            extra_variance=share**2 / max(self._priced_failures, 1),
        )
        core_hours = total * ((1.0 + overhead) / 3600)
        wall_seconds, timed = self._timed
        wall_hours = core_hours * (wall_seconds / timed / workers) if workers and timed > 0 else None
        return Prediction(
            labels=round(labels),
            core_hours=core_hours,
            wall_hours=wall_hours,
            workers=workers,
            exponent=model.exponent,
            overhead=overhead,
        )
