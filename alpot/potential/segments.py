"""Items grouped into bins of different sizes, padded so that a whole batch becomes one matrix product."""

from __future__ import annotations

import torch
from torch import Tensor


class Segments:
    """Where each item goes in a padded layout (n_bins, width), width being the fullest bin's size.

    Args:
        bins: (n_items,) bin of each item.
        n_bins: number of bins, empty ones included.
    """

    def __init__(self, bins: Tensor, n_bins: int) -> None:
        counts = torch.bincount(bins, minlength=n_bins)
        self.n_bins = n_bins
        self.width = max(int(counts.max()), 1) if n_bins else 1
        order = torch.argsort(bins, stable=True)
        first = torch.cumsum(counts, 0) - counts
        sorted_bins = bins[order]
        rank = torch.arange(len(bins), device=bins.device) - first[sorted_bins]
        self.slot = torch.empty_like(bins)
        self.slot[order] = sorted_bins * self.width + rank

    def pad(self, values: Tensor) -> Tensor:
        """(n_items, ...) → (n_bins, width, ...), zero where a bin is not full."""
        padded = values.new_zeros((self.n_bins * self.width, *values.shape[1:]))
        return padded.index_copy(0, self.slot, values).unflatten(0, (self.n_bins, self.width))

    def unpad(self, padded: Tensor) -> Tensor:
        """(n_bins, width, ...) → (n_items, ...)."""
        return padded.flatten(0, 1)[self.slot]
