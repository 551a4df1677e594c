"""A potential with a baseline on disk: never taken for the whole, never used with another baseline."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from ase.calculators.emt import EMT
from ase.calculators.lj import LennardJones
from ase.calculators.morse import MorsePotential

import alpot
from alpot.errors import PotentialError
from alpot.potential.baseline import Baseline
from alpot.potential.calculator import AlpotCalculator
from alpot.potential.pair_repulsion import PairRepulsion
from alpot.potential.saved import CARD, Card, _hash_of, _text_of, load_potential, save_potential

LJ = {"sigma": 2.4, "epsilon": 0.1, "rc": 5.0, "ro": 3.0, "smooth": True}
LEVELS = {
    "lj": ({"hash": "12ab", "code": "lj", "version": 1, "arguments": LJ}, lambda: LennardJones(**LJ)),
    "emt": (
        {"hash": "34cd", "code": "emt", "version": 1, "arguments": {"asap_cutoff": True}},
        lambda: EMT(asap_cutoff=True),
    ),
    "zbl": ({"hash": "78ab", "code": "zbl", "version": 1, "arguments": {}}, PairRepulsion),
    "morse": (
        {"hash": "56ef", "code": "ase.calculators.morse:MorsePotential", "version": 1, "arguments": {"r0": 2.8}},
        lambda: MorsePotential(r0=2.8),
    ),
}


@pytest.fixture
def save(make_ensemble, tmp_path):
    def saved(name: str | None) -> tuple[Path, AlpotCalculator]:
        ensemble = make_ensemble()
        ensemble.baseline = None if name is None else Baseline(*LEVELS[name])
        save_potential(tmp_path / f"{name}", ensemble, Card(elements=("Al",)))
        return tmp_path / f"{name}", AlpotCalculator(ensemble)

    return saved


def edit(folder: Path, **changes) -> None:
    """Changes a card as whoever means harm would, hashes included."""
    content = json.loads((folder / CARD).read_text()) | changes
    (folder / CARD).write_bytes(_text_of({**content, "provenance_hash": _hash_of(content)}))


@pytest.mark.parametrize("name", ["lj", "emt", "zbl"])
def test_built_in_baselines_come_back(save, make_frame, name):
    folder, before = save(name)
    after = alpot.load(folder)
    assert after.card.baseline == LEVELS[name][0]
    atoms = make_frame(6)
    for what in ("energy", "forces", "stress"):
        np.testing.assert_array_equal(after.get_property(what, atoms), before.get_property(what, atoms))


def test_another_baseline_has_to_be_given(save, make_frame):
    folder, before = save("morse")
    with pytest.raises(PotentialError, match=r"MorsePotential' \(r0 = 2.8\).*baseline=calculator"):
        alpot.load(folder)
    after = alpot.load(folder, baseline=MorsePotential(r0=2.8))
    atoms = make_frame(6)
    np.testing.assert_array_equal(after.get_property("forces", atoms), before.get_property("forces", atoms))
    assert load_potential(folder, Baseline(*LEVELS["morse"]))[0].baseline is not None
    with pytest.raises(PotentialError, match="must be an ASE calculator, and is 'emt'"):
        alpot.load(folder, baseline="emt")


def test_another_level_is_refused(save):
    folder, _ = save("lj")
    with pytest.raises(PotentialError, match=r"correction to 'lj'.*12ab.*cannot be used with 'emt'.*34cd"):
        load_potential(folder, Baseline(*LEVELS["emt"]))


def test_without_a_baseline_nothing_has_changed(save):
    folder, _ = save(None)
    assert json.loads((folder / CARD).read_text())["format"] == 1
    assert alpot.load(folder).ensemble.baseline is None
    with pytest.raises(PotentialError, match="has no baseline; load it without one"):
        alpot.load(folder, baseline=EMT())
    content = json.loads((folder / CARD).read_text())
    del content["baseline"]  # as cards were before there were baselines
    (folder / CARD).write_bytes(_text_of({**content, "provenance_hash": _hash_of(content)}))
    assert alpot.load(folder).card.baseline is None


def test_the_card_names_the_ensembles_baseline(save, tmp_path):
    """Whatever the card said before, and when it is written again."""
    folder, _ = save("lj")
    ensemble, card = load_potential(folder)
    save_potential(folder, ensemble, replace(card, calibration=2.0, baseline=None))
    assert load_potential(folder)[1] == replace(card, calibration=2.0)


def test_a_plug_ins_settings_may_have_any_names(save):
    folder, _ = save("lj")
    edit(folder, baseline={"code": "mine", "hash": "x", "functional": "PBE", "arguments": None})
    with pytest.raises(PotentialError, match=r"'mine' \(functional = 'PBE', arguments = None\), which is not built in"):
        alpot.load(folder)


@pytest.mark.parametrize(
    "baseline",
    [
        None,  # the correction is not taken for the whole
        {"code": "lj", "arguments": LJ},
        {"code": ["lj"], "hash": "x", "arguments": {}},
        {"code": "lj", "hash": "x", "version": 1, "arguments": LJ | {"sigma": -1.0}},
        {"code": "lj", "hash": "x", "version": 1, "arguments": LJ | {"rc": 1e9}},
        {"code": "lj", "hash": "x", "version": 1, "arguments": LJ | {"restart": "/etc/passwd"}},
        {"code": "lj", "hash": "x", "version": 1, "arguments": None},
        {"code": "lj", "hash": "x", "version": 2, "arguments": LJ},
        {"code": "lj", "hash": "x", "version": [], "arguments": LJ},
        {"code": "emt", "hash": "x", "version": 1, "arguments": {"asap_cutoff": "yes"}},
        {"code": "zbl", "hash": "x", "version": 1, "arguments": {"cutoff": 1e9}},
        {"code": "os:system", "hash": "x", "version": 1, "arguments": {"command": "true"}},
        ["lj"],
    ],
    ids=str,
)
def test_what_a_card_may_not_ask_for(save, baseline):
    folder, _ = save("lj")
    edit(folder, baseline=baseline)
    with pytest.raises(PotentialError):
        alpot.load(folder)
