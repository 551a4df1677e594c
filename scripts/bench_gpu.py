#!/usr/bin/env python3
"""Measures the engine on a GPU: one command, one table, less than five minutes.

A row that cannot be measured says why: without a CUDA device that is all of them. Weights are those of the published
ANI-Al from ``../shared/ani-al`` where it is, else random ones of that shape. Rates are of 8 members in float32, on
rattled fcc aluminum, pairs with a skin of 0.5 Å. Usage: ``scripts/bench_gpu.py [--output FILE.json]``.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import cached_property, partial
from itertools import pairwise
from math import nan
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

    from alpot.potential.ensemble import Ensemble
    from alpot.potential.kernels import Geometry

ROOT = Path(__file__).parents[1]
ANI_AL = ROOT.parent / "shared" / "ani-al"
GIB = 2**30
SKIN = 0.5
#: Frames, and repetitions of the four atoms of the cubic cell of each.
MANY_SMALL, ONE_LARGE, MILLION = (64, (4, 4, 4)), (1, (25, 25, 40)), (1, (50, 50, 100))
TRAINING_FRAMES, TRAINING_EPOCHS, TRAINING_BATCH = 400, 4, 8
#: What a missing package, too little memory or a part of alpot that has changed raise: the other sections go on.
OBSTACLES = (ImportError, RuntimeError, OSError, AttributeError, TypeError, LookupError)


@dataclass(frozen=True, kw_only=True)
class Row:
    """One line of the table: what, figure and unit, what is asked for, or why there is no figure."""

    what: str
    value: float | None = None
    unit: str = ""
    must: float | None = None
    at_most: bool = False
    reason: str = ""

    def __str__(self) -> str:
        if self.value is None:
            return f"{self.what:72}  not measured: {self.reason}"
        figure = f"{self.what:72}{self.value:12.4g}  {self.unit:18}"
        if self.must is None:
            return figure.rstrip()
        is_met = self.value <= self.must if self.at_most else self.value >= self.must
        return f"{figure} must {'≤' if self.at_most else '≥'} {self.must:g}: {'met' if is_met else 'NOT MET'}"


class Bench:
    """What several rows need, made when first asked for; ``ceilings`` are filled in by the first section."""

    device = "cuda"

    def __init__(self) -> None:
        self.ceilings = {"copy": nan, "fp32": nan}
        self.rates: dict[str, float] = {}

    @cached_property
    def ensemble(self) -> Ensemble:
        """8 members in float32."""
        from engine_benchmarks.potentials import load_ensemble

        return load_ensemble(str(ANI_AL) if ANI_AL.is_dir() else None).to(self.device)

    def geometry(self, size: tuple[int, tuple[int, int, int]], seed: int = 0) -> Geometry:
        """Rattled crystals (0.2 Å, standard deviation), pairs found on the device."""
        import torch

        from alpot.potential.kernels import Geometry
        from alpot.potential.neighbors_gpu import find_pairs

        positions, cells, counts = crystals(*size, torch.Generator().manual_seed(seed))
        positions, cells = positions.to(self.device), cells.to(self.device)
        n_frames, n_atoms = len(cells), len(positions)
        pbc = torch.ones((n_frames, 3), dtype=torch.bool, device=self.device)
        pairs = find_pairs(positions, cells, pbc, counts, self.ensemble.cutoff + SKIN)
        frame = torch.arange(n_frames, device=self.device, dtype=torch.int32).repeat_interleave(counts[0])
        return Geometry(
            species=torch.zeros(n_atoms, dtype=torch.int32, device=self.device),
            positions=positions,
            cells=cells,
            pbc=pbc,
            frame=frame,
            first_pair=pairs.first_pair,
            neighbor=pairs.neighbor,
            shift=pairs.shift,
        )


def crystals(
    n_frames: int, repetitions: tuple[int, int, int], generator: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor, list[int]]:
    """Positions, cells and numbers of atoms of rattled fcc aluminum."""
    import torch

    lattice = 4.1
    axes = [torch.arange(n, dtype=torch.float64) for n in repetitions]
    corners = torch.cartesian_prod(*axes)
    basis = torch.tensor([[0, 0, 0], [0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]], dtype=torch.float64)
    sites = lattice * (corners[:, None] + basis).reshape(-1, 3)
    positions = sites + 0.2 * torch.randn((n_frames, *sites.shape), generator=generator, dtype=torch.float64)
    cell = lattice * torch.diag(torch.tensor(repetitions, dtype=torch.float64))
    return positions.reshape(-1, 3), cell.expand(n_frames, 3, 3).contiguous(), [len(sites)] * n_frames


def seconds(call: Callable[[], object], budget_s: float = 1.5) -> float:
    """Median time of a call on the device, after warm-up: several in a row between two events, several times."""
    import torch

    for _ in range(2):
        call()
    torch.cuda.synchronize()
    begin = time.perf_counter()
    call()
    torch.cuda.synchronize()
    in_a_row = max(1, min(200, int(budget_s / 7 / max(time.perf_counter() - begin, 1e-6))))
    times = []
    for _ in range(7):
        start, stop = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        start.record()
        for _ in range(in_a_row):
            call()
        stop.record()
        torch.cuda.synchronize()
        times.append(1e-3 * start.elapsed_time(stop) / in_a_row)
    return median(times)


# --------------------------------------------------------------------------------------------------------- sections


def ceilings(bench: Bench) -> Iterator[Row]:
    """What the chip does at best: copying, and matrix products of random numbers."""
    import torch

    source = torch.randn(GIB // 2, device="cuda")
    target = torch.empty_like(source)
    bench.ceilings["copy"] = 2 * source.nbytes / seconds(partial(target.copy_, source))
    yield Row(what="copy on the device, read and written", value=bench.ceilings["copy"] / 1e9, unit="GB/s")
    torch.backends.cuda.matmul.allow_tf32 = False
    for name, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
        a, b = (torch.randn((8192, 8192), device="cuda", dtype=dtype) for _ in range(2))
        bench.ceilings[name] = 2 * 8192**3 / seconds(partial(torch.matmul, a, b))
        yield Row(what=f"matrix product 8192³, {name}", value=bench.ceilings[name] / 1e12, unit="Tflop/s")


def correctness(bench: Bench) -> Iterator[Row]:
    """The GPU backend in float32 against plain torch in float64 on the CPU, on two frames of 32 atoms."""
    import copy
    from dataclasses import fields, replace

    import torch

    from alpot.potential.aev_reference import ReferenceKernels

    geometry = bench.geometry((2, (2, 2, 2)))
    on_host = replace(geometry, **{field.name: getattr(geometry, field.name).cpu() for field in fields(geometry)})
    ensemble = copy.deepcopy(bench.ensemble).double().cpu()
    environments = ReferenceKernels(ensemble.aev, 1, torch.float64).environments(on_host, 0, on_host.n_atoms)
    forces = torch.zeros((on_host.n_atoms, ensemble.n_members, 3), dtype=torch.float64)
    virials = torch.zeros((on_host.n_frames, ensemble.n_members, 3, 3), dtype=torch.float64)
    with torch.no_grad():
        energies, slopes = ensemble.atom_outputs(on_host.species, environments.features)
        environments.add_forces(slopes.transpose(0, 1), forces, virials)
    result = bench.ensemble.evaluate_geometry(geometry, mean_only=False)
    per_atom = energies + float(ensemble.self_energies[0]) - result.atom_energies.cpu()
    for what, difference, must, unit in (
        ("largest force error, every member", forces - result.forces.transpose(0, 1).cpu(), 1e-5, "eV/Å"),
        ("largest energy error per atom of a frame", per_atom.view(-1, 2, 32).mean(2), 1e-6, "eV/atom"),
    ):
        error = float(difference.abs().max())
        yield Row(what=f"{what}, against the float64 oracle", value=error, unit=unit, must=must, at_most=True)
        if not error <= must:
            raise SystemExit(f"the GPU backend is wrong: {what} {error:.2e} {unit}; nothing else is measured")


def forces_of(size: tuple[int, tuple[int, int, int]], bench: Bench) -> Iterator[Row]:
    """Rates of force calls, launched one by one and from a recorded graph, and where their time goes."""
    from alpot.potential.cuda_graph import GraphedForces

    geometry, ensemble = bench.geometry(size), bench.ensemble
    n_atoms, name = geometry.n_atoms, name_of(size)
    for mean_only in (True, False):
        what = f"{name}, 8 members, {'mean forces' if mean_only else 'forces of every member'}"
        evaluate = partial(ensemble.evaluate_geometry, mean_only=mean_only)
        rate = n_atoms / seconds(partial(evaluate, geometry))
        bench.rates[f"{name} {mean_only}"] = rate
        must = None if mean_only else 3.0
        yield Row(what=what, value=rate / 1e6, unit="M atom-steps/s", must=must)
        work, bytes_moved = least_work(bench, geometry, 1 if mean_only else ensemble.n_members)
        yield Row(what="    of the fp32 ceiling", value=100 * work * rate / bench.ceilings["fp32"], unit="%")
        yield Row(what="    of the copy ceiling", value=100 * bytes_moved * rate / bench.ceilings["copy"], unit="%")
        try:
            rate = n_atoms / seconds(partial(GraphedForces(evaluate), geometry))
            yield Row(what="    from a recorded CUDA graph", value=rate / 1e6, unit="M atom-steps/s")
        except RuntimeError as error:
            yield Row(what="    from a recorded CUDA graph", reason=first_line(error))
        yield from stages(bench, geometry, mean_only)


def stages(bench: Bench, geometry: Geometry, mean_only: bool) -> Iterator[Row]:
    """Time of the three parts of a force call, all centers at once."""
    import torch

    ensemble, n_atoms = bench.ensemble, geometry.n_atoms
    with torch.no_grad():
        environments = ensemble.kernels.environments(geometry, 0, n_atoms)
        networks = partial(ensemble.atom_outputs, geometry.species, environments.features, mean_only=mean_only)
        weights = networks()[1].transpose(0, 1)
        forces = torch.zeros((n_atoms, weights.shape[1], 3), dtype=torch.float64, device="cuda")
        virials = torch.zeros((geometry.n_frames, weights.shape[1], 3, 3), dtype=torch.float64, device="cuda")
        for stage, call in (
            ("features", partial(ensemble.kernels.environments, geometry, 0, n_atoms)),
            ("networks and their gradients", networks),
            ("forces", partial(environments.add_forces, weights, forces, virials)),
        ):
            yield Row(what=f"    {stage}", value=1e9 * seconds(call, 0.5) / n_atoms, unit="ns/atom")


def least_work(bench: Bench, geometry: Geometry, answers: int) -> tuple[float, float]:
    """Floating-point operations, and bytes of device memory, that a force call needs per atom at least.

    Counted are multiply-adds of the networks and of the sums over triples, each triple once; no exponentials. Bytes are
    those of pairs, features and weights, each read and written once; activations of the networks are not counted.
    """
    import torch

    ensemble, n_atoms = bench.ensemble, geometry.n_atoms
    n_features = ensemble.aev.n_features(1)
    widths = (n_features, *ensemble.hidden, 1)
    of_networks = 2 * 2 * ensemble.n_members * sum(a * b for a, b in pairwise(widths))
    center = torch.repeat_interleave(torch.arange(n_atoms, device="cuda"), geometry.first_pair.diff())
    vectors = geometry.positions[geometry.neighbor.long()] - geometry.positions[center]
    cells = geometry.cells.diagonal(dim1=1, dim2=2)[geometry.frame.long()]
    vectors += geometry.shift * cells[center]
    near = (vectors.square().sum(1) < ensemble.aev.angular_cutoff**2).double()
    sites = torch.zeros(n_atoms, dtype=torch.float64, device="cuda").index_add_(0, center, near)
    triples = float((sites * (sites - 1) / 2).mean())
    of_triples = 2 * ensemble.aev.n_angular * triples * (1 + 2 * answers)
    pairs = 2 * 16 * len(center) / n_atoms
    return of_networks + of_triples, pairs + 2 * 4 * n_features * (1 + answers)


def exploration(bench: Bench) -> Iterator[Row]:
    """Steps of the whole loop, checks included, against the bare force calls that it makes."""
    import numpy as np
    import torch
    from ase import Atoms

    from alpot.config import Exploration
    from alpot.exploration.explorer import Explorer
    from alpot.potential.calibration import ErrorBound

    n_walkers, repetitions = MANY_SMALL
    positions, cells, counts = crystals(1, repetitions, torch.Generator().manual_seed(0))
    atoms = Atoms(f"Al{counts[0]}", positions=positions.numpy(), cell=cells[0].numpy(), pbc=True)

    def run(n_steps: int) -> float:
        settings = Exploration(
            walkers=n_walkers,
            max_time=1e-3 * n_steps,
            temperature_start=(300.0, 600.0),
            temperature_end=(300.0, 600.0),
            temperature_amplitude=(0.0, 0.0),
            max_force_error=1e9,
            mean_force_error=1e9,
            audit_share=0.0,
        )
        starts = [(atoms, np.random.default_rng(seed)) for seed in range(n_walkers)]
        begin = time.perf_counter()
        reports = list(Explorer(bench.ensemble, settings, ErrorBound()).run(starts))
        torch.cuda.synchronize()
        elapsed = time.perf_counter() - begin
        if any(report.time < settings.max_time - 1e-9 for report in reports):
            raise RuntimeError("a walker ended early, so that the steps are not known")
        return elapsed

    run(20)
    rate = 400 * n_walkers * counts[0] / (run(500) - run(100))
    name = name_of(MANY_SMALL)
    yield Row(what=f"{name}, whole exploration loop, a check every 10 steps", value=rate / 1e6, unit="M atom-steps/s")
    bare = 1 / (0.9 / bench.rates[f"{name} True"] + 0.1 / bench.rates[f"{name} False"])
    yield Row(
        what="    of its bare force calls, 9 of the mean to 1 of every member",
        value=100 * rate / bare,
        unit="%",
        must=70,
    )


def searches(bench: Bench) -> Iterator[Row]:
    """Neighbor pairs from nothing."""
    import torch

    from alpot.potential.neighbors_gpu import find_pairs

    for size in (MANY_SMALL, ONE_LARGE):
        positions, cells, counts = crystals(*size, torch.Generator().manual_seed(0))
        pbc = torch.ones((len(cells), 3), dtype=torch.bool, device="cuda")
        call = partial(find_pairs, positions.cuda(), cells.cuda(), pbc, counts, bench.ensemble.cutoff + SKIN)
        yield Row(what=f"{name_of(size)}, neighbor search", value=1e3 * seconds(call), unit="ms")


def million(bench: Bench) -> Iterator[Row]:
    """One call on a million atoms: pairs, energies, mean forces, stress."""
    import torch

    bench.ensemble  # noqa: B018 - its memory is not that of the call
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    geometry = bench.geometry(MILLION)
    name = name_of(MILLION)
    first = torch.cuda.max_memory_allocated() - before
    yield Row(what=f"{name}, peak memory of the neighbor search", value=first / GIB, unit="GiB")
    for mean_only in (True, False):
        torch.cuda.reset_peak_memory_stats()
        elapsed = seconds(partial(bench.ensemble.evaluate_geometry, geometry, mean_only=mean_only))
        what = f"{name}, {'mean forces' if mean_only else 'forces of every member'}"
        yield Row(what=what, value=geometry.n_atoms / elapsed / 1e6, unit="M atom-steps/s")
        peak = torch.cuda.max_memory_allocated() - before
        yield Row(what="    peak memory, pairs included (it may use what is free)", value=peak / GIB, unit="GiB")


@dataclass(frozen=True)
class Label:
    """What ``train`` takes."""

    key: str
    atoms: Any
    energy: float
    forces: Any
    stress: None = None


def training(bench: Bench) -> Iterator[Row]:
    """An epoch of 8 members on energies and forces, against torchani member by member on the same GPU."""
    import torch
    from ase import units
    from ase.calculators.emt import EMT
    from engine_benchmarks.frames import rattled

    from alpot.config import Potential, Training
    from alpot.potential.torchani_bridge import to_torchani
    from alpot.potential.training import train

    labels = []
    for seed in range(TRAINING_FRAMES):
        atoms = rattled(3, seed)
        atoms.calc = EMT()
        labels.append(Label(str(seed), atoms, atoms.get_potential_energy(), atoms.get_forces()))
        atoms.calc = None
    n_atoms = len(labels[0].atoms)
    ends: list[float] = []

    def note(_: Any) -> None:
        torch.cuda.synchronize()
        ends.append(time.perf_counter())

    settings = Training(
        batch_frames=TRAINING_BATCH,
        max_epochs=TRAINING_EPOCHS + 1,
        blocks=TRAINING_FRAMES,
        validation_blocks=1,
        test_blocks=0,
        stress_weight=0,
    )
    train(labels, ("Al",), Potential(members=8), settings, seed=0, device="cuda", on_epoch=note)
    ours = median(b - a for a, b in pairwise(ends))
    what = f"training epoch, 8 members, energy + forces, {TRAINING_FRAMES} × {n_atoms} atoms"
    yield Row(what=what, value=1e6 * ours / (TRAINING_FRAMES * n_atoms), unit="µs/atom/epoch")

    model = to_torchani(bench.ensemble)[0].to("cuda")
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    batch = labels[:TRAINING_BATCH]
    tensors = [
        (
            torch.from_numpy(label.atoms.numbers)[None].cuda(),
            torch.tensor(label.atoms.positions, dtype=torch.float32)[None].cuda().requires_grad_(),
            torch.tensor(label.atoms.cell.array, dtype=torch.float32).cuda(),
            torch.tensor(label.forces, dtype=torch.float32).cuda(),
        )
        for label in batch
    ]
    pbc = torch.tensor([True, True, True]).cuda()

    def step() -> None:
        # Frame by frame: its neighbor lists take one periodic frame at a time.
        optimizer.zero_grad()
        for label, (species, positions, cell, target) in zip(batch, tensors, strict=True):
            energy = model((species, positions), cell, pbc).energies.sum() * units.Hartree
            (gradient,) = torch.autograd.grad(energy, positions, create_graph=True)
            loss = ((energy - label.energy) / n_atoms / 0.05).square() + ((gradient[0] + target) / 0.1).square().mean()
            (loss / TRAINING_BATCH).backward()
        optimizer.step()

    theirs = 8 * TRAINING_FRAMES / TRAINING_BATCH * seconds(step, 3.0)
    what = "    against torchani, one member after the other (one batch of one member, scaled)"
    yield Row(what=what, value=theirs / ours, unit="times faster")


SECTIONS: dict[str, Callable[[Bench], Iterator[Row]]] = {
    "ceilings": ceilings,
    "correctness": correctness,
    "forces, many small frames": partial(forces_of, MANY_SMALL),
    "forces, one large frame": partial(forces_of, ONE_LARGE),
    "exploration loop": exploration,
    "neighbor search": searches,
    "a million atoms": million,
    "training": training,
}


# ------------------------------------------------------------------------------------------------------------ table


def name_of(size: tuple[int, tuple[int, int, int]]) -> str:
    """``64 × 256 atoms``."""
    n_frames, (a, b, c) = size
    return f"{n_frames} × {4 * a * b * c:,} atoms"


def first_line(error: BaseException) -> str:
    """What an exception says, on one line."""
    text = str(error).strip().splitlines()
    return f"{type(error).__name__}: {text[0][:150] if text else ''}".rstrip(": ")


def measure(section: str, bench: Bench) -> Iterator[Row]:
    """Rows of a section, up to where it cannot go on."""
    try:
        yield from SECTIONS[section](bench)
    except OBSTACLES as error:
        yield Row(what=section, reason=first_line(error))


def machine() -> dict[str, str]:
    """The device and the versions that figures depend on; empty without a device."""
    try:
        import torch
    except ImportError:
        return {}
    if not torch.cuda.is_available():
        return {}
    from importlib.metadata import PackageNotFoundError, version

    properties = torch.cuda.get_device_properties(0)
    facts = {"device": properties.name, "multiprocessors": str(properties.multi_processor_count)}
    facts["memory"] = f"{properties.total_memory / GIB:.0f} GiB"
    for package in ("torch", "triton", "torchani", "ase", "vesin"):
        try:
            facts[package] = version(package)
        except PackageNotFoundError:
            facts[package] = "not installed"
    return facts | {"weights": "ANI-Al" if ANI_AL.is_dir() else "random"}


def main() -> None:
    """Print each row when it is known."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--output", type=Path, help="write all figures to this file as JSON")
    arguments = parser.parse_args()
    sys.path.insert(0, str(ROOT))
    facts = machine()
    rows: list[Row] = []
    if facts:
        print(", ".join(f"{name} {value}" for name, value in facts.items()), flush=True)
    else:
        print("There is no CUDA device here (or no torch): nothing is measured.")
    bench = Bench()
    for section in SECTIONS:
        for row in measure(section, bench) if facts else [Row(what=section, reason="no CUDA device")]:
            rows.append(row)
            print(row, flush=True)
    if arguments.output:
        content = {"machine": facts, "rows": [asdict(row) for row in rows]}
        arguments.output.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
