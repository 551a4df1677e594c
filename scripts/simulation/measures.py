"""What a run is judged by, in figures that can be written as JSON."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from itertools import pairwise
from typing import Any

from simulation.cluster import Cluster
from simulation.workload import HOUR
from simulation.world import World

#: The steady state: from this share of the labels on, up to that.
STEADY = (0.2, 0.9)


@dataclass(kw_only=True)
class Run:
    """One set of rules on the virtual cluster.

    Attributes:
        rules: their name.
        labels: labels recorded where a crash of the controller cannot reach them, at the end.
        computed: labels that workers have computed to their end: the truth.
        recorded_twice: labels that the rules count more than once.
        computed_twice: labels that were computed to their end more than once.
        given_up: structures whose label was given up, though it could have been computed.
        useful: share of the labels whose structure was still news to the newest model when they began.
        generations: trainings that ended.
        hours: virtual time from the first request for a node to the last label.
        series: see ``Cluster.sample_every``.
        held: most labels that were finished, but in the memory of the controller only.
        more: what only these rules have.
    """

    rules: str
    labels: int
    computed: int
    recorded_twice: int
    computed_twice: int
    given_up: int
    useful: float
    generations: int
    hours: float
    series: list[dict[str, Any]] = field(repr=False)
    held: int = 0
    more: dict[str, Any] = field(default_factory=dict)

    @property
    def lost(self) -> int:
        """Labels that were computed and are not recorded."""
        return self.computed - self.labels

    @property
    def labels_per_hour(self) -> float:
        """Over the whole run."""
        return self.labels / self.hours

    @property
    def steady(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """The first and last sample of the steady state."""
        last = self.series[-1]["labels"]
        window = [row for row in self.series if STEADY[0] * last <= row["labels"] <= STEADY[1] * last]
        return (window[0], window[-1]) if len(window) > 1 else (self.series[0], self.series[-1])

    @property
    def steady_labels_per_hour(self) -> float:
        """Labels per hour in the steady state."""
        first, last = self.steady
        return (last["labels"] - first["labels"]) / (last["time"] - first["time"]) * HOUR

    def busy(self, pool: str, *, of_paid: bool = False) -> float:
        """Share of the slot-seconds of the steady state in which a pool worked.

        Args:
            pool: its name.
            of_paid: of all that were held; otherwise, of those that would have taken a task (no draining nodes).
        """
        first, last = self.steady
        whole = 2 if of_paid else 1
        held = last[pool][whole] - first[pool][whole]
        return (last[pool][0] - first[pool][0]) / held if held else 0.0

    def utilisation(self, pool: str, pieces: int = 24) -> list[float]:
        """Busy share of accepting slots over the whole run, in so many equal pieces of time (or fewer)."""
        stride = max(1, (len(self.series) - 1) // pieces)
        rows = self.series[::stride]
        shares = []
        for first, last in pairwise(rows):
            held = last[pool][1] - first[pool][1]
            shares.append((last[pool][0] - first[pool][0]) / held if held else 0.0)
        return shares

    def to_json(self) -> dict[str, Any]:
        """All figures; the series as busy shares."""
        content = asdict(self)
        del content["series"]
        pools = [name for name, value in self.series[0].items() if isinstance(value, tuple)]
        return content | {
            "lost": self.lost,
            "labels_per_hour": self.labels_per_hour,
            "steady_labels_per_hour": self.steady_labels_per_hour,
            "busy": {name: self.busy(name) for name in pools},
            "busy_of_paid": {name: self.busy(name, of_paid=True) for name in pools},
            "utilisation": {name: self.utilisation(name) for name in pools},
        }


def run_of(rules: str, world: World, cluster: Cluster, *, labels: int, generations: int, **more: Any) -> Run:
    """Figures that all rules share."""
    return Run(
        rules=rules,
        labels=labels,
        computed=len(world.labels),
        computed_twice=sum(count > 1 for count in world.labels.values()),
        useful=world.useful / max(1, world.begun),
        generations=generations,
        hours=world.last_label / HOUR,
        series=cluster.series,
        **more,
    )
