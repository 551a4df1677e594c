"""Recorded force calls give what the plain ones give; needs a GPU."""

import importlib.util
from dataclasses import replace
from functools import partial

import pytest
import torch

from alpot.potential.batch import Batch
from alpot.potential.cuda_graph import GraphedForces
from alpot.potential.kernels import Geometry
from alpot.potential.neighbors import NeighborSearch

pytestmark = pytest.mark.skipif(
    not torch.cuda.is_available() or importlib.util.find_spec("triton") is None, reason="needs a CUDA GPU and Triton"
)


def test_recorded_calls_follow_what_moves(make_ensemble, make_frame):
    ensemble = make_ensemble(dtype=torch.float32).cuda()
    evaluate = partial(ensemble.evaluate_geometry, mean_only=False)
    graphed = GraphedForces(evaluate)
    frames = [make_frame(8, seed=seed) for seed in range(3)]
    for n_frames in (2, 2, 3):
        batch = Batch.from_atoms(frames[:n_frames])
        pairs = NeighborSearch(ensemble.cutoff, 0.5).pairs(batch)
        geometry = Geometry.of(batch, torch.zeros(batch.n_atoms), pairs, "cuda")
        for _ in range(3):
            # Forces are sums of atomic additions, in an order that is not the same twice.
            for actual, expected in zip(graphed(geometry), evaluate(geometry), strict=True):
                torch.testing.assert_close(actual, expected, rtol=0, atol=1e-9)
            positions = geometry.positions + 0.02 * torch.randn_like(geometry.positions)
            geometry = replace(geometry, positions=positions)
        frames = [make_frame(8, seed=10 + seed) for seed in range(3)]
