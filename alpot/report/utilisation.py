"""How busy the workers were: when tasks of each kind ran, and how many at the same time. A fold over the ledger."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from alpot.campaign.subject import Kind


@dataclass
class Utilisation:
    """Attempts at tasks in running time of the campaign, in s.

    Attributes:
        begins: when each attempt began that has ended, by kind.
        ends: when it ended.
    """

    begins: dict[Kind, list[float]] = field(default_factory=dict)
    ends: dict[Kind, list[float]] = field(default_factory=dict)

    def add(self, kind: Kind, begin: float, end: float) -> None:
        """Takes in an attempt that ended, however it did."""
        self.begins.setdefault(kind, []).append(begin)
        self.ends.setdefault(kind, []).append(end)

    def with_running(self, begun: Iterable[tuple[Kind, float]], now: float) -> Utilisation:
        """The same, with attempts that have not ended.

        Args:
            begun: their kinds, and when they began, in s.
            now: running time of the campaign in s.
        """
        whole = Utilisation(
            {kind: [*times] for kind, times in self.begins.items()},
            {kind: [*times] for kind, times in self.ends.items()},
        )
        for kind, begin in begun:
            whole.add(kind, begin, now)
        return whole

    def longest_s(self, kind: Kind) -> float | None:
        """The longest that an attempt at a task of this kind has taken."""
        if kind not in self.ends:
            return None
        return max(end - begin for begin, end in zip(self.begins[kind], self.ends[kind], strict=True))

    def busy_s(self, kind: Kind) -> float:
        """Time of all attempts at tasks of this kind, added up."""
        return sum(self.ends.get(kind, ())) - sum(self.begins.get(kind, ()))

    def running(self, kind: Kind, edges: NDArray[np.float64]) -> NDArray[np.float64]:
        """Mean number of tasks of a kind that ran between each two edges.

        Args:
            kind: of the tasks.
            edges: (n + 1,) times in s, ascending.

        Returns:
            (n,)
        """
        # What an attempt has run until t is min(t, end) − min(t, begin).
        busy = _added_up(self.ends.get(kind, []), edges) - _added_up(self.begins.get(kind, []), edges)
        return np.diff(busy) / np.diff(edges)


def _added_up(times: list[float], edges: NDArray[np.float64]) -> NDArray[np.float64]:
    """Σ min(t, edge) over ``times`` for each edge (n,)."""
    ordered = np.sort(np.array(times, dtype=float))
    before = np.searchsorted(ordered, edges, side="right")
    sums = np.concatenate([[0.0], np.cumsum(ordered)])
    result: NDArray[np.float64] = sums[before] + (len(ordered) - before) * edges
    return result
