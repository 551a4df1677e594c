"""Isolated atoms: computed once, recorded, exported, and never learned from."""

import shutil

import ase.io
import pytest
from ase import Atoms
from ase.calculators.emt import EMT
from tiny_campaign import controller_of, emt_labels, new_campaign

from alpot.campaign.state import State
from alpot.config_file import parse_campaign, read_campaign
from alpot.potential.saved import load_potential
from alpot.store.extxyz import write_extxyz
from alpot.store.labels import read_label
from alpot.store.ledger import Ledger
from alpot.subjects.exports import export_labels
from alpot.subjects.imports import import_labels

#: Al alone, by ASE itself.
ENERGY = EMT(asap_cutoff=False).get_potential_energy(Atoms("Al"), force_consistent=True)


def state_of(directory):
    with Ledger(directory.ledger, read_only=True) as ledger:
        return State.replay(ledger.events())


def label_tasks(directory):
    with Ledger(directory.ledger, read_only=True) as ledger:
        return [e.payload for e in ledger.events() if e.kind == "task_started" and e.payload["kind"] == "label"]


def test_its_label_is_one_atom_in_a_box(finished):
    (key,) = state_of(finished).dataset.apart
    label = read_label(finished.label_path(key))
    assert len(label.atoms) == 1 and not label.atoms.pbc.any()
    assert label.atoms.cell.lengths().tolist() == [12.0] * 3 and label.atoms.positions.tolist() == [[6.0] * 3]
    assert label.energy == pytest.approx(ENERGY, abs=1e-12)  # the same code on the same atom
    assert label.provenance["reason"] == "isolated_atom" and label.provenance["apart"] is True


def test_every_potential_knows_its_energy(finished):
    state = state_of(finished)
    for generation in range(1, state.generations + 1):
        _, card = load_potential(finished.model_path(generation))
        assert card.isolated_atoms == {"Al": pytest.approx(ENERGY, abs=1e-12)}
    assert card.n_labels == state.dataset.training.size


def test_one_that_came_late_is_on_the_card_after_the_assessment(tmp_path):
    directory = new_campaign(tmp_path / "c")

    def hide(state):  # the training runs while the isolated atom is being computed
        if state.work.in_flight["train"] and not directory.path.joinpath("hidden").exists():
            (key,) = state.dataset.apart
            shutil.move(directory.label_path(key), directory.path / "hidden")
        if state.work.in_flight["assess"] and not state.promoted:
            (key,) = state.dataset.apart
            shutil.move(directory.path / "hidden", directory.label_path(key))
            directory.request_stop()

    controller_of(directory, on_change=hide).run()
    _, card = load_potential(directory.model_path(1))
    assert card.isolated_atoms == {"Al": pytest.approx(ENERGY, abs=1e-12)}


def test_it_is_exported_as_what_it_is(finished, tmp_path):
    assert export_labels(finished.path, tmp_path / "all.extxyz") == 21
    frames = ase.io.read(tmp_path / "all.extxyz", ":")
    (atom,) = [atoms for atoms in frames if atoms.info.get("config_type") == "IsolatedAtom"]
    assert len(atom) == 1 and atom.info["REF_energy"] == pytest.approx(ENERGY, abs=1e-7)  # 8 decimals
    # In ANI-style HDF5 it could not be told from a frame to train on.
    assert export_labels(finished.path, tmp_path / "all.h5") == 20


def test_one_that_the_user_brings_is_not_computed_again_nor_trained_on(finished, tmp_path):
    (key,) = state_of(finished).dataset.apart
    write_extxyz(tmp_path / "mine.xyz", [*emt_labels(16), read_label(finished.label_path(key))], isolated=[key])
    brings = ('elements = ["Al"]', 'elements = ["Al"]\ninitial_labels = ["mine.xyz"]')
    directory = new_campaign(tmp_path / "c", brings)
    controller = controller_of(directory, imported=import_labels(directory, read_campaign(directory.config)))
    controller.on_change = lambda state: directory.request_stop() if state.apart_found else None
    state = controller.run().state
    assert list(state.dataset.apart) == [key] and state.candidates.dropped["duplicate"] == 1
    assert state.dataset.training.size + state.dataset.audit.size == 16 and not label_tasks(directory)
    _, card = load_potential(directory.model_path(1))
    assert card.n_labels == state.dataset.training.size == 12 and set(card.isolated_atoms) == {"Al"}


def test_an_interrupted_campaign_computes_it_once(tmp_path):
    directory = new_campaign(tmp_path / "c", ("max_labels = 20", "max_labels = 12"))
    first = controller_of(directory, on_change=lambda state: directory.request_stop() if state.apart_found else None)
    assert first.run().status == "stopped"
    assert controller_of(directory).run().status == "finished"
    tasks = [task["spec"]["candidate"] for task in label_tasks(directory)]
    assert len(tasks) == len(set(tasks)) == 13 and state_of(directory).calculations == 12


def test_a_campaign_without(tmp_path):
    directory = new_campaign(tmp_path / "c", ('code = "emt"', 'code = "emt"\nisolated_atoms = false'))
    controller = controller_of(directory, on_change=lambda state: state.generations and directory.request_stop())
    assert not controller.run().state.dataset.apart
    assert load_potential(directory.model_path(1))[1].isolated_atoms == {}


@pytest.mark.parametrize(
    ("table", "wanted"),
    [
        ('code = "emt"', True),
        ('code = "ani"', False),
        ('code = "ani"\nisolated_atoms = true', True),
        ('code = "espresso"\ndft = {cutoff = 400.0}', True),
        ('code = "espresso"\ndft = {cutoff = 400.0, charge = 1.0}', False),  # it would be an ion
    ],
)
def test_by_default_all_but_ani_and_charged_cells(table, wanted):
    config = parse_campaign(f'[material]\nelements = ["Al"]\n[reference]\n{table}', "text")
    assert config.reference.wants_isolated_atoms is wanted
