"""The campaign that all rules are given: so many workers, so many labels, and choices that a careful user makes."""

from __future__ import annotations

from dataclasses import dataclass

from simulation.cluster import Cluster, PoolSettings
from simulation.workload import HOUR, Workload
from simulation.world import World

#: Of all workers, those on GPUs that explore; two nodes train, the others label.
_EXPLORE_SHARE = 0.2


@dataclass(frozen=True)
class Plan:
    """Size of the cluster and of the campaign.

    Attributes:
        workers: label and explore workers together.
        labels: label calculations that the budget allows.
        seed: of everything random.
        kill_at: the controller is killed once this share of the labels is there; above 1: never.
    """

    workers: int = 1000
    labels: int = 100_000
    seed: int = 0
    kill_at: float = 0.95

    @property
    def explore_slots(self) -> int:
        """Explorations at the same time, each on a GPU."""
        return max(1, round(_EXPLORE_SHARE * self.workers))

    @property
    def label_slots(self) -> int:
        """Labels at the same time."""
        return max(1, self.workers - self.explore_slots)

    @property
    def labels_per_generation(self) -> int:
        """New labels for a training: two for each worker."""
        return 2 * self.label_slots

    @property
    def waiting_candidates(self) -> int:
        """Candidates in stock: two for each worker."""
        return 2 * self.label_slots

    @property
    def initial_labels(self) -> int:
        """Random structures to begin with: one for each worker."""
        return self.label_slots

    @property
    def pools(self) -> dict[str, PoolSettings]:
        """Nodes of 4 label workers, 4 explorations, or one training; a training needs a node that is kept longer."""
        return {
            "label": PoolSettings(slots=self.label_slots, node_slots=min(4, self.label_slots)),
            "explore": PoolSettings(slots=self.explore_slots, node_slots=min(4, self.explore_slots)),
            "train": PoolSettings(slots=2, node_slots=1, walltime=48 * HOUR),
        }

    def cluster(self) -> Cluster:
        """A fresh cluster."""
        return Cluster(self.pools, seed=self.seed)

    def world(self) -> World:
        """A fresh world; the training nodes of a large cluster have more GPUs."""
        return World(Workload(seed=self.seed, gpus_per_training=4 if self.workers <= 2000 else 16))
