"""Where alpot's time goes in one evaluation: neighbor search, descriptor, networks, forces."""

from __future__ import annotations

import torch

from alpot.potential.batch import Batch
from alpot.potential.ensemble import Ensemble
from alpot.potential.kernels import Geometry
from alpot.potential.neighbors import NeighborSearch
from engine_benchmarks.frames import read_frame
from engine_benchmarks.inference import per_atom
from engine_benchmarks.isolation import answer
from engine_benchmarks.measuring import Row, Timings
from engine_benchmarks.potentials import load_ensemble

#: As in ``Ensemble``: intermediates of one pass stay in the processor's cache.
_CENTERS_PER_PASS = 256
_STAGES = (
    "neighbor search",
    "features",
    "networks",
    "forces of the mean",
    "forces of every member",
)


def measure(weights: str | None, frames: str, n_atoms: int, repeats: int) -> list[Row]:
    """One row per stage; an evaluation has one of the two last ones."""
    ensemble = load_ensemble(weights)
    batch = Batch.from_atoms([read_frame(frames, "liquid", n_atoms)])
    _evaluate_by_stages(ensemble, batch)  # compiles and allocates
    rounds = [_evaluate_by_stages(ensemble, batch) for _ in range(repeats)]
    rows = []
    for stage in _STAGES:
        spent = Timings([sum(spent[stage].cpu) for spent in rounds], [sum(spent[stage].wall) for spent in rounds])
        rows.append(
            Row(what=f"liquid {n_atoms}: {stage}", malloc="tuned", unit="µs/atom", ours=per_atom(spent, n_atoms))
        )
    return rows


@torch.no_grad()
def _evaluate_by_stages(ensemble: Ensemble, batch: Batch) -> dict[str, Timings]:
    """What ``Ensemble.evaluate`` does, with a stopwatch on each stage of each pass over the centers."""
    species = torch.from_numpy(ensemble.species(batch.numbers))
    search, features, networks, of_mean, of_members = timings = [Timings() for _ in _STAGES]
    with search.running():
        geometry = Geometry.of(batch, species, NeighborSearch(ensemble.cutoff).pairs(batch), ensemble.device)
    sums = [
        (geometry.positions.new_zeros((batch.n_atoms, k, 3)), geometry.positions.new_zeros((1, k, 3, 3)))
        for k in (1, ensemble.n_members)
    ]
    for begin in range(0, batch.n_atoms, _CENTERS_PER_PASS):
        end = min(begin + _CENTERS_PER_PASS, batch.n_atoms)
        with features.running():
            environments = ensemble.kernels.environments(geometry, begin, end)
            G = environments.features
        with networks.running():
            _, slopes = ensemble.atom_outputs(geometry.species[begin:end], G)
        with of_mean.running():
            environments.add_forces(slopes.mean(0, keepdim=True).transpose(0, 1), *sums[0])
        with of_members.running():
            environments.add_forces(slopes.transpose(0, 1), *sums[1])
    return dict(zip(_STAGES, timings, strict=True))


if __name__ == "__main__":
    answer(measure)
