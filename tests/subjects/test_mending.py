"""`alpot repair`: damage is found, mended where there is a twin, recorded where there is none; the campaign goes on."""

import pytest
from fake_campaign import InProcess
from tiny_campaign import changed, emt_labels

from alpot.campaign.state import State
from alpot.errors import CampaignLockedError, UsageError
from alpot.report.repair import repair_sentences, repair_table
from alpot.store.extxyz import write_extxyz
from alpot.store.ledger import Ledger
from alpot.subjects import launch
from alpot.subjects.launch import prepare
from alpot.subjects.mending import mend


@pytest.fixture
def in_process(monkeypatch):
    monkeypatch.setattr(launch, "open_platform", lambda _: InProcess())


def flip(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def state_of(directory):
    with Ledger(directory.ledger, read_only=True) as ledger:
        return State.replay(ledger.events()), {row.key: row.path for row in ledger.label_rows()}


def larger_budget(directory, labels):
    directory.source.write_text(changed(("max_labels = 20", f"max_labels = {labels}")))
    return prepare(directory.source, directory.path)


def test_a_sound_campaign_stays_as_it_is(campaign):
    before = {path: path.read_bytes() for path in campaign.path.rglob("*.h5")}
    mended = mend(campaign.path)
    assert mended.report.is_sound and not mended.problem and not list(repair_sentences(mended.report))
    assert {path: path.read_bytes() for path in campaign.path.rglob("*.h5")} == before
    assert mended.report.checked["labels"] == 21 and repair_table(mended.report).row_count == 6


def test_a_damaged_label_is_lost_and_the_campaign_goes_on(campaign, in_process):
    state, rows = state_of(campaign)
    key = min(rows.keys() - state.dataset.refused.keys() - state.dataset.audit.loose.keys())
    flip(campaign.label_path(key))
    mended = mend(campaign.path)
    assert mended.problem.startswith("1 labels are lost")
    assert list(mended.report.lost) == [key] and not campaign.label_path(key).exists()
    assert len(list((campaign.path / "quarantine").rglob(f"{key}*"))) == 1  # never deleted
    after, rows = state_of(campaign)
    assert key not in rows and after.dataset.training.size == state.dataset.training.size - 1
    assert mend(campaign.path).report.is_sound
    assert larger_budget(campaign, 26).run().status == "finished"


def test_a_damaged_shard_is_restored_from_its_twin(tmp_path, in_process):
    write_extxyz(tmp_path / "mine.extxyz", emt_labels(12))
    brings = ('elements = ["Al"]', 'elements = ["Al"]\ninitial_labels = ["mine.extxyz"]')
    (tmp_path / "c.toml").write_text(changed(brings, ("max_labels = 20", "max_labels = 2")))
    launched = prepare(tmp_path / "c.toml")
    launched.run()
    shard = launched.directory.path / "dataset" / "imported-00000.h5"
    whole = shard.read_bytes()
    flip(shard)
    mended = mend(launched.directory.path)
    assert not mended.problem and not mended.report.lost and shard.read_bytes() == whole
    assert any("imported-00000.h5" in text and "restored" in text for text in repair_sentences(mended.report))
    assert mend(launched.directory.path).report.is_sound


def test_a_damaged_ledger_is_rebuilt_from_the_labels(campaign, in_process):
    before, rows = state_of(campaign)
    data = bytearray(campaign.ledger.read_bytes())
    data[4096:8192] = bytes(4096)
    campaign.ledger.write_bytes(data)
    mended = mend(campaign.path)
    assert f"`alpot repair {campaign.path} --rebuild`" in mended.problem
    assert campaign.ledger.read_bytes() == data
    mended = mend(campaign.path, rebuild=True)
    assert not mended.problem and "new ledger with the 21 labels" in mended.sentences[0]
    state, rebuilt = state_of(campaign)
    training, audit = state.dataset.training, state.dataset.audit
    assert rebuilt == rows and training.size + audit.size == 20 and audit.size > 0
    assert state.dataset.apart == before.dataset.apart and len(state.dataset.apart) == 1
    assert larger_budget(campaign, 4).run().status == "finished"


def test_a_lost_ledger_too(campaign):
    campaign.ledger.unlink()
    assert mend(campaign.path).problem
    assert not mend(campaign.path, rebuild=True).problem
    assert len(state_of(campaign)[1]) == 21


def test_a_sound_ledger_is_not_rebuilt(campaign):
    before = campaign.ledger.read_bytes()
    assert mend(campaign.path, rebuild=True).report.is_sound
    assert campaign.ledger.read_bytes() == before


def test_nobody_repairs_what_is_in_use_or_no_campaign(campaign, tmp_path):
    with campaign.lock(), pytest.raises(CampaignLockedError):
        mend(campaign.path)
    (tmp_path / "photos").mkdir()
    for path in (tmp_path / "photos", tmp_path / "nowhere"):
        with pytest.raises(UsageError, match="not a campaign directory"):
            mend(path)
    assert not list((tmp_path / "photos").iterdir())


def test_a_campaign_file_that_was_lost_comes_back(campaign):
    text = campaign.config.read_bytes()
    campaign.config.unlink()
    assert not mend(campaign.path).problem
    assert campaign.config.read_bytes() == text


def test_a_model_that_was_damaged_is_named(campaign):
    state, _ = state_of(campaign)
    weights = campaign.model_path(state.promoted) / "weights.safetensors"
    flip(weights)
    mended = mend(campaign.path)
    assert [damage.path for damage in mended.report.damaged] == [campaign.relative(weights)]
    assert not weights.exists()
