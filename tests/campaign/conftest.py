import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # workers import the fake subject by name

from fake_campaign import SUBJECT, InProcess, policy

from alpot.campaign.controller import Controller
from alpot.store.directory import CampaignDirectory
from alpot.store.ledger import Ledger


@pytest.fixture(autouse=True)
def without_waiting_for_the_disk(monkeypatch):
    """What a power cut leaves behind is tested in tests/store; here nothing but processes die."""
    prepare = Ledger._prepare

    def prepare_fast(self):
        prepare(self)
        self._connection.execute("PRAGMA synchronous = OFF")

    monkeypatch.setattr(Ledger, "_prepare", prepare_fast)
    monkeypatch.setattr(os, "fsync", lambda _: None)


@pytest.fixture
def make_campaign(tmp_path: Path) -> Callable[..., Controller]:
    """Makes a controller; the second call with the same name resumes."""

    def make(
        name: str = "campaign", *, platform: InProcess | None = None, config: Any = None, **changes: Any
    ) -> Controller:
        path = tmp_path / name
        platform = platform or InProcess()
        if not CampaignDirectory.is_campaign(path):
            CampaignDirectory.create(path, json.dumps(config or {}).encode(), tmp_path / "campaign.toml")
        return Controller(CampaignDirectory.open(path), policy(platform, **changes), platform, SUBJECT)

    return make
