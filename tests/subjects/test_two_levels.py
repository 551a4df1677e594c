"""A campaign with a cheap reference that screens frames and is the baseline of the potential."""

import numpy as np
import pytest
from tiny_campaign import TINY, controller_of, new_campaign, with_emt

import alpot
from alpot.campaign.apps import run_task
from alpot.campaign.events import Task
from alpot.campaign.subject import Kind
from alpot.config_file import parse_campaign
from alpot.errors import ConfigError, PotentialError
from alpot.potential.baseline import Baseline
from alpot.potential.saved import load_potential
from alpot.store.directory import CampaignDirectory
from alpot.store.frames import write_frames
from alpot.store.labels import label_key, read_label
from alpot.store.ledger import Ledger
from alpot.structures import is_isolated_atom, isolated_atom
from alpot.subjects.assessment import audit_errors
from alpot.subjects.changes import changes
from alpot.subjects.checks import Checks
from alpot.subjects.interatomic import InteratomicSubject
from alpot.subjects.judges import EnsembleJudge
from alpot.subjects.launch import SUBJECT, prepare

#: EMT with another cutoff: off by some meV/Å.
CHEAP = '\n[reference.cheap]\ncode = "emt"\narguments = {asap_cutoff = true}\nuse = ["baseline", "screen"]\n'
WITH_CHEAP = ('code = "emt"\n', f'code = "emt"\n{CHEAP}')
LJ = ('code = "emt"\narguments = {asap_cutoff = true}\n', 'code = "lj"\narguments = {sigma = 2.4, epsilon = 0.05}\n')


@pytest.fixture(scope="module")
def two_levels(tmp_path_factory, without_waiting_for_the_disk) -> CampaignDirectory:
    """It ran to its end; tests read it only."""
    directory = new_campaign(tmp_path_factory.mktemp("levels") / "tiny", WITH_CHEAP)
    assert controller_of(directory).run().status == "finished"
    return directory


def rewritten(directory: CampaignDirectory, *replacements: tuple[str, str]) -> None:
    text = TINY.replace(*WITH_CHEAP)
    for old, new in replacements:
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    directory.replace_config(text.encode(), directory.source)


def test_labels_are_those_of_the_reference(two_levels):
    paths = sorted((two_levels.path / "labels").glob("*/*.h5"))
    assert len(paths) >= 10
    for path in paths:
        label = read_label(path)
        truth = with_emt(label.atoms)
        np.testing.assert_allclose(label.forces, truth.get_forces(), atol=1e-12)
        assert label.energy == pytest.approx(truth.get_potential_energy(force_consistent=True), abs=1e-12)


def test_errors_and_judgements_are_of_the_sum(two_levels):
    """Four epochs teach next to nothing, but the baseline is nearly the truth."""
    subject = InteratomicSubject(two_levels.path)
    ensemble, card = subject.potential(1)
    calculator = alpot.load(two_levels.model_path(1))
    labels = [read_label(path) for path in sorted((two_levels.path / "labels").glob("*/*.h5"))]
    labels = [label for label in labels if not is_isolated_atom(label.atoms)]
    forces = [calculator.get_property("forces", label.atoms) - label.forces for label in labels]
    ours = [float(np.square(part).mean()) for part in forces]
    np.testing.assert_allclose(audit_errors(ensemble, labels).force_squares, ours, rtol=1e-3, atol=1e-8)  # float32
    expected = EnsembleJudge(ensemble, 1.0, labels).expect([(label.key, label.atoms) for label in labels])
    for label, expectation in zip(labels, expected, strict=True):
        theirs = calculator.get_property("forces", label.atoms)
        np.testing.assert_allclose(expectation.forces, theirs, atol=1e-3 * np.abs(theirs).max() + 1e-4)
        np.testing.assert_allclose(expectation.stress, calculator.get_property("stress", label.atoms), atol=1e-3)
    assert card.baseline == {"hash": subject.baseline.identity, **subject.cheap.reference.settings()}
    assert card.level_of_theory["hash"] == subject.level != subject.baseline.identity


def test_a_campaigns_own_baseline_must_be_that_of_the_card(two_levels, tmp_path):
    other = new_campaign(tmp_path / "other", WITH_CHEAP)
    rewritten(other, LJ)
    ensemble, card = load_potential(two_levels.model_path(1))
    assert ensemble.baseline.level == card.baseline
    with pytest.raises(PotentialError, match=r"correction to 'emt'.*cannot be used with 'lj'"):
        load_potential(two_levels.model_path(1), InteratomicSubject(other.path).baseline)


def test_another_cheap_reference_is_another_campaign(two_levels):
    before = parse_campaign(two_levels.config.read_text(), "before")
    for replacement in (LJ, (CHEAP, ""), ('use = ["baseline", "screen"]', 'use = ["screen"]')):
        after = parse_campaign(TINY.replace(*WITH_CHEAP).replace(*replacement), "after")
        assert changes(before, after) and all(change.is_physics for change in changes(before, after))
    with pytest.raises(ConfigError, match=r"reference\.cheap: .* -> not set"):
        path = two_levels.path.with_name("changed.toml")
        path.write_text(TINY)
        prepare(path, two_levels.path)


def test_a_fork_takes_over_the_labels(two_levels, tmp_path):
    path = tmp_path / "fork.toml"
    path.write_text(TINY.replace(*WITH_CHEAP).replace(*LJ))
    launch = prepare(path, two_levels.path, fork_to=tmp_path / "fork")
    assert "took over 21 of its 21 labels" in launch.changes[0]


def label_task(directory: CampaignDirectory, atoms) -> dict:
    key = label_key(atoms, InteratomicSubject(directory.path).level)
    write_frames(directory.candidates_path("explore-000777"), [atoms], [{"key": key}])
    task = Task(kind=Kind.LABEL, id="label-000900", attempt=1, draw=1, spec={"candidate": "explore-000777/0"})
    return run_task(SUBJECT, str(directory.path), task.dump())


def test_a_frame_that_the_screen_stops_is_not_paid_for(tmp_path, two_levels):
    directory = new_campaign(tmp_path / "screened", WITH_CHEAP)
    atoms = read_label(next((two_levels.path / "labels").glob("*/*.h5"))).atoms
    atoms.positions[1] = atoms.positions[0] + [0.5, 0.0, 0.0]
    result = label_task(directory, atoms)
    assert (result["status"], result["failure"]) == ("failed", "unphysical_geometry")
    assert result["message"].startswith("screened by reference.cheap, not labelled: the force of 'emt'")
    assert 0 < result["core_seconds"] < 60  # of the screen
    assert not list(directory.path.glob("labels/*/*.h5"))


def test_the_price_of_a_label_holds_that_of_its_screen(two_levels):
    """So that the costs of the report, and what is predicted from them, do."""
    with Ledger(two_levels.ledger, read_only=True) as ledger:
        summaries = [event.payload["summary"] for event in ledger.events() if event.kind == "task_finished"]
    summaries = [summary for summary in summaries if "outcome" in summary]
    assert summaries
    for summary in summaries:
        label = read_label(two_levels.label_path(summary["key"]))
        details = label.provenance["details"]
        assert ("screen_core_seconds" in details) == (not is_isolated_atom(label.atoms))
        for name, took in (("core_seconds", "core_seconds"), ("seconds", "wall_s")):
            both = details[took] + details.get(f"screen_{took}", 0.0)
            assert summary[name] == pytest.approx(both, abs=1e-9)


def test_an_isolated_atom_is_not_screened(tmp_path):
    """Cheap codes may have no answer for one, and nothing in it could be unphysical."""
    crashing = '\n[reference.cheap]\ncode = "bad_calculators:Crashing"\n'
    directory = new_campaign(tmp_path / "apart", ('code = "emt"\n', f'code = "emt"\n{crashing}'))
    assert label_task(directory, isolated_atom("Al"))["status"] == "finished"


def test_training_refuses_what_the_baseline_cannot_compute(tmp_path, monkeypatch):
    """It is told by key, and costs the others nothing."""
    directory = new_campaign(tmp_path / "partial", WITH_CHEAP)
    real = Baseline.answer
    beyond = lambda atoms: round(1e3 * atoms.cell.volume) % 4 == 0  # noqa: E731
    monkeypatch.setattr(Baseline, "answer", lambda self, atoms: None if beyond(atoms) else real(self, atoms))
    controller = controller_of(directory)
    controller.on_change = lambda state: directory.request_stop() if state.generations else None
    state = controller.run().state
    assert set(state.dataset.refused.values()) == {
        "the baseline 'emt' (asap_cutoff = True) gives no finite energy and forces for its frame"
    }
    assert all(beyond(read_label(directory.label_path(key)).atoms) for key in state.dataset.refused)
    assert load_potential(directory.model_path(1))[1].n_labels >= 4


def test_checking_a_campaign_tries_the_cheap_reference_too(tmp_path):
    config = parse_campaign(TINY.replace(*WITH_CHEAP), "tiny")
    results = {result.stage: result for result in Checks(config, tmp_path).run()}
    assert all(result.ok for result in results.values())
    assert "emt beside it (baseline, screen)" in results["reference"].detail
