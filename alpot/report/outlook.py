"""Where the force error is heading: the learning curve of the campaign, and what the target will take by it."""

from __future__ import annotations

from typing import Self

from pydantic import BaseModel, ConfigDict

from alpot.campaign.forecast import Forecast, LearningCurve, audit_noise
from alpot.campaign.state import State
from alpot.config import Stopping

#: Points of the curve that are drawn.
_POINTS = 40
#: It is drawn as far as this many times the labels at hand, at most.
_FARTHEST = 3.0


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True)


class Needed(_Part):
    """Calculations that the target takes in all; None: no number is enough, or, for ``high``, there is no limit."""

    expected: float | None = None
    low: float | None = None
    high: float | None = None

    @classmethod
    def of(cls, forecast: Forecast) -> Self:
        """The same as content of the status."""
        return cls(expected=forecast.expected, low=forecast.low, high=forecast.high)


class CurvePoint(_Part):
    """The learning curve at a number of labels to train on, and the ends of its band; errors in eV/Å."""

    labels: int
    expected: float
    low: float
    high: float


class Outlook(_Part):
    """The force error of the promoted generation, and how it falls with the number of labels.

    Attributes:
        force_error: root-mean-square error on audit labels in eV/Å.
        force_error_high: what it is at most with ``confidence``; None where older ledgers do not say.
        confidence: of that limit, and of the two-sided intervals below.
        target: eV/Å; None if there is none.
        budget: of calculations.
        exponent: b of error ∝ labels^(−b); None as long as too few generations were assessed to fit a curve.
        exponent_std: its standard error.
        calculations: that the target takes; empty without target or curve.
        curve: the fit, from the first generation that it rests on to the target, or not quite so far.
    """

    force_error: float
    force_error_high: float | None
    confidence: float
    target: float | None
    budget: int
    exponent: float | None = None
    exponent_std: float | None = None
    calculations: Needed = Needed()
    curve: tuple[CurvePoint, ...] = ()


def outlook_of(stopping: Stopping, state: State) -> Outlook | None:
    """What is known of it by now; None before the first audit."""
    found, curve = state.assessment, state.learning_curve
    if found is None or found.force_error is None:
        return None
    confidence, target = stopping.confidence, stopping.force_error
    known = Outlook(
        force_error=found.force_error,
        force_error_high=found.force_error_high,
        confidence=confidence,
        target=target,
        budget=stopping.max_labels,
    )
    if curve is None:
        return known
    noise = audit_noise(found.force_error, found.force_error_high, found.force_error_confidence or confidence)
    labels = None if target is None else curve.forecast(target, confidence, noise)
    return known.model_copy(
        update={
            "exponent": curve.exponent,
            "exponent_std": curve.exponent_variance**0.5,
            "calculations": Needed() if labels is None else Needed.of(curve.in_calculations(labels)),
            "curve": _drawn(curve, labels, confidence, noise),
        }
    )


def _drawn(curve: LearningCurve, target: Forecast | None, confidence: float, noise: float) -> tuple[CurvePoint, ...]:
    farthest = _FARTHEST * curve.last
    end = curve.last if target is None else max(curve.last, min(target.high or farthest, farthest))
    numbers = {round(curve.first * (end / curve.first) ** (n / (_POINTS - 1))) for n in range(_POINTS)}
    points = []
    for labels in sorted(numbers):
        low, high = curve.band(labels, confidence, noise)
        points.append(CurvePoint(labels=labels, expected=curve.error(labels), low=low, high=high))
    return tuple(points)
