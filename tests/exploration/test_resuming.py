"""An exploration that is interrupted finds, bit by bit, what it finds when it is left alone."""

import math
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.calculators.lj import LennardJones

from alpot.errors import Interrupted
from alpot.exploration.dynamics import Dynamics
from alpot.exploration.explorer import Explorer
from alpot.exploration.saved_state import from_saved, to_saved
from alpot.exploration.walker import Ending, Snapshot, Walker, WalkerReport
from alpot.potential.baseline import Baseline
from alpot.potential.calibration import ErrorBound
from alpot.potential.ensemble import Ensemble
from alpot.store.checkpoint import Checkpoint

CPU = torch.device("cpu")
SIZES = [(1, 1, 1), (2, 1, 1), (1, 1, 1), (2, 2, 1), (1, 2, 1), (1, 1, 1), (2, 1, 1), (1, 1, 1)]

#: What the walkers go through: settings and strength of the potential (eV), and the endings that occur.
CASES = {
    "one walker": ({"walkers": 1, "audit_share": 0.5, "max_time": 0.01}, {Ending.FINISHED}),
    "several": ({"walkers": 3, "audit_share": 0.5, "max_force_error": 0.003}, {Ending.FINISHED, Ending.UNCERTAIN}),
    "all at once": ({"walkers": 9, "audit_share": 0.5, "max_force_error": 0.003}, {Ending.FINISHED, Ending.UNCERTAIN}),
    "compressed": (
        {"density_end": (2.0, 60.0), "max_time": 0.05, "contact_factor": 0.75, "audit_share": 0.9},
        {Ending.CONTACT, Ending.FINISHED},
    ),
    "breathing": (
        {"density_amplitude": (-0.6, 0.6), "density_period": (0.02, 0.1), "audit_share": 0.5, "max_time": 0.03},
        {Ending.FINISHED},
    ),
    "moved otherwise": (
        {"density_end": (2.0, 4.0), "max_time": 0.02, "audit_share": 0.5, "motions": True},
        {Ending.FINISHED},
    ),
    "exploding": (
        {"walkers": 4, "contact_factor": 0.1, "strength": 300.0},
        {Ending.BLOW_UP, Ending.FINISHED},
    ),
}


@pytest.fixture(params=CASES)
def exploration(request, make_ensemble, settings_of, crystal):
    """Explorer, starts (some not periodic in all directions, one in contact) and the endings they lead to."""
    changes, endings = CASES[request.param]
    changes = {"temperature_end": (300.0, 5000.0), "temperature_period": (0.05, 0.1), "strength": 0.5} | changes
    ensemble = make_ensemble(strength=changes.pop("strength"))
    is_moved = changes.pop("motions", False)
    settings = settings_of(**changes)
    frames = [crystal(i, size) for i, size in enumerate(SIZES)]
    if is_moved:
        for i, motion in enumerate(
            [{"recoil": 40.0}, {"compression": 0.2}, {"bias": 1.0}, {"recoil": 5.0, "bias": 2.0}]
        ):
            frames[i].info |= motion
            frames[7 - i].info |= motion
    frames[2].pbc = False
    frames[3].pbc = (True, False, True)
    touching = crystal(8)
    touching.positions[1] = touching.positions[0] + 0.1
    frames.insert(5, touching)
    return Explorer(ensemble, settings, ErrorBound(slope=1.7)), frames, endings | {Ending.CONTACT}


def starts_of(frames: list[Atoms]) -> Iterator[tuple[Atoms, np.random.Generator]]:
    return ((atoms, np.random.default_rng([3, i])) for i, atoms in enumerate(frames))


def bits(value: object) -> object:
    """Something that is equal only where every bit is."""
    if isinstance(value, WalkerReport):
        return value.ending, value.time.hex(), [bits(f) for f in value.found], bits(value.rewound), bits(value.audit)
    if isinstance(value, Snapshot):
        numbers = (value.time, value.temperature, value.density, value.mean_error, value.max_error)
        return bits(value.atoms), [None if number is None else float(number).hex() for number in numbers]
    if isinstance(value, Atoms):
        arrays = {name: (array.dtype, array.tobytes()) for name, array in value.arrays.items()}
        return arrays, value.cell.array.tobytes(), value.pbc.tolist(), value.info
    assert value is None
    return None


class Job:
    """Time until the end of a job that ends when it is asked for the n-th time."""

    def __init__(self, n_offers: float) -> None:
        self.left = n_offers

    def __call__(self) -> float:
        self.left -= 1
        return math.inf if self.left > 0 else 0.0


def run_in_jobs(explorer: Explorer, frames: list[Atoms], path: Path, n_offers: Iterator[float]):
    """Reports of the job that comes to an end, and the progress of those that do not."""
    progress = []
    for n in n_offers:
        # With a clock that stands still nothing is saved but at the end of a job.
        checkpoint = Checkpoint(path, time_left=Job(n), clock=lambda: 0.0)
        try:
            return list(explorer.run(starts_of(frames), checkpoint, "this")), progress
        except Interrupted as interrupted:
            progress.append(interrupted.progress)
    raise AssertionError("no job left")


def count_offers(explorer: Explorer, frames: list[Atoms], path: Path) -> int:
    job = Job(math.inf)
    calls = count()
    checkpoint = Checkpoint(path, time_left=lambda: (next(calls), job())[1], clock=lambda: 0.0)
    list(explorer.run(starts_of(frames), checkpoint))
    return next(calls)


def test_interrupted_once_anywhere(exploration, tmp_path):
    explorer, frames, endings = exploration
    expected = list(explorer.run(starts_of(frames)))
    assert {report.ending for report in expected} == endings
    n_offers = count_offers(explorer, frames, tmp_path / "never written")
    assert n_offers >= 10
    for n in range(1, n_offers + 1):
        reports, progress = run_in_jobs(explorer, frames, tmp_path / f"{n}.h5", iter([n, math.inf]))
        assert list(map(bits, reports)) == list(map(bits, expected)), n
        assert len(progress) == 1 and (progress[0] > 0) == (n > 1)
    assert not (tmp_path / "never written").exists()


@pytest.mark.parametrize("n", [2, 5])
def test_interrupted_again_and_again(exploration, tmp_path, n):
    """Each job begins with the offer that ended the last one, so that it advances n − 1 times."""
    explorer, frames, _ = exploration
    expected = list(explorer.run(starts_of(frames)))
    n_offers = count_offers(explorer, frames, tmp_path / "other.h5")
    reports, progress = run_in_jobs(explorer, frames, tmp_path / "state.h5", (n for _ in count()))
    assert list(map(bits, reports)) == list(map(bits, expected))
    assert len(progress) == (n_offers - 1) // (n - 1)
    assert progress == sorted(set(progress))


def test_another_process_has_a_baseline_of_its_own(make_ensemble, settings_of, crystal, tmp_path):
    explorer = Explorer(make_ensemble(), settings_of(walkers=2, audit_share=0.5, max_time=0.01), ErrorBound(slope=1.0))
    frames = [crystal(i) for i in range(3)]

    def with_fresh_baseline() -> Explorer:
        baseline = Baseline({"code": "lj", "hash": "0"}, lambda: LennardJones(sigma=2.5, epsilon=0.1, rc=4.0))
        explorer.ensemble.baseline = baseline
        return explorer

    expected = list(with_fresh_baseline().run(starts_of(frames)))
    for n in (2, 3):
        path = tmp_path / f"{n}.h5"
        with pytest.raises(Interrupted):
            list(with_fresh_baseline().run(starts_of(frames), Checkpoint(path, time_left=Job(n)), "this"))
        again = with_fresh_baseline().run(starts_of(frames), Checkpoint(path), "this")
        assert list(map(bits, again)) == list(map(bits, expected))


def test_saving_changes_nothing(exploration, tmp_path):
    """Saved at every opportunity; what is left of a killed job is good to continue from."""
    explorer, frames, _ = exploration
    expected = list(explorer.run(starts_of(frames)))
    path = tmp_path / "state.h5"
    running = explorer.run(starts_of(frames), Checkpoint(path, interval=0.0), "this")
    first = [next(running) for _ in range(5)]
    killed = path.read_bytes()
    assert list(map(bits, [*first, *running])) == list(map(bits, expected))
    path.write_bytes(killed)
    again = explorer.run(starts_of(frames), Checkpoint(path), "this")
    assert list(map(bits, again)) == list(map(bits, expected))


def test_another_explorations_checkpoint_is_not_used(make_ensemble, settings_of, crystal, tmp_path):
    explorer = Explorer(make_ensemble(), settings_of(max_time=0.02), ErrorBound(slope=1.0))
    frames = [crystal(i) for i in range(4)]
    path = tmp_path / "state.h5"
    with pytest.raises(Interrupted, match=r"state\.h5"):
        list(explorer.run(starts_of(frames), Checkpoint(path, time_left=Job(3)), "another"))
    evaluated = iter(explorer.run(starts_of(frames), Checkpoint(path), "this"))
    assert list(map(bits, evaluated)) == list(map(bits, explorer.run(starts_of(frames))))


@pytest.mark.parametrize("from_number", [False, True])
def test_only_fresh_starts_become_walkers(monkeypatch, make_ensemble, settings_of, crystal, tmp_path, from_number):
    """Those that were taken are passed over, or not asked for; nor is the potential, again, for what is known."""
    explorer = Explorer(make_ensemble(), settings_of(walkers=2, max_time=0.02), ErrorBound(slope=1.0))
    frames = [crystal(i) for i in range(4)]
    path = tmp_path / "state.h5"
    with pytest.raises(Interrupted):
        list(explorer.run(starts_of(frames), Checkpoint(path, time_left=Job(4)), "this"))
    begun, calls = [], []
    real_begin, real_evaluate = Walker.begin.__func__, Ensemble.evaluate_geometry

    def begin(cls, atoms, *rest):
        begun.append(atoms.info["start"])
        return real_begin(cls, atoms, *rest)

    def evaluate_geometry(self, *arguments, **options):
        calls.append(1)
        return real_evaluate(self, *arguments, **options)

    monkeypatch.setattr(Walker, "begin", classmethod(begin))
    monkeypatch.setattr(Ensemble, "evaluate_geometry", evaluate_geometry)
    asked = []

    def starts_from(number: int):
        asked.append(number)
        return list(starts_of(frames))[number:]

    starts = starts_from if from_number else starts_of(frames)
    assert len(list(explorer.run(starts, Checkpoint(path), "this"))) == 4
    assert asked == [2] * from_number
    assert begun == ["crystal 2", "crystal 3"]
    assert len(calls) == 5 + 1 + 20  # steps that were left, the measurement of the fresh ones, their steps


@pytest.mark.parametrize(("stretch", "skin"), [(1, 0.5), (1, 0.05), (5, 0.3), (16, 0.5)])
def test_dynamics_goes_on_where_it_was(make_ensemble, settings_of, crystal, stretch, skin):
    """Hot atoms and breathing cells, searched at different times, pairs outliving stretches."""
    settings = settings_of(
        temperature_start=(300.0, 2e4), density_amplitude=(-0.3, 0.3), density_period=(0.02, 0.1), check_interval=7
    )
    ensemble = make_ensemble(strength=0.5)
    dynamics = Dynamics(ensemble, settings, stretch=stretch, skin=skin)
    dynamics.add([Walker.begin(crystal(i, SIZES[i]), settings, np.random.default_rng(i)) for i in range(4)])
    moments = []
    for step in range(6):
        dynamics.advance(7)
        if step == 2:
            dynamics.keep([0, 2, 3])
            dynamics.space.note_good()
        saved = to_saved(dynamics.in_flight(), [])
        arrays = {name: array.copy() for name, array in saved.arrays.items()}
        moments.append((saved.facts, arrays, dynamics.advance(7), dynamics.space.frame(1)))
    for facts, arrays, measured, frame in moments:
        resumed = Dynamics(ensemble, settings, stretch=stretch, skin=skin)
        in_flight, _ = from_saved(type(saved)(arrays, facts), CPU)
        resumed.resume(in_flight)
        assert resumed.advance(7) == measured
        for mine, expected in zip(resumed.space.frame(1), frame, strict=True):
            np.testing.assert_array_equal(mine, expected)


def test_everything_comes_back(make_ensemble, settings_of, crystal):
    """Walkers with all that they know: schedules, seed, last good check, audit; and reports without anything."""
    settings = settings_of(density_end=(2.0, 3.0), audit_share=0.999)
    dynamics = Dynamics(make_ensemble(), settings)
    walkers = [Walker.begin(crystal(i, SIZES[i]), settings, np.random.default_rng(i)) for i in range(2)]
    walkers.append(Walker.begin(Atoms("Al"), settings, np.random.default_rng(9)))
    dynamics.add(walkers)
    explorer = Explorer(make_ensemble(), settings, ErrorBound(slope=1.0))
    while not any(walker.audit for walker in walkers) or all(walker.audit for walker in walkers):
        assert list(explorer._check(dynamics, dynamics.advance(5))) == []
    walkers[2].has_left = True
    reports = [
        WalkerReport(ending=ending, time=0.1 * ending.value.count("o"), found=(), audit=None) for ending in Ending
    ]
    in_flight, back = from_saved(to_saved(dynamics.in_flight(), reports), CPU)
    assert back == reports and [type(report.ending) for report in back] == [Ending] * 4
    for mine, walker in zip(in_flight.walkers, walkers, strict=True):
        assert bits(mine.start) == bits(walker.start)
        assert vars(mine) == vars(walker)
        assert bits(mine.audit) == bits(walker.audit)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_to_a_gpu_and_back(make_ensemble, settings_of, crystal):
    """All comes back as it was, random numbers included; sums may come in another order there, in single precision."""
    settings = settings_of(density_end=(2.0, 3.0))
    ensemble = make_ensemble(dtype=torch.float32).to("cuda")
    dynamics, resumed = Dynamics(ensemble, settings), Dynamics(ensemble, settings)
    dynamics.add([Walker.begin(crystal(i, SIZES[i]), settings, np.random.default_rng(i)) for i in range(4)])
    dynamics.advance(20)
    saved = to_saved(dynamics.in_flight(), [])
    in_flight, _ = from_saved(saved, ensemble.device)
    resumed.resume(in_flight)
    for name, array in to_saved(resumed.in_flight(), []).arrays.items():
        np.testing.assert_array_equal(array, saved.arrays[name])
    for each in (dynamics, resumed):
        each.advance(10)
    assert torch.equal(resumed.space.noise_states(), dynamics.space.noise_states())
    torch.testing.assert_close(resumed.space.atoms.positions, dynamics.space.atoms.positions, rtol=0, atol=1e-4)
