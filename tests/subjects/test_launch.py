"""From a campaign file to a campaign: what is refused before anything is made, and labels that users bring."""

from dataclasses import replace

import h5py
import pytest
from fake_campaign import InProcess
from tiny_campaign import TINY, changed, controller_of, emt_labels

from alpot.campaign.state import State
from alpot.errors import AlpotError, ConfigError, LevelOfTheoryError, StructureError, UsageError
from alpot.report.status import campaign_status
from alpot.store.dataset import read_shard
from alpot.store.directory import CampaignDirectory
from alpot.store.formats import write_ani_hdf5, write_extxyz
from alpot.store.labels import read_label
from alpot.store.ledger import Ledger
from alpot.subjects import launch
from alpot.subjects.launch import export_potential, prepare, request_stop


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
    assert (state.train_labels, len(state.audit), state.calculations) == (12, 4, 0)  # audit_share = 0.25
    (shard,) = state.shards
    trained = {label.key: label for label in read_shard(started.directory.path / shard)}
    audited = {key: read_label(started.directory.label_path(key)) for key in state.audit}
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
        assert len(list(ledger.label_rows())) == status.labels.done > 16


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
    imported = launch._import_labels(prepare(path, None).directory, prepare(path, None).config)
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


def test_physics_stays_and_budgets_may_change(tmp_path):
    path = write(tmp_path / "c.toml")
    directory = prepare(path, None).directory
    write(path, ("timestep = 3.0", "timestep = 2.0"), ("seed = 1", "seed = 2"))
    with pytest.raises(ConfigError, match=r"c.toml differs .* in seed, exploration; .*assessment, resources, stopping"):
        prepare(path, None)
    assert directory.config.read_text() == TINY
    larger = write(path, ("max_labels = 20", "max_labels = 30"), ("workers = 2", "workers = 1"))
    assert prepare(larger, None).config.stopping.max_labels == 30
    assert directory.config.read_bytes() == path.read_bytes()
    assert prepare(tmp_path / "c", None).config.resources.workers == 1


def test_an_edited_copy_in_the_directory_is_held_to_the_same(tmp_path):
    path = write(tmp_path / "c.toml")
    directory = prepare(path, None).directory
    write(directory.config, ("timestep = 3.0", "timestep = 2.0"))
    with pytest.raises(ConfigError, match=r"campaign\.toml differs .* in exploration"):
        prepare(directory.path, None)
    write(directory.config, ("max_labels = 20", "max_labels = 30"))
    assert prepare(directory.path, None).config.stopping.max_labels == 30
    assert directory.source == path  # names of files stay relative to the user's own file
    assert directory.recorded_config == directory.config.read_text()


def test_settings_of_a_running_campaign_stay(tmp_path):
    path = write(tmp_path / "c.toml")
    directory = prepare(path, None).directory
    write(path, ("max_labels = 20", "max_labels = 30"))
    with directory.lock(), pytest.raises(UsageError, match=r"run by process \d+ on .*stop it before"):
        prepare(path, None)
    assert directory.config.read_text() == TINY


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
    assert export_potential(campaign.path, tmp_path / "p") == export_potential(campaign.path, tmp_path / "p") == 3


def test_a_source_that_vanished_is_told(tmp_path):
    """The campaign file was moved away, and with it the files that it names."""
    directory = prepare(write(tmp_path / "c.toml"), None).directory
    directory.config.unlink()
    with pytest.raises(AlpotError, match=r"lost its campaign\.toml"):
        controller_of(CampaignDirectory.open(directory.path))
