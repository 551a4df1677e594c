"""A potential on disk: exact, readable, and refused when damaged."""

import json
import pickle
import shutil
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

import alpot
from alpot.errors import PotentialError
from alpot.potential.calculator import AlpotCalculator
from alpot.potential.saved import CARD, WEIGHTS, Card, load_potential, save_potential

ELEMENTS = ("Al", "Ni")
CONTENT = Card(
    elements=ELEMENTS,
    level_of_theory={"hash": "abc", "code": "EMT", "nested": {"Å": [1, 2.5]}},
    n_labels=123,
    errors={"test_force": 0.0241, "audit_energy": 1 / 3},
    calibration=1.7,
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
