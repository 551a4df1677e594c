"""From a campaign file to a campaign: what is refused before anything is made, and labels that users bring."""

import os
import re
import signal
from dataclasses import replace

import h5py
import pytest
from fake_campaign import InProcess
from tiny_campaign import TINY, changed, controller_of, emt_labels, state_of

from alpot.campaign import events
from alpot.campaign.state import State
from alpot.errors import AlpotError, ConfigError, LevelOfTheoryError, StorageError, StructureError, UsageError
from alpot.report.status import campaign_status
from alpot.store.ani_hdf5 import write_ani_hdf5
from alpot.store.dataset import read_shard
from alpot.store.directory import CampaignDirectory
from alpot.store.extxyz import write_extxyz
from alpot.store.ledger import Ledger
from alpot.subjects import launch
from alpot.subjects.exports import export_labels, export_potential
from alpot.subjects.imports import import_labels
from alpot.subjects.launch import plan, prepare
from alpot.subjects.requests import request_reload, request_stop


@pytest.fixture
def in_process(monkeypatch):
    """Tasks run in this process, one after the other."""
    monkeypatch.setattr(launch, "open_platform", lambda _: InProcess())


def write(path, *changes):
    path.write_text(changed(*changes))
    return path


def brings(*names):
    listed = ", ".join(f'"{name}"' for name in names)
    return ('elements = ["Al"]', f'elements = ["Al"]\ninitial_labels = [{listed}]')


# ------------------------------------------------------------------------------------------------ labels of users


@pytest.mark.parametrize("form", ["extxyz", "h5"])
def test_labels_that_the_user_brought_are_trained_on_and_audited(tmp_path, in_process, form):
    labels = emt_labels(16)
    (write_extxyz if form == "extxyz" else write_ani_hdf5)(tmp_path / f"mine.{form}", labels)
    path = write(
        tmp_path / "c.toml", brings(f"mine.{form}"), ("max_labels = 20", "max_labels = 20\nmax_generations = 2")
    )
    started = prepare(path, None)

    def stop_after_the_first(state):
        if state.generations:
            started.directory.request_stop()

    assert started.run(stop_after_the_first).status == "stopped"
    with Ledger(started.directory.ledger, read_only=True) as ledger:
        state = State.replay(ledger.events())
    training, audit = state.dataset.training, state.dataset.audit
    assert (training.size, audit.size, state.calculations) == (12, 4, 0)  # audit_share = 0.25
    trained, audited = (
        {label.key: label for name in names for label in read_shard(started.directory.path / name)}
        for names in (training.shards, audit.shards)
    )
    assert (len(trained), len(audited)) == (12, 4)
    found = trained | audited
    assert found.keys() == {label.key for label in labels}
    for label in labels:
        # The file formats keep 8 decimals, or convert to Hartree and back.
        assert found[label.key].energy == pytest.approx(label.energy, abs=1e-7)
        assert found[label.key].forces == pytest.approx(label.forces, abs=1e-7)
    (tmp_path / f"mine.{form}").unlink()  # the campaign has its own copy
    assert prepare(tmp_path / "c", None).run().status == "finished"
    status = campaign_status(started.directory)
    assert status.labels.imported == 16 and len(status.generations) == 2
    with Ledger(started.directory.ledger, read_only=True) as ledger:
        kinds = [event.kind for event in ledger.events()]
        assert kinds.count("labels_imported") == 1
        isolated_atoms = 1
        assert len(list(ledger.label_rows())) - isolated_atoms == status.labels.done > 16


def test_the_same_frame_in_two_files_counts_once(tmp_path, in_process):
    write_extxyz(tmp_path / "one.xyz", emt_labels(12))
    write_extxyz(tmp_path / "two.xyz", emt_labels(12)[:6])
    path = write(
        tmp_path / "c.toml", brings("one.xyz", "two.xyz"), ("max_labels = 20", "max_labels = 20\nmax_generations = 1")
    )
    assert prepare(path, None).run().status == "finished"
    assert campaign_status(CampaignDirectory.open(tmp_path / "c")).labels.imported == 12


def test_few_labels_are_not_all_for_the_audit(tmp_path, in_process):
    write_extxyz(tmp_path / "few.xyz", emt_labels(2))
    path = write(tmp_path / "c.toml", brings("few.xyz"), ("audit_share = 0.25", "audit_share = 0.9"))
    imported = import_labels(prepare(path).directory, prepare(path).config)
    assert (len(imported.rows), len(imported.audit)) == (2, 1)


# ------------------------------------------------------------------------------------- refused before it begins


def other_elements(folder):
    labels = emt_labels(2)
    labels[1].atoms.symbols[0] = "Cu"
    write_extxyz(folder / "alloy.xyz", labels)
    return brings("alloy.xyz")


def no_forces(folder):
    write_ani_hdf5(folder / "bare.h5", emt_labels(2))
    with h5py.File(folder / "bare.h5", "r+") as file:
        del file[next(iter(file))]["forces"]
    return brings("bare.h5")


def wrong_level(folder):
    write_extxyz(folder / "dft.xyz", [replace(label, level_of_theory="0123456789ab") for label in emt_labels(2)])
    return brings("dft.xyz")


def garbage_start(folder):
    (folder / "melt.xyz").write_text("this is not a structure\n")
    return ("[exploration]", '[[material.starts]]\nkind = "file"\npath = "melt.xyz"\nweight = 1e-6\n\n[exploration]')


def missing_start(_folder):
    return ("[exploration]", '[[material.starts]]\nkind = "file"\npath = "gone.xyz"\nweight = 1e-6\n\n[exploration]')


@pytest.mark.parametrize(
    ("spoil", "error", "words"),
    [
        (lambda _: brings("nowhere.xyz"), StructureError, "there is no file .*nowhere.xyz"),
        (other_elements, ConfigError, r"alloy.xyz .*Cu.*material.elements is \['Al'\]"),
        (no_forces, StructureError, "bare.h5.*forces"),
        (wrong_level, LevelOfTheoryError, "dft.xyz.*0123456789ab"),
        (garbage_start, StructureError, "melt.xyz cannot be read"),
        (missing_start, StructureError, "gone.xyz"),
        (lambda _: ("workers = 2", 'platform = "labtop"'), ConfigError, "did you mean 'laptop'"),
        (lambda _: ('code = "emt"', 'code = "ent"'), ConfigError, "did you mean 'emt'"),
        (lambda _: ('elements = ["Al"]', 'elements = ["Xe"]'), UsageError, "Xe"),
    ],
)
def test_what_can_be_known_is_refused_before_a_folder_is_made(tmp_path, spoil, error, words):
    path = write(tmp_path / "c.toml", spoil(tmp_path))
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(error, match=words):
        prepare(path, None)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_plain_file_where_the_folder_would_be(tmp_path):
    (tmp_path / "c").write_text("mine")
    with pytest.raises(UsageError, match="is a file"):
        prepare(write(tmp_path / "c.toml"), None)


def test_a_folder_that_holds_other_things(tmp_path):
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "thesis.tex").write_text("")
    with pytest.raises(UsageError, match=r"thesis\.tex"):
        prepare(write(tmp_path / "c.toml"), None)
    with pytest.raises(UsageError, match="not a campaign directory"):
        prepare(tmp_path / "c", None)
    assert [item.name for item in (tmp_path / "c").iterdir()] == ["thesis.tex"]


def test_directory_goes_with_a_file_only(tmp_path):
    with pytest.raises(UsageError, match="--directory"):
        prepare(tmp_path, tmp_path / "other")


def test_the_copy_in_the_campaign_begins_no_other_campaign(tmp_path):
    directory = prepare(write(tmp_path / "c.toml"), None).directory
    with pytest.raises(UsageError, match=r"continue that campaign with `alpot run .*c`"):
        prepare(directory.config, None)
    assert not (directory.path / "campaign").exists()


# ---------------------------------------------------------------------------------------------- changed settings


def opened_events(directory):
    with Ledger(directory.ledger, read_only=True) as ledger:
        return [event for event in ledger.events() if event.kind in ("opened", "settings_changed")]


def test_physics_stays_and_budgets_may_change(tmp_path):
    path = write(tmp_path / "c.toml")
    directory = prepare(path).directory
    write(path, ("timestep = 3.0", "timestep = 2.0"), ("seed = 1", "seed = 2"))
    with pytest.raises(ConfigError) as refused:
        prepare(path)
    assert "  - seed: 1 -> 2\n  - exploration.timestep: 3.0 -> 2.0\n" in str(refused.value)
    assert f"alpot run {path} --fork NEWDIR" in str(refused.value) and "resources" in str(refused.value)
    assert directory.config.read_text() == TINY
    larger = write(path, ("max_labels = 20", "max_labels = 30"), ("workers = 2", "workers = 1"))
    launched = prepare(larger)
    assert launched.config.stopping.max_labels == 30
    assert launched.changes == ["stopping.max_labels: 20 -> 30", "resources.workers: 2 -> 1"]
    assert directory.config.read_bytes() == path.read_bytes()
    again = prepare(tmp_path / "c")
    assert (again.config.resources.workers, again.changes) == (1, [])


@pytest.mark.parametrize(
    ("change", "field"),
    [
        (('elements = ["Al"]', 'elements = ["Al", "Cu"]'), "material.elements"),
        (("density = [2.6, 3.0]", "density = [2.5, 3.0]"), "material.starts"),
        (('code = "emt"', 'code = "emt"\narguments = {asap_cutoff = true}'), "reference.arguments.asap_cutoff"),
        (('code = "emt"', 'code = "emt"\nmax_force = 9.0'), "reference.max_force"),
        (("radial_cutoff = 5.0", "radial_cutoff = 4.5"), "potential.descriptor.radial_cutoff"),
        (("members = 2", "members = 3"), "potential.members"),
        (("max_epochs = 4", "max_epochs = 5"), "training.max_epochs"),
        (("audit_share = 0.25", "audit_share = 0.5"), "exploration.audit_share"),
    ],
)
def test_every_kind_of_physics_is_refused(tmp_path, change, field):
    path = write(tmp_path / "c.toml")
    prepare(path)
    with pytest.raises(ConfigError, match=rf"  - {field}: .* -> "):
        prepare(write(path, change))


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (('code = "emt"', 'code = "emt"\ntime_limit = 9.0'), "reference.time_limit: 86400.0 -> 9.0"),
        (('code = "emt"', 'code = "emt"\nattempts = 5'), "reference.attempts: 3 -> 5"),
        (("walkers = 4\n", "walkers = 8\n"), "exploration.walkers: 4 -> 8"),
        (("walkers_per_task = 4", "walkers_per_task = 8"), "exploration.walkers_per_task: 4 -> 8"),
        (('["lattice"]', '["lattice", "vacancy"]'), 'assessment.properties: ["lattice"] -> ["lattice", "vacancy"]'),
        (("max_labels = 20", "max_labels = 20\nforce_error = 0.1"), "stopping.force_error: not set -> 0.1"),
    ],
)
def test_what_is_no_physics_may_change_and_is_said(tmp_path, change, sentence):
    path = write(tmp_path / "c.toml")
    prepare(path)
    assert prepare(write(path, change)).changes == [sentence]


def test_a_comment_is_no_change(tmp_path):
    path = write(tmp_path / "c.toml")
    directory = prepare(path).directory
    path.write_text("# mine\n" + path.read_text())
    assert prepare(path).changes == []
    assert directory.config.read_text().startswith("# mine")


def test_changes_are_recorded(campaign, in_process):
    write(campaign.source, ("max_labels = 20", "max_labels = 21"))
    prepare(campaign.source, campaign.path).run()
    assert opened_events(campaign)[-1].payload["changes"] == ["stopping.max_labels: 20 -> 21"]


def test_an_edited_copy_in_the_directory_is_held_to_the_same(tmp_path):
    path = write(tmp_path / "c.toml")
    directory = prepare(path).directory
    write(directory.config, ("timestep = 3.0", "timestep = 2.0"))
    with pytest.raises(ConfigError, match=r"campaign\.toml is another campaign than .*\n  - exploration.timestep"):
        prepare(directory.path)
    write(directory.config, ("max_labels = 20", "max_labels = 30"))
    assert prepare(directory.path).config.stopping.max_labels == 30
    assert directory.source == path  # names of files stay relative to the user's own file
    assert directory.recorded_config == directory.config.read_text()


def test_settings_of_a_running_campaign_change_by_reload_only(tmp_path):
    path = write(tmp_path / "c.toml")
    directory = prepare(path).directory
    write(path, ("max_labels = 20", "max_labels = 30"))
    with directory.lock(), pytest.raises(UsageError, match=rf"run by process \d+ on .*`alpot reload .*c {path}`"):
        prepare(path)
    assert directory.config.read_text() == TINY


# --------------------------------------------------------------------------------------------------------- reload


@pytest.fixture
def woken():
    """The signals that woke this process, which plays the controller."""
    seen = []
    former = signal.signal(signal.SIGHUP, lambda number, _: seen.append(number))
    yield seen
    signal.signal(signal.SIGHUP, former)


def test_reload_asks_the_controller_and_says_what_changes_when(tmp_path, woken):
    path = write(tmp_path / "c.toml")
    directory = prepare(path).directory
    write(path, ("max_labels = 20", "max_labels = 30"), ("workers = 2", "workers = 1"))
    with directory.lock():
        said = request_reload(directory.path, path)
        assert said[0].startswith(f"asked process {os.getpid()} on") and woken == [signal.SIGHUP]
        assert said[1:] == ["stopping.max_labels: 20 -> 30", "resources.workers: 2 -> 1 (at the next start)"]
        assert directory.reload_requested() and directory.config.read_text() == path.read_text()
        assert directory.recorded_config == TINY  # the controller takes it over, and records it


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("timestep = 3.0", "timestep = 2.0"), "exploration.timestep: 3.0 -> 2.0"),
        (("max_labels = 20", "max_lables = 30"), "did you mean 'max_labels'"),
        (("workers = 2", 'platform = "labtop"'), "did you mean 'laptop'"),
    ],
)
def test_reload_of_a_wrong_file_changes_nothing(tmp_path, woken, change, words):
    path = write(tmp_path / "c.toml")
    directory = prepare(path).directory
    with directory.lock(), pytest.raises(ConfigError, match=words):
        request_reload(directory.path, write(path, change))
    assert directory.config.read_text() == TINY and not directory.reload_requested() and not woken


def test_reload_without_a_controller_or_a_change(tmp_path, woken):
    directory = prepare(write(tmp_path / "c.toml")).directory
    assert "no controller is running" in request_reload(directory.path)[0]
    with directory.lock():
        assert "asks for nothing else" in request_reload(directory.path)[0]
    assert not directory.reload_requested() and not woken


def test_a_running_campaign_takes_over_a_smaller_budget(tmp_path, in_process, woken):
    path = write(tmp_path / "c.toml")
    launched = prepare(path)

    def shrink(state):
        directory = launched.directory
        if state.calculations == 12 and directory.config.read_text() == TINY:
            directory.config.write_text(changed(("max_labels = 20", "max_labels = 14")))
            directory.request_reload()

    outcome = launched.run(shrink)
    assert outcome.reason == "the budget of 14 labels is spent" and outcome.state.calculations == 14
    assert opened_events(launched.directory)[-1].payload["changes"] == ["stopping.max_labels: 20 -> 14"]
    assert launched.directory.recorded_config == launched.directory.config.read_text()
    assert prepare(launched.directory.path).changes == []


def test_a_running_campaign_goes_on_where_its_file_was_spoilt(tmp_path, in_process, woken):
    launched = prepare(write(tmp_path / "c.toml"))

    def spoil(state):
        if state.calculations == 12:
            launched.directory.config.write_text(changed(("timestep = 3.0", "timestep = 2.0")))
            launched.directory.request_reload()

    assert launched.run(spoil).state.calculations == 20
    with pytest.raises(ConfigError, match="timestep"):
        prepare(launched.directory.path)
    assert [event.kind for event in opened_events(launched.directory)] == ["opened"]


# ----------------------------------------------------------------------------------------------------------- fork


def labels_in(directory):
    with Ledger(directory.ledger, read_only=True) as ledger:
        state = State.replay(ledger.events())
        rows = {row.key: row.path for row in ledger.label_rows()}
    dataset = state.dataset
    audit = {key for key, path in rows.items() if path in dataset.audit.shards or key in dataset.audit.loose}
    return rows.keys() - audit - dataset.apart.keys(), audit, state


def tree(path):
    return {item.relative_to(path): item.read_bytes() for item in path.rglob("*") if item.is_file()}


def test_a_fork_takes_over_all_labels_and_leaves_the_old_campaign_alone(campaign, tmp_path, in_process):
    before = tree(campaign.path)
    write(campaign.source, ("timestep = 3.0", "timestep = 2.0"), ("max_labels = 20", "max_labels = 2"))
    forked = prepare(campaign.source, campaign.path, fork_to=tmp_path / "new")
    assert tree(campaign.path) == before
    assert forked.changes == [f"forked from {campaign.path}: took over 21 of its 21 labels"]
    assert forked.run().status == "finished"
    old_training, old_audit, old = labels_in(campaign)
    training, audit, state = labels_in(forked.directory)
    assert state.dataset.apart == old.dataset.apart  # the isolated atom is not computed again
    assert len(state.dataset.apart) == 1
    assert old_training <= training and old_audit <= audit and not training & audit
    assert state.calculations == 2 and len(training | audit) == 22
    assert opened_events(forked.directory)[0].payload["changes"] == forked.changes
    assert prepare(campaign.source, tmp_path / "new").changes == []  # it is a campaign like any other
    assert tree(campaign.path) == before


def test_a_fork_of_an_edited_directory(campaign, tmp_path):
    write(campaign.config, ("radial_cutoff = 5.0", "radial_cutoff = 4.5"))
    forked = prepare(campaign.path, fork_to=tmp_path / "new")
    assert forked.config.potential.descriptor.radial_cutoff == 4.5 and forked.directory.source == campaign.source
    assert len(import_labels(forked.directory, forked.config).rows) == 21


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (('code = "emt"', 'code = "emt"\narguments = {asap_cutoff = true}'), "21 labels of another level of theory"),
        (('elements = ["Al"]', 'elements = ["Cu"]'), "21 labels with Al, which material.elements does not list"),
        (('code = "emt"', 'code = "emt"\nmax_force = 1e-6'), r"\d+ labels with a force above reference.max_force"),
    ],
)
def test_a_fork_says_what_it_does_not_take_over(campaign, tmp_path, change, reason):
    write(campaign.source, change, ("density = [2.6, 3.0]", "density = [7.0, 9.0]"))
    forked = prepare(campaign.source, campaign.path, fork_to=tmp_path / "new")
    assert re.search(rf"not taken over: {reason}", "\n".join(forked.changes)), forked.changes
    taken = import_labels(forked.directory, forked.config).rows
    assert forked.changes[0].endswith(f"took over {len(taken)} of its 21 labels") and len(taken) < 20


def test_a_fork_keeps_what_the_user_brings_too(campaign, tmp_path):
    write_extxyz(tmp_path / "mine.xyz", emt_labels(8))
    write(campaign.source, brings("mine.xyz"))
    forked = prepare(campaign.source, campaign.path, fork_to=tmp_path / "new")
    imported = import_labels(forked.directory, forked.config)
    assert {label.key for label in emt_labels(8)} <= {row.key for row in imported.rows} and len(imported.rows) == 29


def test_a_fork_needs_room_and_a_campaign(campaign, tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").write_text("")
    for target in (tmp_path / "full", campaign.path, campaign.source):
        with pytest.raises(UsageError, match="not an empty folder"):
            prepare(campaign.source, campaign.path, fork_to=target)
    with pytest.raises(UsageError, match=r"no campaign in .* to fork"):
        prepare(campaign.source, tmp_path / "nothing", fork_to=tmp_path / "new")
    assert not (tmp_path / "new").exists() and not list(tmp_path.glob(".*"))


def test_a_fork_of_damaged_labels_makes_nothing(campaign, tmp_path):
    path = next(campaign.path.glob("labels/*/*.h5"))
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(AlpotError, match=rf"{path} is damaged.*alpot repair"):
        prepare(campaign.source, campaign.path, fork_to=tmp_path / "new")
    assert not (tmp_path / "new").exists() and not list(tmp_path.glob(".new*"))


def test_labels_that_were_refused_are_judged_anew_by_a_fork_and_not_exported(campaign, tmp_path):
    training, _, state = labels_in(campaign)
    key = min(training - state.dataset.refused.keys())
    with Ledger(campaign.ledger) as ledger:
        list(ledger.events())
        ledger.append(events.labels_lost({key: "it is 27 times too large"}))
    forked = prepare(campaign.source, campaign.path, fork_to=tmp_path / "new")
    assert forked.changes == [f"forked from {campaign.path}: took over 21 of its 21 labels"]
    assert export_labels(campaign.path, tmp_path / "all.xyz") == 21 - len(state.dataset.refused) - 1


# -------------------------------------------------------------------------------------------------------- dry run


SLURM = (("workers = 2\n", ""), ('device = "cpu"', 'platform = "slurm"\ninterface = "lo"\n[resources.label]'))


def test_a_dry_run_makes_nothing(tmp_path):
    path = write(tmp_path / "c.toml", *SLURM)
    directory, files = plan(path)
    assert directory.path == tmp_path / "c" and list(tmp_path.iterdir()) == [path]
    assert files and all(name and text.startswith("#!") for name, text in files)


def test_a_dry_run_of_a_campaign_changes_nothing(campaign):
    before = tree(campaign.path)
    write(campaign.source, *SLURM)
    assert plan(campaign.source, campaign.path)[1]
    assert plan(campaign.path)[1] == []  # as it is: on this machine
    write(campaign.source, ("timestep = 3.0", "timestep = 2.0"))
    with pytest.raises(ConfigError, match="timestep"):
        plan(campaign.source, campaign.path)
    assert tree(campaign.path) == before


# --------------------------------------------------------------------------------------------------- larger budgets


def test_a_larger_budget_continues_a_finished_campaign(campaign, in_process):
    write(campaign.source, ("max_labels = 20", "max_labels = 24"))
    outcome = prepare(campaign.source, campaign.path).run()
    assert outcome.reason == "the budget of 24 labels is spent" and outcome.state.calculations == 24


# ------------------------------------------------------------------------------------------------- stop and export


def test_nobody_to_stop(campaign):
    assert "nothing to stop" in request_stop(campaign.path)
    assert not campaign.stop_requested()


def test_a_second_request_sends_no_second_signal(campaign):
    with campaign.lock():  # this process: a signal would interrupt the test
        campaign.request_stop()
        assert "was asked before" in request_stop(campaign.path)


def test_export_needs_a_potential_and_room(campaign, tmp_path):
    with pytest.raises(UsageError, match="no potential yet"):
        export_potential(prepare(write(tmp_path / "new.toml"), None).directory.path, tmp_path / "p")
    assert not (tmp_path / "p").exists()
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "todo").write_text("")
    with pytest.raises(UsageError, match="todo"):
        export_potential(campaign.path, tmp_path / "notes")
    with pytest.raises(UsageError, match="is a file"):
        export_potential(campaign.path, tmp_path / "notes" / "todo")
    promoted = state_of(campaign).promoted
    first, again = (export_potential(campaign.path, tmp_path / "p") for _ in range(2))
    assert first == again == promoted


def test_a_source_that_vanished_is_told(tmp_path):
    """The campaign file was moved away, and with it the files that it names."""
    directory = prepare(write(tmp_path / "c.toml"), None).directory
    directory.config.unlink()
    with pytest.raises(AlpotError, match=r"lost its campaign\.toml"):
        controller_of(CampaignDirectory.open(directory.path))


def test_a_damaged_record_is_written_anew_from_the_file(campaign):
    source = campaign.source
    write(source)
    for path in (campaign.origin, campaign.origin_copy):
        path.write_text("{}")
    with pytest.raises(StorageError, match="damaged"):
        prepare(campaign.path)
    assert prepare(source, campaign.path).changes == []
    assert prepare(campaign.path).changes == []
