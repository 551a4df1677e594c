"""A fit that is interrupted, wherever and however often, gives bitwise what it would have given in one go."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from ase.calculators.emt import EMT

from alpot.config import Descriptor, Potential, Training
from alpot.errors import Interrupted, PotentialError
from alpot.potential.ensemble import Ensemble
from alpot.potential.fit_state import hash_of_fit
from alpot.potential.frame_cache import FrameCache
from alpot.potential.networks import ElementNetworks
from alpot.potential.training import train
from alpot.store.checkpoint import Checkpoint

ELEMENTS = ("Al", "Cu")
POTENTIAL = Potential(
    members=3,
    hidden=(8, 6),
    descriptor=Descriptor(
        radial_cutoff=5.0, radial_eta=8.0, radial_shifts=6, angular_cutoff=3.5, angular_shifts=2, angle_sections=3
    ),
)
ONE_CYCLE = Training(learning_rate=1e-2, max_epochs=5, blocks=5, validation_blocks=1, test_blocks=1, batch_frames=3)
#: The members' rates fall at different epochs, and all have finished before the last one.
PLATEAU = ONE_CYCLE.model_copy(
    update={"schedule": "plateau", "patience": 2, "min_learning_rate": 6e-3, "learning_rate": 2e-2, "max_epochs": 30}
)
SCHEDULES = {"one-cycle": ONE_CYCLE, "plateau": PLATEAU}
#: ``cpu:0`` is the same device, but not the compiled engine: the one for GPUs.
ENGINES = ("cpu", "cpu:0")


@pytest.fixture(scope="module")
def frames(make_frame, make_label):
    sizes = [4, 5, 6] * 3 + [4]
    labels = [make_label(make_frame(n, ELEMENTS, seed=i), calculator=EMT(), seed=i) for i, n in enumerate(sizes)]
    return [replace(label, stress=None) if i % 3 == 0 else label for i, label in enumerate(labels)]


@pytest.fixture(scope="module")
def parent(frames):
    """Its member 1 has exploded, so that it is trained again."""
    ensemble = train(frames[:6], ELEMENTS, POTENTIAL, ONE_CYCLE, seed=3).ensemble
    with torch.no_grad():
        ensemble.networks[0].weights[1][1, 0, 0] = 1e30
    return ensemble


class Job:
    """Time is up after so many epochs."""

    def __init__(self, epochs):
        self.epochs_left = epochs

    def __call__(self):
        self.epochs_left -= 1
        return math.inf if self.epochs_left > 0 else 0.0


def assert_same(result, expected):
    for name, tensor in expected.ensemble.state_dict().items():
        assert torch.equal(result.ensemble.state_dict()[name], tensor), name
    np.testing.assert_array_equal(result.ensemble.self_energies, expected.ensemble.self_energies)
    assert repr(result.history) == repr(expected.history)  # NaN is not equal to itself
    assert result.errors == expected.errors
    assert result.retrained == expected.retrained


def in_jobs(fit, path, jobs):
    """The result of a fit in jobs of so many epochs, the last of which has time; and how many were interrupted."""
    for n_jobs, epochs in enumerate(jobs):
        try:
            return fit(checkpoint=Checkpoint(path, time_left=Job(epochs))), n_jobs
        except Interrupted:
            continue
    raise AssertionError("it has not come to its end")


@pytest.mark.parametrize("device", ENGINES)
@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("begin", ["cold", "warm"])
def test_interrupted_after_any_epoch(frames, parent, tmp_path, schedule, device, begin):
    def fit(checkpoint=None):
        return train(
            frames, ELEMENTS, POTENTIAL, SCHEDULES[schedule], seed=5, device=device, checkpoint=checkpoint,
            parent=parent if begin == "warm" else None,
        )  # fmt: skip

    expected = fit()
    n_epochs = len(expected.history)
    assert expected.retrained == ([1] if begin == "warm" else [])
    if schedule == "plateau":
        rates = np.array([line.learning_rate for line in expected.history])
        assert (rates[:, :1] != rates).any() and expected.history[-1].epoch < PLATEAU.max_epochs - 1
    for epochs in range(1, n_epochs + 1, 1 if schedule == "one-cycle" else 5):
        result, n_interruptions = in_jobs(fit, tmp_path / f"once-{epochs}", [epochs, n_epochs + 1])
        assert n_interruptions == 1
        assert_same(result, expected)
    for epochs in (1, 3):
        result, n_interruptions = in_jobs(fit, tmp_path / f"every-{epochs}", [epochs] * (n_epochs + 1))
        assert n_interruptions == n_epochs // epochs
        assert_same(result, expected)


def test_a_member_that_diverged_from_its_first_weights(frames, tmp_path, monkeypatch):
    real, n_bad = ElementNetworks.initialize, 0

    def initialize(self, member, generator):
        nonlocal n_bad
        real(self, member, generator)
        if member == 2 and n_bad < len(ELEMENTS):
            n_bad += 1
            with torch.no_grad():
                self.biases[0][member] = torch.nan

    def fit(checkpoint=None):
        return train(frames, ELEMENTS, POTENTIAL, ONE_CYCLE, seed=6, checkpoint=checkpoint)

    monkeypatch.setattr(ElementNetworks, "initialize", initialize)
    expected = fit()
    assert expected.retrained == [2] and len(expected.history) == 2 * ONE_CYCLE.max_epochs
    n_bad = 0
    result, n_interruptions = in_jobs(fit, tmp_path / "state", [1] * 99)
    assert n_interruptions == len(expected.history)
    assert_same(result, expected)


def test_retrainings_are_counted_over_all_jobs(frames, tmp_path, monkeypatch):
    real, told = ElementNetworks.initialize, []

    def initialize(self, member, generator):
        real(self, member, generator)
        if member == 0:
            with torch.no_grad():
                self.biases[0][member] = torch.nan

    def fit(checkpoint):
        return train(frames, ELEMENTS, POTENTIAL, ONE_CYCLE, seed=6, checkpoint=checkpoint, on_epoch=told.append)

    monkeypatch.setattr(ElementNetworks, "initialize", initialize)
    with pytest.raises(PotentialError, match=r"members \[0\] of the ensemble do not learn, even when trained 3 times"):
        in_jobs(fit, tmp_path / "state", [2] * 99)
    assert [line.epoch for line in told] == 3 * list(range(ONE_CYCLE.max_epochs))


def test_killed_between_savings(frames, tmp_path):
    """What was done since the last saving is done again."""
    expected = train(frames, ELEMENTS, POTENTIAL, ONE_CYCLE, seed=7)
    done = []

    class Killed(Exception):
        pass

    def die(line):
        done.append(line.epoch)
        if len(done) % 3 == 0:
            raise Killed

    for _ in range(9):
        try:
            checkpoint = Checkpoint(tmp_path / "state", interval=0.0)
            result = train(frames, ELEMENTS, POTENTIAL, ONE_CYCLE, seed=7, on_epoch=die, checkpoint=checkpoint)
            break
        except Killed:
            continue
    assert done == [0, 1, 2, 2, 3, 4, 4]
    assert_same(result, expected)


def test_offering_costs_nothing_when_it_is_not_time(frames, tmp_path):
    train(frames, ELEMENTS, POTENTIAL, ONE_CYCLE, seed=7, checkpoint=Checkpoint(tmp_path / "state", interval=1e9))
    assert not (tmp_path / "state").exists()


def test_progress_is_told_in_epochs(frames, tmp_path):
    with pytest.raises(Interrupted) as caught:
        train(frames, ELEMENTS, POTENTIAL, ONE_CYCLE, seed=7, checkpoint=Checkpoint(tmp_path / "s", time_left=Job(3)))
    assert caught.value.progress == 3


def test_a_damaged_checkpoint_is_not_continued(frames, tmp_path):
    path = tmp_path / "state"
    expected = train(frames, ELEMENTS, POTENTIAL, ONE_CYCLE, seed=7)
    with pytest.raises(Interrupted):
        train(frames, ELEMENTS, POTENTIAL, ONE_CYCLE, seed=7, checkpoint=Checkpoint(path, time_left=Job(3)))
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    told = []
    result = train(frames, ELEMENTS, POTENTIAL, ONE_CYCLE, seed=7, checkpoint=Checkpoint(path), on_epoch=told.append)
    assert len(told) == ONE_CYCLE.max_epochs
    assert_same(result, expected)


def turned(frame):
    atoms = frame.atoms.copy()
    atoms.rotate(90, "z", rotate_cell=True)
    return replace(frame, atoms=atoms)


#: One thing at a time that makes it another fit.
CHANGES = {
    "a frame more": lambda a: {"frames": [*a["frames"], replace(a["frames"][0], key="more")]},
    "order of frames": lambda a: {"frames": a["frames"][::-1]},
    "key": lambda a: {"frames": [replace(a["frames"][0], key="x"), *a["frames"][1:]]},
    "energy": lambda a: {"frames": [replace(a["frames"][0], energy=1.0), *a["frames"][1:]]},
    "forces": lambda a: {"frames": [replace(a["frames"][0], forces=-a["frames"][0].forces), *a["frames"][1:]]},
    "stress": lambda a: {"frames": [replace(a["frames"][0], stress=np.zeros(6)), *a["frames"][1:]]},
    "positions": lambda a: {"frames": [turned(a["frames"][0]), *a["frames"][1:]]},
    "elements": lambda a: {"elements": a["elements"][::-1]},
    "architecture": lambda a: {"potential": POTENTIAL.model_copy(update={"hidden": (8, 7)})},
    "settings": lambda a: {"settings": ONE_CYCLE.model_copy(update={"force_weight": 2.0})},
    "seed": lambda a: {"seed": 8},
    "parent": lambda a: {"parent": Ensemble(ELEMENTS, a["aev"], 3, (8, 6), "silu")},
    "device": lambda a: {"device": "cpu"},
}


@pytest.mark.parametrize("change", CHANGES)
def test_the_checkpoint_of_another_fit_is_not_continued(frames, parent, change):
    arguments = {
        "frames": frames, "elements": ELEMENTS, "potential": POTENTIAL, "settings": ONE_CYCLE, "seed": 7,
        "parent": parent, "device": "cuda",
    }  # fmt: skip
    changed = arguments | CHANGES[change](arguments | {"aev": parent.aev})

    def hash_of(arguments):
        positional = [arguments[name] for name in ("frames", "elements", "potential", "settings")]
        return hash_of_fit(*positional, **{name: arguments[name] for name in ("seed", "parent", "device")})

    assert hash_of(changed) != hash_of(arguments)
    assert hash_of(arguments | {"frames": list(frames), "device": "cuda:3"}) == hash_of(arguments)


def test_features_and_derivatives_are_the_same_when_computed_again(frames, parent):
    def cache(n_threads):
        before = torch.get_num_threads()
        torch.set_num_threads(n_threads)
        try:
            computed = FrameCache.of(parent, frames)
            computed.scale(parent.feature_mean.numpy(), parent.feature_scale.numpy(), parent.energy_scale.numpy())
        finally:
            torch.set_num_threads(before)
        return [computed.features, computed.energies, *(a for a in computed.jacobian if isinstance(a, np.ndarray))]

    first, *others = cache(1), cache(1), cache(2)
    assert len(first) > 5
    for other in others:
        for a, b in zip(first, other, strict=True):
            assert a.tobytes() == b.tobytes()
