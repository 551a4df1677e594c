"""Which tables of starts explorations draw from: more from those that still find errors, but some from each.

A table of ``[[material.starts]]`` is an arm of a bandit: a walker from it finds something worth a label, or does not.
Simulated time does not count: starts that are uncertain as they are built cost none, and would crowd out the others.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

#: Walkers that a table is credited with beforehand, which found what those of all find: with fewer, chance prevails.
_PRIOR_WALKERS = 8.0
#: What each table keeps of its configured share, whatever it finds: it may find more when the others are learned.
_FLOOR = 0.2
#: What is left of earlier finds when a generation is promoted, which has learned from most of them.
_MEMORY = 0.5


@dataclass
class Sampler:
    """What walkers from one table of starts have found.

    Attributes:
        walkers: that ended.
        found: those of them that met uncertainty. Audit frames are not counted, nor contacts alone.
        simulated: ps.
        recent_walkers: as ``walkers``, with what is older than the promoted generation fading away.
        recent_found: as ``found``, likewise.
    """

    walkers: int = 0
    found: int = 0
    simulated: float = 0.0
    recent_walkers: float = 0.0
    recent_found: float = 0.0

    def add(self, walkers: int, found: int, simulated: float) -> None:
        """One exploration has ended: walkers, finds, and ps."""
        self.walkers += walkers
        self.found += found
        self.simulated += simulated
        self.recent_walkers += walkers
        self.recent_found += found

    def fade(self) -> None:
        """A generation was promoted: what was found before says less of what will be."""
        self.recent_walkers *= _MEMORY
        self.recent_found *= _MEMORY


def shares(weights: Sequence[float], samplers: Mapping[int, Sampler]) -> list[float]:
    """The share of walkers that begins from each table.

    The share r of walkers that find something is estimated per table with a beta prior, whose mean is that of all
    tables together, so that little data means little change (Gelman et al., Bayesian Data Analysis, 3rd ed., section
    2.4):

        r_k = (found_k + n found / walkers) / (walkers_k + n),    n = 8

    The shares follow weight times rate; mixing in the configured ones keeps a floor under each (as in Exp3, Auer et
    al., SIAM J. Comput. 32, 48 (2002), where the mixture is with the uniform distribution):

        share_k = γ w_k + (1 − γ) w_k r_k / Σ_j w_j r_j,    γ = 0.2,    w_k = weight_k / Σ_j weight_j

    Args:
        weights: as configured, one per table.
        samplers: what was found, by number of the table; those without walkers may be missing.

    Returns:
        Shares that add up to 1, to six digits, so that events stay short; empty as long as nothing was found from
        which a rate follows, or there is no choice.
    """
    arms = [samplers.get(table, Sampler()) for table in range(len(weights))]
    found = sum(arm.recent_found for arm in arms)
    walkers = sum(arm.recent_walkers for arm in arms)
    if len(arms) < 2 or not found > 0.0:
        return []
    prior_finds = _PRIOR_WALKERS * found / walkers
    rates = [(arm.recent_found + prior_finds) / (arm.recent_walkers + _PRIOR_WALKERS) for arm in arms]
    configured = [weight / sum(weights) for weight in weights]
    mean = sum(share * rate for share, rate in zip(configured, rates, strict=True))
    return [
        float(f"{share * (_FLOOR + (1.0 - _FLOOR) * rate / mean):.6g}")
        for share, rate in zip(configured, rates, strict=True)
    ]
