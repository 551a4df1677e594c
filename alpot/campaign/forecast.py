"""How many labels the target will take: a power law through the errors of the generations so far, and its uncertainty.

The error of a potential on structures that it was not trained on falls as a power of the number of its labels,

    ε(n) = a n^(−b),     ln ε = α − b ln n,

over decades: J. Hestness et al., arXiv:1712.00409 (2017), for neural networks at large; F. A. Faber et al., J. Chem.
Phys. 148, 241717 (2018), and B. Huang and O. A. von Lilienfeld, J. Chem. Phys. 145, 161102 (2016), for atoms. The
exponent of the README's quickstart, of one material, is about 1. There may be a floor that the error does not fall
below (of the network's size, of noise in the labels). A campaign has a dozen points with a scatter of several percent,
from which a floor and an exponent cannot be told apart; so none is fitted, and a forecast far beyond the labels at hand
is on the bright side.

The fit is a weighted least squares of ln ε over ln n within the last decade of labels: what comes before is often
flat, where there are too few labels to learn from. Its interval for the labels to the target is that of E. C. Fieller,
J. Roy. Statist. Soc. B 16, 175 (1954): all n at which the band of the line, at Student's t, holds the target. It is
exact for a straight line with normal errors, and has no end where the data do not say that the error falls at all.

Plain arithmetic, so that decisions can be replayed without any library.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from statistics import NormalDist

#: Generations that were trained on fewer labels than this share of the last one's are not fitted.
_WINDOW = 0.1
#: With as many audit labels, an error is as uncertain from the choice of the audit as from that of the training's
#: random numbers: some 7 % each. More of them make a point hardly worth more.
_EVEN_AUDIT = 50
#: A line through two points has no scatter.
_FEWEST = 3
#: More labels than these are as good as infinitely many.
_INFINITE = 1e12


@dataclass(frozen=True, kw_only=True)
class LearningPoint:
    """What a number of labels had bought.

    Attributes:
        labels: that the generation was trained on.
        calculations: that had ended when its training began; what the label budget counts.
        force_error: root-mean-square force error on audit labels in eV/Å, of the generation that was promoted then.
        audit_labels: labels that it was measured on.
    """

    labels: int
    calculations: int
    force_error: float
    audit_labels: int


@dataclass(frozen=True, kw_only=True)
class Forecast:
    """How many labels, or calculations, the target takes in all; None: no number is enough.

    Attributes:
        expected: where the fitted line meets the target.
        low: optimistic end of the interval.
        high: its pessimistic end.
    """

    expected: float | None
    low: float | None
    high: float | None

    @property
    def values(self) -> tuple[float | None, float | None, float | None]:
        """``expected``, ``low``, ``high``."""
        return self.expected, self.low, self.high

    def map(self, slope: float, offset: float) -> Forecast:
        """The same in another count, ``offset + slope × labels``."""
        expected, low, high = (None if n is None else offset + slope * n for n in self.values)
        return Forecast(expected=expected, low=low, high=high)


@dataclass(frozen=True, kw_only=True)
class LearningCurve:
    """The fitted line, ln ε = ``level`` − ``exponent`` (ln n − ``center``).

    Attributes:
        points: generations that were fitted.
        first: fewest labels of them.
        last: most labels of them.
        center: weighted mean of ln n.
        level: of ln (ε / (eV/Å)) there.
        exponent: b.
        level_variance: of ``level``.
        exponent_variance: of ``exponent``; the two are independent.
        price: calculations per label to train on, between the first and the last of them.
        calculations: that had ended when the last of them was trained.
    """

    points: int
    first: int
    last: int
    center: float
    level: float
    exponent: float
    level_variance: float
    exponent_variance: float
    price: float
    calculations: int

    @property
    def freedom(self) -> int:
        """Degrees of freedom of the fit."""
        return self.points - 2

    def error(self, labels: float) -> float:
        """Expected force error in eV/Å."""
        return math.exp(self.level - self.exponent * (math.log(labels) - self.center))

    def band(self, labels: float, confidence: float, audit_noise: float = 0.0) -> tuple[float, float]:
        """Ends of the two-sided interval of the expected force error in eV/Å; the arguments are as for ``forecast``."""
        beyond = math.log(labels) - self.center
        variance = self.level_variance + beyond**2 * self.exponent_variance + audit_noise**2
        width = student_quantile(0.5 + confidence / 2, self.freedom) * math.sqrt(variance)
        middle = self.error(labels)
        return middle * math.exp(-width), middle * math.exp(width)

    def forecast(self, target: float, confidence: float, audit_noise: float = 0.0) -> Forecast:
        """Labels to train on at which the error meets a target, and their interval.

        Args:
            target: eV/Å.
            confidence: of the two-sided interval, between 0 and 1.
            audit_noise: standard error of ln ε that all generations share, because they are measured on the same
                audit labels; the scatter about the line does not show it.
        """
        quantile = student_quantile(0.5 + confidence / 2, self.freedom)
        gap = self.level - math.log(target)
        # The band holds the target where (gap − b u)² ≤ t² (var level + u² var b + noise²), u = ln n − center: between
        # the roots of a u² − 2 h u + c where a > 0, and outside of them where a < 0, for b may be zero then.
        a = self.exponent**2 - quantile**2 * self.exponent_variance
        h = gap * self.exponent
        c = gap**2 - quantile**2 * (self.level_variance + audit_noise**2)
        expected = gap / self.exponent if self.exponent > 0 else math.inf
        if a > 0 and self.exponent > 0:
            root = math.sqrt(max(h * h - a * c, 0.0))
            low, high = (h - root) / a, (h + root) / a
        elif a >= 0:  # it rises, or stays what it is, beyond doubt
            low = high = math.inf
        elif c > 0 and gap > 0:
            low, high = (h - math.sqrt(h * h - a * c)) / a, math.inf
        else:  # the band holds the target already
            low, high = -math.inf, math.inf
        return Forecast(expected=self._labels(expected), low=self._labels(low), high=self._labels(high))

    def in_calculations(self, labels: Forecast) -> Forecast:
        """A forecast of labels to train on as one of calculations, of which the audit and failures take a share."""
        return labels.map(self.price, self.calculations - self.price * self.last)

    def _labels(self, beyond: float) -> float | None:
        logarithm = self.center + beyond
        if logarithm > math.log(_INFINITE):
            return None
        return max(math.exp(logarithm), 1.0)


def fit_learning_curve(points: Sequence[LearningPoint]) -> LearningCurve | None:
    """Fits the last decade of the points; None if these are fewer than three, or all of one number of labels."""
    known = [p for p in points if p.labels > 0 and p.force_error > 0 and p.audit_labels > 0]
    last = max((p.labels for p in known), default=0)
    known = [p for p in known if p.labels >= _WINDOW * last]
    first = min((p.labels for p in known), default=0)
    if len(known) < _FEWEST or first == last:
        return None
    weights = [p.audit_labels / (p.audit_labels + _EVEN_AUDIT) for p in known]
    x, y = [math.log(p.labels) for p in known], [math.log(p.force_error) for p in known]
    total = math.fsum(weights)
    center, level = (math.fsum(w * v for w, v in zip(weights, values, strict=True)) / total for values in (x, y))
    spread = math.fsum(w * (at - center) ** 2 for w, at in zip(weights, x, strict=True))
    slope = math.fsum(w * (at - center) * (of - level) for w, at, of in zip(weights, x, y, strict=True)) / spread
    misfits = (w * (of - level - slope * (at - center)) ** 2 for w, at, of in zip(weights, x, y, strict=True))
    scatter = math.fsum(misfits) / (len(known) - 2)
    begin, end = (min(known, key=lambda p: p.labels), max(known, key=lambda p: p.labels))
    return LearningCurve(
        points=len(known),
        first=first,
        last=last,
        center=center,
        level=level,
        exponent=-slope,
        level_variance=scatter / total,
        exponent_variance=scatter / spread,
        price=max(1.0, (end.calculations - begin.calculations) / (last - first)),
        calculations=end.calculations,
    )


def audit_noise(error: float, upper_limit: float | None, confidence: float) -> float:
    """Standard error of ln ε by its one-sided upper limit; 0 where that is not known."""
    if upper_limit is None or error <= 0:
        return 0.0
    return math.log(upper_limit / error) / NormalDist().inv_cdf(confidence)


@lru_cache(maxsize=256)
def student_quantile(probability: float, freedom: int) -> float:
    """The t that Student's distribution is below with a probability of at least one half, by bisection."""
    low, high = 0.0, 1.0
    while _student_cdf(high, freedom) < probability:
        low, high = high, 2 * high
    while high - low > 1e-9 * high:
        middle = (low + high) / 2
        if _student_cdf(middle, freedom) < probability:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def _student_cdf(t: float, freedom: int) -> float:
    """Probability below t ≥ 0: the finite sums of M. Abramowitz and I. A. Stegun, eqs. 26.7.3 and 26.7.4."""
    angle = math.atan(t / math.sqrt(freedom))
    sine, cosine = math.sin(angle), math.cos(angle)
    odd = freedom % 2
    term = cosine if odd else 1.0
    terms = [term] if freedom > 1 else []
    for k in range(2 + odd, freedom - 1, 2):
        term *= cosine**2 * (k - 1) / k
        terms.append(term)
    total = sine * math.fsum(terms)
    return 0.5 + ((angle + total) / math.pi if odd else total / 2)
