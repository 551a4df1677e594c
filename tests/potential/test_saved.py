"""A potential on disk: exact, readable, and refused when damaged."""

import hashlib
import json
import os
import pickle
import resource
import shutil
import struct
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch

import alpot
from alpot.errors import NonFiniteError, PotentialError
from alpot.potential.calculator import AlpotCalculator
from alpot.potential.calibration import ErrorBound
from alpot.potential.saved import CARD, WEIGHTS, Card, load_potential, save_potential

ELEMENTS = ("Al", "Ni")
CONTENT = Card(
    elements=ELEMENTS,
    level_of_theory={"hash": "abc", "code": "EMT", "nested": {"Å": [1, 2.5]}},
    n_labels=123,
    errors={"test_force": 0.0241, "audit_energy": 1 / 3},
    calibration=1.7,
    force_bound=ErrorBound(slope=3.1, floor=0.0125, confidence=0.95, n_frames=41),
    energy_bound=ErrorBound(slope=2.5, floor=0.001, confidence=0.95, n_frames=40),
    training={"max_epochs": 100},
    generation=7,
    provenance={"campaign": "aluminum"},
)


@pytest.fixture
def saved(make_ensemble, tmp_path):
    save_potential(tmp_path / "potential", make_ensemble(ELEMENTS), CONTENT)
    return tmp_path / "potential"


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("activation", ["celu", "silu"])
def test_round_trip_is_exact(make_ensemble, tmp_path, activation, dtype):
    ensemble = make_ensemble(ELEMENTS, activation=activation, dtype=dtype)
    save_potential(tmp_path, ensemble, CONTENT)
    loaded, card = load_potential(tmp_path)
    assert card == CONTENT
    assert (loaded.elements, loaded.aev, loaded.hidden) == (ensemble.elements, ensemble.aev, ensemble.hidden)
    assert (loaded.activation, loaded.dtype) == (activation, dtype)
    assert loaded.self_energies.dtype == np.float64
    np.testing.assert_array_equal(loaded.self_energies, ensemble.self_energies)
    for name, tensor in ensemble.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor), name


def test_the_same_potential_gives_the_same_files(make_ensemble, tmp_path):
    for name in "ab":
        save_potential(tmp_path / name, make_ensemble(ELEMENTS), CONTENT)
    for name in (WEIGHTS, CARD):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_a_card_can_be_replaced(saved):
    ensemble, card = load_potential(saved)
    save_potential(saved, ensemble, replace(card, calibration=2.5))
    assert load_potential(saved)[1].calibration == 2.5


def test_a_card_of_an_older_alpot_has_assumed_bounds(saved):
    forge(saved, lambda content: [content.pop(name) for name in ("force_bound", "energy_bound")])
    card = load_potential(saved)[1]
    assert card == replace(CONTENT, force_bound=ErrorBound(), energy_bound=ErrorBound())
    assert card.force_bound.n_frames == card.energy_bound.n_frames == 0


def test_a_person_can_read_the_card(saved):
    text = (saved / CARD).read_text("utf-8")
    assert len(text.splitlines()) > 20 and "eV/Å³" in text
    card = json.loads(text)
    assert card["elements"] == ["Al", "Ni"] and card["n_labels"] == 123
    assert card["architecture"]["members"] == 3 and card["architecture"]["activation"] == "silu"
    assert len(card["weights_sha256"]) == len(card["provenance_hash"]) == 64


def test_nothing_is_pickled(saved):
    assert sorted(path.name for path in saved.iterdir()) == sorted([WEIGHTS, CARD])
    with pytest.raises(pickle.UnpicklingError):
        pickle.loads((saved / WEIGHTS).read_bytes())


def test_load_opens_a_calculator(saved, make_frame, monkeypatch):
    monkeypatch.chdir(saved.parent)
    atoms = make_frame(5, ELEMENTS)
    atoms.calc = alpot.load("potential")
    assert isinstance(atoms.calc, AlpotCalculator) and atoms.calc.card == CONTENT
    assert atoms.calc.ensemble.dtype == torch.float64
    in_float64 = atoms.get_forces()
    atoms.calc = alpot.load(saved, dtype="float32", skin=0.0)
    assert atoms.calc.ensemble.dtype == torch.float32
    # float32 resolves 1e-7 of forces that are sums of terms of up to 100 eV/Å.
    np.testing.assert_allclose(atoms.get_forces(), in_float64, atol=1e-4)


def flip_a_bit(path):
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(content)


DAMAGES = {
    "bit flipped": (WEIGHTS, flip_a_bit, "damaged"),
    "weights cut": (WEIGHTS, lambda p: p.write_bytes(p.read_bytes()[:-100]), "damaged"),
    "weights empty": (WEIGHTS, lambda p: p.write_bytes(b""), "damaged"),
    "weights missing": (WEIGHTS, lambda p: p.unlink(), "cannot be read"),
    "card cut": (CARD, lambda p: p.write_bytes(p.read_bytes()[:-40]), "JSON"),
    "card binary": (CARD, lambda p: p.write_bytes(b"\xff\xfe\x00"), "JSON"),
    "card of something else": (CARD, lambda p: p.write_text('{"name": "cat"}'), "not a card"),
    "card is a list": (CARD, lambda p: p.write_text("[1, 2]"), "not a card"),
    "newer format": (
        CARD,
        lambda p: p.write_text(p.read_text("utf-8").replace('"format": 1', '"format": 9')),
        "format",
    ),
    "other cutoff": (CARD, lambda p: p.write_text(p.read_text("utf-8").replace("3.8", "3.7"), "utf-8"), "edited"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_files_are_named(saved, damage):
    name, act, expected = DAMAGES[damage]
    before = (saved / name).read_bytes()
    act(saved / name)
    assert not (saved / name).exists() or (saved / name).read_bytes() != before
    with pytest.raises(PotentialError, match=expected) as caught:
        load_potential(saved)
    assert name in str(caught.value)


def test_card_and_weights_of_different_potentials(saved, make_ensemble):
    other = saved.parent / "other"
    save_potential(other, make_ensemble(ELEMENTS, hidden=(4,)), CONTENT)
    shutil.copyfile(other / WEIGHTS, saved / WEIGHTS)
    with pytest.raises(PotentialError, match="damaged"):
        load_potential(saved)


@pytest.mark.parametrize("kind", ["missing", "empty", "a file"])
def test_what_is_not_a_potential(tmp_path, kind):
    folder = tmp_path / "x"
    if kind == "empty":
        folder.mkdir()
    if kind == "a file":
        folder.write_text("hello")
    with pytest.raises(PotentialError, match=str(folder)) as caught:
        alpot.load(folder)
    assert WEIGHTS in str(caught.value)  # it says what a potential is


def test_importing_alpot_is_light():
    code = "import sys, alpot; print(sorted({'torch', 'parsl', 'torchani', 'ase', 'h5py'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_potential_loads_without_torchani(saved):
    code = (
        "import sys, alpot\nfrom ase.build import bulk\natoms = bulk('Al')\n"
        f"atoms.calc = alpot.load({str(saved)!r})\natoms.get_forces()\n"
        "print('torchani' in sys.modules, 'parsl' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False False"


# ------------------------------------------------------------------------------------------------ every byte counts


def test_any_flipped_byte_of_the_card_is_noticed(saved):
    path = saved / CARD
    content = path.read_bytes()
    rng = np.random.default_rng(0)
    for place in range(len(content)):
        # 0x20 turns e into E: the number stays what it was.
        for change in [0x20, int(rng.integers(1, 256))] if place % 4 == 0 else [0x20]:
            path.write_bytes(content[:place] + bytes([content[place] ^ change]) + content[place + 1 :])
            with pytest.raises(PotentialError, match=CARD):
                load_potential(saved)


def test_any_flipped_byte_of_the_weights_is_noticed(saved):
    path = saved / WEIGHTS
    content = path.read_bytes()
    for place in [*range(64), *range(64, len(content), 501), len(content) - 1]:
        path.write_bytes(content[:place] + bytes([content[place] ^ 4]) + content[place + 1 :])
        with pytest.raises(PotentialError, match=WEIGHTS):
            load_potential(saved)


# ------------------------------------------------------------------------------------- models that must not run on

POISONS = {"NaN": np.nan, "infinite": np.inf, "-infinite": -np.inf, "huge": 1e30, "-huge": -1e30}


@pytest.mark.parametrize("poison", POISONS)
@pytest.mark.parametrize("layer", ["weights", "biases"])
def test_weights_that_are_no_numbers_are_refused(make_ensemble, tmp_path, poison, layer):
    ensemble = make_ensemble(ELEMENTS)
    with torch.no_grad():
        getattr(ensemble.networks[1], layer)[-1][2].view(-1)[-1] = POISONS[poison]
    save_potential(tmp_path, ensemble, CONTENT)
    with pytest.raises(NonFiniteError, match=r"weights.safetensors: weights of members \[2\]"):
        alpot.load(tmp_path)


@pytest.mark.parametrize("name", ["feature_mean", "feature_scale", "energy_scale", "self_energies"])
@pytest.mark.parametrize("value", [np.nan, np.inf, 0.0, -1.0])
def test_scales_that_are_no_numbers_are_refused(make_ensemble, tmp_path, name, value):
    ensemble = make_ensemble(ELEMENTS)
    getattr(ensemble, name)[-1] = value
    save_potential(tmp_path, ensemble, CONTENT)
    if np.isfinite(value) and name in ("feature_mean", "self_energies"):
        load_potential(tmp_path)
    else:
        with pytest.raises(NonFiniteError, match="scales"):
            load_potential(tmp_path)


@pytest.mark.parametrize(
    "change",
    [{"calibration": np.nan}, {"errors": {"audit_force": np.inf}}, {"force_bound": ErrorBound(slope=np.inf)}],
    ids=str,
)
def test_a_card_with_nan_is_not_written(make_ensemble, tmp_path, change):
    with pytest.raises(NonFiniteError, match=CARD):
        save_potential(tmp_path, make_ensemble(ELEMENTS), replace(CONTENT, **change))
    assert not list(tmp_path.iterdir())


# ------------------------------------------------------------------------------------------------- malicious files


def forge(folder, change=lambda content: None, weights=None):
    """What somebody writes who knows how checksums are made."""
    content = json.loads((folder / CARD).read_text("utf-8"))
    if weights is not None:
        (folder / WEIGHTS).write_bytes(weights)
        content["weights_sha256"] = hashlib.sha256(weights).hexdigest()
    del content["provenance_hash"]
    change(content)
    content["provenance_hash"] = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
    (folder / CARD).write_bytes(json.dumps(content, indent=2, ensure_ascii=False).encode() + b"\n")


def architecture(**changes):
    return lambda folder: forge(folder, lambda content: content["architecture"].update(changes))


def descriptor(**changes):
    return lambda folder: forge(folder, lambda content: content["architecture"]["descriptor"].update(changes))


def card(**changes):
    return lambda folder: forge(folder, lambda content: content.update(changes))


def text(content):
    return lambda folder: (folder / CARD).write_bytes(content)


def sparse(name, size):
    def act(folder):
        with (folder / name).open("wb") as file:
            file.truncate(size)

    return act


def instead(name, make):
    def act(folder):
        (folder / name).unlink()
        make(folder / name)

    return act


def header(tensors, data=b"", length=None):
    """A safetensors file whose header says what it likes."""

    def act(folder):
        said = tensors if isinstance(tensors, bytes) else json.dumps(tensors).encode()
        forge(folder, weights=struct.pack("<Q", len(said) if length is None else length) + said + data)

    return act


def twisted(change):
    """The true weights with another tensor."""

    def act(folder):
        tensors = safetensors.torch.load((folder / WEIGHTS).read_bytes())
        change(tensors)
        forge(folder, weights=safetensors.torch.save(tensors))

    return act


NESTED = b"[" * 900 + b"]" * 900
MALICIOUS = {
    "deeply nested list": text(b"[" * 500_000),
    "deeply nested table": text(b'{"a":' * 150_000),
    "nested inside the card": lambda f: text((f / CARD).read_bytes()[:-2] + b',"a":' + NESTED + b"}")(f),
    "NaN": card(calibration=np.nan),
    "infinite by overflow": lambda f: text((f / CARD).read_bytes().replace(b"1.7", b"1e999"))(f),
    "number of many digits": lambda f: text((f / CARD).read_bytes().replace(b"1.7", b"9" * 10_000))(f),
    "key twice": lambda f: text((f / CARD).read_bytes().replace(b"{", b'{\n  "format": 1,', 1))(f),
    "half a character": lambda f: text((f / CARD).read_bytes().replace(b"EMT", rb"\ud800"))(f),
    "huge card": sparse(CARD, 2**40),
    "card is a pipe": instead(CARD, os.mkfifo),
    "card is a device": instead(CARD, lambda path: path.symlink_to("/dev/zero")),
    "calibration 0": card(calibration=0.0),
    "calibration is a text": card(calibration="1.0"),
    "bound below 0": card(force_bound={"slope": -1.0, "floor": 0.0, "confidence": 0.9, "n_frames": 9}),
    "bound that nothing reaches": lambda f: text((f / CARD).read_bytes().replace(b"3.1", b"1e999"))(f),
    "bound of no confidence": card(energy_bound={"slope": 1.0, "floor": 0.0, "confidence": 0.0, "n_frames": 9}),
    "bound is a number": card(force_bound=3.0),
    "bound is a text": card(force_bound={"slope": "3", "floor": 0.0, "confidence": 0.9, "n_frames": 9}),
    "bound with code": card(energy_bound={"code": "x"}),
    "elements are not": card(elements=["Al", "Qq"]),
    "elements are tables": card(elements=[{}, {}]),
    "the same element twice": card(elements=["Al", "Al"]),
    "no architecture": card(architecture=None),
    "huge number of members": architecture(members=2**40),
    "number of members without end": architecture(members=10**4000),
    "members below 0": architecture(members=-3),
    "huge layers": architecture(hidden=[2**40, 2**40]),
    "many layers": architecture(hidden=[1] * 50_000),
    "layers are texts": architecture(hidden=["10", "7"]),
    "other activation": architecture(activation="__import__"),
    "other type": architecture(dtype="load"),
    "shifts are a text": descriptor(radial_shifts="12345"),
    "many shifts": descriptor(radial_shifts=[1.0] * 50_000),
    "unknown setting": descriptor(code="x"),
    "header longer than the file": header({}, length=2**62),
    "header of all bits": header({}, length=2**64 - 1),
    "header shorter than it is": header({"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}, b"1234", 5),
    "no header": lambda f: forge(f, weights=b"\x01"),
    "empty": lambda f: forge(f, weights=b""),
    "header nested": header(b'{"a":' * 100_000),
    "huge header": header(b" " * (2**20 + 1)),
    "huge tensor": header({"a": {"dtype": "F32", "shape": [2**40, 2**40], "data_offsets": [0, 2**62]}}),
    "tensor of no rows": header({"a": {"dtype": "F32", "shape": [2**62, 0], "data_offsets": [0, 0]}}),
    "tensors overlap": header(
        {name: {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]} for name in "ab"}, b"1234"
    ),
    "many tensors": header(
        {str(i): {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]} for i in range(15_000)}
    ),
    "huge weights": sparse(WEIGHTS, 2**40),
    "weights are a pipe": instead(WEIGHTS, os.mkfifo),
    "weights are a folder": instead(WEIGHTS, lambda path: path.mkdir()),
    "pickled weights": lambda f: forge(f, weights=pickle.dumps(list)),
    "tensor of other shape": twisted(lambda tensors: tensors.update(self_energies=torch.zeros(1, dtype=torch.float64))),
    "tensor of other type": twisted(lambda tensors: tensors.update(feature_mean=tensors["feature_mean"].int())),
    "tensor renamed": twisted(lambda tensors: tensors.update(other=tensors.pop("energy_scale"))),
}  # fmt: skip


@pytest.mark.parametrize("attack", MALICIOUS)
def test_malicious_files_are_refused_quickly_and_in_little_memory(saved, attack):
    load_potential(saved)  # imports all that it needs
    MALICIOUS[attack](saved)
    before = resource.getrlimit(resource.RLIMIT_AS)
    in_use = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (in_use + 256 * 2**20, before[1]))
    begin = time.process_time()
    try:
        with pytest.raises(PotentialError, match=str(saved)):
            load_potential(saved)
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)
    assert time.process_time() - begin < 2.0


def test_what_is_forged_rightly_is_not_refused(saved):
    """So that the forgeries above are refused for what they say."""
    forge(saved, lambda content: content.update(calibration=3.0), weights=(saved / WEIGHTS).read_bytes())
    assert load_potential(saved)[1].calibration == 3.0
