"""Which tables of starts explorations draw from: more from those that still find errors, but some from each.

A table of ``[[material.starts]]`` is an arm of a bandit. What its walkers find on their way comes about as a Poisson
process, whose rate is found by counting: finds per simulated time, which is what exploration costs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

#: Finds that a table is credited with beforehand, at the mean rate of all: with fewer than that, chance prevails.
_PRIOR_FINDS = 4.0
#: What each table keeps of its configured share, whatever it finds: it may find more when the others are learned.
_FLOOR = 0.2
#: What is left of earlier finds when a generation is promoted, which has learned from most of them.
_MEMORY = 0.5


@dataclass
class Sampler:
    """What walkers from one table of starts have found.

    Attributes:
        walkers: that ended.
        found: those of them that found a frame worth a label: uncertain, or the last good one before a contact or
            blow-up. Audit frames are not counted.
        simulated: ps.
        recent_found: as ``found``, with what is older than the promoted generation fading away.
        recent_simulated: as ``simulated``, likewise.
    """

    walkers: int = 0
    found: int = 0
    simulated: float = 0.0
    recent_found: float = 0.0
    recent_simulated: float = 0.0

    def add(self, walkers: int, found: int, simulated: float) -> None:
        """One exploration has ended: walkers, finds, and ps."""
        self.walkers += walkers
        self.found += found
        self.simulated += simulated
        self.recent_found += found
        self.recent_simulated += simulated

    def fade(self) -> None:
        """A generation was promoted: what was found before says less of what will be."""
        self.recent_found *= _MEMORY
        self.recent_simulated *= _MEMORY


def shares(weights: Sequence[float], samplers: Mapping[int, Sampler]) -> list[float]:
    """The share of walkers that begins from each table.

    The rate r of finds is estimated per table with a gamma prior, whose mean is the rate of all tables together, so
    that little data means little change (the posterior mean of a Poisson rate, Gelman et al., Bayesian Data Analysis,
    3rd ed., section 2.6):

        r_k = (found_k + n) / (simulated_k + n simulated / found),    n = 4

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
    simulated = sum(arm.recent_simulated for arm in arms)
    if len(arms) < 2 or not (found > 0.0 and simulated > 0.0):
        return []
    prior_time = _PRIOR_FINDS * simulated / found
    rates = [(arm.recent_found + _PRIOR_FINDS) / (arm.recent_simulated + prior_time) for arm in arms]
    configured = [weight / sum(weights) for weight in weights]
    mean = sum(share * rate for share, rate in zip(configured, rates, strict=True))
    return [
        float(f"{share * (_FLOOR + (1.0 - _FLOOR) * rate / mean):.6g}")
        for share, rate in zip(configured, rates, strict=True)
    ]
