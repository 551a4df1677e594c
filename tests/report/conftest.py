import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "campaign"))  # the fake platform and subject, imported by name
sys.path.insert(0, str(Path(__file__).parent))

from fake_campaign import InProcess, policy
from story import CONFIG

from alpot.campaign import apps
from alpot.campaign.controller import Controller
from alpot.store.directory import CampaignDirectory
from alpot.store.ledger import Ledger


@pytest.fixture(autouse=True)
def without_waiting_for_the_disk(monkeypatch):
    """Power cuts are tested in tests/store."""
    prepare = Ledger._prepare

    def prepare_fast(self):
        prepare(self)
        self._connection.execute("PRAGMA synchronous = OFF")

    monkeypatch.setattr(Ledger, "_prepare", prepare_fast)
    monkeypatch.setattr(os, "fsync", lambda _: None)


@pytest.fixture(autouse=True)
def fresh_subjects() -> Iterator[None]:
    """A worker keeps its subject; tests are not each other's worker."""
    yield
    apps._open_subject.cache_clear()


@pytest.fixture
def create(tmp_path: Path) -> Callable[..., CampaignDirectory]:
    def create(name: str = "campaign", config: str = CONFIG) -> CampaignDirectory:
        return CampaignDirectory.create(tmp_path / name, config.encode(), tmp_path / "campaign.toml")

    return create


@pytest.fixture
def make(create: Callable[..., CampaignDirectory]) -> Callable[..., Controller]:
    """A controller of a campaign with the subject ``story.<name>``."""

    def make(subject: str = "Story", *, name: str = "campaign", **changes) -> Controller:
        platform = InProcess()
        return Controller(create(name), policy(platform, **changes), platform, f"story:{subject}")

    return make
