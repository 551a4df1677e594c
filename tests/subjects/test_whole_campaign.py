"""A campaign in one process: what it decides, and what it leaves on disk."""

from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file
from tiny_campaign import MAX_LABELS, controller_of, new_campaign, state_of, with_emt

from alpot.errors import CampaignFailed
from alpot.potential.saved import load_potential
from alpot.report.history import History
from alpot.store.directory import CampaignDirectory
from alpot.store.files import sha256
from alpot.store.labels import label_key, read_label
from alpot.store.ledger import Ledger


def decisions(directory: CampaignDirectory) -> list[tuple[str, Any]]:
    """The ledger without times, and without checksums of files that hold times."""
    with Ledger(directory.ledger, read_only=True) as ledger:
        events = [(event.kind, event.payload) for event in ledger.events()]
    for kind, payload in events:
        payload.pop("seconds", None)
        if kind == "opened":
            payload.clear()
        summary = payload.get("summary", {})
        summary.pop("seconds", None)
        summary.pop("core_seconds", None)
        if "outcome" in summary:
            summary.pop("checksum")
    return events


def test_same_seed_same_decisions_and_weights(finished, tmp_path):
    again = new_campaign(tmp_path / "again")
    controller_of(again).run()
    assert decisions(again) == decisions(finished)
    generations = state_of(finished).generations
    assert generations >= 2
    for generation in range(1, generations + 1):
        ours, theirs = (load_file(d.model_path(generation) / "weights.safetensors") for d in (finished, again))
        assert ours.keys() == theirs.keys()
        assert all(np.array_equal(ours[name], theirs[name]) for name in ours)


def test_another_seed_takes_other_decisions(finished, tmp_path):
    other = new_campaign(tmp_path / "other", ("seed = 1", "seed = 2"))
    controller = controller_of(other)
    controller.on_change = lambda state: other.request_stop() if state.generations else None
    controller.run()
    ours, theirs = state_of(other), state_of(finished)
    isolated = ours.dataset.apart.keys()  # an isolated atom is an isolated atom
    assert ours.candidates.keys & theirs.candidates.keys == isolated == theirs.dataset.apart.keys()
    ours, theirs = (load_file(d.model_path(1) / "weights.safetensors") for d in (finished, other))
    assert any(not np.array_equal(ours[name], theirs[name]) for name in ours)


def test_labels_are_the_truth(finished):
    paths = sorted((finished.path / "labels").glob("*/*.h5"))
    isolated = state_of(finished).dataset.apart.keys()
    assert len(paths) == MAX_LABELS + len(isolated)
    for path in paths:
        label = read_label(path)
        if path.stem in isolated:
            assert len(label.atoms) == 1 and label.stress is None
            continue
        atoms = with_emt(label.atoms)
        assert label.key == path.stem == label_key(label.atoms, label.level_of_theory)
        # The same code on the same numbers: only the last bit may differ, where atoms went through a file.
        assert label.energy == pytest.approx(atoms.get_potential_energy(force_consistent=True), abs=1e-12)
        np.testing.assert_allclose(label.forces, atoms.get_forces(), atol=1e-12)
        np.testing.assert_allclose(label.stress, atoms.get_stress(), atol=1e-12)


def test_nothing_of_the_audit_is_trained_on(finished):
    state = state_of(finished)
    assert state.dataset.audit.size == len(state.dataset.audit.loose) >= 2
    assert len(state.dataset.training.loose) == state.dataset.training.size == MAX_LABELS - state.dataset.audit.size
    assert not set(state.dataset.training.loose) & set(state.dataset.audit.loose)
    _, card = load_potential(finished.model_path(state.generations))
    assert card.n_labels == state.dataset.training.size


def test_the_ledger_knows_every_label(finished):
    with Ledger(finished.ledger, read_only=True) as ledger:
        rows = {row.key: row for row in ledger.label_rows()}
    assert rows.keys() == {path.stem for path in (finished.path / "labels").glob("*/*.h5")}
    for row in rows.values():
        assert sha256(finished.path / row.path) == row.checksum


def test_the_cost_of_every_label_is_on_record_and_foretells_that_of_others(finished):
    with Ledger(finished.ledger, read_only=True) as ledger:
        costs = History.replay(ledger.events()).costs
    assert costs.labels == MAX_LABELS + 1 and sum(entry.count for entry in costs.by_atoms.values()) == MAX_LABELS
    assert set(costs.by_atoms) <= set(range(4, 9)) and costs.core_seconds > 0
    found = costs.predict(MAX_LABELS, workers=2)
    assert found.labels == MAX_LABELS and found.overhead == 0.0
    # Milliseconds on a busy machine differ by large factors: only the order of magnitude is certain.
    assert 0.1 < 3600 * found.core_hours.expected / costs.core_seconds < 10.0


def test_what_a_failed_label_cost_is_on_record(tmp_path):
    directory = new_campaign(tmp_path / "c", ('code = "emt"', 'code = "emt"\nmax_force = 1e-9\nisolated_atoms = false'))
    with pytest.raises(CampaignFailed):
        controller_of(directory).run()
    with Ledger(directory.ledger, read_only=True) as ledger:
        history = History.replay(ledger.events())
    assert history.costs.failures == history.failures["label"].total() > 0
    assert history.costs.failed_core_seconds > 0 and history.costs.predict(10, workers=1) is None
