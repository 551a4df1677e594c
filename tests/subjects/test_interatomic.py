"""Each task alone."""

import dataclasses
import json
import shutil

import numpy as np
import pytest
import torch
from ase import Atoms
from bad_calculators import Confused
from safetensors.numpy import load_file
from tiny_campaign import emt_labels, new_campaign, rewrite, with_emt

from alpot.campaign.apps import run_task
from alpot.campaign.events import Task
from alpot.campaign.subject import SUMMARIES, Assignment, Kind
from alpot.config_file import parse_campaign
from alpot.errors import Interrupted
from alpot.exploration.walker import Walker
from alpot.potential.saved import load_potential, save_potential
from alpot.store.checkpoint import Checkpoint
from alpot.store.dataset import read_shard, write_shard
from alpot.store.files import sha256
from alpot.store.frames import read_frames, write_frames
from alpot.store.json_files import read_json
from alpot.store.labels import Label, label_key, read_label, write_label
from alpot.subjects import interatomic, training_data
from alpot.subjects.interatomic import InteratomicSubject, device_of
from alpot.subjects.launch import SUBJECT


def do(subject, kind, spec, *, number=900, attempt=1):
    """Runs a task, checks its summary as the campaign does, and hands it out as it is after a way through JSON."""
    task = f"{kind}-{number:06d}"
    scratch = subject.directory.task_path(kind, task) / f"attempt-{attempt}"
    scratch.mkdir(parents=True, exist_ok=True)
    checkpoint = Checkpoint(subject.directory.checkpoint_path(kind, task, attempt))
    assignment = Assignment(
        kind=Kind(kind), task_id=task, draw=attempt, spec=spec, scratch=scratch, checkpoint=checkpoint
    )
    summary = subject.run(assignment)
    SUMMARIES[Kind(kind)].model_validate(summary)
    return json.loads(json.dumps(summary, allow_nan=False))


@pytest.fixture
def fresh(tmp_path):
    return InteratomicSubject(new_campaign(tmp_path / "fresh").path)


@pytest.fixture
def trained(campaign):
    return InteratomicSubject(campaign.path)


def add_candidates(subject, frames, reasons, task="explore-000777"):
    provenance = [
        {"key": label_key(atoms, subject.level), "score": 5.0, "reason": reason, "audit": False}
        for atoms, reason in zip(frames, reasons, strict=True)
    ]
    assert write_frames(subject.directory.candidates_path(task), frames, provenance)
    return [f"{task}/{index}" for index in range(len(frames))]


# ------------------------------------------------------------------------------------------------------- explore


def test_without_a_model_starts_are_emitted(fresh):
    summary = do(fresh, "explore", {"generation": None, "starts": 8})
    found = summary["candidates"]
    assert [candidate["audit"] for candidate in found] == [False] * 8 + [True] * 2  # audit_share = 0.25
    assert {candidate["reason"] for candidate in found} == {"initial"}
    assert len({candidate["key"] for candidate in found}) == 10
    frames, provenance = read_frames(fresh.directory.candidates_path("explore-000900"))
    assert [label_key(atoms, fresh.level) for atoms in frames] == [candidate["key"] for candidate in found]
    assert {entry["start"] for entry in provenance} <= {"crystal fcc", "crystal bcc"}


def test_a_second_attempt_finds_the_candidates_of_the_first(trained):
    first = do(trained, "explore", {"generation": 1})
    stored = trained.directory.candidates_path("explore-000900").read_bytes()
    second = do(trained, "explore", {"generation": 1}, attempt=2)
    assert second["candidates"] == first["candidates"] != []
    assert trained.directory.candidates_path("explore-000900").read_bytes() == stored


def test_exploring_with_a_model(trained):
    summary = do(trained, "explore", {"generation": 1})
    assert summary["generation"] == 1
    assert summary["walkers"] == 4 == sum(summary["endings"].values())
    frames, provenance = read_frames(trained.directory.candidates_path("explore-000900"))
    for candidate, atoms, entry in zip(summary["candidates"], frames, provenance, strict=True):
        assert candidate["key"] == label_key(atoms, trained.level)
        assert entry["temperature_K"] > 0 and 1.0 < entry["density_g_per_cm3"] < 4.0
        if candidate["reason"] == "uncertain":
            assert candidate["score"] > 1.0
            limits = trained.config.exploration
            expected = max(
                entry["mean_force_error"] / limits.mean_force_error, entry["max_force_error"] / limits.max_force_error
            )
            assert candidate["score"] == pytest.approx(expected)
    assert do(trained, "explore", {"generation": 1}, number=901)["candidates"] != summary["candidates"]


SURFACES = (
    "[exploration]",
    '[[material.starts]]\nkind = "surface"\nprototypes = ["fcc"]\natoms = [6, 12]\ndensity = [2.6, 2.8]\n[exploration]',
)


def test_what_is_found_is_told_by_table(campaign):
    rewrite(
        campaign, SURFACES, ("walkers_per_task = 4", "walkers_per_task = 12"), ("max_time = 0.06", "max_time = 0.03")
    )
    subject = InteratomicSubject(campaign.path)
    summary = do(subject, "explore", {"generation": 1, "shares": [0.2, 0.8]})
    tables = {entry["table"]: entry for entry in summary["samplers"]}
    assert tables[1]["walkers"] > tables[0]["walkers"] > 0  # 12 draws of 1 : 4
    assert sum(entry["walkers"] for entry in tables.values()) == 12
    assert sum(entry["simulated_time"] for entry in tables.values()) == pytest.approx(summary["simulated_time"])
    frames, provenance = read_frames(subject.directory.candidates_path("explore-000900"))
    found = [entry["table"] for entry in provenance if not entry["audit"]]
    assert {table: found.count(table) for table in tables} == {t: entry["found"] for t, entry in tables.items()}
    for atoms, entry in zip(frames, provenance, strict=True):
        assert atoms.pbc[2] == (entry["table"] == 0)
        assert entry["start"].startswith("surface fcc" if entry["table"] else "crystal")
        assert (entry["density_g_per_cm3"] is None) == (entry["table"] == 1)
    slab = next(number for number, entry in enumerate(provenance) if entry["table"] == 1)
    label = do(subject, "label", {"candidate": f"explore-000900/{slab}"})
    assert label["outcome"] == "labelled"


def test_an_audit_of_the_configured_distribution(trained):
    """A table that is drawn four times as often gives a frame for the audit a quarter as often."""
    rng = np.random.default_rng(0)
    settings = trained.config.exploration
    atoms = emt_labels(1)[0].atoms
    audited = {}
    for factor in (1.0, 0.25):
        atoms.info = {"start": "crystal fcc", "table": 0, "audit_factor": factor}
        audited[factor] = sum(Walker.begin(atoms, settings, rng).audit_time is not None for _ in range(800))
    # audit_share = 0.25; five standard deviations of 800 draws.
    assert audited[1.0] == pytest.approx(200, abs=61)
    assert audited[0.25] == pytest.approx(50, abs=34)


def test_walkers_for_the_audit_give_frames_that_are_certain_too(campaign):
    rewrite(
        campaign,
        ("max_force_error = 0.2", "max_force_error = 1e3"),
        ("\nmean_force_error = 0.1", "\nmean_force_error = 1e3"),
        ("audit_share = 0.25", "audit_share = 0.9"),
    )
    summary = do(InteratomicSubject(campaign.path), "explore", {"generation": 1})
    audits = [candidate for candidate in summary["candidates"] if candidate["audit"]]
    assert audits and all(candidate["reason"] == "audit" and candidate["score"] < 1 for candidate in audits)
    assert summary["simulated_time"] > 0


# --------------------------------------------------------------------------------------------------------- label


def test_a_label_is_computed_once(fresh):
    (candidate,) = add_candidates(fresh, [emt_labels(1)[0].atoms], ["uncertain"])
    first = do(fresh, "label", {"candidate": candidate})
    path = fresh.directory.path / first["path"]
    before = path.stat()
    label = read_label(path)
    assert label.energy == pytest.approx(with_emt(label.atoms).get_potential_energy(force_consistent=True), abs=1e-12)
    assert label.provenance["candidate"] == candidate and label.provenance["reason"] == "uncertain"
    again = do(fresh, "label", {"candidate": candidate}, attempt=2)
    assert again == first | {"seconds": 0.0}
    assert (path.stat().st_mtime_ns, path.stat().st_ino) == (before.st_mtime_ns, before.st_ino)


def test_a_damaged_label_is_computed_again_and_kept_aside(fresh):
    (candidate,) = add_candidates(fresh, [emt_labels(1)[0].atoms], ["uncertain"])
    summary = do(fresh, "label", {"candidate": candidate})
    path = fresh.directory.path / summary["path"]
    path.write_bytes(path.read_bytes()[:-100])
    again = do(fresh, "label", {"candidate": candidate}, attempt=2)
    assert read_label(path).key == summary["key"]
    assert again["checksum"] == sha256(path)
    assert len(list(path.parent.glob("*.damaged-*"))) == 1


@pytest.mark.parametrize(
    ("settings", "failure", "words"),
    [
        ('code = "emt"\nmax_force = 1e-3', "unphysical_geometry", "0.001"),
        ('code = "bad_calculators:Confused"', "bad_output", "forces"),
        ('code = "bad_calculators:Crashing"', "unknown", "ZeroDivisionError"),
        ('code = "bad_calculators:Slow"\ntime_limit = 0.2', "walltime", "0.2"),
    ],
)
def test_failures_of_labels_are_classified(tmp_path, settings, failure, words):
    assert Confused.__module__ == "bad_calculators"  # importable by the name in the campaign file
    directory = new_campaign(tmp_path / "bad", ('code = "emt"', settings))
    subject = InteratomicSubject(directory.path)
    (candidate,) = add_candidates(subject, [emt_labels(1)[0].atoms], ["uncertain"])
    task = Task("label-000001", Kind.LABEL, {"candidate": candidate})
    result = run_task(SUBJECT, str(directory.path), task.dump())
    assert (result["status"], result["failure"]) == ("failed", failure)
    assert words in result["message"] + result["evidence"]
    assert not list((directory.path / "labels").rglob("*.h5"))


# --------------------------------------------------------------------------------------------------------- score


def test_only_uncertain_frames_can_become_certain(campaign):
    rewrite(
        campaign,
        ("max_force_error = 0.2", "max_force_error = 1e3"),
        ("\nmean_force_error = 0.1", "\nmean_force_error = 1e3"),
    )
    subject = InteratomicSubject(campaign.path)
    reasons = ["uncertain", "contact", "blow_up", "initial"]
    names = add_candidates(subject, [label.atoms for label in emt_labels(4)], reasons)
    summary = do(subject, "score", {"generation": 1, "candidates": names})
    assert summary["certain"] == [names[0]]
    assert set(summary["scores"]) == set(names)
    assert all(score >= 0 for score in summary["scores"].values())


def test_scores_are_measured_by_the_generation_asked_for(trained):
    names = add_candidates(trained, [label.atoms for label in emt_labels(18)], ["uncertain"] * 18)
    ones, twos = (do(trained, "score", {"generation": g, "candidates": names})["scores"] for g in (1, 2))
    assert list(ones) == list(twos) == names  # more than one batch, in order
    assert ones != twos
    again = do(trained, "score", {"generation": 1, "candidates": names[:9], "waiting": names[9:]})["scores"]
    assert again == pytest.approx(ones, rel=1e-6)  # those that waited are ranked beside those that came


def test_what_is_labelled_already_leaves_less_to_learn(trained):
    """Being labelled, or labelled but not yet learned from: its copy among those that wait is worth little."""
    labels = emt_labels(4)
    names = add_candidates(trained, [label.atoms for label in labels], ["uncertain"] * 4)
    twins = add_candidates(trained, [label.atoms for label in labels], ["uncertain"] * 4, task="explore-000778")
    plain = {"generation": 1, "candidates": names}
    keys = store(trained, labels[:1])
    scores = do(trained, "score", plain)["scores"]
    best = max(names, key=scores.__getitem__)
    twin = twins[names.index(best)]
    computed = do(trained, "score", plain | {"labelling": [twin]})["scores"]
    assert computed[best] < 0.5 * scores[best]
    learned = do(trained, "score", plain | {"labels": ["not read", *keys], "unseen": 1})["scores"]
    assert learned[names[0]] < scores[names[0]]


def test_what_was_settled_meanwhile_is_not_ranked(trained):
    names = add_candidates(trained, [label.atoms for label in emt_labels(3)], ["uncertain"] * 3)
    gone = {"waiting": ["explore-000555/0"], "labelling": ["explore-000556/7"]}
    summary = do(trained, "score", {"generation": 1, "candidates": names} | gone)
    assert list(summary["scores"]) == names
    summary = do(trained, "score", {"generation": 1, "candidates": ["explore-000555/1"]})
    assert summary == {"generation": 1, "scores": {}}


# --------------------------------------------------------------------------------------------------------- train


def store(subject, labels):
    for label in labels:
        write_label(subject.directory.label_path(label.key), label)
    return [label.key for label in labels]


def train_spec(keys, **more):
    spec = {"generation": 1, "parent": None, "shards": [], "labels": keys, "audit_labels": [], "refused": []}
    return spec | {"unseen": len(keys)} | more


def assess_spec(generation, keys=(), **more):
    spec = {"generation": generation, "incumbent": None, "audit_shards": [], "audit_labels": list(keys), "refused": []}
    return spec | {"unseen": len(keys), "final": False} | more


def test_training_saves_a_generation(fresh):
    keys = store(fresh, emt_labels(6))
    summary = do(fresh, "train", train_spec(keys))
    assert summary["compacted"] == [] and summary["refused"] == {}
    assert summary["checksum"] == sha256(fresh.directory.path / summary["path"] / "weights.safetensors")
    _, card = load_potential(fresh.directory.model_path(1))
    assert card.elements == ("Al",) and card.n_labels == 6
    assert card.level_of_theory["hash"] == fresh.level and card.level_of_theory["code"] == "emt"
    assert (fresh.directory.model_path(1) / "learning_curve.json").exists()
    assert summary["metrics"]["epochs"] == 4
    again = do(fresh, "train", train_spec(keys), attempt=2)
    assert again["metrics"]["labels"] == 6


def test_until_the_audit_is_large_enough_the_predecessor_tells_the_bound(trained):
    """By labels that were new to it; the first generation has none, and a large audit has the say."""
    labels = emt_labels(24, seed=70)
    keys = store(trained, labels)
    trained_on = train_spec(keys, generation=5, parent=1, unlearned=18)
    summary = do(trained, "train", trained_on)
    card = load_potential(trained.directory.model_path(5))[1]
    refused = list(summary["refused"])
    assert card.force_bound.n_frames == card.energy_bound.n_frames == 18 - len(refused) > 9
    audit = store(trained, emt_labels(12, seed=90))
    do(trained, "assess", assess_spec(5, audit[:4], incumbent=1, unseen=4))
    assert load_potential(trained.directory.model_path(5))[1].force_bound == card.force_bound
    told = do(trained, "assess", assess_spec(5, audit, incumbent=1, unseen=8))
    assert told["force_bound"]["n_frames"] == told["audit_labels"] >= 9
    do(trained, "train", train_spec(keys, generation=6, parent=1, unlearned=0))
    assert load_potential(trained.directory.model_path(6))[1].force_bound.n_frames == 0


def test_what_labels_cost_is_learned():
    def label(n_atoms):
        details = {"core_seconds": 1e-3 * n_atoms**3}
        forces, provenance = np.zeros((n_atoms, 3)), {"details": details}
        atoms = Atoms(f"Al{n_atoms}", positions=forces)
        return Label(key="k", atoms=atoms, energy=0.0, forces=forces, level_of_theory="l", provenance=provenance)

    # 2 ± 0.5 is believed beforehand; labels without scatter soon outweigh that.
    assert training_data.cost_exponent([label(n) for n in range(4, 40)]) == pytest.approx(3.0, abs=0.1)
    assert training_data.cost_exponent(emt_labels(3)) == 1.0


def test_many_labels_are_compacted_into_shards(fresh, monkeypatch):
    monkeypatch.setattr(training_data, "LABELS_PER_SHARD", 6)
    monkeypatch.setattr(interatomic, "LABELS_PER_SHARD", 6)
    keys, audit = store(fresh, emt_labels(6)), store(fresh, emt_labels(7, seed=50))
    summary = do(fresh, "train", train_spec(keys, audit_labels=audit))
    shards = [(fresh.directory.shard_path(1), keys, False), (fresh.directory.audit_shard_path(1), audit, True)]
    for compaction, (path, held, is_audit) in zip(summary["compacted"], shards, strict=True):
        assert fresh.directory.path / compaction["path"] == path and compaction["audit"] == is_audit
        assert [label.key for label in read_shard(path)] == compaction["keys"] == held
        assert sha256(path) == compaction["checksum"]
    assert do(fresh, "train", train_spec(keys, audit_labels=audit), attempt=2)["compacted"] == summary["compacted"]
    spec = assess_spec(1, audit_shards=["dataset/audit-00001.h5"], unseen=0)
    assert do(fresh, "assess", spec)["audit_labels"] == 7


def test_a_shard_that_is_taken_is_left_alone(fresh, monkeypatch):
    monkeypatch.setattr(training_data, "LABELS_PER_SHARD", 6)
    labels = emt_labels(8)
    taken = write_shard(fresh.directory.shard_path(1), labels[6:])
    summary = do(fresh, "train", train_spec(store(fresh, labels[:6])))
    assert summary["compacted"][0]["path"] == "dataset/shard-00002.h5"
    assert sha256(fresh.directory.shard_path(1)) == taken


def test_training_on_shards_alone(fresh):
    labels = emt_labels(6)
    write_shard(fresh.directory.shard_path(1), labels[:3])
    write_shard(fresh.directory.shard_path(2), labels[3:])
    shards = ["dataset/shard-00001.h5", "dataset/shard-00002.h5"]
    summary = do(fresh, "train", train_spec([], shards=shards, generation=3))
    assert summary["compacted"] == []
    assert summary["metrics"]["labels"] == 6


def test_wrong_and_damaged_labels_are_refused_and_kept(trained):
    known = sorted(path.stem for path in (trained.directory.path / "labels").glob("*/*.h5"))
    labels = emt_labels(6, seed=50)
    labels[2] = dataclasses.replace(labels[2], energy=27.2114 * labels[2].energy)
    keys = store(trained, labels)
    path = trained.directory.label_path(keys[4])
    path.write_bytes(path.read_bytes()[:-9])
    spec = train_spec(known + keys, generation=9, parent=1, unseen=6)
    summary = do(trained, "train", spec)
    assert summary["refused"].keys() == {keys[2], keys[4]}
    assert "damaged" in summary["refused"][keys[4]] and "energy" in summary["refused"][keys[2]]
    assert all(trained.directory.label_path(key).exists() for key in keys)
    again = do(trained, "train", spec | {"generation": 10, "refused": [keys[2], keys[4]]})
    assert again["metrics"]["labels"] == summary["metrics"]["labels"] == len(known) + 4


def test_an_interrupted_training_goes_on(fresh):
    keys = store(fresh, emt_labels(6))
    whole = do(fresh, "train", train_spec(keys))
    ends = iter([100.0, 1000.0, 0.0])
    checkpoint = Checkpoint(fresh.directory.path / "checkpoint.h5", time_left=lambda: next(ends))
    assignment = Assignment(
        kind=Kind.TRAIN,
        task_id="train-000900",
        draw=1,
        spec=train_spec(keys, generation=2),
        scratch=fresh.directory.path,
        checkpoint=checkpoint,
    )
    with pytest.raises(Interrupted):
        fresh.run(assignment)
    summary = fresh.run(dataclasses.replace(assignment, checkpoint=Checkpoint(checkpoint.path)))
    ours, theirs = (load_file(fresh.directory.model_path(g) / "weights.safetensors") for g in (1, 2))
    assert summary["metrics"] == whole["metrics"]
    assert all(np.array_equal(ours[name], theirs[name]) for name in ours)


@pytest.mark.parametrize(
    ("warm", "generation", "continues"),
    # The parent is generation 1: where the new one is not 2, one or more between them were not promoted.
    [("true", 9, True), ("false", 2, False), ('"auto"', 2, True), ('"auto"', 3, False)],
)
def test_warm_start(campaign, warm, generation, continues):
    changes = [('schedule = "one-cycle"', 'schedule = "plateau"'), ("learning_rate = 1e-2", "learning_rate = 1e-9")]
    rewrite(campaign, *changes, ("max_epochs = 4", f"max_epochs = 1\nwarm_start = {warm}"))
    subject = InteratomicSubject(campaign.path)
    do(subject, "train", train_spec(store(subject, emt_labels(6)), generation=generation, parent=1))
    parent, child = (load_file(campaign.model_path(g) / "weights.safetensors") for g in (1, generation))
    # The learning rate is next to nothing: the weights are those of the beginning.
    assert all(np.allclose(parent[name], child[name], atol=1e-6) for name in parent) == continues


# -------------------------------------------------------------------------------------------------------- assess


def test_a_spoiled_generation_is_not_promoted(trained):
    audit = store(trained, emt_labels(12, seed=50))
    ensemble, card = trained.potential(1)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in ensemble.parameters():
            parameter += torch.randn(parameter.shape, generator=generator)
    save_potential(trained.directory.model_path(9), ensemble, card)
    spec = assess_spec(9, audit, incumbent=1)
    assert do(trained, "assess", spec)["promote"] is False
    assert do(trained, "assess", spec | {"generation": 1, "incumbent": 9})["promote"] is True
    assert do(trained, "assess", spec | {"incumbent": None})["promote"] is True
    assert do(trained, "assess", spec | {"incumbent": 9})["promote"] is True


def test_what_was_measured_is_on_the_card(trained):
    audit = store(trained, emt_labels(4, seed=50))
    spec = assess_spec(1, audit)
    weights = sha256(trained.directory.model_path(1) / "weights.safetensors")
    summary = do(trained, "assess", spec)
    _, card = load_potential(trained.directory.model_path(1))
    assert card.errors["audit_force"] == summary["force_error"] > 0
    assert summary["force_error_high"] > summary["force_error"]
    assert card.errors["audit_energy"] == summary["energy_error"] > 0
    assert card.calibration == summary["calibration"] >= 1
    assert summary["audit_labels"] == 4 and summary["properties"] == []
    assert sha256(trained.directory.model_path(1) / "weights.safetensors") == weights


def test_the_bound_is_tested_with_labels_that_came_after_it(trained):
    """Those of the first assessment teach it, those of the next ones test it, each once; then they teach it, too."""
    audit = store(trained, emt_labels(24, seed=50))
    first = do(trained, "assess", assess_spec(1, audit[:12]))
    card = load_potential(trained.directory.model_path(1))[1]
    assert first["force_bound"] == dataclasses.asdict(card.force_bound) and "coverage" not in first
    assert card.force_bound.n_frames == card.energy_bound.n_frames == first["audit_labels"] >= 9
    shutil.copytree(trained.directory.model_path(1), trained.directory.model_path(9))
    refused = list(first["refused"])
    second = do(trained, "assess", assess_spec(9, audit[:20], incumbent=1, unseen=8, refused=refused))
    refused += second["refused"]
    new = [key for key in audit[12:20] if key not in refused]
    assert (second["coverage_of"], second["coverage_frames"]) == (1, len(new))
    assert second["coverage_atoms"] == sum(len(read_label(trained.directory.label_path(key)).atoms) for key in new)
    assert second["force_bound"]["n_frames"] == second["audit_labels"] == 20 - len(refused)
    # Labels of one kind: eight frames of atoms that are alike tell a bound of 90 % from one of 50 %.
    assert 0.6 < second["coverage"] <= 1.0
    last = assess_spec(9, audit, incumbent=9, unseen=4, refused=refused, final=True)
    once, again = (do(trained, "assess", last) for _ in range(2))
    assert once["coverage_of"] == 9 and once["coverage_frames"] <= 4
    # The second attempt finds a bound that has learned from these labels, and does without.
    assert (again["coverage"], again["coverage_atoms"]) == (once["coverage"], once["coverage_atoms"])
    assert "coverage" not in do(trained, "assess", last | {"unseen": 0})


def test_without_audit_labels_a_generation_is_promoted(trained):
    summary = do(trained, "assess", assess_spec(2, incumbent=1))
    assert summary["promote"] and summary["force_error"] is summary["force_error_high"] is None
    assert summary["calibration"] == 1.0


def test_the_last_assessment_evaluates_properties(trained):
    summary = do(trained, "assess", assess_spec(1, incumbent=1, final=True))
    lattice = next(row for row in summary["properties"] if row["name"].startswith("lattice constant"))
    # EMT's aluminum: 3.994 Å
    assert lattice["reference"] == pytest.approx(3.99, abs=0.02) and lattice["unit"] == "Å"


def test_at_the_end_all_properties_are_measured(tmp_path, campaign):
    asked = 'properties = ["elastic"]\neach_generation = ["lattice"]'
    subject = InteratomicSubject(new_campaign(tmp_path / "end", ('properties = ["lattice"]', asked)).path)
    shutil.copytree(campaign.model_path(1), subject.directory.model_path(1))
    for final, expected in ((False, {"lattice"}), (True, {"lattice", "elastic"})):
        rows = do(subject, "assess", assess_spec(1, incumbent=1, final=final))["properties"]
        assert {row["property"] for row in rows} == expected


def test_each_generation_has_properties_that_may_hold_it_back(tmp_path, campaign):
    judged = 'each_generation = ["lattice"]\nhold_back = true\ncompare_reference = true'
    subject = InteratomicSubject(new_campaign(tmp_path / "held", ("compare_reference = true", judged)).path)
    for generation in (1, 2):
        shutil.copytree(campaign.model_path(1), subject.directory.model_path(generation))
    summary = do(subject, "assess", assess_spec(1))
    assert summary["promote"] and [row["property"] for row in summary["properties"]][:3] == ["lattice"] * 3
    # The tiny potential is no aluminum. Say that the promoted one was, and this one is held back.
    assert any(row["ok"] is False for row in summary["properties"])
    assert do(subject, "assess", assess_spec(2, incumbent=1))["promote"]
    good = [[row["system"], row["name"]] for row in summary["properties"]]
    held = do(subject, "assess", assess_spec(2, incumbent=1, within_tolerance=good))
    assert not held["promote"]
    assert held["held_back"] == [row["name"] for row in summary["properties"] if row["ok"] is False]
    # The reference was measured once.
    questions = [read_json(path)["question"] for path in subject.directory.measurements.iterdir()]
    assert sum(question["calculators"] == [subject.level] for question in questions) == 1


# ---------------------------------------------------------------------------------------------------------- rest


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_the_device_is_the_one_asked_for(device):
    text = f'material.elements = ["Al"]\nreference.code = "emt"\nresources.device = "{device}"'
    assert device_of(parse_campaign(text, "text")) == device
