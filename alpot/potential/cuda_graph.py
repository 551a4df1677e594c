"""A force call recorded as a CUDA graph: for small batches, whose launches take longer than their arithmetic."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace
from typing import Generic, TypeVar

import torch
from torch import Tensor

from alpot.potential.kernels import Geometry

Result = TypeVar("Result")

#: Room for pairs beyond those present when the graph is recorded, because it is recorded again when they do not fit.
_HEADROOM = 1.2
#: Calls before recording: kernels are compiled, and libraries set up, by the first.
_WARM_UP = 2
_OF_PAIRS = ("neighbor", "shift")


class GraphedForces(Generic[Result]):
    """Replays ``evaluate`` on the tensors of a geometry; records it when atoms, frames or the room for pairs change.

    This class has not yet run on a GPU.

    Args:
        evaluate: makes results, tensors on the device, from a geometry there, without waiting for the device and
            without copies from the host: ``Ensemble.evaluate_geometry``. It must take the shapes of all that it
            allocates from those of the geometry's tensors, and the pairs of a center from ``first_pair`` alone, since
            ``neighbor`` and ``shift`` are padded at their ends.
    """

    def __init__(self, evaluate: Callable[[Geometry], Result]) -> None:
        self._evaluate = evaluate
        self._graph: torch.cuda.CUDAGraph | None = None
        self._static: Geometry | None = None
        self._result: Result | None = None
        self._pairs_of: tuple[Tensor, ...] = ()

    def __call__(self, geometry: Geometry) -> Result:
        """Results for a geometry on a CUDA device; the next call overwrites them."""
        if self._static is None or not _fits(geometry, self._static):
            self._record(geometry)
        else:
            self._copy(geometry)
        assert self._graph is not None and self._result is not None
        self._graph.replay()
        return self._result

    def _record(self, geometry: Geometry) -> None:
        # The graph keeps the memory of what it was recorded with; the old one is let go of first.
        self._graph = self._static = self._result = None
        n_pairs = max(int(len(geometry.neighbor) * _HEADROOM), 1)
        own = {field.name: getattr(geometry, field.name).clone() for field in fields(geometry)}
        for name in _OF_PAIRS:
            pairs = own[name]
            own[name] = pairs.new_zeros((n_pairs, *pairs.shape[1:]))
            own[name][: len(pairs)] = pairs
        static = replace(geometry, **own)
        self._pairs_of = (geometry.first_pair, geometry.neighbor, geometry.shift)
        stream = torch.cuda.Stream(geometry.positions.device)
        stream.wait_stream(torch.cuda.current_stream(geometry.positions.device))
        with torch.cuda.stream(stream):
            for _ in range(_WARM_UP):
                self._evaluate(static)
        torch.cuda.current_stream(geometry.positions.device).wait_stream(stream)
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph):
            self._result = self._evaluate(static)
        self._static = static

    def _copy(self, geometry: Geometry) -> None:
        """Pairs change now and then only, and are new tensors then."""
        assert self._static is not None
        for name in ("species", "positions", "cells", "frame"):
            getattr(self._static, name).copy_(getattr(geometry, name))
        pairs = (geometry.first_pair, geometry.neighbor, geometry.shift)
        if any(old is not new for old, new in zip(self._pairs_of, pairs, strict=True)):
            self._pairs_of = pairs
            self._static.first_pair.copy_(geometry.first_pair)
            for name in _OF_PAIRS:
                pairs_of = getattr(geometry, name)
                getattr(self._static, name)[: len(pairs_of)].copy_(pairs_of)


def _fits(geometry: Geometry, static: Geometry) -> bool:
    same = geometry.positions.shape == static.positions.shape and geometry.cells.shape == static.cells.shape
    same = same and geometry.positions.device == static.positions.device
    return same and len(geometry.neighbor) <= len(static.neighbor)
